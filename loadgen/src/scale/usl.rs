//! How does throughput grow with cores? Fits the Universal Scalability Law to samples, and says how sure that is.
//!
//! Never reads a clock, starts anything, or claims an interval that the samples cannot carry.
//!
//! The law (N. J. Gunther, *Guerrilla Capacity Planning*, 2007): on n cores
//! `X(n) = λn / (1 + σ(n−1) + κn(n−1))`, where λ is what one core gives, σ the share that queues for something shared
//! (contention), and κ the price of keeping pairs of cores in agreement (coherency).

use serde::Serialize;

/// Three coefficients need three places to look at.
pub(crate) const CORE_COUNTS_MIN: usize = 3;
/// Samples beyond the three that the coefficients use up, below which the residuals say nothing about the noise.
const SPARE_SAMPLES_MIN: usize = 3;
/// Refits for the intervals: their ends are the 25th from either side.
const RESAMPLES: usize = 1_000;
/// The resampling always begins here, so that the same samples give the same intervals.
const SEED: u64 = 0x5ca1_ab1e;
/// Steps of one fit; a usual one takes five.
const STEPS_MAX: usize = 60;
/// A step that improves the squared error by less than this part of it is the last.
const STEP_GAIN_MIN: f64 = 1e-14;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) cores: f64,
    /// Requests per second, or anything else that should grow in proportion.
    pub(crate) throughput: f64,
}

/// The coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Law {
    /// Throughput of one core.
    pub(crate) lambda: f64,
    /// Contention, at least 0.
    pub(crate) sigma: f64,
    /// Coherency, at least 0.
    pub(crate) kappa: f64,
}

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A law fitted to samples.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) law: Law,
    /// The law of each resampling; empty when the samples are too few to say how sure the fit is.
    resamples: Vec<Law>,
}

/// Why there is no fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FitError {
    /// Fewer than [`CORE_COUNTS_MIN`] distinct core counts: this many.
    TooFewCoreCounts(usize),
    /// A core count below 1, or a throughput that is no positive number.
    NotPositive,
}

impl Law {
    /// The throughput on `cores`.
    pub(crate) fn throughput(&self, cores: f64) -> f64 {
        self.lambda * cores / self.slowdown(cores)
    }

    /// The core count of the highest throughput; `None` when more is always better.
    pub(crate) fn peak(&self) -> Option<f64> {
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt().max(1.0))
    }

    fn slowdown(&self, cores: f64) -> f64 {
        1.0 + self.sigma * (cores - 1.0) + self.kappa * cores * (cores - 1.0)
    }

    /// What the throughput changes by for a change of λ, σ and κ.
    fn gradient(&self, cores: f64) -> [f64; 3] {
        let slowdown = self.slowdown(cores);
        let by_slowdown = -self.lambda * cores / (slowdown * slowdown);
        [cores / slowdown, by_slowdown * (cores - 1.0), by_slowdown * cores * (cores - 1.0)]
    }

    fn squared_error(&self, samples: &[Sample]) -> f64 {
        samples.iter().map(|sample| (sample.throughput - self.throughput(sample.cores)).powi(2)).sum()
    }
}

impl Fit {
    /// Fits by non-linear least squares, with σ and κ at least 0.
    ///
    /// # Errors
    /// The samples determine no law.
    pub(crate) fn new(samples: &[Sample]) -> Result<Self, FitError> {
        let is_usable = |sample: &Sample| {
            sample.cores >= 1.0 && sample.throughput > 0.0 && (sample.cores * sample.throughput).is_finite()
        };
        if !samples.iter().all(is_usable) {
            return Err(FitError::NotPositive);
        }
        let mut counts: Vec<f64> = samples.iter().map(|sample| sample.cores).collect();
        counts.sort_by(f64::total_cmp);
        counts.dedup();
        if counts.len() < CORE_COUNTS_MIN {
            return Err(FitError::TooFewCoreCounts(counts.len()));
        }
        let law = least_squares(samples);
        Ok(Self { law, resamples: resample(&law, samples) })
    }

    /// The interval of any figure that follows from the law; `None` when the samples are too few for one.
    ///
    /// For a figure without a bound, such as the peak of a law that has none, use infinity.
    pub(crate) fn interval(&self, figure: impl Fn(&Law) -> f64) -> Option<Interval> {
        let mut figures: Vec<f64> = self.resamples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let low = figures.get(figures.len() / 40)?;
        let high = figures.get(figures.len() - 1 - figures.len() / 40)?;
        Some(Interval { low: *low, high: *high })
    }
}

