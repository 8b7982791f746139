//! Do two processes ever hold one lease at once? Thousands of lives in simulated time, under every fault that a store, a network, a clock
//! and an operator can bring.
//!
//! Never lets a process know the true time: that is for the judge alone. Each failure names its seed; a run depends on nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use proto::lease::{Answer, Ask, Contender, LeaseTerms, Mark, Row};

/// The defaults of `[store]`.
const LEASE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(500);

/// What the defaults promise after `kill -9` of the holder, with a store that answers.
const TAKE_OVER_MAX: u64 = seconds(5);

/// How long faults go on in a wild run, and how long they are over at its end.
const WILD: u64 = seconds(90);
const CALM: u64 = seconds(15);

/// Runs of each kind; a wrong rule has to be found within as many.
const SEEDS: u64 = 1_500;

/// True time, in microseconds.
const fn seconds(count: u64) -> u64 {
    count * 1_000_000
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll() % (to - from)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

/// What is wrong with the rules in a run that has to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Nothing.
    None,
    /// The holder acts for the whole lease time.
    MarginDropped,
    /// The holder counts from the answer instead of from the question.
    CountsFromAnswer,
    /// Everybody counts by the clock on the wall.
    WallClock,
    /// The holder does not look at its clock again when it has slept.
    ActsBeforeItLooks,
    /// An observer looks at the epoch alone, and a take-over names nothing else.
    BeatIgnored,
    /// A take-over leaves the epoch as it was, and a renewal has to know nothing else.
    EpochKept,
    /// Who finds itself in the store acts.
    ActsWhenClaimed,
}

/// One life of a process; its name is never used again.
type Name = (usize, u32);

#[derive(Clone, Copy)]
struct Held {
    holder: Name,
    mark: Mark,
}

/// The store: one row.
#[derive(Default)]
struct Store {
    row: Option<Held>,
}

impl Store {
    fn answer(&mut self, who: Name, ask: Ask, flaw: Flaw) -> Answer {
        let is_same = |seen: Mark, mark: Mark| {
            seen.epoch == mark.epoch && (seen.beat == mark.beat || flaw == Flaw::BeatIgnored)
        };
        match ask {
            Ask::Look => Answer::Row(match self.row {
                None => Row::Free(None),
                Some(held) if held.holder == who => Row::Mine(held.mark),
                Some(held) => Row::Others(held.mark),
            }),
            Ask::Acquire { seen } => {
                let mark = match (self.row, seen) {
                    (None, None) => Mark { epoch: 1, beat: 1 },
                    (Some(held), Some(seen)) if is_same(seen, held.mark) => {
                        let raised = u64::from(flaw != Flaw::EpochKept);
                        Mark { epoch: held.mark.epoch + raised, beat: held.mark.beat + 1 }
                    }
                    _ => return Answer::Refused,
                };
                self.row = Some(Held { holder: who, mark });
                Answer::Granted(mark)
            }
            Ask::Renew { epoch } => match &mut self.row {
                Some(held) if held.mark.epoch == epoch && (held.holder == who || flaw == Flaw::EpochKept) => {
                    held.mark.beat += 1;
                    Answer::Granted(held.mark)
                }
                _ => Answer::Refused,
            },
        }
    }
}

struct Process {
    life: u32,
    is_alive: bool,
    contender: Contender,
    /// It does nothing until then, as after SIGSTOP.
    stopped_until: u64,
    /// Its clock that never goes back: where it began, and its rate in millionths.
    began: u64,
    rate: u64,
    /// How far the clock on its wall is from that.
    wall: i64,
    /// Whether it took itself for the holder when it looked last.
    looked: bool,
}

impl Process {
    fn clock(&self, now: u64, flaw: Flaw) -> Duration {
        let monotonic = self.began + now * self.rate / 1_000_000;
        Duration::from_micros(if flaw == Flaw::WallClock {
            monotonic.saturating_add_signed(self.wall)
        } else {
            monotonic
        })
    }

    fn is_acting(&self, now: u64, flaw: Flaw) -> bool {
        let clock = self.clock(now, flaw);
        self.is_alive
            && match flaw {
                Flaw::ActsBeforeItLooks => self.looked,
                Flaw::MarginDropped => self
                    .contender
                    .acts_until()
                    .is_some_and(|until| clock < until + (LEASE - LeaseTerms::new(LEASE).holding())),
                _ => self.contender.may_act(clock),
            }
    }
}

#[derive(Clone, Copy)]
enum Event {
    /// Time to ask.
    Wake(Name),
    /// A question reaches the store.
    Asked { name: Name, ask: Ask, sent: Duration },
    /// An answer reaches who asked.
    Answered { name: Name, ask: Ask, answer: Answer, sent: Duration },
    /// An operator, a machine or a clock does something.
    Fault,
}

/// What the store does with questions for a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// They are lost.
    Away,
    /// They wait, and are all answered in the end.
    Stalled,
}

