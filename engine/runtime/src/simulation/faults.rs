//! What can go wrong in the simulated world, how often, and by how much? Probabilities, drawn from the seed.
//!
//! Never says when: every single fault is decided by the world's dice at the moment it could happen.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::dice::Dice;

/// How often something happens: out of a million opportunities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Odds(u32);

impl Odds {
    /// It never happens.
    pub const NEVER: Self = Self(0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// So many times in a million, a million at most.
    #[must_use]
    pub const fn per_million(count: u32) -> Self {
        Self(if count > Self::ALWAYS.0 { Self::ALWAYS.0 } else { count })
    }

    /// So many times in a hundred, a hundred at most.
    #[must_use]
    pub const fn percent(count: u32) -> Self {
        Self::per_million(count.saturating_mul(10_000))
    }

    pub(super) const fn millionths(self) -> u32 {
        self.0
    }
}

/// What a link between two hosts does to the connections over it, both ways.
///
/// Ranges of time are drawn from evenly, to the nanosecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFaults {
    /// How long a segment takes to arrive, drawn for each; those of a direction never overtake each other.
    pub latency: RangeInclusive<Duration>,
    /// Largest segment in bytes. What is sent leaves in segments of this size unless it is split.
    pub segment_bytes_max: u32,
    /// Bytes that a sender's side keeps until they have arrived; a send takes no more.
    pub send_buffer_bytes: RangeInclusive<u32>,
    /// Bytes that a receiver's side holds unread; more is not sent to it.
    pub receive_window_bytes: RangeInclusive<u32>,
    /// Of segments: is cut at a random place, half of the time within its first eight bytes.
    pub split: Odds,
    /// Of segments: takes [`Self::delay`] longer, and those behind it wait for it.
    pub delayed: Odds,
    /// How much longer a delayed segment takes.
    pub delay: RangeInclusive<Duration>,
    /// Of segments: the direction stops for [`Self::stall`] before it.
    pub stalled: Odds,
    /// How long a stall lasts.
    pub stall: RangeInclusive<Duration>,
    /// Of segments: the direction stops before it and never goes on. Nobody is told.
    pub stalled_for_ever: Odds,
    /// Of segments: the connection is reset instead. Both ends are told, bytes on their way are lost.
    pub reset: Odds,
    /// Of sends: takes only some of the bytes, at least one, and none until [`Self::send_pause`] is over.
    pub partial_send: Odds,
    /// Of sends: takes nothing (EAGAIN), and nothing until [`Self::send_pause`] is over.
    pub blocked_send: Odds,
    /// How long the sender's side stays full after either.
    pub send_pause: RangeInclusive<Duration>,
    /// Of receives: hands out only some of the bytes that are there; the rest shows as an event of its own.
    pub partial_receive: Odds,
    /// Of connects: is refused, though somebody listens.
    pub refused: Odds,
    /// Of connects: is never answered; the kernel gives up after 127 s.
    pub black_hole: Odds,
    /// Of connects: takes [`Self::connect_delay`] longer.
    pub slow_connect: Odds,
    /// How much longer a slow connect takes.
    pub connect_delay: RangeInclusive<Duration>,
}

/// What a host does to the cores on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFaults {
    /// Of sockets about to be made, by accept or connect: the descriptor table is full (EMFILE) for
    /// [`Self::exhaustion`] from now.
    pub exhausted: Odds,
    /// How long a full table lasts.
    pub exhaustion: RangeInclusive<Duration>,
    /// Of accepts: the connection was reset while it waited (ECONNABORTED).
    pub accept_aborted: Odds,
    /// Of readiness events: the core gets one more that says "readable" when nothing has come.
    pub spurious_event: Odds,
    /// Of readiness events: the core hears of it [`Self::event_delay`] later.
    pub late_event: Odds,
    /// How late a late event is.
    pub event_delay: RangeInclusive<Duration>,
    /// How long a turn of a core takes. Never zero: a core that only waits for time to pass has to get there.
    pub turn: RangeInclusive<Duration>,
    /// Of turns: takes [`Self::slow_turn_extra`] longer, as when another process has the CPU.
    pub slow_turn: Odds,
    /// How much longer a slow turn takes.
    pub slow_turn_extra: RangeInclusive<Duration>,
    /// Of readings of the wall clock: it has been set meanwhile, an hour back or forth, or 400 days on.
    pub clock_jump: Odds,
}