/// The best law of the four that the bounds allow: σ and κ each free or zero.
///
/// Where the free optimum lies outside the bounds, the bounded one lies on an edge, and each edge is looked at.
fn least_squares(samples: &[Sample]) -> Law {
    let edges = [[true, true], [true, false], [false, true], [false, false]];
    let laws = edges.map(|[sigma, kappa]| descend(samples, [true, sigma, kappa]));
    let inside = laws.into_iter().filter(|law| law.sigma >= 0.0 && law.kappa >= 0.0);
    inside
        .min_by(|one, other| one.squared_error(samples).total_cmp(&other.squared_error(samples)))
        .unwrap_or(laws[3])
}

/// Levenberg–Marquardt over the coefficients that are `free`; the others stay zero.
fn descend(samples: &[Sample], free: [bool; 3]) -> Law {
    let mut law = linear_guess(samples, free);
    let mut error = law.squared_error(samples);
    let mut damping = 1e-3;
    for _ in 0..STEPS_MAX {
        let (mut normal, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
        for sample in samples {
            let residual = sample.throughput - law.throughput(sample.cores);
            accumulate(&mut normal, &mut right, law.gradient(sample.cores), residual, 1.0);
        }
        hold(&mut normal, &mut right, free);
        (0..3).for_each(|index| normal[index][index] *= 1.0 + damping);
        let step = solve(normal, right);
        let tried =
            Law { lambda: law.lambda + step[0], sigma: law.sigma + step[1], kappa: law.kappa + step[2] };
        let tried_error = tried.squared_error(samples);
        // Past a pole of the law lies no throughput.
        let has_pole = samples.iter().any(|sample| tried.slowdown(sample.cores) <= 0.0);
        if has_pole || !tried_error.is_finite() || tried_error > error {
            damping *= 10.0;
            continue;
        }
        let gain = error - tried_error;
        (law, error, damping) = (tried, tried_error, damping / 10.0);
        if gain <= error * STEP_GAIN_MIN {
            break;
        }
    }
    law
}

/// `n / X(n)` is linear in `1/λ`, `σ/λ` and `κ/λ`: exact without noise, and near enough to begin from with it.
fn linear_guess(samples: &[Sample], free: [bool; 3]) -> Law {
    let (mut normal, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for Sample { cores, throughput } in samples {
        let row = [1.0, cores - 1.0, cores * (cores - 1.0)];
        // The error of n / X is that of X times n / X²: weighted back.
        accumulate(
            &mut normal,
            &mut right,
            row,
            cores / throughput,
            (throughput * throughput / cores).powi(2),
        );
    }
    hold(&mut normal, &mut right, free);
    let [one, contention, coherency] = solve(normal, right);
    let law = Law { lambda: 1.0 / one, sigma: contention / one, kappa: coherency / one };
    let is_sound = law.lambda.is_finite()
        && law.lambda > 0.0
        && samples.iter().all(|sample| law.slowdown(sample.cores) > 0.0);
    if is_sound {
        return law;
    }
    let per_core = samples.iter().map(|sample| sample.throughput / sample.cores);
    Law { lambda: per_core.fold(0.0, f64::max), sigma: 0.0, kappa: 0.0 }
}

fn accumulate(normal: &mut [[f64; 3]; 3], right: &mut [f64; 3], row: [f64; 3], value: f64, weight: f64) {
    for (index, factor) in row.into_iter().enumerate() {
        right[index] += weight * factor * value;
        for (sum, other) in normal[index].iter_mut().zip(row) {
            *sum += weight * factor * other;
        }
    }
}

/// Makes the coefficients that are not free come out as zero.
fn hold(normal: &mut [[f64; 3]; 3], right: &mut [f64; 3], free: [bool; 3]) {
    for held in (0..3).filter(|index| !free[*index]) {
        normal.iter_mut().for_each(|row| row[held] = 0.0);
        normal[held] = [0.0; 3];
        normal[held][held] = 1.0;
        right[held] = 0.0;
    }
}

/// Cholesky, after scaling the diagonal to 1: λ may be a million times larger than κ. An unknown that the equations do
/// not determine comes out as zero.
fn solve(matrix: [[f64; 3]; 3], right: [f64; 3]) -> [f64; 3] {
    let scale: [f64; 3] = std::array::from_fn(|index| matrix[index][index].sqrt().max(f64::MIN_POSITIVE));
    let mut lower = [[0.0; 3]; 3];
    for row in 0..3 {
        for column in 0..=row {
            let known: f64 = (0..column).map(|index| lower[row][index] * lower[column][index]).sum();
            let left = matrix[row][column] / scale[row] / scale[column] - known;
            lower[row][column] = match row == column {
                true => left.max(0.0).sqrt(),
                false => divide(left, lower[column][column]),
            };
        }
    }
    let mut half = [0.0; 3];
    for row in 0..3 {
        let known: f64 = (0..row).map(|index| lower[row][index] * half[index]).sum();
        half[row] = divide(right[row] / scale[row] - known, lower[row][row]);
    }
    let mut solution = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|index| lower[index][row] * solution[index]).sum();
        solution[row] = divide(half[row] - known, lower[row][row]);
    }
    std::array::from_fn(|index| solution[index] / scale[index])
}

