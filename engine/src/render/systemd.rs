//! How is systemd told to run this configuration? A unit that takes from the process what it does not need.
//!
//! Never loosens anything for a case that the configuration does not have: what a line depends on is in the file it was written from.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::snapshot::{BindAddress, Snapshot};

use super::Note;

/// systemd's version from which on a service may be reloaded by a signal and say when it is done (`Type=notify-reload`).
const NOTIFY_RELOAD_SINCE: u32 = 253;

/// How long the process may be silent. Cores show themselves three times as often.
const WATCHDOG: Duration = Duration::from_secs(30);

/// Name servers, keys of tokens and the store may be slow to answer: a start waits for each.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What the end may take beyond what the process itself takes for it.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Whom the process runs as when the configuration does not say.
const USER: &str = "corelane";

/// Ports below are bound with a capability alone (`net.ipv4.ip_unprivileged_port_start`).
const PRIVILEGED_PORTS: std::ops::Range<u16> = 1..1024;

/// Directories that the unit has made for it; it may write there.
const OWN_DIRECTORIES: [&str; 3] = ["/run/corelane", "/var/lib/corelane", "/var/log/corelane"];

/// What lies below is hidden by `ProtectHome`.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What lies below is the service's own with `PrivateTmp`.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What a unit says.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Absolute, both.
    pub(super) program: &'a Path,
    pub(super) config: &'a Path,
    /// Of the systemd that it is for.
    pub(super) version: u32,
    /// What the end of a drain takes beyond its delay and its timeout.
    pub(super) drain_grace: Duration,
}

