//! What has a process counted at one moment, and what has happened since another? Its own answers, two of them compared.
//!
//! Never a rate over two processes: one that has been started anew begins anew here.

use serde_json::Value;

use crate::client::AdminClient;

/// How far back latencies go: long enough to have some, short enough to be now.
pub(crate) const WINDOW: &str = "10s";

/// What a process said of itself at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// `/stats`.
    pub(crate) stats: Value,
    /// `/stats/latencies` of [`WINDOW`].
    pub(crate) latencies: Value,
    /// `/cluster/processes`, where there is a cluster and it can be asked.
    pub(crate) processes: Value,
}

impl Sample {
    /// Asks for all of it.
    pub(crate) fn ask(client: &AdminClient) -> anyhow::Result<Self> {
        let stats = client.json("/stats", &[])?;
        let latencies = client.json("/stats/latencies", &[("window", WINDOW)])?;
        let processes = match stats["cluster"].is_object() {
            // A store that is away is said by /stats; the rest is there all the same.
            true => {
                client.json("/cluster/processes", &[]).map_or(Value::Null, |mut all| all["processes"].take())
            }
            false => Value::Null,
        };
        Ok(Self { stats, latencies, processes })
    }

    fn uptime_s(&self) -> f64 {
        self.stats["process"]["uptime_s"].as_f64().unwrap_or_default()
    }

    /// What only grows while a process lives.
    fn turns(&self) -> u64 {
        let cores = self.stats["cores"].as_array().into_iter().flatten();
        cores.filter_map(|core| core["turns"].as_u64()).sum()
    }
}

/// One moment of a process, and an earlier one of the same process if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'s> {
    pub(crate) now: &'s Sample,
    before: Option<&'s Sample>,
    /// Seconds between the two, by the clock of the process itself.
    elapsed_s: f64,
}

impl<'s> Span<'s> {
    pub(crate) fn new(before: Option<&'s Sample>, now: &'s Sample) -> Self {
        let elapsed_s = before.map_or(0.0, |before| now.uptime_s() - before.uptime_s());
        let is_same = |before: &Sample| {
            before.stats["process"]["pid"] == now.stats["process"]["pid"]
                && elapsed_s > 0.0
                && now.turns() >= before.turns()
        };
        Self { now, before: before.filter(|before| is_same(before)), elapsed_s }
    }

    /// Whether something was known before.
    pub(crate) fn has_rates(&self) -> bool {
        self.before.is_some()
    }

    /// The object under `list` now, each with the one of the same name before.
    pub(crate) fn objects(&self, list: &str) -> Vec<Object<'s>> {
        let before: Vec<&Value> = self.before.map_or(Vec::new(), |sample| items(&sample.stats[list]));
        self.pair(&items(&self.now.stats[list]), &before)
    }

    /// What is counted under `key` of `/stats`.
    pub(crate) fn object(&self, key: &str) -> Object<'s> {
        let before = self.before.map(|sample| &sample.stats[key]);
        Object { now: &self.now.stats[key], before, elapsed_s: self.elapsed_s }
    }

    /// The same of what is inside of an object.
    pub(crate) fn inside(&self, object: &Object<'s>, list: &str) -> Vec<Object<'s>> {
        let before = object.before.map_or(Vec::new(), |before| items(&before[list]));
        self.pair(&items(&object.now[list]), &before)
    }

    fn pair(&self, now: &[&'s Value], before: &[&'s Value]) -> Vec<Object<'s>> {
        let pair = |(index, now): (usize, &&'s Value)| {
            // Mostly where it was: only a new configuration moves things.
            let there = before.get(index).filter(|before| identity(before) == identity(now));
            let before = there.or_else(|| before.iter().find(|before| identity(before) == identity(now)));
            Object { now, before: before.copied(), elapsed_s: self.elapsed_s }
        };
        now.iter().enumerate().map(pair).collect()
    }

    /// Latencies of a channel or a relaying listener; `Null` where nothing ended lately.
    pub(crate) fn latency(&self, list: &str, owner: &str, name: &str) -> &'s Value {
        let rows = items(&self.now.latencies[list]);
        rows.into_iter().find(|row| row[owner] == name).unwrap_or(&Value::Null)
    }
}

