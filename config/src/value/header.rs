//! May this field be changed like that, to this value? And may a client be sent there?
//!
//! Never lets a text through that could end a line, whatever a request puts into it.

use proto::http1::edit::{Wish, may_change};
use proto::template::{Template, TemplateError, Variable};
use thiserror::Error;

use super::Refusal;
use super::field::{FieldError, check_token};

/// Longest text of a field value or a location, in bytes: what is longer than any line of a browser is not meant.
const TEXT_BYTES_MAX: usize = 4096;

/// Why a change was refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum HeaderError {
    #[error(transparent)]
    Name(#[from] FieldError),
    #[error("{name} frames the message or belongs to one hop, and is not to be touched")]
    Protected { name: String },
    #[error("Host can be set, and neither added nor removed")]
    HostBeside,
    #[error("an answer has no Host")]
    HostOfAnswer,
    #[error("a Host is a name or an address, with or without a port, found {found:?}")]
    Host { found: String },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("a field value has no control characters, found {found:?}")]
    Control { found: char },
    #[error("a field value neither starts nor ends with a space")]
    OuterSpace,
    #[error("at most {TEXT_BYTES_MAX} bytes, found {found}")]
    TooLong { found: usize },
    #[error(
        "a location begins with http://, https://, ${{scheme}}://, ${{path}} or one slash, found {found:?}"
    )]
    NoLocation { found: String },
    #[error("{found:?} cannot stand in a URL")]
    LocationByte { found: char },
}

impl Refusal for HeaderError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Template(TemplateError::Unknown { name }) => {
                let names = Variable::NAMES.into_iter().map(|(name, _)| name);
                crate::suggest::did_you_mean(name, names.clone()).or_else(|| crate::suggest::one_of(names))
            }
            Self::NoLocation { .. } => Some("for example \"https://${host}${path}${query}\"".to_owned()),
            _ => None,
        }
    }
}

/// The name of a field that is to be changed so.
pub(crate) fn check_name(name: &str, wish: Wish, is_request: bool) -> Result<(), HeaderError> {
    check_token(name)?;
    if may_change(name, wish, is_request) {
        return Ok(());
    }
    Err(match (name.eq_ignore_ascii_case("Host"), is_request) {
        (true, true) => HeaderError::HostBeside,
        (true, false) => HeaderError::HostOfAnswer,
        (false, _) => HeaderError::Protected { name: name.to_owned() },
    })
}

/// The value of such a field.
pub(crate) fn parse_value(name: &str, text: &str) -> Result<Template, HeaderError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(HeaderError::TooLong { found: text.len() });
    }
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(HeaderError::Control { found });
    }
    if text != text.trim() {
        return Err(HeaderError::OuterSpace);
    }
    let template = Template::parse(text)?;
    let is_authority = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    let is_host = || !text.is_empty() && template.texts().all(|text| text.chars().all(is_authority));
    if name.eq_ignore_ascii_case("Host") && !is_host() {
        return Err(HeaderError::Host { found: text.to_owned() });
    }
    Ok(template)
}

/// Where a client is sent.
pub(crate) fn parse_location(text: &str) -> Result<Template, HeaderError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(HeaderError::TooLong { found: text.len() });
    }
    let template = Template::parse(text)?;
    let is_url = ["http://", "https://", "${scheme}://"]
        .into_iter()
        .any(|start| text.strip_prefix(start).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    if !is_url && !is_path && template.first_variable() != Some(Variable::Path) {
        return Err(HeaderError::NoLocation { found: text.to_owned() });
    }
    let is_unfit = |c: &char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c);
    let unfit = template.texts().flat_map(str::chars).find(is_unfit);
    match unfit {
        Some(found) => Err(HeaderError::LocationByte { found }),
        None => Ok(template),
    }
}
