//! What does a process of a cluster begin with? The configuration that its node has in the store, which it saves there if it is the first;
//! while the store is away, its own copy of what ran last.
//!
//! Never with a guess: without store and copy, and without a configuration that anybody has written, it does not begin.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use store::{FirstSave, NewConfig, SealingKey, Store, StoreError, StoreSettings, StoreUrl};
use thiserror::Error;
use tokio::runtime::Runtime;

use super::copy::{Copy, CopyFile};
use super::local::Local;

/// Where copies are kept unless the operator or systemd says otherwise.
const STATE_DIRECTORY: &str = "state";

/// What systemd calls the directory that a service may keep things in (systemd.exec(5), `StateDirectory=`).
const STATE_DIRECTORY_VARIABLE: &str = "STATE_DIRECTORY";

/// What a process knows before it has asked anybody.
#[derive(Clone, Debug)]
pub struct Joining {
    /// What is this process's own.
    pub local: Local,
    /// The configuration that it was given, if any.
    pub file: Option<LocalFile>,
}

/// A configuration that was given to this process beside the store.
#[derive(Clone, Debug)]
pub struct LocalFile {
    /// Its name in messages.
    pub name: String,
    /// What of it is shared.
    pub document: String,
    /// The fingerprint of what it says.
    pub fingerprint: u64,
}

/// Where what a process begins with is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was the first: the store has its own configuration now.
    First,
    /// The store.
    Store,
    /// Its copy, as the store is away.
    Copy,
}

/// A process on its way into the cluster.
#[derive(Debug)]
pub struct Joined {
    pub(crate) runtime: Runtime,
    pub(crate) joining: Joining,
    pub(crate) settings: StoreSettings,
    pub(crate) copy_file: CopyFile,
    /// None while it is away; then why.
    pub(crate) store: Result<Store, StoreError>,
    /// What it begins with.
    pub(crate) start: Copy,
    pub(crate) begun: Begun,
}

/// Why a process cannot join.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The store will not do.
    #[error("the store {url} cannot be used: {error}")]
    Store {
        /// Which, without its password.
        url: String,
        /// Why not.
        error: StoreError,
    },
    /// What is said about the store will not do.
    #[error("[store]: {0}")]
    Settings(StoreError),
    /// Nothing to begin with.
    #[error(
        "node {node} has no configuration in the store {url} yet: start its first process with --config FILE, or put one there by \
         `engine config push FILE --node {node} --store {url}`"
    )]
    NoConfiguration {
        /// The node.
        node: String,
        /// Which store, without its password.
        url: String,
    },
    /// Nobody to ask, and nothing to begin with.
    #[error(
        "{error}, and there is no copy of what node {node} ran last ({path}): a process begins without its store only where one of its node \
         has run before"
    )]
    NoCopy {
        /// The node.
        node: String,
        /// Why the store is away.
        error: StoreError,
        /// Where a copy would be.
        path: PathBuf,
    },
    /// The copy is of no use.
    #[error("{error}, and the copy {path} cannot be used: {cause}")]
    Copy {
        /// Why the store is away.
        error: StoreError,
        /// Where the copy is.
        path: PathBuf,
        /// What is wrong with it.
        cause: std::io::Error,
    },
    /// No thread or descriptor is left.
    #[error("cannot prepare the control thread: {0}")]
    System(#[from] std::io::Error),
}

impl Joined {
    /// The document to begin with, its version, and which modules are stopped.
    #[must_use]
    pub fn start(&self) -> (&str, u64, &BTreeSet<String>) {
        (&self.start.document, self.start.version, &self.start.stopped)
    }

    /// Where that is from.
    #[must_use]
    pub fn begun(&self) -> Begun {
        self.begun
    }

    /// The file that this process was given, if it says something else than what has this fingerprint.
    #[must_use]
    pub fn drift(&self, fingerprint: u64) -> Option<&LocalFile> {
        self.joining.file.as_ref().filter(|file| file.fingerprint != fingerprint)
    }

    /// What is this process's own.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.joining.local
    }

    /// The store, without its password.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.settings.url
    }

    /// Why the store is away, if it is.
    #[must_use]
    pub fn away(&self) -> Option<&StoreError> {
        self.store.as_ref().err()
    }

    /// What an operator should know about the store though it can be used.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.store.as_ref().map_or(&[], Store::warnings)
    }
}

