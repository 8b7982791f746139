//! As whom does the process serve? As `process.user` and `process.group`, from the moment on when its sockets are bound.
//!
//! Never as anybody else than the configuration says: what cannot be done ends the start.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use config::snapshot::Snapshot;
use control::Certificates;
use runtime::privileges::{Identity, group_number};

/// Whom the configuration names, if it names somebody that the process is not already.
pub(crate) fn wanted(snapshot: &Snapshot) -> anyhow::Result<Option<Identity>> {
    let settings = &snapshot.process;
    let Some(user) = settings.user.as_deref() else {
        return match settings.group {
            Some(_) => Err(anyhow!("process.group takes effect with process.user, which says whose it is")),
            None => Ok(None),
        };
    };
    let cannot_ask = "the user database of this machine cannot be asked";
    let group = match settings.group.as_deref() {
        Some(name) => match group_number(name).context(cannot_ask)? {
            None => bail!(
                "process.group: there is no group {name:?} on this machine; `getent group` shows those there are"
            ),
            number => number,
        },
        None => None,
    };
    let Some(identity) = Identity::of_user(user, group).context(cannot_ask)? else {
        let is_number = user.bytes().all(|byte| byte.is_ascii_digit());
        let help = if is_number { "say process.group beside it" } else { "`useradd --system` makes one" };
        bail!("process.user: there is no user {user:?} on this machine; {help}");
    };
    if identity.user == 0 {
        bail!(
            "process.user: {user:?} is root, and would keep what is to be given up; name another, or leave the key out"
        );
    }
    if identity.is_current() {
        return Ok(None);
    }
    let current = rustix::process::geteuid();
    if !current.is_root() {
        bail!(
            "process.user is {user:?}, and user {} cannot become somebody else: start the process as root or as {user:?} (in a \
             unit of systemd: User={user}), or leave the key out",
            current.as_raw()
        );
    }
    Ok(Some(identity))
}

/// Goes on as this one, for good. What it will not be able to read again is told now, not at the first reload.
pub(crate) fn give_up(
    identity: &Identity,
    snapshot: &Arc<Snapshot>,
    config: Option<&Path>,
) -> anyhow::Result<()> {
    let (user, group) = (identity.user, identity.group);
    identity
        .assume()
        .with_context(|| format!("cannot go on as user {user}, group {group} (process.user)"))?;
    tracing::info!("goes on as user {user}, group {group}");
    let mut unreadable = Vec::new();
    if let Some(path) = config
        && let Err(error) = File::open(path)
    {
        unreadable.push(format!("{}: {error}", path.display()));
    }
    if let Err(notes) = Certificates::load(snapshot) {
        unreadable.extend(notes.problems.iter().map(ToString::to_string));
    }
    for what in unreadable {
        tracing::warn!("{what}: user {user} cannot read it, so a reload will change nothing here");
    }
    Ok(())
}
