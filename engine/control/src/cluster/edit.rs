//! How is a node's configuration changed? A new version is put beside the one that its author saw, and what came of it is waited for.
//!
//! Never in place of one that somebody else has made meanwhile: of two authors who saw the same version, one is refused.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proto::lease::{LeaseTerms, Mark, Observer};
use proxy::standing::monotonic;
use serde::Serialize;
use serde_json::Value;
use store::{Activation, ConfigState, ConfigSummary, ConfigVersion, NewConfig, Store, StoreError};
use thiserror::Error;
use tokio::runtime::Runtime;
use utoipa::ToSchema;

use super::join::{JoinError, open_for_command};
use super::local::Local;
use super::member::lease_of;

/// Between two looks at what has become of a version.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// How long a command waits for the processes of a node, of which some may be gone without anyone to say so.
const COMMAND_PATIENCE: Duration = Duration::from_secs(15);

/// A version that somebody wants.
#[derive(Clone, Debug)]
pub struct Push {
    /// The document, as `config::shared_document` makes it.
    pub document: String,
    /// The version that its author saw; the active one if he does not say.
    pub base: Option<u64>,
    /// Who he is.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Decision {
    /// It is active: every process of the node applies it.
    Active {
        /// Its number.
        version: u64,
    },
    /// It was never active anywhere.
    Rejected {
        /// Its number.
        version: u64,
        /// Which process found what.
        cause: String,
    },
    /// Not all processes have answered yet.
    Proposed {
        /// Its number.
        version: u64,
    },
}

/// Puts a version into the store, says so to `proposed`, and waits for `patience` until it is decided about.
pub(crate) async fn publish(
    store: &Store,
    node: &str,
    push: Push,
    patience: Duration,
    proposed: impl FnOnce(),
) -> Result<Decision, StoreError> {
    let base = match push.base {
        Some(base) => base,
        None => store.current_config(node).await?.map_or(0, |current| current.summary.version),
    };
    let config = NewConfig {
        fingerprint: fingerprint(&push.document),
        document: push.document,
        author: push.author,
        comment: push.comment,
    };
    let version = store.publish_config(node, base, &config).await?;
    proposed();
    let until = monotonic() + patience;
    loop {
        // A node without processes has nobody to wait for.
        if let Ok(Activation::Active) = store.activate_config(node, version).await {
            return Ok(Decision::Active { version });
        }
        if let Some(decision) = decided(store, node, version).await? {
            return Ok(decision);
        }
        if monotonic() >= until {
            return Ok(Decision::Proposed { version });
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn decided(store: &Store, node: &str, version: u64) -> Result<Option<Decision>, StoreError> {
    let summary = store.config_version(node, version).await?.map(|there| there.summary);
    Ok(summary.and_then(|summary| match summary.state {
        ConfigState::Proposed => None,
        ConfigState::Active | ConfigState::Past => Some(Decision::Active { version }),
        ConfigState::Rejected => {
            Some(Decision::Rejected { version, cause: summary.cause.unwrap_or_default() })
        }
    }))
}

/// The fingerprint of what a document says; of one that only its node's processes can read, of the text.
fn fingerprint(document: &str) -> String {
    let environment = |variable: &str| std::env::var(variable).ok();
    match config::load_shared("", document, &std::collections::BTreeSet::new(), &environment) {
        Ok(loaded) => super::fingerprint_text(loaded.snapshot.fingerprint),
        Err(_) => format!("text-{:016x}", super::copy::fnv1a(document.as_bytes())),
    }
}

/// Something that two documents do not say alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: keys, joined by dots.
    pub key: String,
    /// What the first says, if anything.
    pub before: Option<String>,
    /// What the second says, if anything.
    pub after: Option<String>,
}

/// What two documents do not say alike, by key. The order of channels is theirs to differ in too.
///
/// # Errors
/// When one of them is no JSON.
pub fn differences(before: &str, after: &str) -> serde_json::Result<Vec<Difference>> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(&serde_json::from_str(before)?, String::new(), &mut old);
    flatten(&serde_json::from_str(after)?, String::new(), &mut new);
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differences = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    Ok(differences
        .map(|key| Difference {
            key: key.clone(),
            before: old.get(key).cloned(),
            after: new.get(key).cloned(),
        })
        .collect())
}

fn flatten(value: &Value, path: String, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, path, into);
            }
        }
        value => {
            into.insert(path, value.to_string());
        }
    }
}