/// What goes wrong where nothing else was said for a link or a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// For links.
    pub link: LinkFaults,
    /// For hosts.
    pub host: HostFaults,
}

const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl LinkFaults {
    /// A local network on a good day: 50 to 200 µs, 16 KiB segments, nothing fails.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            latency: micros(50)..=micros(200),
            segment_bytes_max: 16 * 1024,
            send_buffer_bytes: 64 * 1024..=64 * 1024,
            receive_window_bytes: 64 * 1024..=64 * 1024,
            split: Odds::NEVER,
            delayed: Odds::NEVER,
            delay: millis(1)..=millis(300),
            stalled: Odds::NEVER,
            stall: millis(500)..=millis(20_000),
            stalled_for_ever: Odds::NEVER,
            reset: Odds::NEVER,
            partial_send: Odds::NEVER,
            blocked_send: Odds::NEVER,
            send_pause: micros(10)..=millis(50),
            partial_receive: Odds::NEVER,
            refused: Odds::NEVER,
            black_hole: Odds::NEVER,
            slow_connect: Odds::NEVER,
            connect_delay: millis(10)..=millis(3_000),
        }
    }

    /// Everything that a connection must survive: segments cut anywhere, small buffers, partial sends and receives,
    /// delays. No byte is lost and no connection.
    #[must_use]
    pub fn jittery() -> Self {
        Self {
            latency: micros(20)..=millis(20),
            send_buffer_bytes: 512..=32 * 1024,
            receive_window_bytes: 512..=32 * 1024,
            split: Odds::percent(30),
            delayed: Odds::percent(2),
            partial_send: Odds::percent(10),
            blocked_send: Odds::percent(5),
            partial_receive: Odds::percent(10),
            slow_connect: Odds::percent(5),
            ..Self::calm()
        }
    }

    /// Everything at once: as [`Self::jittery`], and connections stall, break, are refused or never answered.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            stalled: Odds::per_million(5_000),
            stalled_for_ever: Odds::per_million(1_000),
            reset: Odds::per_million(5_000),
            refused: Odds::percent(3),
            black_hole: Odds::percent(1),
            ..Self::jittery()
        }
    }

    /// A random choice of what [`Self::rough`] has, each fault on or off, and its odds up to four times as high. A run in
    /// which some faults are absent gets further into what the others do.
    pub(super) fn swarm(dice: &mut Dice) -> Self {
        let (calm, rough) = (Self::calm(), Self::rough());
        let mut faults = Self { segment_bytes_max: dice.pick(&[1460, 4096, 16 * 1024, 64 * 1024]), ..calm };
        if dice.one_in(2) {
            faults.latency = rough.latency;
        }
        if dice.one_in(2) {
            (faults.send_buffer_bytes, faults.receive_window_bytes) =
                (rough.send_buffer_bytes, rough.receive_window_bytes);
        }
        let odds = [
            (&mut faults.split, rough.split),
            (&mut faults.delayed, rough.delayed),
            (&mut faults.stalled, rough.stalled),
            (&mut faults.stalled_for_ever, rough.stalled_for_ever),
            (&mut faults.reset, rough.reset),
            (&mut faults.partial_send, rough.partial_send),
            (&mut faults.blocked_send, rough.blocked_send),
            (&mut faults.partial_receive, rough.partial_receive),
            (&mut faults.refused, rough.refused),
            (&mut faults.black_hole, rough.black_hole),
            (&mut faults.slow_connect, rough.slow_connect),
        ];
        odds.into_iter().for_each(|(odds, rough)| *odds = swarmed(dice, rough));
        faults
    }
}

