// Does another implementation of HdrHistogram read the same percentiles from the files of a run as we report?
//
// Never trusts our own code with a figure: the interval log is decoded and summed by npm's hdr-histogram-js, a port of
// the Java original, and both the summary and the .hgrm text are held against what that says.
//
//     node hdr_oracle.js RUN.hlog RUN.hgrm RUN.json

"use strict"

const { readFileSync } = require("fs")
const hdr = require("hdr-histogram-js")

const [hlog, hgrm, json] = process.argv.slice(2).map(path => readFileSync(path, "utf8"))
const summary = JSON.parse(json)
const problems = []
const expect = (what, ours, theirs) => {
    if (ours !== theirs) problems.push(`${what}: we say ${ours}, hdr-histogram-js says ${theirs}`)
}

const build = () =>
    hdr.build({ bitBucketSize: 64, highestTrackableValue: 3.6e12, numberOfSignificantValueDigits: 3 })
const sum = build()
const reader = new hdr.HistogramLogReader(hlog, 64)
let lines = 0
for (let line = reader.nextIntervalHistogram(); line; line = reader.nextIntervalHistogram()) {
    const interval = summary.intervals[lines]
    const figure = value => (line.totalCount > 0 ? value : null)
    expect(`completed in line ${lines}`, interval.completed, line.totalCount)
    expect(`p50 of line ${lines}`, interval.p50, figure(line.getValueAtPercentile(50)))
    expect(`p99 of line ${lines}`, interval.p99, figure(line.getValueAtPercentile(99)))
    expect(`length of line ${lines}`, Math.round(interval.length_s * 1e3), Math.round(line.endTimeStampMsec - line.startTimeStampMsec))
    sum.add(line)
    lines += 1
}
expect("intervals", summary.intervals.length, lines)
expect("completed", summary.requests.completed, sum.totalCount)

const latency = summary.latency_ns
for (const [name, percentile] of [
    ["p50", 50], ["p75", 75], ["p90", 90], ["p99", 99], ["p99_9", 99.9], ["p99_99", 99.99], ["p99_999", 99.999],
]) {
    expect(name, latency[name], sum.getValueAtPercentile(percentile))
}
expect("min", latency.min, sum.minNonZeroValue)
expect("max", latency.max, sum.maxValue)
expect("mean", latency.mean.toPrecision(12), sum.mean.toPrecision(12))

// Every row: value in milliseconds, percentile, count. The distribution has five rows to each halving.
const rows = text =>
    text.split("\n").slice(2).filter(row => row && !row.startsWith("#")).map(row => row.trim().split(/\s+/))
const [ours, theirs] = [hgrm, sum.outputPercentileDistribution(5, 1e6)].map(rows)
expect("rows of the .hgrm", ours.length, theirs.length)
// One unit of the last digit is no difference: a half is rounded to the even digit here, and up there.
const digits = text => text.split(".")[1]?.length ?? 0
const same = (one, other) => one === other || (digits(one) > 0 && Math.abs(one - other) < 1.1 * 10 ** -digits(one))
ours.forEach((row, index) => {
    const other = theirs[index] ?? []
    const alike = row.length === other.length && row.every((column, place) => same(column, other[place]))
    if (!alike) expect(`row ${index} of the .hgrm`, row.join(" "), other.join(" "))
})
const foot = text => text.split("\n").filter(row => row.startsWith("#[M")).map(row => row.replace(/\s+/g, ""))
expect("foot of the .hgrm", foot(hgrm).join(), foot(sum.outputPercentileDistribution(5, 1e6)).join())

problems.slice(0, 20).forEach(problem => console.error(problem))
console.log(`${sum.totalCount} latencies, ${lines} intervals, ${ours.length} rows: ${problems.length} differences`)
// A run without answers would agree about nothing.
process.exit(problems.length === 0 && sum.totalCount > 0 ? 0 : 1)
