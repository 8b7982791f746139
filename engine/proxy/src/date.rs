//! What does `Date` say now? One text per core and second (RFC 9110 §6.6.1).
//!
//! Never reads the wall clock more often than its text can change, and never times anything by it.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrayvec::ArrayString;
use httpdate::HttpDate;
use runtime::{Core, Instant};

/// Bytes of an IMF-fixdate, RFC 9110 §5.6.7.
const DATE_BYTES: usize = 29;
/// The year has four digits: 9999-12-31 23:59:59, and later moments are told as that.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The text of the second that runs, and when it ends on the clock that never jumps: a wall clock that is set meanwhile
/// is believed a second later.
#[derive(Default)]
pub(crate) struct DateText {
    text: Cell<ArrayString<DATE_BYTES>>,
    ends: Cell<Instant>,
}

impl DateText {
    /// The time as `Date` says it.
    pub(crate) fn now(&self, core: &Core) -> ArrayString<DATE_BYTES> {
        self.at(core.turn_time(), || core.wall_clock())
    }

    fn at(&self, turn: Instant, wall_clock: impl FnOnce() -> SystemTime) -> ArrayString<DATE_BYTES> {
        if turn >= self.ends.get() {
            // A clock before 1970 has never been set.
            let since_1970 = wall_clock().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            let left = Duration::from_secs(1) - Duration::from_nanos(since_1970.subsec_nanos().into());
            self.text.set(imf_fixdate(since_1970));
            self.ends.set(turn + left);
        }
        self.text.get()
    }
}

fn imf_fixdate(since_1970: Duration) -> ArrayString<DATE_BYTES> {
    let mut text = ArrayString::new();
    write!(text, "{}", HttpDate::from(UNIX_EPOCH + since_1970.min(LAST_SECOND)))
        .expect("its length is fixed");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_lasts_as_long_as_its_second() {
        let start = Instant::from_nanos(5_000_000_000);
        let wall_start = Duration::from_millis(784_111_777_700);
        let date = DateText::default();
        let check = |millis: u64, is_read: bool, expected: &str| {
            let passed = Duration::from_millis(millis);
            let was_read = Cell::new(false);
            let text = date.at(start + passed, || {
                was_read.set(true);
                UNIX_EPOCH + wall_start + passed
            });
            assert_eq!((&*text, was_read.get()), (expected, is_read), "after {millis} ms");
        };
        check(0, true, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(299, false, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(300, true, "Sun, 06 Nov 1994 08:49:38 GMT");
        check(1_299, false, "Sun, 06 Nov 1994 08:49:38 GMT");
        check(9_000, true, "Sun, 06 Nov 1994 08:49:46 GMT");
    }

    #[test]
    fn a_clock_that_was_set_is_believed_within_a_second() {
        let date = DateText::default();
        let at = |seconds: u64, wall: u64| {
            let turn = Instant::from_nanos(seconds * 1_000_000_000);
            date.at(turn, || UNIX_EPOCH + Duration::from_secs(wall)).to_string()
        };
        assert_eq!(at(5, 784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(6, 784_108_177), "Sun, 06 Nov 1994 07:49:37 GMT");
        assert_eq!(at(7, 0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(9, 1 << 40), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