impl HostFaults {
    /// Cores that have their CPUs for themselves: turns of 1 to 3 µs, nothing fails.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            exhausted: Odds::NEVER,
            exhaustion: millis(10)..=millis(2_000),
            accept_aborted: Odds::NEVER,
            spurious_event: Odds::NEVER,
            late_event: Odds::NEVER,
            event_delay: micros(10)..=millis(20),
            turn: micros(1)..=micros(3),
            slow_turn: Odds::NEVER,
            slow_turn_extra: micros(100)..=millis(50),
            clock_jump: Odds::NEVER,
        }
    }

    /// Everything that cores must survive without losing a connection: spurious and late events, slow turns, jumps of
    /// the wall clock.
    #[must_use]
    pub fn jittery() -> Self {
        Self {
            spurious_event: Odds::percent(2),
            late_event: Odds::percent(5),
            slow_turn: Odds::per_million(2_000),
            clock_jump: Odds::per_million(1_000),
            ..Self::calm()
        }
    }

    /// Everything at once: as [`Self::jittery`], and descriptors run out, and accepts fail.
    #[must_use]
    pub fn rough() -> Self {
        Self { exhausted: Odds::percent(1), accept_aborted: Odds::percent(2), ..Self::jittery() }
    }

    /// A random choice of what [`Self::rough`] has; see [`Faults::swarm`].
    pub(super) fn swarm(dice: &mut Dice) -> Self {
        let rough = Self::rough();
        Self {
            exhausted: swarmed(dice, rough.exhausted),
            accept_aborted: swarmed(dice, rough.accept_aborted),
            spurious_event: swarmed(dice, rough.spurious_event),
            late_event: swarmed(dice, rough.late_event),
            slow_turn: swarmed(dice, rough.slow_turn),
            clock_jump: swarmed(dice, rough.clock_jump),
            ..Self::calm()
        }
    }
}

impl Faults {
    /// Nothing fails.
    #[must_use]
    pub fn calm() -> Self {
        Self { link: LinkFaults::calm(), host: HostFaults::calm() }
    }

    /// Nothing is lost, but nothing comes as it was sent.
    #[must_use]
    pub fn jittery() -> Self {
        Self { link: LinkFaults::jittery(), host: HostFaults::jittery() }
    }

    /// Everything at once.
    #[must_use]
    pub fn rough() -> Self {
        Self { link: LinkFaults::rough(), host: HostFaults::rough() }
    }

    /// A random subset of [`Self::rough`], with random odds, that `seed` decides (swarm testing: Groce and others 2012).
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5741_524D); // apart from the numbers that the same seed gives the world
        Self { link: LinkFaults::swarm(&mut dice), host: HostFaults::swarm(&mut dice) }
    }
}

/// Half of the time never, otherwise up to four times as often.
fn swarmed(dice: &mut Dice, odds: Odds) -> Odds {
    let often = Odds::per_million(dice.between(1, u64::from(odds.0) * 4) as u32);
    if dice.one_in(2) { often } else { Odds::NEVER }
}

/// How often each fault has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Segments that were cut.
    pub splits: u64,
    /// Segments that were delayed.
    pub delays: u64,
    /// Directions that stopped for a while.
    pub stalls: u64,
    /// Directions that stopped for ever.
    pub stalls_for_ever: u64,
    /// Connections that were reset by the network.
    pub resets: u64,
    /// Sends that took some of the bytes though there was room for more.
    pub partial_sends: u64,
    /// Sends that took nothing though there was room.
    pub blocked_sends: u64,
    /// Receives that handed out some of the bytes.
    pub partial_receives: u64,
    /// Connects that were refused though somebody listened.
    pub refusals: u64,
    /// Connects that were never answered.
    pub black_holes: u64,
    /// Connects that took long.
    pub slow_connects: u64,
    /// Descriptors refused, by fault or because the host's table was full.
    pub descriptors_refused: u64,
    /// Connections reset while they waited for their accept.
    pub accepts_aborted: u64,
    /// Events that said nothing.
    pub spurious_events: u64,
    /// Events that came late.
    pub late_events: u64,
    /// Turns that took long.
    pub slow_turns: u64,
    /// Jumps of the wall clock.
    pub clock_jumps: u64,
}
