//! Which endpoint did the client of this address have? One answer for all cores, as LVS's persistence gives it.
//!
//! Never a lock, never more memory than it began with; never two endpoints for one client, however many cores ask at once.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::snapshot::balance::PersistenceRule;
use runtime::Instant;

/// Entries in which one client is looked for: a cache line.
const WAYS: usize = 8;

/// Parts of the timeout in which it is counted: a session may last a 64th longer than it should, and is written to that
/// often at most, however often it is used.
const TICKS: u32 = 64;

/// Rounds until who cannot come to an agreement goes without one. Each means that another core has got further.
const ROUNDS_MAX: u32 = 256;

/// Rounds in which another core is given time to finish what it has begun.
const PATIENCE: u32 = 64;

/// The endpoint that a client has: its slot among those of the upstream, and which occupant of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
}

/// What became of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is remembered.
    New,
    /// It is remembered in place of another client's, which had longer been without use than those beside it.
    Displacing,
    /// Another core was faster: this one holds.
    Known(Session),
    /// It could not be remembered: too many cores wanted the same entries.
    Forgotten,
}

/// The sessions of one upstream.
#[derive(Debug)]
pub(crate) struct Sessions {
    sets: Box<[Set]>,
    key: RandomState,
    tick_nanos: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// An entry of the table in 64 bits, 0 for a vacant one: 20 of the client's number, 12 of the slot, 7 of its occupant, one that
/// says that the session holds, 24 of the tick at which it ends.
///
/// Two clients whose numbers agree share a session as long as both come: one in a million of those in the same set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

const END_BITS: u32 = 24;
const END_MASK: u32 = (1 << END_BITS) - 1;
const SETTLED: u64 = 1 << END_BITS;
const GENERATION_MASK: u32 = (1 << 7) - 1;
const SLOT_MASK: u64 = (1 << 12) - 1;

impl Entry {
    const VACANT: Self = Self(0);

    fn new(tag: u64, session: Session, end: u32) -> Self {
        let generation = u64::from(session.generation & GENERATION_MASK) << 25;
        Self(tag << 44 | (u64::from(session.slot) & SLOT_MASK) << 32 | generation | u64::from(end & END_MASK))
    }

    fn settled(self) -> Self {
        Self(self.0 | SETTLED)
    }

    fn is_settled(self) -> bool {
        self.0 & SETTLED != 0
    }

    fn tag(self) -> u64 {
        self.0 >> 44
    }

    fn session(self) -> Session {
        let slot = (self.0 >> 32 & SLOT_MASK) as u16;
        Session { slot, generation: (self.0 >> 25) as u32 & GENERATION_MASK }
    }

    fn ending(self, end: u32) -> Self {
        Self(self.0 & !u64::from(END_MASK) | u64::from(end & END_MASK))
    }

    /// Ticks until it ends; 0 if it has ended. The clock of ticks goes round: what has ended is found to have, unless nobody
    /// has come to its set for a quarter of a million timeouts.
    fn left(self, now: u32) -> u32 {
        let left = (self.0 as u32).wrapping_sub(now) & END_MASK;
        if self != Self::VACANT && left <= TICKS + 1 { left } else { 0 }
    }
}

impl Session {
    /// Whether this is the occupant of its slot.
    pub(crate) fn is_of(self, generation: u32) -> bool {
        self.generation == generation & GENERATION_MASK
    }
}

impl Sessions {
    pub(crate) fn new(rule: &PersistenceRule) -> Self {
        let sets = (rule.clients_max as usize).div_ceil(WAYS).next_power_of_two();
        let tick = rule.timeout / TICKS;
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            key: RandomState::new(),
            tick_nanos: nanos(tick).max(1),
        }
    }

    /// The session of a client, which lasts a timeout from now again.
    pub(crate) fn find(&self, client: u64, now: Instant) -> Option<Session> {
        let (set, tag) = self.place(client);
        let now = self.tick(now);
        let end = now.wrapping_add(TICKS + 1) & END_MASK;
        for way in &set.0 {
            let entry = Entry(way.load(Ordering::Acquire));
            if entry.tag() == tag && entry.is_settled() && entry.left(now) > 0 {
                if entry.0 as u32 & END_MASK != end {
                    // If it fails, another core has done the same, or has given the client another endpoint.
                    let _ = exchange(way, entry, entry.ending(end));
                }
                return Some(entry.session());
            }
        }
        None
    }

