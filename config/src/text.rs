//! What was a configuration read from? A text that can be compiled again, without the modules that were stopped meanwhile.
//!
//! Never looks at the file again by itself: what runs is what was read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::document::include::FileSet;
use crate::document::source::{Naming, Source};
use crate::document::{Document, Format};
use crate::load::{Loaded, default_config, load_document, load_quick_proxy, named_files};
use crate::problem::Problems;

/// A configuration as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// The contents of a file, and of those that it includes.
    File(Files),
    /// Flags of the command line.
    Flags {
        /// Values of `--listen`.
        listen: Vec<String>,
        /// Values of `--to`.
        to: Vec<String>,
    },
    /// The embedded default.
    Default,
}

/// What files held.
#[derive(Clone, Debug, PartialEq)]
pub struct Files(FileSet);

impl Files {
    /// Reads a file, and those that it includes.
    ///
    /// # Errors
    /// When it cannot be read or is no text. What is wrong with those that it includes is told when it is loaded.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Ok(Self(FileSet::read(path, &environment)?))
    }

    /// What a file with this text would be, and what it would include.
    #[must_use]
    pub fn of(path: &Path, text: impl Into<String>) -> Self {
        Self(FileSet::of(path, text.into(), &environment))
    }

    /// Where the file is that was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Every file that was read, the one that was asked for first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.paths()
    }

    /// The directories in which another one would be included as well.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.0.directories()
    }

    pub(crate) fn set(&self) -> &FileSet {
        &self.0
    }
}

impl Text {
    /// Reads a file, and those that it includes.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Files::read(path).map(Self::File)
    }

    /// What stands for it in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(files) => files.path().display().to_string(),
            Self::Flags { .. } => "the command line".to_owned(),
            Self::Default => "the embedded default".to_owned(),
        }
    }

    /// The files that it names besides: certificates, keys, pages. Of a text without form, none.
    #[must_use]
    pub fn named(&self) -> BTreeSet<PathBuf> {
        match self {
            Self::File(files) => Document::parse_files(files.set(), &environment)
                .map_or_else(|_| BTreeSet::new(), |document| named_files(&document)),
            Self::Flags { .. } | Self::Default => BTreeSet::new(),
        }
    }

    /// Compiles it without the modules in `stopped` and those that need one of them. The environment is the process's.
    ///
    /// # Errors
    /// Every problem found, warnings among them, in the order of the text.
    pub fn load(&self, stopped: &BTreeSet<String>) -> Result<Loaded, Problems> {
        match self {
            Self::File(files) => load_document(&Document::parse_files(files.set(), &environment)?, stopped),
            Self::Flags { listen, to } => load_quick_proxy(listen, to, stopped),
            Self::Default => {
                let source = Source::new("default.toml", default_config(), Naming::Keys);
                load_document(&Document::parse(source, Format::Toml, &|_| None)?, stopped)
            }
        }
    }
}

fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}
