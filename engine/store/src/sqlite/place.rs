//! Is the file where its locks hold? On this host's own disks, and on no network's file system.

use std::path::Path;

use crate::error::StoreError;

/// Kinds of file system that belong to a network, by the number that statfs(2) gives (linux/magic.h, and those that are kept outside).
const OF_NETWORKS: &[(u32, &str)] = &[
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB 2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0000_564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x786f_4256, "a virtual machine's shared folder"),
];

/// A program that is a file system. Which one, the mount table tells.
const FUSE: u32 = 0x6573_5546;

/// Programs that keep their files on this host's disks. Any other may be the way to a network.
const FUSE_OF_THIS_HOST: &[&str] = &["fuseblk", "fuse.fuse-overlayfs", "fuse.ntfs-3g"];

/// Refuses a place where several processes cannot share a file.
pub(crate) fn check(path: &Path, dir: &Path) -> Result<(), StoreError> {
    // The file itself may be mounted, or a link to elsewhere; if it is not there yet, it will be where its directory is.
    let found = rustix::fs::statfs(path)
        .map(|about| (about, path))
        .or_else(|_| rustix::fs::statfs(dir).map(|about| (about, dir)));
    let (about, place) = found.map_err(|error| {
        StoreError::refused(format!("there is no {}: {error}", path.display()), "see the store's URL")
    })?;
    // The number has 32 bits, whatever the width and sign of the field are here.
    let kind = about.f_type as u32;
    let refusal = match kind {
        FUSE => match mounted_as(place) {
            Some(name) if FUSE_OF_THIS_HOST.contains(&name.as_str()) => None,
            Some(name) => Some(name),
            None => Some("fuse".to_owned()),
        },
        _ => name_of(kind).map(str::to_owned),
    };
    match refusal {
        None => Ok(()),
        Some(name) => Err(StoreError::refused(
            format!("{} lies on a network's file system ({name}), where locks do not hold", path.display()),
            "put the store on a disk of this host, or use `postgres://` for processes of several hosts",
        )),
    }
}

fn name_of(kind: u32) -> Option<&'static str> {
    OF_NETWORKS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// How the mount table calls the file system of a path.
fn mounted_as(path: &Path) -> Option<String> {
    let about = rustix::fs::stat(path).ok()?;
    let device = format!("{}:{}", rustix::fs::major(about.st_dev), rustix::fs::minor(about.st_dev));
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    kind_of(&table, &device)
}

/// The kind of the file system on a device, from a text like /proc/self/mountinfo (proc(5)): the third field is the device, and after a
/// lone `-` comes the kind.
fn kind_of(table: &str, device: &str) -> Option<String> {
    let mut lines = table.lines().filter(|line| line.split(' ').nth(2) == Some(device));
    let (_, after) = lines.next()?.split_once(" - ")?;
    after.split(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_file_systems_of_networks_from_those_of_this_host() {
        let check = |kind: u32, expected: Option<&str>| assert_eq!(name_of(kind), expected, "{kind:#x}");
        check(0x6969, Some("NFS"));
        check(0xff53_4d42, Some("CIFS"));
        check(0x0102_1997, Some("9p"));
        check(0xef53, None); // ext4
        check(0x5846_5342, None); // XFS
        check(0x9123_683e, None); // btrfs
        check(0x0102_1994, None); // tmpfs
        check(0x794c_7630, None); // overlayfs
    }

    #[test]
    fn finds_the_program_behind_a_file_system_in_the_mount_table() {
        let table = "22 28 0:21 / /sys rw shared:7 - sysfs sysfs rw\n\
                     90 28 0:55 / /mnt/far rw,nosuid shared:40 master:1 - fuse.sshfs eva@host: rw,user_id=0\n";
        assert_eq!(kind_of(table, "0:55").as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind_of(table, "0:5"), None);
    }

    #[test]
    fn takes_a_directory_of_this_host() {
        let dir = std::env::temp_dir();
        assert_eq!(check(&dir.join("not there yet.db"), &dir), Ok(()));
    }
}
