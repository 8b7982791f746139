//! May an endpoint have new sessions, seen how many connections it has?
//!
//! Never counts them: the caller does, and keeps the answer.

/// LVS's upper and lower connection thresholds (`ipvsadm -x` and `-y`): an endpoint that has reached the upper one gets
/// nothing new until it has fewer than the lower one. Without the difference, it would go to and fro with every connection.
///
/// Source: Linux, net/netfilter/ipvs/ip_vs_conn.c, `ip_vs_bind_dest` and `ip_vs_unbind_dest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// From as many connections on, it gets no new ones.
    pub upper: u32,
    /// With fewer than these, it gets some again; 0 for three quarters of the upper threshold.
    pub lower: u32,
}

impl Thresholds {
    /// Whether it is overloaded with `connections`, given whether it was.
    #[must_use]
    pub fn is_overloaded(self, was: bool, connections: u32) -> bool {
        if connections >= self.upper {
            return true;
        }
        let is_relieved = match self.lower {
            0 => u64::from(connections) * 4 < u64::from(self.upper) * 3,
            lower => connections < lower,
        };
        was && !is_relieved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(upper: u32, lower: u32, connections: &[u32], expected: &[bool]) {
        let thresholds = Thresholds { upper, lower };
        let mut is_overloaded = false;
        let seen: Vec<_> = connections
            .iter()
            .map(|&connections| {
                is_overloaded = thresholds.is_overloaded(is_overloaded, connections);
                is_overloaded
            })
            .collect();
        assert_eq!(seen, expected, "{upper} {lower} {connections:?}");
    }

    #[test]
    fn from_the_upper_threshold_on_until_below_the_lower_one() {
        check(10, 8, &[9, 10, 9, 8, 7, 8, 9, 10], &[false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn without_a_lower_one_it_is_three_quarters_of_the_upper() {
        check(10, 0, &[10, 8, 7], &[true, true, false]);
        check(4, 0, &[4, 3, 2], &[true, true, false]);
        check(1, 0, &[1, 0], &[true, false]);
        check(u32::MAX, 0, &[u32::MAX, u32::MAX - 1, u32::MAX / 2], &[true, true, false]);
    }

    #[test]
    fn a_lower_one_above_the_upper_has_no_effect() {
        check(10, 20, &[10, 9], &[true, false]);
    }
}