/// A store that a command asks without a process between.
#[derive(Debug)]
pub struct Editor {
    runtime: Runtime,
    store: Store,
    node: String,
}

/// Why a command could not do it.
#[derive(Debug, Error)]
pub enum EditError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] JoinError),
    /// The store did not do it.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
}

impl Editor {
    /// Opens the store of a node.
    ///
    /// # Errors
    /// [`EditError::Open`].
    pub fn open(local: &Local) -> Result<Self, EditError> {
        let (runtime, store) = open_for_command(local)?;
        Ok(Self { runtime, store, node: local.node.clone() })
    }

    /// The node's active version.
    ///
    /// # Errors
    /// [`EditError::Store`].
    pub fn current(&self) -> Result<Option<ConfigVersion>, EditError> {
        Ok(self.runtime.block_on(self.store.current_config(&self.node))?)
    }

    /// Any version of the node.
    ///
    /// # Errors
    /// [`EditError::Store`].
    pub fn version(&self, version: u64) -> Result<Option<ConfigVersion>, EditError> {
        Ok(self.runtime.block_on(self.store.config_version(&self.node, version))?)
    }

    /// The node's versions, the newest first.
    ///
    /// # Errors
    /// [`EditError::Store`].
    pub fn history(&self, limit: u32) -> Result<Vec<ConfigSummary>, EditError> {
        Ok(self.runtime.block_on(self.store.config_history(&self.node, limit))?)
    }

    /// Puts a version into the store, and waits until it is decided about.
    ///
    /// # Errors
    /// [`EditError::Store`]: a conflict when somebody else was first.
    pub fn push(&self, push: Push) -> Result<Decision, EditError> {
        Ok(self.runtime.block_on(async {
            let decision = publish(&self.store, &self.node, push, Duration::ZERO, || ()).await?;
            let Decision::Proposed { version } = decision else { return Ok(decision) };
            self.see_through(version).await
        })?)
    }

    /// Waits for the processes of the node. Those that do not beat are taken for gone; those that beat and do not answer decide against it.
    async fn see_through(&self, version: u64) -> Result<Decision, StoreError> {
        let mut observers: HashMap<String, Observer> = HashMap::new();
        let until = monotonic() + COMMAND_PATIENCE;
        loop {
            let waiting = match self.store.activate_config(&self.node, version).await {
                Ok(Activation::Waiting { processes }) => processes,
                Ok(Activation::Active) | Err(StoreError::Conflict { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            if let Some(decision) = decided(&self.store, &self.node, version).await? {
                return Ok(decision);
            }
            let now = monotonic();
            if now >= until {
                let cause = format!("{} did not answer in time", waiting.join(", "));
                // Whoever decided at this moment has the last word.
                let _ = self.store.reject_config(&self.node, version, &cause).await;
                return Ok(decided(&self.store, &self.node, version)
                    .await?
                    .unwrap_or(Decision::Proposed { version }));
            }
            for row in self.store.processes().await?.iter().filter(|row| waiting.contains(&row.id)) {
                let observer = observers.entry(row.id.clone()).or_default();
                observer.see(Mark { epoch: row.epoch, beat: row.beat }, now);
                if observer.is_over(LeaseTerms::new(lease_of(row)), now) {
                    self.store.expire_process(&row.id, row.epoch, row.beat).await?;
                }
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_key() {
        let before = r#"{"node": {"id": "a"}, "listener": {"web": {"bind": "127.0.0.1:1", "backlog": 5}}}"#;
        let after = r#"{"listener": {"web": {"bind": "127.0.0.1:2", "backlog": 5}, "db": {}}}"#;
        let told: Vec<_> = differences(before, after)
            .expect("JSON")
            .into_iter()
            .map(|difference| (difference.key, difference.before, difference.after))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            ("listener.db".to_owned(), None, text("{}")),
            ("listener.web.bind".to_owned(), text("\"127.0.0.1:1\""), text("\"127.0.0.1:2\"")),
            ("node.id".to_owned(), text("\"a\""), None),
        ];
        assert_eq!(told, expected);
        assert_eq!(differences(before, before).expect("JSON"), []);
        assert!(differences(before, "{").is_err());
    }
}
