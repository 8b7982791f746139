//! What was a configuration read from? A text that can be compiled again, without the modules that were stopped meanwhile.
//!
//! Never looks at the file again by itself: what runs is what was read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::document::source::{Naming, Source};
use crate::document::{Document, Files, Format};
use crate::load::{Loaded, default_config, load_document, load_quick_proxy, read_file};
use crate::problem::Problems;

/// A configuration as it was written.
#[derive(Clone, Debug)]
pub enum Text {
    /// The contents of a file.
    File {
        /// Where it was.
        path: PathBuf,
        /// What it held.
        text: String,
    },
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

impl Text {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is no text.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Ok(Self::File { path: path.to_owned(), text: read_file(path)? })
    }

    /// What stands for it in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Flags { .. } => "the command line".to_owned(),
            Self::Default => "the embedded default".to_owned(),
        }
    }

    /// Compiles it without the modules in `stopped` and those that need one of them. The environment is the process's.
    ///
    /// # Errors
    /// Every problem found, warnings among them, in the order of the text.
    pub fn load(&self, stopped: &BTreeSet<String>) -> Result<Loaded, Problems> {
        let environment = |variable: &str| std::env::var(variable).ok();
        match self {
            Self::File { path, text } => {
                let source = Source::new(self.name(), text.as_str(), Naming::Keys);
                let is_json =
                    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
                let format = if is_json { Format::Json } else { Format::Toml };
                let mut document = Document::parse(source, format, &environment)?;
                document.files = Files::Beside(path.parent().map(Path::to_owned).unwrap_or_default());
                load_document(&document, stopped)
            }
            Self::Flags { listen, to } => load_quick_proxy(listen, to, stopped),
            Self::Default => {
                let source = Source::new("default.toml", default_config(), Naming::Keys);
                load_document(&Document::parse(source, Format::Toml, &|_| None)?, stopped)
            }
        }
    }
}
