//! How is a line chart drawn in a page that may load nothing?
//!
//! Maps figures to a drawing and nothing else: a logarithmic axis is one whose caller took the logarithms.

use std::fmt::Write as _;
use std::time::Duration;

/// The drawing's own units; a page scales it to its width.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
/// Labels stand to the left, and half of the last one to the right; on a telephone they are larger beside the lines.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 52.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// One axis: its ends, and the places with a grid line and a label.
#[derive(Debug)]
pub(crate) struct Axis {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) ticks: Vec<(f64, String)>,
}

/// One line. A `None` interrupts it.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Option<(f64, f64)>>,
}

/// Steps of a linear axis that read well.
const STEPS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// About so many steps fit the height of a chart.
const STEPS_WANTED: f64 = 5.0;

const HOUR: f64 = 3_600.0;
/// Seconds from one label of a time axis to the next.
const TIME_STEPS: [f64; 22] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0,
    300.0, 600.0, 900.0, 1_800.0, HOUR,
];
/// More labels would touch on a telephone.
const TIME_STEPS_MAX: f64 = 6.0;

impl Axis {
    /// From zero to at least `max`, in round steps.
    pub(crate) fn linear(max: f64, label: impl Fn(f64) -> String) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let power = 10_f64.powf((max / STEPS_WANTED).log10().floor());
        let step = STEPS.iter().map(|step| step * power).find(|step| step * STEPS_WANTED >= max * 0.999);
        let step = step.unwrap_or(max);
        let count = (max / step - 0.001).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step);
        Self { min: 0.0, max: count * step, ticks: ticks.map(|tick| (tick, label(tick))).collect() }
    }

    /// The powers of ten around `min` to `max`, for points given as decimal logarithms.
    pub(crate) fn powers_of_ten(min: f64, max: f64, label: impl Fn(f64) -> String) -> Self {
        let low = min.max(1.0).log10().floor() as i32;
        let high = (max.max(1.0).log10().ceil() as i32).max(low + 1);
        let ticks = (low..=high).map(|power| (f64::from(power), label(10_f64.powi(power)))).collect();
        Self { min: low.into(), max: high.into(), ticks }
    }

    /// From zero to `end`, which is where a run ended, in steps that a clock has.
    pub(crate) fn time(end: Duration) -> Self {
        let max = end.as_secs_f64().max(f64::MIN_POSITIVE);
        let step = TIME_STEPS.into_iter().find(|step| step * TIME_STEPS_MAX >= max);
        let step = step.unwrap_or((max / TIME_STEPS_MAX / HOUR).ceil() * HOUR);
        let count = (max / step + 0.001).floor() as u32;
        let ticks = (0..=count).map(|tick| f64::from(tick) * step);
        let (unit, name) = match max {
            _ if max >= 2.0 * HOUR => (HOUR, "h"),
            _ if max >= 600.0 => (60.0, "min"),
            _ => (1.0, "s"),
        };
        // A thousandth of the smallest step is what the multiplication left over.
        let label = |tick: f64| format!("{} {name}", (tick / unit * 1e3).round() / 1e3);
        Self { min: 0.0, max, ticks: ticks.map(|tick| (tick, label(tick))).collect() }
    }

    /// Where `value` lies, from 0 at this axis's start to 1 at its end.
    fn share(&self, value: f64) -> f64 {
        ((value - self.min) / (self.max - self.min)).clamp(0.0, 1.0)
    }
}

/// An SVG element with the axes, and with each of the `series` as a line of class `s0`, `s1`, …
pub(crate) fn draw(title: &str, x_axis: &Axis, y_axis: &Axis, series: &[Series]) -> String {
    let x_of = |value| LEFT + x_axis.share(value) * (WIDTH - LEFT - RIGHT);
    let y_of = |value| HEIGHT - BOTTOM - y_axis.share(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n<g class=\"grid\">\n",
        escape(title)
    );
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (value, label) in &y_axis.ticks {
        let (y, label) = (y_of(*value), escape(label));
        let _ = write!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" class=\"y\">{label}</text>", LEFT - 8.0, y + 4.0);
    }
    for (value, label) in &x_axis.ticks {
        let (x, label) = (x_of(*value), escape(label));
        let _ = write!(svg, "<path d=\"M{x:.1} {TOP}V{bottom}\"/>");
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\" class=\"x\">{label}</text>", bottom + 24.0);
    }
    svg.push_str("</g>\n");
    for (index, line) in series.iter().enumerate() {
        let mut path = String::new();
        let mut is_drawing = false;
        for (place, point) in line.points.iter().enumerate() {
            if let Some((x, y)) = point {
                let _ = write!(path, "{}{:.1} {:.1}", if is_drawing { 'L' } else { 'M' }, x_of(*x), y_of(*y));
                let is_alone = !is_drawing && line.points.get(place + 1).is_none_or(Option::is_none);
                // A path of one point would not be seen.
                path.push_str(if is_alone { "h0.1" } else { "" });
            }
            is_drawing = point.is_some();
        }
        let _ =
            writeln!(svg, "<path class=\"line s{index}\" d=\"{path}\"><title>{}</title></path>", line.name);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text that means itself inside HTML, in an element or in a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_have_round_steps_and_hold_the_largest_value() {
        for (max, end, ticks) in [(0.0, 1.0, 6), (7.3, 8.0, 5), (100.0, 100.0, 6), (1_234.0, 1_500.0, 4)] {
            let axis = Axis::linear(max, |value| value.to_string());
            assert!((axis.max - end).abs() < 1e-9, "{max}: {axis:?}");
            assert_eq!(axis.ticks.len(), ticks, "{max}: {axis:?}");
        }
    }

    #[test]
    fn a_time_axis_ends_with_the_run() {
        for (seconds, last, labels) in [
            (0.012, "0.012 s", 7),
            (1.2, "1.2 s", 7),
            (7.0, "6 s", 4),
            (59.9, "50 s", 6),
            (150.0, "150 s", 6),
            (600.0, "10 min", 6),
            (9_000.0, "2.5 h", 6),
            (100_000.0, "25 h", 6),
        ] {
            let axis = Axis::time(Duration::from_secs_f64(seconds));
            let shown = axis.ticks.last().map(|(_, label)| label.as_str());
            assert!((axis.max - seconds).abs() < 1e-9, "{axis:?}");
            assert_eq!((shown, axis.ticks.len()), (Some(last), labels), "{axis:?}");
        }
    }

    #[test]
    fn logarithmic_axes_span_whole_powers() {
        let axis = Axis::powers_of_ten(52_000.0, 3_000_000.0, |value| value.to_string());
        assert_eq!((axis.min, axis.max), (4.0, 7.0));
        assert_eq!(axis.ticks[0], (4.0, "10000".to_owned()));
    }

    #[test]
    fn a_gap_interrupts_the_line() {
        let axis = || Axis::linear(4.0, |value| value.to_string());
        let points = vec![Some((0.0, 0.0)), Some((1.0, 4.0)), None, Some((4.0, 4.0))];
        let svg = draw("a <title>", &axis(), &axis(), &[Series { name: "n", points }]);
        assert!(svg.contains("d=\"M92.0 226.0L246.0 12.0M708.0 12.0h0.1\""), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt;title&gt;\""), "{svg}");
    }
}
