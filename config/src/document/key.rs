//! How is a place in the tree named? `upstream.fhir.endpoints[1]`.
//!
//! Never resolves anything; a key may name what was left out.

use std::fmt;

/// The path from the root of a tree to one of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Name(String),
    Index(usize),
}

impl Key {
    pub(crate) fn root() -> Self {
        Self(Vec::new())
    }

    /// The key of these names, from the root.
    pub(crate) fn of<const N: usize>(names: [&str; N]) -> Self {
        Self(names.iter().map(|name| Step::Name((*name).to_owned())).collect())
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        self.with(Step::Name(name.to_owned()))
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The first name, such as `listener`.
    pub(crate) fn head(&self) -> Option<&str> {
        match self.0.first() {
            Some(Step::Name(name)) => Some(name),
            Some(Step::Index(_)) | None => None,
        }
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |name: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            !name.is_empty() && name.bytes().all(allowed)
        };
        for (depth, step) in self.0.iter().enumerate() {
            let dot = if depth == 0 { "" } else { "." };
            match step {
                Step::Name(name) if bare(name) => write!(f, "{dot}{name}")?,
                // As TOML quotes it; control characters must not break the line of the message.
                Step::Name(name) => write!(f, "{dot}{name:?}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_key_as_toml_would() {
        assert_eq!(Key::root().to_string(), "");
        assert_eq!(
            Key::of(["upstream", "fhir"]).child("endpoints").item(1).to_string(),
            "upstream.fhir.endpoints[1]"
        );
        assert_eq!(Key::of(["channel", "a.b"]).child("x\ny").to_string(), r#"channel."a.b"."x\ny""#);
        assert_eq!(Key::of(["", "é"]).to_string(), "\"\".\"é\"");
    }
}
