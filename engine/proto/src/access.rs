//! May this address come in, by lists of networks that are allowed and denied?
//!
//! Never goes through the lists: they become ranges that do not overlap, and one search by halves finds an address among
//! thousands of networks. The most specific network decides, whatever the order written.

use std::net::IpAddr;

/// A network: its first address, and how many leading bits are all of its addresses'.
pub type Block = (IpAddr, u8);

/// Lists of networks, taken apart into ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTable {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// What holds for addresses in no network, and for clients without one.
    default: bool,
}

/// Ranges by their first address, rising from zero, and whether each is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<A> {
    starts: Box<[A]>,
    verdicts: Box<[bool]>,
}

impl<A: Copy + Ord + TryFrom<u128>> Ranges<A> {
    fn new(networks: Vec<Listed>, default: bool, greatest: u128) -> Self {
        let (starts, verdicts): (Vec<u128>, Vec<bool>) =
            sweep(networks, default, greatest).into_iter().unzip();
        // All of them are below `greatest`, which fits.
        let starts = starts.into_iter().filter_map(|start| A::try_from(start).ok()).collect();
        Self { starts, verdicts: verdicts.into() }
    }

    fn find(&self, address: A) -> bool {
        // The first range begins at zero.
        let after = self.starts.partition_point(|start| *start <= address);
        self.verdicts[after.saturating_sub(1)]
    }
}

impl AccessTable {
    /// The most specific network that holds an address decides; of equal ones the denial. Without any, an address is let in
    /// if no network is allowed by name.
    #[must_use]
    pub fn new(allow: &[Block], deny: &[Block]) -> Self {
        let default = allow.is_empty();
        let listed = |is_v4: bool| {
            let verdicts = [(allow, true), (deny, false)];
            let all = verdicts
                .into_iter()
                .flat_map(|(list, verdict)| list.iter().zip([verdict].into_iter().cycle()));
            all.filter(|((address, _), _)| address.is_ipv4() == is_v4)
                .map(|(block, verdict)| Listed::new(*block, verdict))
                .collect()
        };
        Self {
            v4: Ranges::new(listed(true), default, u32::MAX.into()),
            v6: Ranges::new(listed(false), default, u128::MAX),
            default,
        }
    }

    /// Whether a client may come in; one without an address is in no network. IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        match address.map(|address| address.to_canonical()) {
            None => self.default,
            Some(IpAddr::V4(address)) => self.v4.find(address.to_bits()),
            Some(IpAddr::V6(address)) => self.v6.find(address.to_bits()),
        }
    }
}

/// A network as a range, in the order of the sweep: by its start, the wider one first, a denial after what is allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    start: u128,
    prefix_len: u8,
    is_denied: bool,
    last: u128,
}

impl Listed {
    fn new((address, prefix_len): Block, is_allowed: bool) -> Self {
        let (bits, width) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let host_bits = u32::from(width - prefix_len.min(width));
        let hosts = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |count| count - 1);
        Self { start: bits & !hosts, prefix_len, is_denied: !is_allowed, last: bits | hosts }
    }
}