struct World {
    seed: u64,
    flaw: Flaw,
    is_wild: bool,
    now: u64,
    dice: Dice,
    store: Store,
    processes: Vec<Process>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    what: Vec<Event>,
    trouble: Option<(Trouble, u64)>,
    faults_end: u64,
    /// When the holder was killed that nobody has followed yet.
    orphaned: Option<u64>,
    /// How often somebody else began to act.
    successions: u32,
    acted: Option<Name>,
}

impl World {
    fn new(seed: u64, is_wild: bool, flaw: Flaw) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ u64::from(is_wild));
        let count = dice.within(2, 7);
        let mut world = Self {
            seed,
            flaw,
            is_wild,
            now: 0,
            store: Store::default(),
            processes: Vec::new(),
            events: BinaryHeap::new(),
            what: Vec::new(),
            trouble: None,
            faults_end: WILD,
            orphaned: None,
            successions: 0,
            acted: None,
            dice,
        };
        for index in 0..count as usize {
            let drift = world.dice.within(950_000, 1_050_000);
            let began = world.dice.within(0, seconds(1_000_000));
            world.processes.push(Process {
                life: 0,
                is_alive: true,
                contender: Contender::new(LeaseTerms::new(LEASE)),
                stopped_until: 0,
                began,
                rate: drift,
                wall: 0,
                looked: false,
            });
            world.after(0, seconds(1), Event::Wake((index, 0)));
        }
        world.after(seconds(1), seconds(3), Event::Fault);
        world
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, self.what.len() as u64)));
        self.what.push(event);
    }

    fn after(&mut self, from: u64, to: u64, event: Event) {
        let time = self.now + self.dice.within(from, to);
        self.at(time, event);
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((time, number))) = self.events.pop() {
            if time > self.faults_end + CALM {
                break;
            }
            self.now = time;
            self.happen(self.what[number as usize]);
            self.judge()?;
        }
        // Long after the last fault somebody holds it.
        if self.acting().is_empty() && self.processes.iter().any(|process| process.is_alive) {
            return Err(self.verdict("nobody holds the lease in the end"));
        }
        Ok(())
    }

    fn verdict(&self, what: &str) -> String {
        format!("seed {}, wild {}, at {} µs: {what}", self.seed, self.is_wild, self.now)
    }

    fn acting(&self) -> Vec<Name> {
        let processes = self.processes.iter().enumerate();
        let acting = processes.filter(|(_, process)| process.is_acting(self.now, self.flaw));
        acting.map(|(index, process)| (index, process.life)).collect()
    }

    /// Who acts changes with an event or ends with time: after each event is often enough to see every overlap.
    fn judge(&mut self) -> Result<(), String> {
        let acting = self.acting();
        if acting.len() > 1 {
            return Err(self.verdict(&format!("{acting:?} hold it at once")));
        }
        if let Some(name) = acting.first().copied()
            && self.acted != Some(name)
        {
            self.acted = Some(name);
            self.successions += 1;
            if let Some(killed) = self.orphaned.take()
                && self.now - killed >= TAKE_OVER_MAX
            {
                return Err(self.verdict(&format!("taken over after {} µs", self.now - killed)));
            }
        }
        if !self.is_wild && self.orphaned.is_some_and(|killed| self.now - killed >= TAKE_OVER_MAX) {
            return Err(self.verdict("not taken over in time"));
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault => self.fault(),
            Event::Asked { name, ask, sent } => self.ask_store(name, ask, sent),
            Event::Wake((index, life)) | Event::Answered { name: (index, life), .. } => {
                let process = &self.processes[index];
                if !process.is_alive || process.life != life {
                    return;
                }
                if process.stopped_until > self.now {
                    let until = process.stopped_until;
                    return self.at(until, event);
                }
                match event {
                    Event::Answered { name, ask, answer, sent } => self.hear(name, ask, answer, sent),
                    _ => self.wake((index, life)),
                }
            }
        }
    }

    fn wake(&mut self, name: Name) {
        let process = &mut self.processes[name.0];
        let clock = process.clock(self.now, self.flaw);
        process.looked = process.contender.may_act(clock);
        let ask = process.contender.next(clock);
        self.send(name, ask, clock);
        let poll = POLL.as_micros() as u64;
        self.after(poll, poll + poll / 20, Event::Wake(name));
    }

    fn send(&mut self, name: Name, ask: Ask, sent: Duration) {
        let copies = if self.mishap() { 2 } else { 1 };
        for _ in 0..copies {
            if self.mishap() {
                continue;
            }
            let longest = self.longest_way();
            self.after(50, longest, Event::Asked { name, ask, sent });
        }
    }

    /// Whether something happens to this message.
    fn mishap(&mut self) -> bool {
        self.is_wild && self.now < self.faults_end && self.dice.chance(5)
    }

    /// Most messages are fast, some take longer than a lease.
    fn longest_way(&mut self) -> u64 {
        if self.mishap() { seconds(6) } else { 50_000 }
    }

    fn ask_store(&mut self, name: Name, ask: Ask, sent: Duration) {
        match self.trouble {
            Some((Trouble::Away, until)) if until > self.now => return,
            Some((Trouble::Stalled, until)) if until > self.now => {
                return self.at(until, Event::Asked { name, ask, sent });
            }
            _ => {}
        }
        let answer = self.store.answer(name, ask, self.flaw);
        let copies = if self.mishap() { 2 } else { 1 };
        for _ in 0..copies {
            if self.mishap() {
                continue;
            }
            let longest = self.longest_way();
            self.after(50, longest, Event::Answered { name, ask, answer, sent });
        }
    }

    fn hear(&mut self, name: Name, ask: Ask, answer: Answer, sent: Duration) {
        let flaw = self.flaw;
        let process = &mut self.processes[name.0];
        let clock = process.clock(self.now, flaw);
        match (flaw, answer) {
            (Flaw::CountsFromAnswer, answer) => process.contender.hear(ask, answer, clock, clock),
            (Flaw::BeatIgnored, Answer::Row(Row::Others(mark))) => {
                let mark = Mark { beat: 0, ..mark };
                process.contender.hear(ask, Answer::Row(Row::Others(mark)), sent, clock);
            }
            (Flaw::ActsWhenClaimed, Answer::Row(Row::Mine(mark))) => {
                let ask = Ask::Acquire { seen: None };
                process.contender.hear(ask, Answer::Granted(mark), clock, clock);
            }
            (_, answer) => process.contender.hear(ask, answer, sent, clock),
        }
        process.looked = process.contender.may_act(clock);
        // As the real one: not waiting for the next poll when there is something to take.
        if process.contender.next_at(clock, POLL) == clock {
            let ask = process.contender.next(clock);
            self.send(name, ask, clock);
        }
    }

    fn fault(&mut self) {
        if self.now > self.faults_end {
            return;
        }
        if self.is_wild {
            self.wild_fault();
            self.after(seconds(1) / 4, seconds(5), Event::Fault);
        } else {
            self.kill_the_holder();
            self.after(seconds(8), seconds(12), Event::Fault);
        }
    }

    fn kill_the_holder(&mut self) {
        let Some(&(index, _)) = self.acting().first() else { return };
        self.orphaned = Some(self.now);
        self.kill(index);
    }

    /// `kill -9`, and another process in its place after a while.
    fn kill(&mut self, index: usize) {
        let began = self.dice.within(0, seconds(1_000_000));
        let process = &mut self.processes[index];
        process.life += 1;
        process.contender = Contender::new(LeaseTerms::new(LEASE));
        process.looked = false;
        process.stopped_until = 0;
        process.began = began;
        let name = (index, process.life);
        self.after(seconds(1) / 10, seconds(4), Event::Wake(name));
    }

    fn wild_fault(&mut self) {
        let index = match self.acting().first() {
            // Who holds it is the one to be hurt.
            Some(&(index, _)) if self.dice.chance(70) => index,
            _ => self.dice.within(0, self.processes.len() as u64) as usize,
        };
        match self.dice.within(0, 10) {
            0 | 1 => self.kill(index),
            2..=4 => {
                let length = self.dice.within(seconds(1) / 2, seconds(10));
                self.processes[index].stopped_until = self.now + length;
            }
            5 | 6 => {
                let trouble = if self.dice.chance(50) { Trouble::Away } else { Trouble::Stalled };
                let length = self.dice.within(seconds(1) / 2, seconds(12));
                self.trouble = Some((trouble, self.now + length));
            }
            _ => {
                // An hour either way, or 400 days ahead.
                let jumps = [3_600, -3_600, 400 * 86_400, 2, -2];
                let jump = jumps[self.dice.within(0, jumps.len() as u64) as usize];
                self.processes[index].wall += jump * 1_000_000;
            }
        }
    }
}

