//! The disk is full.

use std::process::Command;

use super::children::child;

/// The disk is a file system of 1 MiB in memory, which only the child sees (namespaces(7)), so that nobody has to remove it.
#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_is_old() {
    let inner = child("fills the disk", "sqlite:/mnt/cluster.db");
    let mut outer = Command::new("unshare");
    // Who is not root is it in a namespace of his own.
    if !rustix::process::geteuid().is_root() {
        outer.args(["--user", "--map-root-user"]);
    }
    outer.args(["--mount", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt && exec \"$0\" \"$@\""]);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = outer.output().expect("unshare, of util-linux");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