fn items(list: &Value) -> Vec<&Value> {
    list.as_array().into_iter().flatten().collect()
}

/// What tells an object of a list from the others; an endpoint's address, as two may have been found by one name.
fn identity(object: &Value) -> [&Value; 3] {
    [&object["name"], &object["address"], &object["index"]].map(|value| value)
}

/// Something that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'s> {
    pub(crate) now: &'s Value,
    before: Option<&'s Value>,
    elapsed_s: f64,
}

impl<'s> Object<'s> {
    /// A part of it.
    pub(crate) fn part(&self, key: &str) -> Self {
        Self { now: &self.now[key], before: self.before.map(|before| &before[key]), ..*self }
    }

    pub(crate) fn text(&self, key: &str) -> &'s str {
        self.now[key].as_str().unwrap_or_default()
    }

    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        self.now[key].as_u64()
    }

    /// How often a second `key` has been counted since; nothing where that cannot be said.
    pub(crate) fn rate(&self, key: &str) -> Option<f64> {
        self.rate_of(|object| object[key].as_f64())
    }

    /// The same of several together.
    pub(crate) fn rates(&self, keys: &[&str]) -> Option<f64> {
        keys.iter().map(|key| self.rate(key)).sum()
    }

    /// The same of what `read` finds in it.
    pub(crate) fn rate_of(&self, read: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
        let grown = read(self.now)? - read(self.before?)?;
        (grown >= 0.0).then(|| grown / self.elapsed_s)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(pid: u64, uptime_s: f64, turns: u64, requests: u64) -> Sample {
        let stats = json!({
            "process": { "pid": pid, "uptime_s": uptime_s },
            "cores": [{ "index": 0, "turns": turns }],
            "channels": [{ "name": "web", "requests": requests }],
        });
        Sample { stats, latencies: Value::Null, processes: Value::Null }
    }

    fn rate(before: &Sample, now: &Sample) -> Option<f64> {
        Span::new(Some(before), now).objects("channels")[0].rate("requests")
    }

    #[test]
    fn a_rate_goes_by_the_clock_of_the_process() {
        assert_eq!(rate(&sample(7, 10.0, 5, 100), &sample(7, 12.0, 9, 300)), Some(100.0));
        assert_eq!(Span::new(None, &sample(7, 1.0, 5, 1)).objects("channels")[0].rate("requests"), None);
    }

    #[test]
    fn a_process_that_was_started_anew_begins_anew() {
        let old = sample(7, 10.0, 50, 100);
        assert_eq!(rate(&old, &sample(8, 12.0, 90, 300)), None, "another process");
        assert_eq!(rate(&old, &sample(7, 0.5, 90, 300)), None, "a younger one of the same number");
        assert_eq!(rate(&old, &sample(7, 12.0, 3, 300)), None, "one that has done less");
        assert_eq!(rate(&old, &sample(7, 10.0, 50, 100)), None, "the same moment");
    }

    #[test]
    fn what_is_new_has_no_rate_yet_and_what_moved_keeps_its_own() {
        let before = sample(7, 10.0, 5, 100);
        let mut now = sample(7, 11.0, 9, 150);
        let channels = now.stats["channels"].as_array_mut().expect("a list");
        channels.insert(0, json!({ "name": "api", "requests": 1_000 }));
        let span = Span::new(Some(&before), &now);
        let rates: Vec<_> = span.objects("channels").iter().map(|channel| channel.rate("requests")).collect();
        assert_eq!(rates, [None, Some(50.0)]);
    }

    #[test]
    fn a_counter_that_went_back_has_no_rate() {
        assert_eq!(rate(&sample(7, 10.0, 5, 100), &sample(7, 11.0, 9, 40)), None);
    }
}
