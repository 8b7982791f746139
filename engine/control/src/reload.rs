//! What runs when nobody else says so? The configuration that the process was started with, read again when it is asked to, less
//! the modules that are stopped.
//!
//! Never what a cluster shares: there the store says. Never a text that cannot be used in the place of one that can.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use config::{Loaded, Problems, Severity, Text};

use crate::Shared;
use crate::apply::{Applied, NotApplied};
use crate::candidate::{Candidate, LocalTerms, Origin};
use crate::plan::Plan;

/// What stands for a configuration that somebody has sent.
const SENT: &str = "what was sent";

/// A process's own configuration.
#[derive(Debug)]
pub struct Own {
    /// As it was last applied.
    text: Text,
    terms: LocalTerms,
    stopped: BTreeSet<String>,
}

impl Own {
    /// What a process begins with.
    #[must_use]
    pub fn new(text: Text, terms: LocalTerms) -> Self {
        Self { text, terms, stopped: BTreeSet::new() }
    }

    /// The configuration as it was read.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// What the text is to this process without the modules in `stopped`, with what else there is to say of it.
    fn candidate(
        &self,
        text: &Text,
        stopped: &BTreeSet<String>,
    ) -> Result<(Candidate, Vec<String>), NotApplied> {
        self.candidate_of(text.name(), text.load(stopped))
    }

    /// What was loaded, as this process would run it.
    fn candidate_of(
        &self,
        source: String,
        loaded: Result<Loaded, Problems>,
    ) -> Result<(Candidate, Vec<String>), NotApplied> {
        let lines = |problems: &Problems, severity| -> Vec<String> {
            problems.iter().filter(|problem| problem.severity == severity).map(ToString::to_string).collect()
        };
        let loaded = loaded.map_err(|problems| NotApplied { problems: lines(&problems, Severity::Error) })?;
        let warnings = lines(&loaded.warnings, Severity::Warning);
        let origin = Origin { source, version: None };
        let candidate = Candidate::new(loaded, &self.terms, origin).map_err(NotApplied::because)?;
        Ok((candidate, warnings))
    }
}

/// Why there is nothing to read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFile {
    /// The process was started without one.
    NotGiven,
    /// What runs is the store's.
    InStore,
}

impl NoFile {
    /// What to say of it, and what to do instead.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NotGiven => {
                ("the process was started without a configuration file", "start it with --config FILE")
            }
            Self::InStore => (
                "the configuration is that of the store, which all processes of the node run",
                "publish another one: engine config push",
            ),
        }
    }
}

impl Shared {
    /// Whether there is a file to read again, and why not.
    pub(crate) async fn file(&self) -> Result<(), NoFile> {
        if self.live().snapshot.store.is_some() {
            return Err(NoFile::InStore);
        }
        match self.own.lock().await.text {
            Text::File(_) => Ok(()),
            Text::Flags { .. } | Text::Default => Err(NoFile::NotGiven),
        }
    }

