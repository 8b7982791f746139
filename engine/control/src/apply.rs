//! How does a process take up another configuration? First everything that can fail, then all of it at once.
//!
//! Never half, and never two at a time: until the cores are told, nothing has changed, and what could not be done says why.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::schema::Config;
use config::snapshot::{ListenerId, Snapshot, UpstreamId};
use proxy::generation::{GENERATIONS_MAX, Generation};
use proxy::message::CoreMessage;
use runtime::Handle;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Shared;
use crate::access_log;
use crate::bind::{Opened, bind_next, change_modes, check_next};
use crate::candidate::{Candidate, Origin};
use crate::certificates::{Certificates, date};
use crate::live::{Live, Successor};

/// How long the cores may take to take a configuration up. Each does so in a turn of its loop.
const CORES_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at whether they have.
const CORES_LOOK: Duration = Duration::from_millis(1);

/// How long one that was just replaced may take to end, before it is taken for one that lasts.
const ENDS_SOON: Duration = Duration::from_secs(1);

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Applied {
    /// Counts the configurations that this process has run, from 1.
    pub(crate) number: u64,
    /// It runs already: nothing was done.
    pub(crate) unchanged: bool,
    /// What is otherwise, as `channel.web changed`.
    pub(crate) changes: Vec<String>,
    /// Keys that take effect when the process is started again.
    pub(crate) needs_restart: Vec<String>,
    /// What an operator may want to know.
    pub(crate) warnings: Vec<String>,
}

/// What was in the way; the configuration that runs goes on untouched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NotApplied {
    pub(crate) problems: Vec<String>,
}

/// Whether there may be another generation.
async fn has_room(generation: &Generation) -> bool {
    let deadline = tokio::time::Instant::now() + ENDS_SOON;
    while generation.living() >= GENERATIONS_MAX {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(CORES_LOOK).await;
    }
    true
}

impl NotApplied {
    pub(crate) fn because(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

/// Why a configuration was not applied, for whoever asks later.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Failure {
    at: String,
    pub(crate) source: String,
    pub(crate) problems: Vec<String>,
}

/// The configuration of a process, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigurationStatus {
    number: u64,
    #[serde(flatten)]
    origin: Origin,
    applied_at: String,
    fingerprint: String,
    /// Keys of it that take effect with a restart.
    needs_restart: Vec<String>,
    /// Since then, if there was one.
    last_failure: Option<Failure>,
}

/// Everything that could fail, done.
struct Prepared {
    snapshot: Arc<Snapshot>,
    schema: Arc<Config>,
    origin: Origin,
    certificates: Arc<Certificates>,
    opened: Opened,
    warnings: Vec<String>,
}

impl Shared {
    /// Has the process run `candidate` instead. One at a time; on any failure everything is as it was.
    pub(crate) async fn apply(self: &Arc<Self>, candidate: Candidate) -> Result<Applied, NotApplied> {
        let source = candidate.origin.source.clone();
        let shared = Arc::clone(self);
        // A task of its own: whoever asked may go away, and half of it must not.
        let applied = tokio::spawn(async move {
            let _alone = shared.applying.lock().await;
            shared.apply_alone(candidate).await
        });
        let outcome = applied.await.unwrap_or_else(|error| Err(NotApplied::because(error.to_string())));
        self.note(&source, outcome.as_ref().err());
        outcome
    }

    /// What [`Self::apply`] would refuse, without doing it. Reads files, so it does not belong on a thread that serves.
    pub(crate) fn check(&self, candidate: &Candidate) -> Vec<String> {
        let live = self.live();
        let mut problems: Vec<String> =
            (check_next(live.standing(), &candidate.snapshot).iter()).map(ToString::to_string).collect();
        let notes = live.certificates.next(&candidate.snapshot).err().unwrap_or_default();
        problems.extend(notes.problems.iter().map(ToString::to_string));
        problems
    }

    /// Keys of the configuration that take effect when the process is started again.
    pub(crate) fn needs_restart(&self, live: &Live) -> Vec<String> {
        needs_restart(&self.fixed, &live.snapshot)
    }

    /// How the process came to the configuration that it runs.
    pub(crate) fn configuration_status(&self, live: &Live) -> ConfigurationStatus {
        ConfigurationStatus {
            number: live.generation.number,
            origin: live.origin.clone(),
            applied_at: date(live.applied_at),
            fingerprint: live.fingerprint(),
            needs_restart: self.needs_restart(live),
            last_failure: self.last_failure().clone(),
        }
    }

