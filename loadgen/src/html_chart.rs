//! How is a line chart drawn in a page that may load nothing?
//!
//! Maps figures to a drawing and nothing else: a logarithmic axis is one whose caller took the logarithms.

use std::fmt::Write as _;

/// The drawing's own units; a page scales it to its width.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 76.0;
/// Half of the last label stands out to the right.
const RIGHT: f64 = 36.0;
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
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\" class=\"x\">{label}</text>", bottom + 18.0);
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
        assert!(svg.contains("d=\"M76.0 226.0L238.0 12.0M724.0 12.0h0.1\""), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt;title&gt;\""), "{svg}");
    }
}
