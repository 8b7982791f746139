//! Does this process belong to a cluster, and what does it begin with then? By `--store` or `[store]`, and what its node has there.
//!
//! Never serves what was not loaded as it is written in the store: every mistake in it is shown.

use std::path::Path;

use anyhow::{anyhow, bail};
use config::schema::cluster::Store as StoreDefaults;
use config::snapshot::cluster::StoreAccess;
use config::{Files, Loaded, Severity, Text};
use control::{Begun, Candidate, Joined, Joining, Local, LocalFile, LocalTerms, Own};

use crate::cli::{MemberArgs, RunArgs};
use crate::settings::{self, Source, count};

/// Joins the cluster that the arguments or the file name, if any.
pub(crate) fn join(args: &RunArgs) -> anyhow::Result<Option<(Candidate, Own, Joined)>> {
    let file = args.config.as_deref().map(|path| Ok::<_, anyhow::Error>((path, Source::File(path).load()?)));
    let file = file.transpose()?;
    let written = file.as_ref().and_then(|(_, loaded)| loaded.snapshot.store.clone());
    let Some(access) = access(args.store.as_deref(), &args.member, args.state_dir.as_deref(), written) else {
        if args.member.node.is_some() || args.member.store_key.is_some() || args.state_dir.is_some() {
            bail!(
                "--node, --store-key and --state-dir are about a cluster: name its store by --store URL or [store]"
            );
        }
        return Ok(None);
    };
    let node = match (&args.member.node, &file) {
        (Some(node), _) => node.clone(),
        (None, Some((_, loaded))) => loaded.snapshot.node.clone(),
        (None, None) => bail!("which node of the cluster? --node ID"),
    };
    let terms = LocalTerms { admin: args.admin, port_offset: offset(args, file.as_ref()) };
    let local = Local { node, access, terms };
    // Nothing is read again: the store says what runs.
    let own = Own::new(Text::Default, terms);
    let file = file.map(|(path, loaded)| local_file(&local, path, loaded)).transpose()?;
    let joined = control::join(Joining { local, file })?;
    say_how(&joined);
    Ok(Some((candidate(&joined)?, own, joined)))
}

/// Where the store is and what belongs to it: what flags say counts before what is written.
pub(crate) fn access(
    url: Option<&str>,
    member: &MemberArgs,
    state_dir: Option<&Path>,
    written: Option<StoreAccess>,
) -> Option<StoreAccess> {
    let mut access = match (url, written) {
        (None, None) => return None,
        (None, Some(written)) => written,
        (Some(url), Some(written)) => StoreAccess { url: url.into(), ..written },
        (Some(url), None) => {
            let default = StoreDefaults::default();
            StoreAccess {
                url: url.into(),
                key_file: None,
                state_dir: None,
                timeout: default.timeout.duration(),
                connections_max: default.connectionpool.maxtotal,
                idle_connections_max: default.connectionpool.maxidle,
            }
        }
    };
    if let Some(path) = &member.store_key {
        access.key_file = Some(path.as_path().into());
    }
    if let Some(path) = state_dir {
        access.state_dir = Some(path.into());
    }
    Some(access)
}

fn offset(args: &RunArgs, file: Option<&(&Path, Loaded)>) -> u16 {
    match args.port_offset {
        0 => file.map_or(0, |(_, loaded)| loaded.schema.node.server_port_offset),
        given => given,
    }
}

/// What of a file goes into the store.
pub(crate) fn shared_document(path: &Path) -> anyhow::Result<String> {
    let files = Files::read(path);
    files.and_then(|files| config::shared_document(&files)).map_err(|problems| {
        settings::show(&problems);
        anyhow!("{} cannot be used", path.display())
    })
}

/// The file that this process was given, which has to do as its node's configuration.
fn local_file(local: &Local, path: &Path, loaded: Loaded) -> anyhow::Result<LocalFile> {
    let document = shared_document(path)?;
    let fingerprint = loaded.snapshot.fingerprint;
    // That it is of this node and that its ports can be moved is found out before anything is saved.
    let name = path.display().to_string();
    local.settle(0, &document, loaded).map_err(|error| anyhow!("{name}: {error}"))?;
    let again = local.load(0, &document, &Default::default()).map_err(|problems| {
        settings::show(&problems);
        anyhow!("{name} cannot be shared by the processes of a node")
    })?;
    drop(again);
    Ok(LocalFile { name, document, fingerprint })
}

fn say_how(joined: &Joined) {
    let (node, url) = (&joined.local().node, joined.url());
    let (_, version, _) = joined.start();
    joined.warnings().iter().for_each(|warning| tracing::warn!("store: {warning}"));
    match joined.begun() {
        Begun::First => tracing::info!("node {node}: the first configuration in {url}: version {version}"),
        Begun::Store => tracing::info!("node {node}: version {version} of {url}"),
        Begun::Copy => {
            let cause = joined.away().map(ToString::to_string).unwrap_or_default();
            tracing::error!("{cause}: starting from this process's copy of version {version} of node {node}");
        }
    }
}

/// What the store or the copy has, as this process runs it.
fn candidate(joined: &Joined) -> anyhow::Result<Candidate> {
    let (document, version, stopped) = joined.start();
    let local = joined.local();
    let loaded = local.load(version, document, stopped).map_err(|problems| {
        settings::show(&problems);
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        anyhow!(
            "version {version} of node {} cannot be used here: {}",
            local.node,
            count(errors.count(), "error")
        )
    })?;
    if let Some(file) = joined.drift(loaded.snapshot.fingerprint) {
        tracing::warn!(
            "{} says something else than version {version} of node {}, which counts: `engine config diff {0} --store URL` shows what",
            file.name,
            local.node
        );
    }
    local.settle(version, document, loaded).map_err(|error| anyhow!(error))
}
