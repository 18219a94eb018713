//! The drawing of speed-ups beside what they would be if no core were wasted.

use std::fmt;

use crate::record::{counted, stats};
use crate::scale::words::times;
use crate::scale::{Scaling, Size};

/// Width and height of the drawing, and the margins within it for the labels.
const SIZE: (f64, f64) = (640.0, 360.0);
const LEFT: f64 = 48.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Labels that are closer than this would touch.
const LABELS_APART: f64 = 22.0;

/// Where values lie in the drawing; both axes begin at 0.
struct Scale {
    cores: f64,
    speed_up: f64,
}

impl Scale {
    fn x(&self, cores: u32) -> f64 {
        LEFT + f64::from(cores) / self.cores * (SIZE.0 - LEFT - RIGHT)
    }

    fn y(&self, speed_up: f64) -> f64 {
        SIZE.1 - BOTTOM - speed_up / self.speed_up * (SIZE.1 - TOP - BOTTOM)
    }
}

/// Nothing for a single size, which has no curve.
pub(super) fn chart(f: &mut fmt::Formatter<'_>, scaling: &Scaling) -> fmt::Result {
    let [first, .., last] = scaling.sizes.as_slice() else { return Ok(()) };
    let ideal = |cores: u32| f64::from(cores) / f64::from(first.cores);
    let measured = scaling.sizes.iter().flat_map(|size| [size.numbers.speed_up, typical(first, size)]);
    let most = stats::most(&measured.flatten().collect::<Vec<_>>()).unwrap_or(1.0);
    let scale = Scale { cores: f64::from(last.cores), speed_up: most.max(ideal(last.cores)) };
    writeln!(
        f,
        "<p class=\"legend\"><span class=\"key c0\"><i></i>total</span> <span class=\"key c1\"><i></i>geometric mean of the \
         queries</span> <span class=\"key c6\"><i></i>ideal (dashed)</span></p>\n<figure><svg class=\"curve\" viewBox=\"0 0 {} {}\" \
         role=\"img\"><title>Speed-up by number of cores</title>",
        SIZE.0, SIZE.1
    )?;
    crowded(f, scaling, &scale)?;
    axes(f, scaling, &scale, ideal)?;
    let (from, to) = (first.cores, last.cores);
    writeln!(
        f,
        "<g class=\"c6\"><path class=\"line ideal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/></g>",
        scale.x(from),
        scale.y(1.0),
        scale.x(to),
        scale.y(ideal(to))
    )?;
    line(f, scaling, &scale, "c1", "geometric mean", |size| typical(first, size))?;
    line(f, scaling, &scale, "c0", "total", |size| size.numbers.speed_up)?;
    f.write_str("</svg></figure>\n")
}

/// The speed-up of the geometric means.
fn typical(first: &Size, size: &Size) -> Option<f64> {
    let (base, now) = (first.geometric_mean_seconds?, size.geometric_mean_seconds?);
    Some(base / now)
}

/// Shades what is beyond the cores of the machine.
fn crowded(f: &mut fmt::Formatter<'_>, scaling: &Scaling, scale: &Scale) -> fmt::Result {
    if !scaling.sizes.iter().any(|size| size.oversubscribed) {
        return Ok(());
    }
    let from = scale.x(scaling.machine_cores);
    let (width, height) = (SIZE.0 - RIGHT - from, SIZE.1 - TOP - BOTTOM);
    writeln!(
        f,
        "<rect class=\"crowded\" x=\"{from:.1}\" y=\"{TOP:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">\
         <title>more core threads than the machine&#39;s {}</title></rect>",
        counted(scaling.machine_cores as usize, "core")
    )
}

fn axes(
    f: &mut fmt::Formatter<'_>,
    scaling: &Scaling,
    scale: &Scale,
    ideal: impl Fn(u32) -> f64,
) -> fmt::Result {
    let (left, right, bottom) = (LEFT, SIZE.0 - RIGHT, SIZE.1 - BOTTOM);
    writeln!(f, "<path class=\"frame\" d=\"M{left:.1} {TOP:.1}V{bottom:.1}H{right:.1}\"/>")?;
    let at: Vec<f64> = scaling.sizes.iter().map(|size| scale.x(size.cores)).collect();
    for place in apart(&at) {
        let (x, cores) = (at[place], scaling.sizes[place].cores);
        writeln!(f, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{cores}</text>", bottom + 16.0)?;
    }
    let at: Vec<f64> = scaling.sizes.iter().map(|size| scale.y(ideal(size.cores))).collect();
    for place in apart(&at) {
        let (y, speed_up) = (at[place], ideal(scaling.sizes[place].cores));
        writeln!(
            f,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">×{}</text>\
             <path class=\"frame\" d=\"M{left:.1} {y:.1}h-4\"/>",
            left - 8.0,
            y + 4.0,
            round(speed_up)
        )?;
    }
    let middle = f64::midpoint(left, right);
    writeln!(f, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">cores</text>", SIZE.1 - 6.0)
}

/// The places of those labels that do not touch, the last one first.
fn apart(at: &[f64]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for place in (0..at.len()).rev() {
        if kept.last().is_none_or(|&before| (at[place] - at[before]).abs() >= LABELS_APART) {
            kept.push(place);
        }
    }
    kept
}

/// `2`, `1.5`, `1.33`.
fn round(number: f64) -> String {
    format!("{}", (number * 100.0).round() / 100.0)
}

fn line(
    f: &mut fmt::Formatter<'_>,
    scaling: &Scaling,
    scale: &Scale,
    colour: &str,
    what: &str,
    speed_up: impl Fn(&Size) -> Option<f64>,
) -> fmt::Result {
    let points: Vec<(&Size, f64)> =
        scaling.sizes.iter().filter_map(|size| Some((size, speed_up(size)?))).collect();
    let path: Vec<String> = points
        .iter()
        .map(|(size, value)| format!("{:.1} {:.1}", scale.x(size.cores), scale.y(*value)))
        .collect();
    if path.is_empty() {
        return Ok(());
    }
    write!(f, "<g class=\"{colour}\"><path class=\"line\" d=\"M{}\"/>", path.join("L"))?;
    for (size, value) in points {
        let (class, crowded) = if size.oversubscribed { ("hollow", ", oversubscribed") } else { ("dot", "") };
        write!(
            f,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{what} on {}: speed-up {}{crowded}</title>\
             </circle>",
            scale.x(size.cores),
            scale.y(value),
            counted(size.cores as usize, "core"),
            times(Some(value))
        )?;
    }
    f.write_str("</g>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_touch_are_left_out_but_the_last() {
        assert_eq!(apart(&[10.0, 20.0, 40.0, 100.0]), [3, 2, 0]);
        assert_eq!(apart(&[10.0]), [0]);
        assert!(apart(&[]).is_empty());
        assert_eq!([2.0, 1.5, 4.0 / 3.0].map(round), ["2", "1.5", "1.33"]);
    }
}
