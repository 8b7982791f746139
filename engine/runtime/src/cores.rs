//! Which CPUs may this process use, and how many executors does `--cores` mean?
//!
//! Never starts a thread; see [`crate::core`] for the loop that runs on one.

use std::fmt;
use std::str::FromStr;

pub use core_affinity::CoreId;

/// The most executors one process may have: far above any machine, low enough that a typing error is caught.
pub const CORES_MAX: usize = 1024;

/// The value of `--cores` (alias `--cluster`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreCount {
    /// One executor per usable CPU: affinity mask ∩ cgroup quota.
    Auto,
    /// This many, on the usable CPUs in turn.
    Exactly(usize),
}

/// Why a value of `--cores` was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreCountError(String);

impl fmt::Display for CoreCountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not a number of cores: give a positive number or 'auto' (1 to {CORES_MAX})",
            self.0
        )
    }
}

impl std::error::Error for CoreCountError {}

impl FromStr for CoreCount {
    type Err = CoreCountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse::<usize>() {
            Ok(count @ 1..=CORES_MAX) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self::Exactly(count)),
            _ => Err(CoreCountError(text.to_owned())),
        }
    }
}

impl fmt::Display for CoreCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Exactly(count) => write!(f, "{count}"),
        }
    }
}

impl CoreCount {
    /// The CPU of each executor, in order; never empty. CPUs repeat when more executors than CPUs are asked for.
    ///
    /// `Auto` counts what [`std::thread::available_parallelism`] allows (affinity mask and cgroup quota).
    #[must_use]
    pub fn placement(self) -> Vec<CoreId> {
        let mut usable = core_affinity::get_core_ids().unwrap_or_default();
        if usable.is_empty() {
            usable.push(CoreId { id: 0 });
        }
        let count = match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, usize::from).min(usable.len()),
            Self::Exactly(count) => count,
        };
        (0..count).map(|index| usable[index % usable.len()]).collect()
    }
}

/// Pins the calling thread to `cpu`; false when the kernel refused.
#[must_use]
pub fn pin(cpu: CoreId) -> bool {
    core_affinity::set_for_current(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_a_positive_number_or_auto() {
        assert_eq!("auto".parse(), Ok(CoreCount::Auto));
        assert_eq!("1".parse(), Ok(CoreCount::Exactly(1)));
        assert_eq!("64".parse(), Ok(CoreCount::Exactly(64)));
    }

    #[test]
    fn refuses_everything_else_and_says_what_is_wanted() {
        for text in ["0", "1.5", "x", "", "-1", "+2", " 2", "Auto", "99999", "1e1"] {
            let error = text.parse::<CoreCount>().expect_err(text);
            assert!(error.to_string().contains("a positive number or 'auto'"), "{error}");
        }
    }

    #[test]
    fn more_executors_than_cpus_share_them_in_turn() {
        let usable = core_affinity::get_core_ids().expect("affinity mask");
        let placement = CoreCount::Exactly(usable.len() * 2 + 1).placement();
        assert_eq!(placement.len(), usable.len() * 2 + 1);
        assert_eq!(placement[0], placement[usable.len()]);
        assert!(!CoreCount::Auto.placement().is_empty());
    }
}
