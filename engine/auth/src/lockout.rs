//! May he try once more? Failed logins of the last minute, by user and by address.
//!
//! Never forgets a failure early: a table that is full refuses whom it does not know. Never lets a login begin that is not
//! counted: of many at once as many get through as of many in a row.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Users, and addresses, that are told apart at a time.
const KEYS_MAX: usize = 16 * 1024;

/// Longer names are no user's, and counted by what they begin with.
const NAME_BYTES_MAX: usize = 64;

/// When it is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutTerms {
    /// Failures of one user, and of one address, in [`Self::window`]; then no more is tried.
    pub failures_max: u16,
    /// How long a failure counts.
    pub window: Duration,
}

impl Default for LockoutTerms {
    fn default() -> Self {
        Self { failures_max: 10, window: Duration::from_secs(60) }
    }
}

/// The failures of one process.
#[derive(Debug, Default)]
pub struct Attempts {
    users: Failures<Box<str>>,
    addresses: Failures<IpAddr>,
}

/// A login that has begun; it counts as failed unless it is told to have succeeded.
#[derive(Debug)]
pub struct Attempt {
    user: Box<str>,
    address: Option<IpAddr>,
    at: Instant,
}

/// No more is tried for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOut {
    /// When the next may be.
    pub retry_after: Duration,
}

impl Attempts {
    /// Begins a login at `now`; without an address where many come by one.
    ///
    /// # Errors
    /// The user or the address has failed too often.
    pub fn begin(
        &mut self,
        user: &str,
        address: Option<IpAddr>,
        terms: &LockoutTerms,
        now: Instant,
    ) -> Result<Attempt, LockedOut> {
        let user: Box<str> = user[..user.floor_char_boundary(NAME_BYTES_MAX)].into();
        let address = address.map(network);
        self.users.look(&user, terms, now)?;
        if let Some(address) = address {
            self.addresses.look(&address, terms, now)?;
            self.addresses.note(address, now);
        }
        self.users.note(user.clone(), now);
        Ok(Attempt { user, address, at: now })
    }

    /// It was he: his failures are forgotten, and this try of the address. Its others are not, or who knows one password could try
    /// others without end.
    pub fn succeeded(&mut self, attempt: &Attempt) {
        self.users.by_key.remove(&attempt.user);
        if let Some(address) = &attempt.address {
            self.addresses.take_back(address, attempt.at);
        }
    }
}

/// When each of some failed, within the window; the oldest first.
#[derive(Debug)]
struct Failures<K> {
    by_key: HashMap<K, VecDeque<Instant>>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new() }
    }
}

impl<K: Eq + Hash> Failures<K> {
    fn look(&mut self, key: &K, terms: &LockoutTerms, now: Instant) -> Result<(), LockedOut> {
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= terms.window;
        if let Some(times) = self.by_key.get_mut(key) {
            while times.front().is_some_and(is_over) {
                times.pop_front();
            }
            return match times.front() {
                Some(oldest) if times.len() >= usize::from(terms.failures_max) => {
                    let passed = now.saturating_duration_since(*oldest);
                    Err(LockedOut { retry_after: terms.window.saturating_sub(passed) })
                }
                _ => Ok(()),
            };
        }
        if self.by_key.len() >= KEYS_MAX {
            self.by_key.retain(|_, times| !times.back().is_none_or(is_over));
        }
        if self.by_key.len() >= KEYS_MAX {
            return Err(LockedOut { retry_after: terms.window });
        }
        Ok(())
    }

    fn note(&mut self, key: K, now: Instant) {
        self.by_key.entry(key).or_default().push_back(now);
    }

    fn take_back(&mut self, key: &K, at: Instant) {
        let Some(times) = self.by_key.get_mut(key) else { return };
        if let Some(index) = times.iter().position(|time| *time == at) {
            times.remove(index);
        }
        if times.is_empty() {
            self.by_key.remove(key);
        }
    }
}

