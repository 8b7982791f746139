//! How often was each id delivered, to this origin or to any other that shares a file with it, also one that was killed?
//!
//! Never lets a request be answered whose id is not in the file, nor takes a line that it cannot read for none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::delivery::Tally;
use crate::protocol::http::ids::{RunId, parse_id};

/// Ids of one run that are told apart: about 512 MiB while they are counted.
const IDS_MAX: usize = 1 << 24;

/// A file with a line for each delivery.
pub(crate) struct IdsFile {
    path: PathBuf,
    file: File,
    /// Deliveries that did not get their line.
    unwritten: AtomicU64,
}

impl IdsFile {
    /// Goes on where those left off who wrote to `path` before.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        Ok(Self { path: path.to_owned(), file, unwritten: AtomicU64::new(0) })
    }

    /// Writes down that request `id`, as it was sent, has come.
    ///
    /// One write: what several origins append at the same time stays apart, and the kernel has it when this process is
    /// killed the next moment.
    pub(crate) fn count(&self, id: &[u8]) {
        let line = [id, b"\n"].concat();
        if (&self.file).write(&line).ok() != Some(line.len()) {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each id of `run` was written, by whomever.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn tally(&self, run: RunId) -> io::Result<Tally> {
        let mut tally = Tally { uncounted: self.unwritten.load(Ordering::Relaxed), ..Tally::default() };
        let mut deliveries: HashMap<u64, u64> = HashMap::new();
        for line in BufReader::new(File::open(&self.path)?).split(b'\n') {
            match parse_id(&line?) {
                Some((of, number)) if of == run => {
                    if deliveries.len() < IDS_MAX || deliveries.contains_key(&number) {
                        *deliveries.entry(number).or_default() += 1;
                    } else {
                        tally.uncounted += 1;
                    }
                }
                Some(_) => {}
                None => tally.uncounted += 1,
            }
        }
        for times in deliveries.into_values() {
            match times {
                1 => tally.once += 1,
                2 => tally.twice += 1,
                _ => tally.more += 1,
            }
        }
        Ok(tally)
    }
}