    /// Reads the configuration file again and applies it. Every other source is as it was, and so is the outcome.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Applied, NotApplied> {
        let shared = Arc::clone(self);
        to_the_end(async move {
            let _told = shared.begin_reload();
            shared.reload_file().await
        })
        .await
    }

    async fn reload_file(self: Arc<Self>) -> Result<Applied, NotApplied> {
        let mut own = self.own.lock().await;
        let text = match &own.text {
            Text::File(files) => {
                let path = files.path().to_owned();
                // By a thread of its own: a file may be slow to come.
                let read = tokio::task::spawn_blocking(move || Text::read(&path)).await;
                read.map_err(|error| NotApplied::because(error.to_string()))
                    .and_then(|read| read.map_err(|problems| NotApplied::because(problems.to_string())))
            }
            text @ (Text::Flags { .. } | Text::Default) => Ok(text.clone()),
        };
        let outcome = match text {
            Ok(text) => {
                let outcome = self.run_own(&own, &text, &own.stopped).await;
                if outcome.is_ok() {
                    own.text = text;
                }
                outcome
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            self.note(&own.text.name(), Some(error));
        }
        outcome
    }

    /// What a reload would do, without doing it: with the document that is given, as if it stood in the place of the process's own
    /// file, or with that file as it is now.
    pub(crate) async fn plan(self: &Arc<Self>, document: Option<String>) -> Result<Plan, NotApplied> {
        let shared = Arc::clone(self);
        // By a thread of its own: a file may be slow to come.
        let planned = tokio::task::spawn_blocking(move || {
            let own = shared.own.blocking_lock();
            let file = match &own.text {
                Text::File(files) => Some(files.path()),
                Text::Flags { .. } | Text::Default => None,
            };
            let (candidate, warnings) = match (document, file) {
                (Some(document), _) => {
                    let directory = file.map(|file| file.parent().unwrap_or(Path::new("")));
                    let loaded = config::load_sent(SENT, &document, directory, &own.stopped);
                    own.candidate_of(SENT.to_owned(), loaded)?
                }
                (None, Some(path)) => {
                    let text = Text::read(path);
                    let text = text.map_err(|problems| NotApplied::because(problems.to_string()))?;
                    own.candidate(&text, &own.stopped)?
                }
                (None, None) => own.candidate(&own.text, &own.stopped)?,
            };
            match shared.check(&candidate) {
                problems if problems.is_empty() => {
                    Ok(Plan::of(&shared, &shared.live(), &candidate, warnings))
                }
                problems => Err(NotApplied { problems }),
            }
        });
        planned.await.unwrap_or_else(|error| Err(NotApplied::because(error.to_string())))
    }

    /// Stops a module: the rest of the configuration goes on without it.
    pub(crate) async fn stop_module(self: &Arc<Self>, name: &str) -> Result<Applied, NotApplied> {
        to_the_end(Arc::clone(self).change_modules(name.to_owned(), true)).await
    }

    /// Starts a module that was stopped.
    pub(crate) async fn start_module(self: &Arc<Self>, name: &str) -> Result<Applied, NotApplied> {
        to_the_end(Arc::clone(self).change_modules(name.to_owned(), false)).await
    }

    async fn change_modules(self: Arc<Self>, name: String, is_stopped: bool) -> Result<Applied, NotApplied> {
        let mut own = self.own.lock().await;
        if !self.live().snapshot.modules.iter().any(|module| *module.name == *name) {
            return Err(NotApplied::because(format!("there is no module {name:?}")));
        }
        let mut stopped = own.stopped.clone();
        if is_stopped {
            stopped.insert(name);
        } else {
            stopped.remove(&name);
        }
        let outcome = self.run_own(&own, &own.text, &stopped).await;
        if outcome.is_ok() {
            own.stopped = stopped;
        }
        outcome
    }

    async fn run_own(
        self: &Arc<Self>,
        own: &Own,
        text: &Text,
        stopped: &BTreeSet<String>,
    ) -> Result<Applied, NotApplied> {
        let (candidate, mut warnings) = own.candidate(text, stopped)?;
        let mut applied = self.apply(candidate).await?;
        warnings.append(&mut applied.warnings);
        Ok(Applied { warnings, ..applied })
    }
}

/// Does it whether or not somebody still waits for it: what is noted must be what runs.
async fn to_the_end(
    change: impl Future<Output = Result<Applied, NotApplied>> + Send + 'static,
) -> Result<Applied, NotApplied> {
    tokio::spawn(change).await.unwrap_or_else(|error| Err(NotApplied::because(error.to_string())))
}

/// Answers SIGHUP, one after the other: those that come meanwhile are answered by the next.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    loop {
        shared.hung_up.notified().await;
        // Told whether or not there is a file: whoever has sent the signal waits for the end of it.
        let _told = shared.begin_reload();
        match shared.file().await {
            Ok(()) => tell(&to_the_end(Arc::clone(&shared).reload_file()).await),
            Err(no_file) => {
                let (cause, help) = no_file.words();
                tracing::warn!("SIGHUP: {cause}: there is nothing to read again but certificates; {help}");
            }
        }
        // What runs may name files that hold something new, whether or not it is new itself.
        let certificates = Arc::clone(&shared.live().certificates);
        if certificates.is_empty() {
            continue;
        }
        // By a thread of its own: a file may be slow to come.
        if let Ok(outcome) = tokio::task::spawn_blocking(move || certificates.reload()).await {
            let (reloaded, refused) = (outcome.reloaded.len(), outcome.refused.len());
            tracing::info!(
                "certificates: {reloaded} reloaded, {refused} refused, {} unchanged",
                outcome.unchanged
            );
        }
    }
}

/// What became of it, in the log.
pub(crate) fn tell(outcome: &Result<Applied, NotApplied>) {
    match outcome {
        Ok(Applied { number, unchanged: true, .. }) => {
            tracing::info!("configuration {number} is what is written: nothing to do");
        }
        Ok(Applied { number, changes, needs_restart, warnings, .. }) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            let changes = if changes.is_empty() { "no table changed".to_owned() } else { changes.join(", ") };
            tracing::info!("configuration {number} runs: {changes}");
            if !needs_restart.is_empty() {
                tracing::warn!(
                    "configuration {number}: takes effect with a restart: {}",
                    needs_restart.join(", ")
                );
            }
        }
        Err(NotApplied { problems }) => {
            for problem in problems {
                tracing::error!("configuration not applied: {problem}");
            }
            tracing::error!("the configuration that runs is kept");
        }
    }
}
