//! Has a file changed that the configuration was read from? Asked again and again where `process.watch` wants it, and answered as
//! SIGHUP is.
//!
//! Never reads what is still being written, as far as that can be seen: files count as changed once they have been the same for a
//! while. Never on a thread that waits for anything else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Text;
use tokio::time::{MissedTickBehavior, interval};

use crate::Shared;

/// Between two looks. A look asks the kernel once for each file; what has changed is read after two looks that agree, so that whoever
/// writes a file in pieces has this long for the next.
const LOOK: Duration = Duration::from_millis(500);

/// How often files are asked for again that change while they are looked at; the next look finds what is missed.
const ATTEMPTS_MAX: usize = 3;

/// What the kernel says of a file when it is another or holds something else: device, inode, size, and the times of its last change.
/// Those of whatever a link leads to, so that an exchanged link is a change. `None` while there is no file.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        modified,
        (metadata.ctime(), metadata.ctime_nsec()),
    ))
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    paths.iter().map(|path| stamp(path)).collect()
}

/// What a configuration was read from.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Those that it is written in, and those that it names.
    files: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    /// Where another file would be included as well.
    directories: Vec<PathBuf>,
    stamps_of_directories: Vec<Stamp>,
}

impl Seen {
    /// Looks at the configuration of which this is the first file.
    fn of(path: &Path) -> Self {
        let (mut files, mut directories) = places(path);
        for _ in 0..ATTEMPTS_MAX {
            let (stamps, stamps_of_directories) = (stamps(&files), stamps(&directories));
            // What is read after this is what the stamps are of, or newer.
            let again = places(path);
            if again == (files.clone(), directories.clone()) {
                return Self { files, stamps, directories, stamps_of_directories };
            }
            (files, directories) = again;
        }
        let (stamps, stamps_of_directories) = (vec![None; files.len()], vec![None; directories.len()]);
        Self { files, stamps, directories, stamps_of_directories }
    }

    /// As it is now: the same places, looked at again.
    fn now(&self) -> (Vec<Stamp>, Vec<Stamp>) {
        (stamps(&self.files), stamps(&self.directories))
    }

    fn is(&self, (files, directories): &(Vec<Stamp>, Vec<Stamp>)) -> bool {
        self.stamps == *files && self.stamps_of_directories == *directories
    }

    /// Files that are other than they were, or of which there was none.
    fn changed<'s>(&'s self, before: &'s Self) -> impl Iterator<Item = &'s Path> {
        let known = |path: &Path| before.files.iter().position(|other| other == path);
        let is_same = move |index: usize, path: &Path| {
            known(path).is_some_and(|there| before.stamps[there] == self.stamps[index])
        };
        let new = self.files.iter().enumerate().filter(move |(index, path)| !is_same(*index, path));
        let gone = before.files.iter().filter(|path| !self.files.contains(path));
        new.map(|(_, path)| &**path).chain(gone.map(|path| &**path))
    }
}

/// The files of a configuration with those that it names, and the directories in which it looks for more.
fn places(path: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let Ok(text) = Text::read(path) else { return (vec![path.to_owned()], Vec::new()) };
    let Text::File(files) = &text else { return (Vec::new(), Vec::new()) };
    let mut named: Vec<PathBuf> = files.paths().map(Path::to_owned).collect();
    named.extend(text.named());
    (named, files.directories().map(Path::to_owned).collect())
}

/// What was seen of the files, and what of it is new.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<Seen>,
    /// What a look found that was not as before; the next has to find the same.
    stirring: Option<(Vec<Stamp>, Vec<Stamp>)>,
}

impl Watch {
    /// Looks once. What has changed and settled, by name; empty while nothing has.
    fn look(&mut self, path: &Path) -> Vec<PathBuf> {
        let Some(seen) = &self.seen else {
            self.seen = Some(Seen::of(path));
            return Vec::new();
        };
        let now = seen.now();
        if seen.is(&now) {
            self.stirring = None;
            return Vec::new();
        }
        if self.stirring.as_ref() != Some(&now) {
            self.stirring = Some(now);
            return Vec::new();
        }
        self.stirring = None;
        let next = Seen::of(path);
        // Of a directory alone it does not matter what else is in it.
        let changed = next.changed(seen).map(Path::to_owned).collect();
        self.seen = Some(next);
        changed
    }
}

