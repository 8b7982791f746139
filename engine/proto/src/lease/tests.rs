//! Are the rules kept one by one? Each by the shortest story in which it matters.
//!
//! Never in real time.

use super::*;

const TERMS: LeaseTerms = LeaseTerms { time: Duration::from_secs(3), margin: Duration::from_millis(500) };

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn mark(epoch: u64, beat: u64) -> Mark {
    Mark { epoch, beat }
}

/// One that was granted `epoch` by a question of second 10, and heard of it at once.
fn holder(epoch: u64) -> Contender {
    let mut contender = Contender::new(TERMS);
    let ask = Ask::Acquire { seen: None };
    contender.hear(ask, Answer::Granted(mark(epoch, 1)), at(10_000), at(10_000));
    contender
}

#[test]
fn a_lease_is_over_after_the_same_mark_for_the_whole_time() {
    assert_eq!(LeaseTerms::new(Duration::from_secs(3)), TERMS);
    let mut observer = Observer::default();
    assert!(!observer.is_over(TERMS, at(1_000_000)), "nothing was seen yet");
    observer.see(mark(1, 7), at(1_000));
    observer.see(mark(1, 7), at(3_900));
    assert!(!observer.is_over(TERMS, at(3_999)));
    assert!(observer.is_over(TERMS, at(4_000)));
    observer.see(mark(1, 8), at(4_000));
    assert!(!observer.is_over(TERMS, at(6_999)), "a beat begins anew");
    observer.see(mark(1, 7), at(6_999));
    assert!(!observer.is_over(TERMS, at(7_000)), "so does a store that was restored");
}

#[test]
fn a_holder_counts_from_when_it_sent_and_stops_by_the_margin_early() {
    let mut contender = holder(4);
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Granted(mark(4, 2)), at(11_000), at(13_000));
    assert!(contender.may_act(at(13_499)));
    assert!(!contender.may_act(at(13_500)));
    assert_eq!(contender.epoch(), Some(4));
    assert_eq!(contender.next(at(20_000)), Ask::Renew { epoch: 4 }, "it may still be its own");
}

#[test]
fn an_answer_that_overtook_another_takes_nothing_back() {
    let mut contender = holder(4);
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Granted(mark(4, 3)), at(12_000), at(12_100));
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Granted(mark(4, 2)), at(11_000), at(12_200));
    assert_eq!(contender.acts_until(), Some(at(14_500)));
}

#[test]
fn who_lost_a_lease_does_not_come_back_by_a_late_answer() {
    let mut contender = holder(4);
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Refused, at(11_000), at(11_001));
    assert!(!contender.may_act(at(11_001)));
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Granted(mark(4, 2)), at(11_000), at(11_002));
    assert!(!contender.may_act(at(11_002)));
    contender.hear(Ask::Look, Answer::Row(Row::Mine(mark(4, 2))), at(11_002), at(11_003));
    assert_eq!(contender.next(at(11_003)), Ask::Look);
}

#[test]
fn an_old_refusal_says_nothing_about_a_new_epoch() {
    let mut contender = holder(4);
    contender.hear(Ask::Renew { epoch: 3 }, Answer::Refused, at(9_000), at(10_001));
    contender.hear(Ask::Acquire { seen: None }, Answer::Refused, at(9_000), at(10_001));
    assert!(contender.may_act(at(10_001)));
}

#[test]
fn finding_itself_in_the_store_is_not_enough_to_act() {
    let mut contender = Contender::new(TERMS);
    contender.hear(Ask::Look, Answer::Row(Row::Mine(mark(4, 1))), at(1_000), at(1_000));
    assert!(!contender.may_act(at(1_000)));
    assert_eq!(contender.next(at(1_000)), Ask::Renew { epoch: 4 });
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Granted(mark(4, 2)), at(1_000), at(1_010));
    assert!(contender.may_act(at(1_010)));
}

#[test]
fn a_standby_takes_over_by_naming_what_it_saw() {
    let mut contender = Contender::new(TERMS);
    assert_eq!(contender.next(at(0)), Ask::Look);
    contender.hear(Ask::Look, Answer::Row(Row::Others(mark(2, 9))), at(0), at(10));
    assert_eq!(contender.next_at(at(2_900), at(500)), at(3_010), "it does not wait for the next poll");
    assert_eq!(contender.next(at(3_009)), Ask::Look);
    assert_eq!(contender.next(at(3_010)), Ask::Acquire { seen: Some(mark(2, 9)) });
    contender.hear(contender.next(at(3_010)), Answer::Refused, at(3_010), at(3_020));
    assert_eq!(contender.next(at(3_020)), Ask::Look, "somebody else was first");
}

#[test]
fn what_was_given_back_is_free_at_once_and_never_taken_again() {
    let mut contender = holder(4);
    assert_eq!(contender.resign(), Some(4));
    assert!(!contender.may_act(at(10_001)));
    contender.hear(Ask::Renew { epoch: 4 }, Answer::Granted(mark(4, 2)), at(10_000), at(10_002));
    assert!(!contender.may_act(at(10_002)));
    let mut other = Contender::new(TERMS);
    other.hear(Ask::Look, Answer::Row(Row::Free(Some(mark(4, 2)))), at(0), at(10));
    assert_eq!(other.next(at(10)), Ask::Acquire { seen: Some(mark(4, 2)) });
    assert_eq!(other.next_at(at(10), at(500)), at(10));
}