    /// Remembers what became of an attempt.
    pub(crate) fn note(&self, source: &str, failed: Option<&NotApplied>) {
        *self.last_failure() = failed.map(|failed| Failure {
            at: date(SystemTime::now()),
            source: source.to_owned(),
            problems: failed.problems.clone(),
        });
    }

    async fn apply_alone(self: &Arc<Self>, candidate: Candidate) -> Result<Applied, NotApplied> {
        if self.is_draining() {
            return Err(NotApplied::because(
                "the process drains and will not serve by another configuration",
            ));
        }
        let running = self.live();
        if running.is_same(&candidate) {
            let (number, needs_restart) =
                (running.generation.number, needs_restart(&self.fixed, &running.snapshot));
            return Ok(Applied {
                number,
                unchanged: true,
                changes: Vec::new(),
                needs_restart,
                warnings: Vec::new(),
            });
        }
        if !has_room(&running.generation).await {
            return Err(NotApplied::because(format!(
                "{GENERATIONS_MAX} configurations serve still: all but the latest have requests in flight that began by them; try \
                 again when some have ended"
            )));
        }
        // By a thread of its own: a file may be slow to come.
        let shared = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || shared.prepare(candidate));
        let prepared = prepared.await.map_err(|error| NotApplied::because(error.to_string()))??;
        let changes = changes(&running, &prepared);
        let needs_restart = needs_restart(&self.fixed, &prepared.snapshot);
        let mut warnings = prepared.warnings.clone();
        warnings.extend(change_modes(running.standing(), &prepared.snapshot));
        let opened = self.hand_over(&running, prepared);
        let live = self.live();
        // Before the cores go by it: a token is not to be refused for want of a key that can be had.
        self.security().take_up(&live).await;
        warnings.extend(self.tell_cores(&live, opened).await);
        self.aggregator.lock().await.renew(&live.generation);
        Ok(Applied { number: live.generation.number, unchanged: false, changes, needs_restart, warnings })
    }

    /// Does whatever can fail.
    fn prepare(&self, candidate: Candidate) -> Result<Prepared, NotApplied> {
        let Candidate { snapshot, schema, origin } = candidate;
        let live = self.live();
        let certificates = live.certificates.next(&snapshot);
        let opened = bind_next(live.standing(), &snapshot, self.fellows.len());
        let unwritable = access_log::problems(&snapshot);
        match (certificates, opened) {
            (Ok((certificates, notes)), Ok(opened)) if unwritable.is_empty() => Ok(Prepared {
                snapshot,
                schema,
                origin,
                certificates: Arc::new(certificates),
                opened,
                warnings: notes.warnings.iter().map(ToString::to_string).collect(),
            }),
            (certificates, opened) => {
                let notes = certificates.err().map(|notes| notes.problems).unwrap_or_default();
                let mut problems: Vec<String> = notes.iter().map(ToString::to_string).collect();
                problems.extend(opened.err().unwrap_or_default().iter().map(ToString::to_string));
                problems.extend(unwritable);
                Err(NotApplied { problems })
            }
        }
    }

    /// From one moment to the next control goes by what was prepared, without a wait in between. What the cores need is left.
    fn hand_over(&self, running: &Live, prepared: Prepared) -> Vec<Vec<(ListenerId, Handle)>> {
        let Prepared { snapshot, schema, origin, certificates, opened, warnings: _ } = prepared;
        let Opened { per_core, addresses, socket_files, held } = opened;
        let live = Arc::new(running.next(Successor { snapshot, schema, origin, certificates, addresses }));
        self.access_logs.begin(&live.generation);
        self.live.store(Arc::clone(&live));
        {
            let mut files = self.socket_files();
            files.append(socket_files);
            files.keep(&live.snapshot);
        }
        {
            let mut sockets = self.upgrades.held();
            let before = sockets.owners();
            sockets.keep(&live.snapshot);
            sockets.append(held);
            sockets.store(&self.supervisor, &before);
        }
        self.begin_rounds(None);
        (0..live.snapshot.upstreams.len() as u16).for_each(|id| live.see_off_unnamed(UpstreamId(id)));
        per_core
    }

    /// Tells the cores, and waits until all of them have taken it up; says which have not.
    async fn tell_cores(&self, live: &Live, opened: Vec<Vec<(ListenerId, Handle)>>) -> Option<String> {
        let message = |opened| CoreMessage::Renew { generation: Arc::clone(&live.generation), opened };
        let mut untold: Vec<_> = self.fellows.iter().zip(opened.into_iter().map(message)).collect();
        let all_taken = async {
            loop {
                // A core whose mailbox is full reads it in the next turn of its loop.
                let told = std::mem::take(&mut untold).into_iter();
                untold = told
                    .filter_map(|(fellow, message)| Some((fellow, fellow.sender.send(message).err()?)))
                    .collect();
                if untold.is_empty() && live.generation.is_taken_up() {
                    return;
                }
                tokio::time::sleep(CORES_LOOK).await;
            }
        };
        let outcome = tokio::time::timeout(CORES_TIMEOUT, all_taken).await;
        outcome.err().map(|_| {
            let text = format!("not all cores have taken it up within {} s", CORES_TIMEOUT.as_secs());
            tracing::error!("configuration {}: {text}", live.generation.number);
            text
        })
    }
}