    /// Gives a client a session, in place of `former` if it has that one still.
    ///
    /// Cores that do so at the same time for one client agree: an entry holds only once whoever wrote it has seen no other of
    /// the same client. Of two that do not hold yet the one further ahead stays.
    pub(crate) fn settle(
        &self,
        client: u64,
        session: Session,
        former: Option<Session>,
        now: Instant,
    ) -> Settled {
        let (set, tag) = self.place(client);
        let now = self.tick(now);
        let mine = Entry::new(tag, session, now.wrapping_add(TICKS + 1));
        for round in 0..ROUNDS_MAX {
            match set.find(tag, now) {
                Some((way, entry)) if entry.is_settled() => {
                    if Some(entry.session()) != former {
                        return Settled::Known(entry.session());
                    }
                    if exchange(way, entry, mine.settled()) {
                        return Settled::New;
                    }
                }
                // Another core is about to say the same.
                Some(_) if round < PATIENCE => std::hint::spin_loop(),
                Some((way, entry)) => _ = exchange(way, entry, Entry::VACANT),
                None => {
                    let (way, victim) = set.victim(tag, now);
                    if victim.tag() == tag && victim.left(now) > 0 {
                        continue; // written by another core since: the next round looks at it
                    }
                    let displaces = victim.left(now) > 0 && victim.tag() != tag;
                    if exchange(way, victim, mine) && set.claim(way, mine) {
                        return if displaces { Settled::Displacing } else { Settled::New };
                    }
                }
            }
        }
        Settled::Forgotten
    }

    fn place(&self, client: u64) -> (&Set, u64) {
        let hash = self.key.hash_one(client);
        (&self.sets[hash as usize & (self.sets.len() - 1)], hash >> 44)
    }

    fn tick(&self, now: Instant) -> u32 {
        (now.as_nanos() / self.tick_nanos) as u32 & END_MASK
    }
}

impl Set {
    /// The entry of a client that has not ended, the first of those that hold if there is one.
    fn find(&self, tag: u64, now: u32) -> Option<(&AtomicU64, Entry)> {
        let entries = || self.0.iter().map(|way| (way, Entry(way.load(Ordering::SeqCst))));
        let mine = |(_, entry): &(&AtomicU64, Entry)| entry.tag() == tag && entry.left(now) > 0;
        entries().filter(mine).find(|(_, entry)| entry.is_settled()).or_else(|| entries().find(mine))
    }

    /// What a new entry takes the place of: the client's own that has ended, a vacant one, else the one that ends first.
    fn victim(&self, tag: u64, now: u32) -> (&AtomicU64, Entry) {
        let entries = self.0.iter().map(|way| (way, Entry(way.load(Ordering::SeqCst))));
        // One that does not hold yet goes last.
        let order = |entry: Entry| (entry.tag() != tag, entry.left(now), !entry.is_settled());
        entries.min_by_key(|(_, entry)| order(*entry)).unwrap_or((&self.0[0], Entry::VACANT))
    }

    /// Makes an entry hold that was written to `way`, unless another of the same client is or gets there first.
    fn claim(&self, way: &AtomicU64, mine: Entry) -> bool {
        let mut is_ahead = true;
        for other in &self.0 {
            if std::ptr::eq(other, way) {
                is_ahead = false;
                continue;
            }
            let entry = Entry(other.load(Ordering::SeqCst));
            let now = (mine.0 as u32).wrapping_sub(TICKS + 1) & END_MASK;
            if entry.tag() != mine.tag() || entry.left(now) == 0 {
                continue;
            }
            if entry.is_settled() || is_ahead || !exchange(other, entry, Entry::VACANT) {
                let _ = exchange(way, mine, Entry::VACANT);
                return false;
            }
        }
        exchange(way, mine, mine.settled())
    }
}

