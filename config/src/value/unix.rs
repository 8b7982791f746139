//! Can a Unix socket be at this path, with these permissions?
//!
//! Never looks at the file system: whether the path is free is found out at start.

use thiserror::Error;

use super::Refusal;
use crate::schema::text::UnixMode;

/// Longest path in bytes: `sun_path` has 108, the last of which is zero (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// Why a path was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum UnixPathError {
    #[error("the path of the Unix socket is missing")]
    Empty,
    #[error("the path of a Unix socket begins with a slash, found {path:?}")]
    Relative { path: String },
    #[error("the path of a Unix socket has at most {PATH_BYTES_MAX} bytes, found {len}")]
    TooLong { len: usize },
    #[error("the path of a Unix socket names a file, found {path:?}")]
    Directory { path: String },
    #[error("the path of a Unix socket has no zero byte")]
    Zero,
}

impl Refusal for UnixPathError {
    fn suggestion(&self) -> Option<String> {
        match self {
            Self::Empty | Self::Relative { .. } => Some("for example \"unix:/run/corelane.sock\"".to_owned()),
            Self::TooLong { .. } | Self::Directory { .. } | Self::Zero => None,
        }
    }
}

/// Accepts a path that a socket can have. A relative one would depend on where the process was started.
pub(super) fn check_path(path: &str) -> Result<(), UnixPathError> {
    match path {
        "" => Err(UnixPathError::Empty),
        _ if !path.starts_with('/') => Err(UnixPathError::Relative { path: path.to_owned() }),
        _ if path.ends_with('/') => Err(UnixPathError::Directory { path: path.to_owned() }),
        _ if path.len() > PATH_BYTES_MAX => Err(UnixPathError::TooLong { len: path.len() }),
        _ if path.contains('\0') => Err(UnixPathError::Zero),
        _ => Ok(()),
    }
}

/// Why permissions were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("permissions are three octal digits, found {found:?}")]
pub(crate) struct UnixModeError {
    found: String,
}

impl Refusal for UnixModeError {
    fn suggestion(&self) -> Option<String> {
        Some("for example \"0660\"".to_owned())
    }
}

/// Reads permissions such as `0660`.
pub(crate) fn parse_mode(text: &str) -> Result<UnixMode, UnixModeError> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3).unwrap_or(text);
    let is_octal = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal);
    mode.map(UnixMode).ok_or_else(|| UnixModeError { found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_absolute_paths_that_fit() {
        assert_eq!(check_path("/run/x.sock"), Ok(()));
        assert_eq!(check_path(&format!("/{}", "x".repeat(106))), Ok(()));
        assert_eq!(check_path(&format!("/{}", "x".repeat(107))), Err(UnixPathError::TooLong { len: 108 }));
        assert_eq!(check_path(""), Err(UnixPathError::Empty));
        assert_eq!(check_path("x.sock"), Err(UnixPathError::Relative { path: "x.sock".to_owned() }));
        assert_eq!(check_path("@x"), Err(UnixPathError::Relative { path: "@x".to_owned() }));
        assert_eq!(check_path("/run/"), Err(UnixPathError::Directory { path: "/run/".to_owned() }));
        assert_eq!(check_path("/a\0b"), Err(UnixPathError::Zero));
    }

    #[test]
    fn reads_permissions_in_octal() {
        for (text, mode) in [("0660", 0o660), ("666", 0o666), ("0000", 0), ("000", 0), ("0777", 0o777)] {
            assert_eq!(parse_mode(text), Ok(UnixMode(mode)), "{text}");
        }
        for text in ["", "0", "66", "0888", "1777", "00660", "+66", "rw-rw----", "0o660"] {
            assert_eq!(parse_mode(text), Err(UnixModeError { found: text.to_owned() }), "{text}");
        }
    }
}
