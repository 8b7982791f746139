//! Cases of the recommendation, and what must hold of any bytes.
//!
//! Never a case without the rule that it breaks or keeps.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[test]
fn a_parent_is_read_or_refused_by_a_rule() {
    use ParentRejected::{Digit, Length, Separator, SpanZero, TraceZero, Version};
    let check = |value: &str, expected: Result<bool, ParentRejected>| {
        let found = Parent::parse(value.as_bytes());
        assert_eq!(found.map(|parent| parent.is_sampled), expected, "{value}");
        if let Ok(parent) = found {
            assert_eq!(format!("{} {}", parent.trace, parent.span), format!("{TRACE} {SPAN}"), "{value}");
        }
    };
    // §3.2.3
    check(&format!("00-{TRACE}-{SPAN}-01"), Ok(true));
    check(&format!("00-{TRACE}-{SPAN}-00"), Ok(false));
    // §3.2.2.5: other flags mean nothing yet.
    check(&format!("00-{TRACE}-{SPAN}-ff"), Ok(true));
    check(&format!("00-{TRACE}-{SPAN}-02"), Ok(false));
    // §3.2.4: higher versions, with and without more.
    check(&format!("01-{TRACE}-{SPAN}-01"), Ok(true));
    check(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), Ok(true));
    check(&format!("cc-{TRACE}-{SPAN}-01-"), Ok(true));
    check(&format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"), Err(Separator));
    check(&format!("cc-{TRACE}-{SPAN}-0"), Err(Length));
    // §3.2.2.1
    check(&format!("ff-{TRACE}-{SPAN}-01"), Err(Version));
    check(&format!("0x-{TRACE}-{SPAN}-01"), Err(Version));
    check(&format!("0A-{TRACE}-{SPAN}-01"), Err(Version));
    check("", Err(Length));
    check("00", Err(Length));
    check(&format!("00-{TRACE}-{SPAN}-01-"), Err(Length));
    check(&format!("00-{TRACE}-{SPAN}-0101"), Err(Length));
    check(&format!("00-{TRACE}-{SPAN}"), Err(Length));
    check(&format!("00_{TRACE}-{SPAN}-01"), Err(Separator));
    check(&format!("00-{TRACE}_{SPAN}-01"), Err(Separator));
    check(&format!("00-{TRACE}-{SPAN}_01"), Err(Separator));
    check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), Err(Digit));
    check(&format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), Err(Digit));
    check(&format!("00-{TRACE}-{SPAN}-.0"), Err(Digit));
    check(&format!("00-{TRACE}-{SPAN}-0X"), Err(Digit));
    check(
        &format!("00-{}-{SPAN}-01", TRACE.replace('4', "\u{e9}").chars().take(31).collect::<String>()),
        Err(Length),
    );
    check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), Err(TraceZero));
    check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), Err(SpanZero));
}

#[test]
fn two_parents_are_none() {
    let one = format!("00-{TRACE}-{SPAN}-01");
    let of = |count: usize| Parent::of(std::iter::repeat_n(one.as_bytes(), count));
    assert!(of(0).is_none());
    assert!(of(1).is_some_and(|parent| parent.is_ok()));
    assert_eq!(of(2), Some(Err(ParentRejected::Repeated)));
}

#[track_caller]
fn check_state(values: &[&str], expected: Result<&str, StateRejected>) {
    let mut out = b"before".to_vec();
    let outcome = combine_state(values.iter().map(|value| value.as_bytes()), &mut out);
    let text = String::from_utf8(out).expect("ASCII");
    match expected {
        Ok(expected) => {
            assert_eq!((outcome, &*text), (Ok(()), expected), "{values:?}");
        }
        Err(rule) => assert_eq!((outcome, &*text), (Err(rule), ""), "{values:?}"),
    }
}