/// All in one order: what a core has written, every other sees before it looks at what that one looks at next.
fn exchange(way: &AtomicU64, old: Entry, new: Entry) -> bool {
    way.compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use proto::balance::source::SourceMask;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sessions(timeout_s: u64, clients_max: u32) -> Sessions {
        let timeout = Duration::from_secs(timeout_s);
        Sessions::new(&PersistenceRule { timeout, mask: SourceMask::ALL, clients_max })
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * SECOND)
    }

    fn on(slot: u16) -> Session {
        Session { slot, generation: 2 }
    }

    #[test]
    fn a_session_lasts_its_timeout_from_its_last_use() {
        let sessions = sessions(300, 64);
        assert_eq!(sessions.find(7, at(1000)), None);
        assert_eq!(sessions.settle(7, on(3), None, at(1000)), Settled::New);
        assert_eq!(sessions.find(7, at(1299)), Some(on(3)));
        assert_eq!(sessions.find(7, at(1598)), Some(on(3)));
        assert_eq!(sessions.find(8, at(1598)), None);
        // A tick longer at most.
        assert_eq!(sessions.find(7, at(1598 + 300 + 10)), None);
        assert_eq!(sessions.settle(7, on(1), None, at(3000)), Settled::New);
        assert_eq!(sessions.find(7, at(3001)), Some(on(1)));
    }

    #[test]
    fn a_session_moves_from_the_endpoint_that_it_had_only() {
        let sessions = sessions(300, 64);
        assert_eq!(sessions.settle(7, on(3), None, at(0)), Settled::New);
        assert_eq!(sessions.settle(7, on(4), None, at(1)), Settled::Known(on(3)));
        assert_eq!(sessions.settle(7, on(4), Some(on(5)), at(1)), Settled::Known(on(3)));
        assert_eq!(sessions.settle(7, on(4), Some(on(3)), at(1)), Settled::New);
        assert_eq!(sessions.find(7, at(2)), Some(on(4)));
    }

    #[test]
    fn every_slot_and_every_occupant_is_told_apart() {
        for (slot, generation) in [(0, 0), (4095, 127), (1, 128), (4095, u32::MAX)] {
            let sessions = sessions(1, 64);
            assert_eq!(sessions.settle(1, Session { slot, generation }, None, at(5)), Settled::New);
            let found = sessions.find(1, at(5)).expect("it was settled");
            assert!(
                found.slot == slot && found.is_of(generation) && !found.is_of(generation.wrapping_add(2))
            );
        }
    }

    #[test]
    fn a_full_table_forgets_who_has_been_away_longest_and_grows_no_more() {
        let sessions = sessions(300, 64);
        let displaced = (0..1000)
            .filter(|client| sessions.settle(*client, on(1), None, at(*client / 10)) == Settled::Displacing);
        assert!(displaced.count() >= 1000 - 64);
        // The last of all is there, whoever made room for it.
        assert_eq!(sessions.find(999, at(100)), Some(on(1)));
        assert!((0..1000).filter(|client| sessions.find(*client, at(100)).is_some()).count() <= 64);
    }

    /// The step on which agreement rests, in the orders that matter.
    #[test]
    fn of_two_entries_of_a_client_that_do_not_hold_yet_the_one_further_ahead_stays() {
        let entry = |slot| Entry::new(5, on(slot), TICKS + 1);
        let check = |mine: usize, other: usize, is_settled: bool, expected: bool| {
            let set = Set::default();
            let theirs = if is_settled { entry(2).settled() } else { entry(2) };
            set.0[mine].store(entry(1).0, Ordering::SeqCst);
            set.0[other].store(theirs.0, Ordering::SeqCst);
            assert_eq!(set.claim(&set.0[mine], entry(1)), expected, "{mine} {other} {is_settled}");
            let [mine, other] = [mine, other].map(|way| set.0[way].load(Ordering::SeqCst));
            let stays = if expected { [entry(1).settled(), Entry::VACANT] } else { [Entry::VACANT, theirs] };
            assert_eq!([mine, other], stays.map(|entry| entry.0));
        };
        check(1, 3, false, true);
        check(3, 1, false, false);
        check(1, 3, true, false);
        check(3, 1, true, false);
        // Others are nobody's concern, and neither is one's own that was taken away meanwhile.
        let set = Set::default();
        set.0[0].store(Entry::new(6, on(2), TICKS + 1).settled().0, Ordering::SeqCst);
        assert!(!set.claim(&set.0[1], entry(1)));
        set.0[1].store(entry(1).0, Ordering::SeqCst);
        assert!(set.claim(&set.0[1], entry(1)));
    }

    /// What it is for: whoever asks, on whatever core, a client has one endpoint.
    #[test]
    fn all_cores_agree_on_the_endpoint_of_a_client() {
        const CLIENTS: u64 = 2_000;
        const CORES: u16 = 4;
        let sessions = sessions(300, 65_536);
        let barrier = Barrier::new(usize::from(CORES));
        let serve = &|core: u16| {
            barrier.wait();
            let serve = |client: u64| {
                sessions.find(client, at(1)).unwrap_or_else(|| {
                    match sessions.settle(client, on(core), None, at(1)) {
                        Settled::Known(session) => session,
                        _ => on(core),
                    }
                })
            };
            (0..CLIENTS).map(serve).collect::<Vec<_>>()
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CORES).map(|core| scope.spawn(move || serve(core))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        for (client, session) in (0..CLIENTS).zip(&answers[0]) {
            assert_eq!(sessions.find(client, at(1)), Some(*session));
        }
    }
}
