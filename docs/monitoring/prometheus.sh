#!/usr/bin/env bash
# What does a Prometheus make of our metrics? One engine, one Prometheus, both on loopback and gone afterwards.
#
# usage: docs/monitoring/prometheus.sh [DIRECTORY OF THE PROGRAMS]        target/debug without one
#
# Exit status 3 where the programs `prometheus` and `promtool` are not there (Debian: prometheus): then nothing was tried.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=$(realpath "${1:-$here/../../target/debug}")
for program in prometheus promtool curl jq; do
    command -v "$program" >/dev/null || { echo "prometheus.sh: $program is not there, nothing was tried" >&2; exit 3; }
done

work=$(mktemp -d)
engine= collector=
cleanup() {
    status=$?
    [[ -z $engine ]] || kill "$engine" 2>/dev/null || true
    [[ -z $collector ]] || kill "$collector" 2>/dev/null || true
    wait
    ((status == 0)) || { tail -n 20 "$work"/*.log >&2 || true; echo "prometheus.sh: FAILED" >&2; }
    rm -rf "$work"
}
trap cleanup EXIT

# Runs a command again until it succeeds, for 30 s at most.
eventually() {
    local what=$1 until=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || { echo "prometheus.sh: not within 30 s: $what" >&2; return 1; }
        sleep 0.2
    done
}

echo "an engine that serves requests, some of them badly"
cat >"$work/engine.toml" <<'TOML'
[listener.web]
bind = "127.0.0.1:0"
[listener.origin]
bind = "127.0.0.1:0"
internal = true
[channel.origin]
match = { listener = "origin" }
respond = { body = "ok" }
[channel.web]
match = { listener = "web" }
upstream = "app"
[upstream.app]
endpoints = ["listener:origin", "127.0.0.1:1"]
[admin]
bind = "127.0.0.1:0"
TOML
"$programs/engine" --config "$work/engine.toml" --cores 1 --driver epoll 2>"$work/engine.log" &
engine=$!
eventually "the engine serves" grep -q '^driver' "$work/engine.log"
web=$(sed -n 's/^listener web  *\(http:[^ ]*\).*/\1/p' "$work/engine.log")
admin=$(sed -n 's/^admin  *http:\/\///p' "$work/engine.log")
for _ in $(seq 50); do curl -sS -o /dev/null "$web/"; done

echo "promtool: the text, the rules and their tests"
curl -sS "http://$admin/metrics" >"$work/metrics.txt"
promtool check metrics <"$work/metrics.txt"
promtool check rules "$here/alerts.yml"
promtool test rules "$here/alerts_test.yml"

echo "a Prometheus that asks every second"
cat >"$work/prometheus.yml" <<YML
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
rule_files: ["$here/alerts.yml"]
scrape_configs:
  - job_name: corelane
    static_configs: [{ targets: ["$admin"] }]
YML
promtool check config "$work/prometheus.yml" >/dev/null
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address=127.0.0.1:0 \
    2>"$work/prometheus.log" &
collector=$!
eventually "Prometheus listens" grep -q 'msg="Listening on"' "$work/prometheus.log"
api=http://$(sed -n 's/.*msg="Listening on" address=\([^ ]*\).*/\1/p' "$work/prometheus.log" | head -n 1)/api/v1
query() { curl -sS --get "$api/query" --data-urlencode "query=$1"; }
# Whether a query has a result, and one that is no less than the second argument.
says() { query "$1" | jq -e --argjson least "${2:-0}" '.data.result | length > 0 and all(.[]; (.value[1] | tonumber) >= $least)'; }
eventually "up is 1" says 'up{job="corelane"} == 1'
eventually "five scrapes" says 'count_over_time(up{job="corelane"}[1m]) >= 5'
for _ in $(seq 50); do curl -sS -o /dev/null "$web/"; done
eventually "requests are counted" says 'sum(corelane_channel_requests_total{channel="web"})' 100
eventually "their rate is known" says 'sum(rate(corelane_channel_requests_total{channel="web"}[30s])) > 0'
eventually "quantiles are known" says 'histogram_quantile(0.99, sum by (le) (rate(corelane_exchange_duration_seconds_bucket{phase="total"}[30s]))) > 0'
says 'process_open_fds < process_max_fds' >/dev/null
says 'corelane_build_info{driver="epoll"} == 1' >/dev/null
# Whatever a scrape could not be made sense of would make up 0.
says 'min_over_time(up{job="corelane"}[1m]) == 1' >/dev/null
curl -sS "$api/targets" | jq -e '.data.activeTargets | all(.health == "up" and .lastError == "")' >/dev/null
curl -sS "$api/rules" | jq -e '[.data.groups[].rules[]] | length > 15 and all(.health == "ok")' >/dev/null

echo "every question of the dashboard"
asked=0
while IFS= read -r expression; do
    expression=${expression//\$__rate_interval/30s}
    for name in job instance listener channel upstream; do expression=${expression//\"\$$name\"/\".*\"}; done
    query "$expression" | jq -e '.status == "success"' >/dev/null || { echo "not understood: $expression" >&2; exit 1; }
    asked=$((asked + 1))
done < <(jq -r '.panels[].targets[]?.expr, .annotations.list[].expr' "$here/grafana.json")
((asked > 50))

echo "one that is gone"
kill "$engine" && wait "$engine" || true
engine=
eventually "up is 0" says 'up{job="corelane"} == 0'
samples=$(grep -vc '^#' "$work/metrics.txt")
echo "prometheus.sh: all good: $samples samples a scrape, $asked questions"