/// Whom an address stands for: in IPv6 one host has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[derive(Default)]
    struct Tries(Attempts);

    impl Tries {
        fn begin(&mut self, user: &str, address: IpAddr, now: Instant) -> Result<Attempt, LockedOut> {
            self.0.begin(user, Some(address), &LockoutTerms::default(), now)
        }
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    #[test]
    fn the_eleventh_failure_of_a_minute_is_not_tried() {
        let (mut attempts, start) = (Tries::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..10 {
            assert!(attempts.begin("eva", address(second), at(u64::from(second))).is_ok(), "{second}");
        }
        let locked_out = attempts.begin("eva", address(99), at(10)).expect_err("ten have failed");
        assert_eq!(locked_out.retry_after, Duration::from_secs(50));
        // What is refused is not counted, and the others' minute goes on.
        assert!(attempts.begin("eva", address(99), at(59)).is_err());
        assert!(attempts.begin("eva", address(99), at(60)).is_ok());
        assert!(attempts.begin("eva", address(99), at(60)).is_err(), "nine of the last minute, and this one");
        assert!(attempts.begin("adam", address(99), at(60)).is_ok(), "others are let try");
    }

    #[test]
    fn an_address_that_tries_many_users_is_stopped_too() {
        let (mut attempts, now) = (Tries::default(), Instant::now());
        for user in 0..10 {
            assert!(attempts.begin(&format!("user{user}"), HERE, now).is_ok());
        }
        assert!(attempts.begin("user10", HERE, now).is_err());
        assert!(attempts.begin("user10", address(1), now).is_ok());
    }

    #[test]
    fn one_host_is_one_in_ipv6_too() {
        let (mut attempts, now) = (Tries::default(), Instant::now());
        for host in 0..10u16 {
            let address = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
            assert!(attempts.begin(&format!("user{host}"), address, now).is_ok());
        }
        let of = |network: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 7, 7, 7, 7]);
        assert!(attempts.begin("another", of(1), now).is_err());
        assert!(attempts.begin("another", of(2), now).is_ok());
        let mapped = |address: &str| address.parse::<IpAddr>().expect("an address");
        assert_eq!(network(mapped("::ffff:192.0.2.1")), network(mapped("192.0.2.1")));
    }

    #[test]
    fn success_forgets_the_users_failures_and_not_the_addresss() {
        let (mut attempts, now) = (Tries::default(), Instant::now());
        for _ in 0..9 {
            assert!(attempts.begin("eva", HERE, now).is_ok());
        }
        let attempt = attempts.begin("eva", HERE, now).expect("the tenth");
        attempts.0.succeeded(&attempt);
        assert!(attempts.begin("eva", address(1), now).is_ok());
        assert!(attempts.begin("adam", HERE, now).is_ok(), "the tenth of the address was none");
        assert!(attempts.begin("adam", HERE, now).is_err(), "and nine, with this one, were");
    }

    #[test]
    fn logins_that_are_under_way_count() {
        let (mut attempts, now) = (Tries::default(), Instant::now());
        let begun: Vec<_> = (0..20).map(|_| attempts.begin("eva", HERE, now)).collect();
        assert_eq!(begun.iter().filter(|attempt| attempt.is_ok()).count(), 10);
    }

    #[test]
    fn a_full_table_refuses_whom_it_does_not_know_and_forgets_nobody() {
        let (mut attempts, now) = (Tries::default(), Instant::now());
        for _ in 0..10 {
            assert!(attempts.begin("eva", HERE, now).is_ok());
        }
        for number in 1..KEYS_MAX as u32 {
            assert!(attempts.begin(&format!("user{number}"), address(number), now).is_ok());
        }
        assert!(attempts.begin("one more", address(1 << 20), now).is_err());
        assert!(attempts.begin("eva", address(1), now).is_err(), "still locked out");
        assert!(attempts.begin("user1", address(2), now).is_ok(), "whom it knows goes on");
        let later = now + Duration::from_secs(60);
        assert!(attempts.begin("one more", address(1 << 20), later).is_ok());
        assert!(attempts.0.users.by_key.len() < 10, "what is over has gone");
    }

    #[test]
    fn names_of_any_length_are_kept_short() {
        let (mut attempts, now) = (Tries::default(), Instant::now());
        assert!(attempts.begin(&"ü".repeat(10_000), HERE, now).is_ok());
        assert!(attempts.0.users.by_key.keys().all(|name| name.len() <= NAME_BYTES_MAX));
    }
}