/// Where verdicts change, from zero to `greatest`. Networks lie within each other or apart, never across.
fn sweep(mut networks: Vec<Listed>, default: bool, greatest: u128) -> Vec<(u128, bool)> {
    networks.sort_unstable();
    let mut changes = vec![(0, default)];
    let mut within: Vec<Listed> = Vec::new();
    let mut change = |at: u128, verdict: bool| {
        if changes.last().is_some_and(|(last, _)| *last == at) {
            changes.pop();
        }
        if changes.last().is_none_or(|(_, last)| *last != verdict) {
            changes.push((at, verdict));
        }
    };
    let verdict = |within: &[Listed]| within.last().map_or(default, |network| !network.is_denied);
    for network in networks {
        while let Some(left) = within.pop_if(|around| around.last < network.start) {
            change(left.last + 1, verdict(&within));
        }
        within.push(network);
        change(network.start, verdict(&within));
    }
    while let Some(left) = within.pop() {
        if left.last < greatest {
            change(left.last + 1, verdict(&within));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn blocks(list: &[&str]) -> Vec<Block> {
        let block = |text: &&str| {
            let (address, prefix_len) = text.split_once('/').expect("a prefix");
            (address.parse().expect("an address"), prefix_len.parse().expect("a number"))
        };
        list.iter().map(block).collect()
    }

    #[track_caller]
    fn check(allow: &[&str], deny: &[&str], expected: &[(&str, bool)]) {
        let table = AccessTable::new(&blocks(allow), &blocks(deny));
        for (address, is_allowed) in expected {
            let found = table.allows(Some(address.parse().expect("an address")));
            assert_eq!(found, *is_allowed, "{address} of {allow:?} {deny:?}");
        }
    }

    #[test]
    fn without_lists_everybody_comes_in() {
        check(&[], &[], &[("0.0.0.0", true), ("255.255.255.255", true), ("::", true), ("ffff::", true)]);
        assert!(AccessTable::new(&[], &[]).allows(None));
    }

    #[test]
    fn an_allowed_network_keeps_all_others_out() {
        let expected =
            [("10.0.0.0", true), ("10.255.255.255", true), ("9.255.255.255", false), ("11.0.0.0", false)];
        check(&["10.0.0.0/8"], &[], &expected);
        check(&["10.0.0.0/8"], &[], &[("::ffff:10.0.0.1", true), ("::1", false)]);
        assert!(!AccessTable::new(&blocks(&["0.0.0.0/0"]), &[]).allows(None));
    }

    #[test]
    fn a_denied_network_alone_lets_all_others_in() {
        let expected = [("10.0.0.1", false), ("11.0.0.0", true), ("fd00::1", false), ("fe00::", true)];
        check(&[], &["10.0.0.0/8", "fd00::/8"], &expected);
        assert!(AccessTable::new(&[], &blocks(&["0.0.0.0/0"])).allows(None));
    }

    #[test]
    fn the_most_specific_network_decides_and_of_equal_ones_the_denial() {
        let (allow, deny) = (["0.0.0.0/0", "10.1.0.0/16", "10.1.2.3/32"], ["10.0.0.0/8", "10.1.2.0/24"]);
        let expected = [
            ("9.0.0.0", true),
            ("10.0.0.0", false),
            ("10.1.0.0", true),
            ("10.1.2.0", false),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("10.1.3.0", true),
            ("10.2.0.0", false),
            ("11.0.0.0", true),
        ];
        check(&allow, &deny, &expected);
        check(&["10.0.0.0/8"], &["10.0.0.0/8"], &[("10.0.0.1", false)]);
        check(&["::/0"], &["ffff::/16"], &[("::", true), ("ffff:ffff:ffff::", false)]);
    }

    /// What the table means, by going through the lists.
    fn naive(allow: &[Block], deny: &[Block], address: IpAddr) -> bool {
        let holds = |(network, prefix_len): &Block| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(*prefix_len);
                (u64::from(network.to_bits()) >> shift) == (u64::from(address.to_bits()) >> shift)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(*prefix_len);
                network.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        };
        let longest = |list: &[Block]| list.iter().filter(|block| holds(block)).map(|(_, len)| *len).max();
        match (longest(allow), longest(deny)) {
            (None, None) => allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }

    proptest::proptest! {
        #[test]
        fn the_table_says_what_the_lists_say(
            seeds in proptest::collection::vec((0_u32..64, 24_u8..=32, proptest::bool::ANY, proptest::bool::ANY), 0..40),
            addresses in proptest::collection::vec(0_u32..70, 1..40),
        ) {
            // Close together, so that networks lie within each other and at both ends of all addresses.
            let v4 = |low: u32| Ipv4Addr::from_bits(low.wrapping_sub(32));
            let v6 = |low: u32| Ipv6Addr::from_bits(u128::from(low).wrapping_sub(32));
            let block = |(low, len, is_v6, _): &(u32, u8, bool, bool)| -> Block {
                let (host_bits, bits) = (32 - len, u128::from(low.wrapping_sub(32)));
                if *is_v6 {
                    let first = v6(*low).to_bits() >> host_bits << host_bits;
                    (Ipv6Addr::from_bits(first).into(), len + 96)
                } else {
                    let first = (bits >> host_bits << host_bits) as u32;
                    (Ipv4Addr::from_bits(first).into(), *len)
                }
            };
            let listed = |is_allowed: bool| seeds.iter().filter(|seed| seed.3 == is_allowed).map(block).collect::<Vec<_>>();
            let (allow, deny) = (listed(true), listed(false));
            let table = AccessTable::new(&allow, &deny);
            for low in addresses {
                for address in [IpAddr::from(v4(low)), IpAddr::from(v6(low))] {
                    // A mapped address would be one of IPv4.
                    if address.to_canonical() == address {
                        proptest::prop_assert_eq!(table.allows(Some(address)), naive(&allow, &deny, address), "{}", address);
                    }
                }
            }
        }
    }
}