#[test]
fn a_state_is_passed_on_in_order_or_goes_whole() {
    use StateRejected::{Key, KeyRepeated, MembersTooMany, Value, ValueMissing};
    check_state(&[], Ok(""));
    check_state(&[""], Ok(""));
    check_state(&["rojo=00f067aa0ba902b7"], Ok("rojo=00f067aa0ba902b7"));
    // §3.3.1.1: white space and empty members.
    check_state(&["foo=1 \t , \t bar=2, \t baz=3"], Ok("foo=1,bar=2,baz=3"));
    check_state(&["foo=1,", ",", "bar=2"], Ok("foo=1,bar=2"));
    check_state(&["foo=1", "bar=2,rojo=1"], Ok("foo=1,bar=2,rojo=1"));
    // §3.3.1.3.1
    check_state(&["a-_*/0=x", "0a@s=y"], Ok("a-_*/0=x,0a@s=y"));
    check_state(&["foo@=1"], Err(Key));
    check_state(&["@foo=1"], Err(Key));
    check_state(&["foo@bar@baz=1"], Err(Key));
    check_state(&["foo@0bar=1"], Err(Key));
    check_state(&["0foo=1"], Err(Key));
    check_state(&["Foo=1"], Err(Key));
    check_state(&["foo =1"], Err(Key));
    check_state(&["=1"], Err(Key));
    check_state(&[&format!("{}=1", "z".repeat(256))], Ok(&format!("{}=1", "z".repeat(256))));
    check_state(&[&format!("{}=1", "z".repeat(257))], Err(Key));
    check_state(&[&format!("{}@v=1", "t".repeat(241))], Ok(&format!("{}@v=1", "t".repeat(241))));
    check_state(&[&format!("{}@v=1", "t".repeat(242))], Err(Key));
    check_state(&[&format!("t@{}=1", "v".repeat(14))], Ok(&format!("t@{}=1", "v".repeat(14))));
    check_state(&[&format!("t@{}=1", "v".repeat(15))], Err(Key));
    check_state(&["foo=1,foo=2"], Err(KeyRepeated));
    check_state(&["foo=1", "bar=1", "foo=1"], Err(KeyRepeated));
    // §3.3.1.3.2
    check_state(&["foo"], Err(ValueMissing));
    check_state(&["foo="], Err(Value));
    check_state(&["foo=bar=baz"], Err(Value));
    check_state(&["foo=a\u{1}b"], Err(Value));
    check_state(&["foo=b\u{e4}r"], Err(Value));
    check_state(&["foo=a b"], Ok("foo=a b"));
    check_state(&[&format!("foo={}", "x".repeat(257))], Err(Value));
    // §3.3.1.1
    let members = |count: usize| (0..count).map(|index| format!("k{index}=1")).collect::<Vec<_>>().join(",");
    check_state(&[&members(32)], Ok(&members(32)));
    check_state(&[&members(33)], Err(MembersTooMany));
}

/// §3.3.1.5: large members first, then the oldest, never a part of one.
#[test]
fn a_state_that_is_too_long_loses_large_members_and_then_old_ones() {
    let large = format!("l={}", "x".repeat(127));
    let member = |index: usize| format!("k{index:02}={}", "y".repeat(46));
    let many = |count: usize| (0..count).map(member).collect::<Vec<_>>().join(",");
    assert_eq!(many(10).len(), 509);
    check_state(&[&large, &many(7)], Ok(&format!("{large},{}", many(7))));
    check_state(&[&large, &many(10)], Ok(&many(10)));
    check_state(&[&many(12)], Ok(&many(10)));
}

#[test]
fn ids_of_zeros_are_never_made() {
    assert_ne!(TraceId::from_dice(0).0, [0; 16]);
    assert_ne!(SpanId::from_dice(0).0, [0; 8]);
    assert_eq!(TraceId::from_dice(1 << 64).to_string(), "00000000000000010000000000000000");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(trace in 1_u128.., span in 1_u64.., is_sampled: bool) {
        let parent = Parent { trace: TraceId::from_dice(trace), span: SpanId::from_dice(span), is_sampled };
        prop_assert_eq!(Parent::parse(&parent.text()), Ok(parent));
    }

    #[test]
    fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(parent) = Parent::parse(&value) {
            prop_assert_eq!(Parent::parse(&parent.text()), Ok(parent));
        }
    }

    /// One byte of a good one otherwise.
    #[test]
    fn a_parent_that_is_almost_right_is_read_or_refused(at in 0_usize..55, byte: u8) {
        let mut value = format!("00-{TRACE}-{SPAN}-01").into_bytes();
        value[at] = byte;
        if let Ok(parent) = Parent::parse(&value) {
            prop_assert_eq!(Parent::parse(&parent.text()), Ok(parent));
        }
    }

    #[test]
    fn a_state_that_is_passed_on_is_short_clean_and_read_again(
        values in prop::collection::vec("[a-c0@=, \t\u{e9}]{0,40}|([a-z]{1,9}=[ -~]{0,90},){0,9}", 0..5),
    ) {
        let (mut once, mut again) = (Vec::new(), Vec::new());
        let outcome = combine_state(values.iter().map(|value| value.as_bytes()), &mut once);
        prop_assert!(outcome.is_ok() || once.is_empty());
        prop_assert!(once.len() <= STATE_BYTES_MAX && once.iter().all(|byte| matches!(byte, 0x20..=0x7e)));
        prop_assert_eq!(combine_state(std::iter::once(&*once), &mut again), Ok(()));
        prop_assert_eq!(once, again);
    }
}