/// The first failure of this many runs, wild and calm.
fn first_failure(flaw: Flaw) -> Option<String> {
    (0..SEEDS).find_map(|seed| {
        let wild = World::new(seed, true, flaw).run();
        wild.and_then(|()| World::new(seed, false, flaw).run()).err()
    })
}

#[test]
fn never_two_hold_a_lease_and_a_killed_holder_is_followed_in_time() {
    let mut successions = 0;
    for seed in 0..SEEDS {
        for is_wild in [true, false] {
            let mut world = World::new(seed, is_wild, Flaw::None);
            world.run().unwrap_or_else(|failure| panic!("{failure}"));
            successions += world.successions;
        }
    }
    // A simulation in which nothing happens shows nothing.
    assert!(u64::from(successions) > 10 * SEEDS, "{successions} successions");
}

#[test]
fn each_rule_is_needed() {
    let flaws = [
        Flaw::MarginDropped,
        Flaw::CountsFromAnswer,
        Flaw::WallClock,
        Flaw::ActsBeforeItLooks,
        Flaw::BeatIgnored,
        Flaw::EpochKept,
        Flaw::ActsWhenClaimed,
    ];
    for flaw in flaws {
        let failure = first_failure(flaw);
        assert!(
            failure.as_ref().is_some_and(|text| text.contains("hold it at once")),
            "{flaw:?}: {failure:?}"
        );
    }
}