/// How a store is opened that a configuration or a command line names.
///
/// # Errors
/// [`JoinError::Settings`]: the URL or the key's file.
pub(crate) fn settings_of(local: &Local) -> Result<StoreSettings, JoinError> {
    let access = &local.access;
    let url: StoreUrl = access.url.parse().map_err(JoinError::Settings)?;
    // Processes that share a database's file share one beside it, without being told.
    let beside = || access.url.strip_prefix("sqlite:").map(|path| PathBuf::from(format!("{path}.key")));
    let key_file = access.key_file.as_deref().map(Path::to_owned).or_else(beside);
    let key = key_file.as_deref().map(load_key).transpose().map_err(JoinError::Settings)?;
    Ok(StoreSettings {
        connections_max: access.connections_max,
        idle_connections_max: access.idle_connections_max,
        timeout: access.timeout,
        key,
        ..StoreSettings::new(url)
    })
}

/// The key that seals secrets; made when nobody has made it yet. Of several processes that do, one makes it and the others read it.
fn load_key(path: &Path) -> Result<SealingKey, StoreError> {
    if !path.exists()
        && let Ok(key) = SealingKey::generate(path)
    {
        return Ok(key);
    }
    SealingKey::load(path)
}

fn copy_file(local: &Local, url: &StoreUrl) -> CopyFile {
    let by_system =
        || std::env::var_os(STATE_DIRECTORY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let directory = local.access.state_dir.as_deref().map(Path::to_owned).or_else(by_system);
    CopyFile::of(&directory.unwrap_or_else(|| STATE_DIRECTORY.into()), &local.node, &url.to_string())
}

/// Finds out what to begin with. Waits for the store, for as long as its settings say.
///
/// # Errors
/// [`JoinError`].
pub fn join(joining: Joining) -> Result<Joined, JoinError> {
    let settings = settings_of(&joining.local)?;
    let copy_file = copy_file(&joining.local, &settings.url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (store, start, begun) = match runtime.block_on(ask(&settings, &joining)) {
        Ok((store, start, begun)) => (Ok(store), start, begun),
        Err(JoinError::Store { error, .. }) if error.is_unavailable() => {
            let start = from_copy(&copy_file, &joining.local.node, &error)?;
            (Err(error), start, Begun::Copy)
        }
        Err(error) => return Err(error),
    };
    Ok(Joined { runtime, joining, settings, copy_file, store, start, begun })
}

fn from_copy(file: &CopyFile, node: &str, error: &StoreError) -> Result<Copy, JoinError> {
    let (node, error, path) = (node.to_owned(), error.clone(), file.path().to_owned());
    match file.read(&node) {
        Ok(Some(copy)) => Ok(copy),
        Ok(None) => Err(JoinError::NoCopy { node, error, path }),
        Err(cause) => Err(JoinError::Copy { error, path, cause }),
    }
}

async fn ask(settings: &StoreSettings, joining: &Joining) -> Result<(Store, Copy, Begun), JoinError> {
    let failed = |error| JoinError::Store { url: settings.url.to_string(), error };
    let node = &joining.local.node;
    let store = Store::open(settings.clone()).await.map_err(failed)?;
    let there = match &joining.file {
        Some(file) => {
            let config = NewConfig {
                document: file.document.clone(),
                fingerprint: fingerprint_text(file.fingerprint),
                author: "first process".to_owned(),
                comment: file.name.clone(),
            };
            match store.save_first_config(node, &config).await.map_err(failed)? {
                FirstSave::Saved(version) => {
                    let start = Copy {
                        node: node.clone(),
                        version,
                        document: file.document.clone(),
                        stopped: BTreeSet::new(),
                    };
                    return Ok((store, start, Begun::First));
                }
                FirstSave::Exists(there) => *there,
            }
        }
        None => store.current_config(node).await.map_err(failed)?.ok_or_else(|| {
            JoinError::NoConfiguration { node: node.clone(), url: settings.url.to_string() }
        })?,
    };
    let stopped = stopped_modules(&store, node).await.map_err(failed)?;
    let start =
        Copy { node: node.clone(), version: there.summary.version, document: there.document, stopped };
    Ok((store, start, Begun::Store))
}

/// The names of a node's modules that were stopped.
pub(crate) async fn stopped_modules(store: &Store, node: &str) -> Result<BTreeSet<String>, StoreError> {
    let states = store.module_states(node).await?;
    Ok(states.into_iter().filter(|state| state.stopped).map(|state| state.module).collect())
}

/// A fingerprint as it is shown and saved.
pub(crate) fn fingerprint_text(fingerprint: u64) -> String {
    format!("{fingerprint:016x}")
}

/// A store whose URL somebody has written, for a command that ends soon.
///
/// # Errors
/// [`JoinError`].
pub(crate) fn open_for_command(local: &Local) -> Result<(Runtime, Store), JoinError> {
    let settings = settings_of(local)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let opened = runtime.block_on(Store::open(settings.clone()));
    let store = opened.map_err(|error| JoinError::Store { url: settings.url.to_string(), error })?;
    Ok((runtime, store))
}