impl Unit<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (program, config) = (quoted(self.program), quoted(self.config));
        let settings = &self.snapshot.process;
        let drain = self.snapshot.terms.drain_delay + settings.drain_timeout;
        let stop = seconds(drain + self.drain_grace + STOP_GRACE);
        writeln!(
            out,
            "[Unit]\nDescription=Corelane gateway\nWants=network-online.target\nAfter=network-online.target nss-lookup.target\n"
        )?;
        writeln!(out, "[Service]")?;
        if self.version >= NOTIFY_RELOAD_SINCE {
            writeln!(
                out,
                "# `systemctl reload` sends SIGHUP and waits until the process says what came of it."
            )?;
            writeln!(out, "Type=notify-reload")?;
        } else {
            writeln!(
                out,
                "# From systemd 253 on: Type=notify-reload and no ExecReload, so that a reload is waited for."
            )?;
            writeln!(out, "Type=notify\nExecReload=/bin/sh -c 'kill -HUP $MAINPID'")?;
        }
        writeln!(
            out,
            "# Of an upgrade, the process before names the one after (MAINPID).\nNotifyAccess=main"
        )?;
        writeln!(out, "ExecStart={program} --config {config}")?;
        writeln!(out, "WatchdogSec={}", seconds(WATCHDOG))?;
        writeln!(out, "TimeoutStartSec={}", seconds(START_TIMEOUT))?;
        writeln!(out, "# A drain of {} s, and what follows it.", seconds(drain))?;
        writeln!(out, "TimeoutStopSec={stop}")?;
        writeln!(out, "Restart=on-failure\nRestartSec=1")?;
        writeln!(
            out,
            "# Only the process that serves is told to end; one that it has replaced drains as long as it is there."
        )?;
        writeln!(out, "KillMode=mixed")?;
        writeln!(
            out,
            "# Each connection is a descriptor. Listening sockets may be kept here from one process to the next."
        )?;
        writeln!(out, "LimitNOFILE=1048576\nFileDescriptorStoreMax=1024\n")?;
        self.write_identity(out)?;
        self.write_files(out)?;
        writeln!(out, "{RESTRICTIONS}")?;
        writeln!(out, "[Install]\nWantedBy=multi-user.target")
    }

    fn write_identity(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "User={USER}\nGroup={USER}")?;
        if self.privileged_addresses().next().is_some() {
            writeln!(out, "# For ports below 1024.")?;
            writeln!(out, "AmbientCapabilities=CAP_NET_BIND_SERVICE")?;
            writeln!(out, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE")?;
        } else {
            writeln!(
                out,
                "# A port below 1024 would take CAP_NET_BIND_SERVICE, here and in AmbientCapabilities."
            )?;
            writeln!(out, "CapabilityBoundingSet=")?;
        }
        writeln!(out)
    }

    fn write_files(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "RuntimeDirectory=corelane\nRuntimeDirectoryPreserve=restart")?;
        writeln!(out, "StateDirectory=corelane\nStateDirectoryMode=0750")?;
        writeln!(out, "LogsDirectory=corelane\nLogsDirectoryMode=0750")?;
        writeln!(out, "ConfigurationDirectory=corelane\nUMask=0027\nProtectSystem=strict")?;
        let foreign: BTreeSet<PathBuf> =
            self.written_directories().filter(|path| !is_below(path, &OWN_DIRECTORIES)).collect();
        for directory in foreign {
            writeln!(out, "ReadWritePaths=-{}", quoted(&directory))?;
        }
        let needs_home =
            self.written_directories().any(|path| is_below(&path, &HOMES)) || is_below(self.config, &HOMES);
        writeln!(out, "ProtectHome={}", if needs_home { "read-only" } else { "yes" })?;
        writeln!(out, "PrivateTmp=yes\nPrivateDevices=yes\n")
    }

    /// Addresses that an ordinary user may not listen at.
    fn privileged_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let listeners = self.snapshot.listeners.iter().filter_map(|listener| listener.bind.tcp());
        let admin = self.snapshot.admin.iter().map(|admin| admin.bind);
        listeners.chain(admin).filter(|address| PRIVILEGED_PORTS.contains(&address.port()))
    }

    /// Directories in which files are made.
    fn written_directories(&self) -> impl Iterator<Item = PathBuf> {
        let sockets = self.snapshot.listeners.iter().filter_map(|listener| match &listener.bind {
            BindAddress::Unix { path, .. } => path.parent(),
            BindAddress::Tcp(_) => None,
        });
        let store = self.snapshot.store.as_ref().and_then(|store| {
            Path::new(store.url.strip_prefix("sqlite:")?).parent().filter(|path| path.is_absolute())
        });
        let copy = self.snapshot.store.as_ref().and_then(|store| store.state_dir.as_deref());
        sockets.chain(store).chain(copy).map(Path::to_owned)
    }

    /// What the operator has to know beside.
    pub(super) fn notes(&self) -> Vec<Note> {
        let of = |what: String| Note { of: "unit".to_owned(), what };
        let mut notes = Vec::new();
        for directory in self.written_directories().filter(|path| is_below(path, &TEMPORARY)) {
            notes.push(of(format!(
                "nobody else sees what the service puts into {} (PrivateTmp=yes); /run/corelane is seen",
                directory.display()
            )));
        }
        if self.snapshot.process.user.is_some() {
            notes.push(of(format!(
                "the service begins as {USER}, which is not to change (process.user): leave the key out, or take User= and \
                 Group= out of the unit"
            )));
        }
        notes
    }
}

/// What no configuration needs.
const RESTRICTIONS: &str = "\
NoNewPrivileges=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
# No group has these three; without them the cores run on epoll.
SystemCallFilter=io_uring_setup io_uring_enter io_uring_register
";

fn is_below(path: &Path, directories: &[&str]) -> bool {
    directories.iter().any(|directory| path.starts_with(directory))
}

/// In whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A path as one word of a unit file (systemd.syntax(7), systemd.unit(5)).
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte)) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        let check = |path: &str, expected: &str| assert_eq!(quoted(Path::new(path)), expected);
        check("/etc/corelane/corelane.toml", "/etc/corelane/corelane.toml");
        check("/etc/100%/a b.toml", "\"/etc/100%%/a b.toml\"");
        check("/etc/$HOME", "\"/etc/$$HOME\"");
        check("/etc/\"a\"", "\"/etc/\\\"a\\\"\"");
    }

    #[test]
    fn time_is_rounded_up() {
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
    }
}
