//! How many independent figures are in a row of seconds, each of which is like the one before?
//!
//! Never takes a second for news when the last one had told it; knows nothing of what the figures mean.

/// Series of fewer values say nothing about how they hang together.
const VALUES_MIN: usize = 4;
/// Nothing is believed to hang together more than this: the estimate cannot tell it from a trend.
const CORRELATION_MAX: f64 = 0.95;

/// How many times more the mean of these series varies than if their values were independent: 1 when they are.
///
/// Taken for autoregressive of first order, (1 + ρ) ÷ (1 − ρ), with ρ estimated over all series together: a change between
/// them is no dependence. Waves of many seconds are not seen by it.
pub(crate) fn variance_inflation(series: &[&[f64]]) -> f64 {
    let count: usize = series.iter().map(|values| values.len()).sum();
    let weighed = |values: &&[f64]| correlation(values) * values.len() as f64;
    let correlation = series.iter().map(weighed).sum::<f64>() / count.max(1) as f64;
    let correlation = correlation.clamp(0.0, CORRELATION_MAX);
    (1.0 + correlation) / (1.0 - correlation)
}

/// The correlation of each value's rank with that of the value before. What short series hide of it on average,
/// (1 + 4 ρ) ÷ n, is added (Kendall, and Marriott and Pope, 1954).
fn correlation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    if values.len() < VALUES_MIN {
        return 0.0;
    }
    let ranks = ranks(values);
    let mean = (count + 1.0) / 2.0;
    let spread: f64 = ranks.iter().map(|rank| (rank - mean).powi(2)).sum();
    if spread <= 0.0 {
        return 0.0;
    }
    let together: f64 = ranks.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let estimate = together / spread;
    estimate + (1.0 + 4.0 * estimate) / count
}

/// Equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut ranks = vec![0.0; values.len()];
    let mut seen = 0.0;
    for equal in order.chunk_by(|one, other| values[*one] == values[*other]) {
        let rank = seen + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|index| ranks[*index] = rank);
        seen += equal.len() as f64;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rank_test::probability_of_chance;
    use crate::schedule::Dice;

    /// A series in which each value keeps `kept` of the one before; normal, by a sum of twelve.
    fn series(dice: &mut Dice, count: usize, kept: f64) -> Vec<f64> {
        let mut normal =
            || (0..12).map(|_| (dice.roll() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0;
        let mut value = normal() / (1.0 - kept * kept).sqrt();
        let next = |_| {
            value = value * kept + normal();
            value
        };
        (0..count).map(next).collect()
    }

    /// Of `RUNS` pairs of which the second is shifted, the share that is not put down to chance at 1 %.
    fn found(count: usize, kept: f64, shift: f64) -> f64 {
        const RUNS: u32 = 300;
        let mut dice = Dice::new(7, count as u64);
        let is_found = |_: &u32| {
            let before = series(&mut dice, count, kept);
            let after: Vec<f64> = series(&mut dice, count, kept).iter().map(|value| value + shift).collect();
            probability_of_chance(&before, &after) < 0.01
        };
        f64::from((0..RUNS).filter(is_found).count() as u32) / f64::from(RUNS)
    }

    #[test]
    fn seconds_that_hang_together_raise_no_false_alarm() {
        for (count, kept, most) in [
            (10, 0.0, 0.02),
            (10, 0.3, 0.02),
            (10, 0.6, 0.05),
            (30, 0.0, 0.02),
            (30, 0.6, 0.03),
            (30, 0.8, 0.04),
            (120, 0.8, 0.04),
        ] {
            let share = found(count, kept, 0.0);
            assert!(share <= most, "{count} seconds that keep {kept}: {share} false alarms, nominal 0.01");
        }
    }

    #[test]
    fn a_real_change_is_found_all_the_same() {
        // In units of the noise that each second adds. Ten seconds are few to know by how they hang together.
        for (count, kept, shift, least) in [
            (10, 0.0, 5.0, 0.7),
            (20, 0.0, 5.0, 0.95),
            (30, 0.0, 1.5, 0.9),
            (30, 0.6, 6.0, 0.6),
            (120, 0.8, 6.0, 0.9),
        ] {
            let share = found(count, kept, shift);
            assert!(share > least, "{count} seconds that keep {kept}, shifted by {shift}: found in {share}");
        }
    }

    #[test]
    fn the_inflation_is_that_of_the_process() {
        let mut dice = Dice::new(1, 1);
        for (kept, expected) in [(0.0, 1.0), (0.5, 3.0), (0.8, 9.0)] {
            let values = series(&mut dice, 20_000, kept);
            let found = variance_inflation(&[&values]);
            assert!((found / expected - 1.0).abs() < 0.15, "{kept}: {found}, not {expected}");
        }
        assert_eq!(variance_inflation(&[&[], &[1.0, 2.0]]), 1.0);
        assert_eq!(variance_inflation(&[&[3.0; 20]]), 1.0);
        let trend: Vec<f64> = (0..30).map(f64::from).collect();
        assert!((variance_inflation(&[&trend]) - 39.0).abs() < 1e-9, "a trend is one figure");
    }
}