fn divide(value: f64, by: f64) -> f64 {
    // Of a diagonal scaled to 1, less than rounding leaves is nothing.
    if by > 1e-9 { value / by } else { 0.0 }
}

/// Refits the law to itself with its residuals dealt out anew (B. Efron, *Bootstrap Methods*, 1979), each widened by
/// what the three coefficients have taken out of them.
fn resample(law: &Law, samples: &[Sample]) -> Vec<Law> {
    let spare = samples.len() - 3;
    if spare < SPARE_SAMPLES_MIN {
        return Vec::new();
    }
    let widening = (samples.len() as f64 / spare as f64).sqrt();
    // In parts of the throughput: the noise of a measurement grows with what is measured.
    let residual = |sample: &Sample| (sample.throughput / law.throughput(sample.cores) - 1.0) * widening;
    let residuals: Vec<f64> = samples.iter().map(residual).collect();
    let mean = residuals.iter().sum::<f64>() / residuals.len() as f64;
    let mut random = SEED;
    let mut laws = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let mut deal = |sample: &Sample| {
            let noise = residuals[next_random(&mut random) as usize % residuals.len()] - mean;
            let throughput = law.throughput(sample.cores) * (1.0 + noise).max(0.01);
            Sample { throughput, ..*sample }
        };
        let dealt: Vec<Sample> = samples.iter().map(&mut deal).collect();
        laws.push(least_squares(&dealt));
    }
    laws
}