/// Looks again and again, while the process is told to.
pub(crate) async fn rounds(shared: Arc<Shared>) {
    let mut watch = Watch::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if !shared.live().snapshot.process.watch || shared.file().await.is_err() {
            watch = Watch::default();
            continue;
        }
        let asker = Arc::clone(&shared);
        // By a thread of its own: a file may be slow to come.
        let looked = tokio::task::spawn_blocking(move || {
            let is_first = watch.seen.is_none();
            let own = asker.own.blocking_lock();
            let Text::File(files) = own.text() else { return (watch, Vec::new()) };
            let path = files.path().to_owned();
            let mut changed = watch.look(&path);
            // It may have changed before anybody looked.
            if is_first && Text::read(&path).is_ok_and(|text| text != *own.text()) {
                changed.push(path);
            }
            (watch, changed)
        });
        let Ok((looked, changed)) = looked.await else { return };
        watch = looked;
        if !changed.is_empty() {
            let names: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
            tracing::info!("changed: {}: reading the configuration and certificates again", names.join(", "));
            shared.hung_up.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory of its own, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("corelane-watch-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("conf.d")).expect("a directory");
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).expect("a file");
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MAIN: &str = "include = 'conf.d/*.toml'\nlistener.web.bind = '127.0.0.1:0'\n\
                        channel.a = { respond = {}, error_page.502.file = 'page.html' }\n";

    /// What two looks find after something was done: the first that it stirs, the second that it has settled.
    fn found(watch: &mut Watch, main: &Path) -> Vec<String> {
        assert_eq!(watch.look(main), Vec::<PathBuf>::new());
        let changed = watch.look(main);
        assert_eq!(watch.look(main), Vec::<PathBuf>::new(), "it is told once");
        changed.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_editors_and_volumes_do_to_a_file_is_seen() {
        let directory = Directory::new("seen");
        let main = directory.write("main.toml", MAIN);
        directory.write("page.html", "gone");
        let mut watch = Watch::default();
        assert_eq!(found(&mut watch, &main), Vec::<String>::new());
        // In place.
        directory.write("main.toml", &format!("{MAIN}# 1\n"));
        assert_eq!(found(&mut watch, &main), ["main.toml"]);
        // By a new file of the same name, as editors write.
        let new = directory.write("main.toml.new", &format!("{MAIN}# 2\n"));
        fs::rename(new, &main).expect("renamed");
        assert_eq!(found(&mut watch, &main), ["main.toml"]);
        // One more that is included, another text of it, and one less.
        let more = directory.write("conf.d/a.toml", "");
        assert_eq!(found(&mut watch, &main), ["a.toml"]);
        directory.write("conf.d/a.toml", "# 1");
        assert_eq!(found(&mut watch, &main), ["a.toml"]);
        fs::remove_file(more).expect("removed");
        assert_eq!(found(&mut watch, &main), ["a.toml"]);
        // What it names.
        directory.write("page.html", "still gone");
        assert_eq!(found(&mut watch, &main), ["page.html"]);
        // What is beside it and not meant.
        directory.write("conf.d/.a.toml.swp", "");
        assert_eq!(found(&mut watch, &main), Vec::<String>::new());
    }

    #[test]
    fn an_exchanged_link_is_a_change() {
        let directory = Directory::new("link");
        for version in ["one", "two"] {
            fs::create_dir(directory.0.join(version)).expect("a directory");
            directory.write(&format!("{version}/main.toml"), "listener.web.bind = '127.0.0.1:0'\n");
        }
        // As Kubernetes mounts a ConfigMap: a link to a link that is exchanged.
        symlink("one", directory.0.join("..data")).expect("a link");
        symlink("..data/main.toml", directory.0.join("main.toml")).expect("a link");
        let main = directory.0.join("main.toml");
        let mut watch = Watch::default();
        assert_eq!(found(&mut watch, &main), Vec::<String>::new());
        symlink("two", directory.0.join("..new")).expect("a link");
        fs::rename(directory.0.join("..new"), directory.0.join("..data")).expect("renamed");
        assert_eq!(found(&mut watch, &main), ["main.toml"]);
    }

    #[test]
    fn what_goes_on_changing_is_waited_for() {
        let directory = Directory::new("stirring");
        let main = directory.write("main.toml", "");
        let mut watch = Watch::default();
        assert!(watch.look(&main).is_empty());
        for size in 1..5 {
            directory.write("main.toml", &"#".repeat(size));
            assert!(watch.look(&main).is_empty(), "it stirs");
        }
        assert_eq!(watch.look(&main), std::slice::from_ref(&main));
        // One that is gone and comes back as it was written before is another file.
        fs::remove_file(&main).expect("removed");
        assert!(watch.look(&main).is_empty());
        directory.write("main.toml", "##");
        assert!(watch.look(&main).is_empty());
        assert_eq!(watch.look(&main), [main]);
    }
}
