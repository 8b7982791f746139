//! Do two samples differ by more than chance?
//!
//! Never assumes a shape of their distribution, and never looks at where the figures came from.

use crate::compare::dependence::variance_inflation;

/// The two-sided probability that two series of one distribution differ in rank at least this much: the U test of
/// Mann and Whitney (1947), with corrections for ties, continuity and for what each value owes to the one before. Good from
/// about eight values each; 1 for series without any difference.
pub(crate) fn probability_of_chance(before: &[f64], after: &[f64]) -> f64 {
    let (n, m) = (before.len() as f64, after.len() as f64);
    let mut all: Vec<(f64, bool)> = before.iter().map(|value| (*value, true)).collect();
    all.extend(after.iter().map(|value| (*value, false)));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut rank_sum, mut ties, mut seen) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|one, other| one.0 == other.0) {
        let count = equal.len() as f64;
        // Equal values share the mean of their ranks.
        let rank = seen + (count + 1.0) / 2.0;
        rank_sum += rank * equal.iter().filter(|(_, is_before)| *is_before).count() as f64;
        ties += count.powi(3) - count;
        seen += count;
    }
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)));
    if variance.is_nan() || variance <= 0.0 {
        return 1.0;
    }
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    let inflation = variance_inflation(&[before, after]);
    // As the inflation is an estimate itself, Student's distribution with what it leaves of the degrees of freedom.
    two_sided(student((distance / (variance * inflation).sqrt()).abs(), (n + m) / inflation - 2.0))
}

/// The two-sided probability that `before.0` of `before.1` and `after.0` of `after.1` are drawn with one chance: the
/// pooled test of two proportions. 1 when there is no difference.
pub(crate) fn probability_of_same_share(before: (u64, u64), after: (u64, u64)) -> f64 {
    let [(a, n), (b, m)] = [before, after].map(|(part, whole)| (part as f64, whole as f64));
    let pooled = (a + b) / (n + m);
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    if variance.is_nan() || variance <= 0.0 {
        return 1.0;
    }
    two_sided((a / n - b / m).abs() / variance.sqrt())
}

/// The standard normal value that is as unlikely as `t` of Student's distribution; exact to a few percent of the
/// probability. Source: D. L. Wallace, Bounds on normal approximations to Student's and the chi-square distributions, 1959.
fn student(t: f64, freedom: f64) -> f64 {
    let freedom = freedom.max(1.0);
    (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * (freedom * (t * t / freedom).ln_1p()).sqrt()
}

/// The middle value; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// The probability of a standard normal value at least `z` away from 0; absolute error below 2e-7.
/// Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.17.
fn two_sided(z: f64) -> f64 {
    const COEFFICIENTS: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    (2.0 * density * polynomial).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tail_is_that_of_the_tables() {
        for (z, expected) in [(0.0, 1.0), (1.0, 0.317_311), (1.959_964, 0.05), (2.575_829, 0.01)] {
            assert!((two_sided(z) - expected).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn student_is_that_of_the_tables() {
        for (t, freedom, expected) in
            [(4.032, 5.0, 0.01), (3.169, 10.0, 0.01), (2.750, 30.0, 0.01), (2.228, 10.0, 0.05)]
        {
            let found = two_sided(student(t, freedom));
            assert!((found / expected - 1.0).abs() < 0.04, "{t} of {freedom}: {found}");
        }
    }

    #[test]
    fn ranks_tell_samples_apart() {
        let low = [3.0, 0.0, 5.0, 2.0, 4.0, 1.0];
        let high = low.map(|value| value + 10.0);
        // U = 0 of 36: 17.5 / sqrt(39) = 2.8022, of which Student's distribution with 10 degrees leaves 0.0187.
        assert!((probability_of_chance(&low, &high) - 0.0187).abs() < 2e-4);
        assert!((probability_of_chance(&high, &low) - probability_of_chance(&low, &high)).abs() < 1e-12);
        assert!(probability_of_chance(&low, &low) > 0.9);
        assert!((probability_of_chance(&[3.0; 9], &[3.0; 9]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn ties_share_their_rank() {
        // Ranks of the first sample: 1, 3, 3, 5.5 = 12.5; U = 2.5; ties 24 + 6; variance 16 / 12 × (9 - 30 / 56).
        let p = probability_of_chance(&[2.0, 1.0, 3.0, 2.0], &[4.0, 2.0, 5.0, 3.0]);
        let z: f64 = 5.0 / (16.0 / 12.0 * (9.0 - 30.0 / 56.0_f64)).sqrt();
        assert!((p - two_sided(student(z, 6.0))).abs() < 1e-12);
    }

    #[test]
    fn shares_differ_when_chance_is_unlikely() {
        assert!(probability_of_same_share((0, 1_000), (50, 1_000)) < 0.001);
        assert!(probability_of_same_share((1, 1_000), (2, 1_000)) > 0.3);
        assert!((probability_of_same_share((0, 10), (0, 20)) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            (median(&[]), median(&[3.0, 1.0]), median(&[9.0, 1.0, 5.0])),
            (None, Some(2.0), Some(5.0))
        );
    }
}