/// SplitMix64 (G. Steele et al., 2014).
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

    fn planted(law: &Law, rounds: usize, mut noise: impl FnMut() -> f64) -> Vec<Sample> {
        let repeated = COUNTS.into_iter().flat_map(|cores| std::iter::repeat_n(cores, rounds));
        repeated.map(|cores| Sample { cores, throughput: law.throughput(cores) * (1.0 + noise()) }).collect()
    }

    /// Noise of `width` to either side, the same for the same seed.
    fn noise(seed: u64, width: f64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || (next_random(&mut state) as f64 / u64::MAX as f64 - 0.5) * 2.0 * width
    }

    fn assert_near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} instead of {expected}");
    }

    #[test]
    fn planted_coefficients_are_recovered_exactly() {
        for (sigma, kappa) in [(0.05, 0.002), (0.0, 0.001), (0.2, 0.0), (0.02, 1e-5), (0.7, 0.1)] {
            let law = Law { lambda: 40_000.0, sigma, kappa };
            let fit = Fit::new(&planted(&law, 1, || 0.0)).expect("a fit");
            assert_near(fit.law.lambda, 40_000.0, 0.01);
            assert_near(fit.law.sigma, sigma, 1e-6);
            assert_near(fit.law.kappa, kappa, 1e-7);
        }
    }

    #[test]
    fn planted_coefficients_are_within_their_intervals_under_noise() {
        let law = Law { lambda: 40_000.0, sigma: 0.05, kappa: 0.002 };
        let (mut sigma_hits, mut kappa_hits, mut forecast_hits) = (0, 0, 0);
        for seed in 0..20 {
            let fit = Fit::new(&planted(&law, 5, noise(seed, 0.05))).expect("a fit");
            assert_near(fit.law.lambda, law.lambda, law.lambda * 0.06);
            assert_near(fit.law.kappa, law.kappa, law.kappa * 0.25);
            let holds = |figure: fn(&Law) -> f64| {
                let interval = fit.interval(figure).expect("enough samples");
                u32::from((interval.low..=interval.high).contains(&figure(&law)))
            };
            sigma_hits += holds(|law| law.sigma);
            kappa_hits += holds(|law| law.kappa);
            forecast_hits += holds(|law| law.throughput(64.0));
        }
        // Of 20 intervals of 95 %, 16 or fewer hold in one case of 60.
        assert!(sigma_hits > 16 && kappa_hits > 16 && forecast_hits > 16, "{sigma_hits} {kappa_hits}");
    }

    #[test]
    fn linear_growth_has_neither_contention_nor_coherency() {
        let law = Law { lambda: 1_000.0, sigma: 0.0, kappa: 0.0 };
        let fit = Fit::new(&planted(&law, 1, || 0.0)).expect("a fit");
        assert_near(fit.law.sigma, 0.0, 1e-9);
        assert_near(fit.law.kappa, 0.0, 1e-9);
        let noisy = Fit::new(&planted(&law, 5, noise(7, 0.02))).expect("a fit");
        assert!(noisy.law.sigma < 0.02 && noisy.law.kappa < 0.001, "{noisy:?}");
        assert_eq!(noisy.interval(|law| law.sigma).expect("an interval").low, 0.0);
    }

    #[test]
    fn growth_above_linear_stays_within_the_bounds() {
        let samples = COUNTS.map(|cores| Sample { cores, throughput: 100.0 * cores.powf(1.1) });
        let law = Fit::new(&samples).expect("a fit").law;
        assert_eq!((law.sigma, law.kappa), (0.0, 0.0));
        assert!(law.throughput(32.0) > 32.0 * 100.0, "{law:?}");
    }

    #[test]
    fn no_law_within_the_bounds_is_better_than_the_one_found() {
        for seed in 0..10 {
            let law = Law { lambda: 500.0, sigma: 0.01, kappa: 0.0002 };
            let samples = planted(&law, 2, noise(seed, 0.2));
            let found = Fit::new(&samples).expect("a fit").law;
            let best = found.squared_error(&samples);
            for (lambda, sigma, kappa) in
                [(1.001, 0.0, 0.0), (0.999, 0.0, 0.0), (1.0, 1e-4, 0.0), (1.0, -1e-4, 0.0), (1.0, 0.0, 1e-5)]
            {
                let near = Law {
                    lambda: found.lambda * lambda,
                    sigma: (found.sigma + sigma).max(0.0),
                    kappa: found.kappa + kappa,
                };
                assert!(
                    near.squared_error(&samples) >= best * (1.0 - 1e-9),
                    "seed {seed}: {near:?} {found:?}"
                );
            }
        }
    }

    #[test]
    fn too_few_core_counts_determine_nothing() {
        let sample = |cores| Sample { cores, throughput: 10.0 * cores };
        assert_eq!(Fit::new(&[]).unwrap_err(), FitError::TooFewCoreCounts(0));
        let two = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0].map(sample);
        assert_eq!(Fit::new(&two).unwrap_err(), FitError::TooFewCoreCounts(2));
        for broken in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            let samples = [sample(1.0), sample(2.0), Sample { cores: 3.0, throughput: broken }];
            assert_eq!(Fit::new(&samples).unwrap_err(), FitError::NotPositive);
        }
    }

    #[test]
    fn three_samples_fit_but_carry_no_interval() {
        let law = Law { lambda: 10.0, sigma: 0.1, kappa: 0.01 };
        let samples = [1.0, 2.0, 8.0].map(|cores| Sample { cores, throughput: law.throughput(cores) });
        let fit = Fit::new(&samples).expect("a fit");
        assert_near(fit.law.sigma, 0.1, 1e-6);
        assert!(fit.interval(|law| law.sigma).is_none());
    }

    #[test]
    fn the_peak_is_where_throughput_turns() {
        let law = Law { lambda: 10.0, sigma: 0.1, kappa: 0.009 };
        assert_near(law.peak().expect("a peak"), 10.0, 1e-9);
        assert!(law.throughput(10.0) > law.throughput(9.0) && law.throughput(10.0) > law.throughput(11.0));
        assert_eq!(Law { kappa: 0.0, ..law }.peak(), None);
        assert_eq!(Law { sigma: 2.0, ..law }.peak(), Some(1.0));
    }

    #[test]
    fn the_same_samples_give_the_same_intervals() {
        let law = Law { lambda: 10.0, sigma: 0.1, kappa: 0.01 };
        let samples = planted(&law, 3, noise(1, 0.05));
        let interval = || Fit::new(&samples).expect("a fit").interval(|law| law.kappa);
        assert_eq!(interval(), interval());
    }
}