/// What the process was started with and keeps until its end, by key.
pub(crate) fn fixed(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let process = &snapshot.process;
    let store = snapshot.store.as_ref().map(|store| format!("{store:?}{}", store.url));
    vec![
        ("node.id", snapshot.node.clone()),
        ("process.buffers_per_core", process.buffers_per_core.to_string()),
        ("process.buffer_size", process.buffer_bytes.to_string()),
        ("process.user", format!("{:?}", process.user)),
        ("process.group", format!("{:?}", process.group)),
        ("process.spin", format!("{:?}", process.spin_max)),
        // Its URL may hold a password: what it says is nobody's concern here, only whether it is the same.
        ("store", format!("{:x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(store))),
        ("admin.bind", snapshot.admin.as_ref().map(|admin| admin.bind.to_string()).unwrap_or_default()),
    ]
}

/// Keys of `snapshot` that are otherwise than what the process keeps.
pub(crate) fn needs_restart(kept: &[(&'static str, String)], snapshot: &Snapshot) -> Vec<String> {
    let differs = kept.iter().zip(fixed(snapshot)).filter(|((_, kept), (_, next))| kept != next);
    differs.map(|((key, _), _)| (*key).to_owned()).collect()
}

/// What is otherwise, table by table.
fn changes(running: &Live, next: &Prepared) -> Vec<String> {
    let mut changes = Vec::new();
    let (old, new) = (&running.schema, &next.schema);
    let one_of_a_kind = [
        ("node", old.node != new.node),
        ("process", old.process != new.process),
        ("admin", old.admin != new.admin),
        ("telemetry", old.telemetry != new.telemetry),
    ];
    changes.extend(
        one_of_a_kind.iter().filter(|(_, is_new)| *is_new).map(|(name, _)| format!("{name} changed")),
    );
    compare("listener", old.listener.iter(), new.listener.iter(), &mut changes);
    compare("channel", old.channel.iter(), new.channel.iter(), &mut changes);
    compare("upstream", old.upstream.iter(), new.upstream.iter(), &mut changes);
    compare("access_log", old.access_log.iter(), new.access_log.iter(), &mut changes);
    changes
}

fn compare<'c, T: PartialEq + 'c>(
    kind: &str,
    old: impl Iterator<Item = (&'c str, &'c T)>,
    new: impl Iterator<Item = (&'c str, &'c T)>,
    changes: &mut Vec<String>,
) {
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.collect(), new.collect());
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let what = match (old.get(name), new.get(name)) {
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            (Some(old), Some(new)) if old != new => "changed",
            _ => continue,
        };
        changes.push(format!("{kind}.{name} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use config::Format;

    use super::*;
    use crate::candidate::LocalTerms;
    use crate::testing::{self, IdleCore};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("runtime").block_on(future)
    }

    fn candidate(text: &str) -> Candidate {
        let loaded = config::load_str("a.toml", text, Format::Toml, &|_| None);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let origin = Origin { source: "a.toml".to_owned(), version: Some(7) };
        Candidate::new(loaded, &LocalTerms::default(), origin).expect("no port is moved")
    }

    /// The default with another channel.
    fn changed() -> Candidate {
        candidate(&format!("{}\n[channel.more]\npriority = 1\nrespond = {{}}\n", config::default_config()))
    }

    /// What a core was told, once it is let run; then it ends.
    fn told(core: IdleCore, shared: &Shared, index: usize) -> usize {
        let (count, counted) = std::sync::mpsc::channel();
        let end = CoreMessage::Drain { timeout: Duration::ZERO, left: Default::default(), last: None };
        shared.fellows[index].sender.send(end).expect("room");
        core.run(move |message| {
            if let CoreMessage::Renew { .. } = message {
                count.send(()).expect("the test waits");
            }
        });
        counted.try_iter().count()
    }

    /// Says for the cores that they have taken up everything they are told.
    fn taken_up(shared: &Shared) {
        testing::take_up(&shared.live().generation);
    }

    #[test]
    fn what_runs_already_is_not_applied_again() {
        let (shared, mut cores) = testing::shared(1);
        let same = candidate(config::default_config());
        let applied = block_on(shared.apply(same)).expect("nothing to do");
        assert!(applied.unchanged && applied.number == 1, "{applied:?}");
        assert_eq!(told(cores.remove(0), &shared, 0), 0);
    }

    #[test]
    fn every_core_is_told_once_and_control_goes_by_it() {
        let (shared, cores) = testing::shared(2);
        taken_up(&shared);
        let applied = block_on(shared.apply(changed())).expect("it can be used");
        assert_eq!((applied.number, applied.unchanged), (2, false));
        assert_eq!(applied.changes, ["channel.more added"]);
        let live = shared.live();
        assert_eq!(live.origin.version, Some(7));
        assert!(live.snapshot.channels.iter().any(|channel| channel.name == "more"));
        let told: Vec<_> =
            cores.into_iter().enumerate().map(|(index, core)| told(core, &shared, index)).collect();
        assert_eq!(told, [1, 1]);
    }

    #[test]
    fn what_cannot_be_bound_leaves_everything_as_it_was() {
        let (shared, mut cores) = testing::shared(1);
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        let config = format!("{}\n[listener.more]\nbind = \"{address}\"\n", config::default_config());
        let expected = format!("cannot listen on {address} (listener.more.bind): address in use");
        let problems = shared.check(&candidate(&config));
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
        let refused = block_on(shared.apply(candidate(&config))).expect_err("the port is taken");
        assert_eq!(refused.problems, problems);
        assert_eq!(shared.live().generation.number, 1);
        let failure = shared.configuration_status(&shared.live()).last_failure.expect("it is remembered");
        assert_eq!((failure.source.as_str(), failure.problems), ("a.toml", problems));
        assert_eq!(told(cores.remove(0), &shared, 0), 0);
        drop(taken);
        assert!(shared.check(&candidate(&config)).is_empty());
    }

    #[test]
    fn a_process_that_drains_takes_nothing_up() {
        let (shared, _cores) = testing::shared(1);
        shared.begin_drain();
        block_on(shared.apply(changed())).expect_err("it is about to end");
        assert_eq!(shared.live().generation.number, 1);
    }

    #[test]
    fn keys_that_are_read_once_are_named_until_they_are_what_runs() {
        let (shared, _cores) = testing::shared(1);
        taken_up(&shared);
        let text = config::default_config();
        let more = format!("process.spin = \"1ms\"\nprocess.buffers_per_core = 64\n{text}");
        let applied = block_on(shared.apply(candidate(&more))).expect("it can be used");
        assert_eq!(applied.needs_restart, ["process.buffers_per_core", "process.spin"]);
        taken_up(&shared);
        let applied = block_on(shared.apply(candidate(text))).expect("it can be used");
        assert!(applied.needs_restart.is_empty(), "{applied:?}");
    }

    #[test]
    fn one_s_own_text_is_applied_without_what_is_stopped() {
        let (shared, _cores) = testing::shared(1);
        taken_up(&shared);
        let name = |shared: &Shared| shared.live().snapshot.channels[0].name.clone();
        let module = format!("channel.{}", name(&shared));
        block_on(shared.stop_module("channel.nobody")).expect_err("there is none");
        let stopped = block_on(shared.stop_module(&module)).expect("it can be stopped");
        assert!(!stopped.unchanged);
        taken_up(&shared);
        let again = block_on(shared.stop_module(&module)).expect("it is");
        assert!(again.unchanged);
        assert!(!block_on(shared.start_module(&module)).expect("it can be started").unchanged);
    }
}
