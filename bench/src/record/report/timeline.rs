//! What each run used over time.

use std::fmt;

use firesteel_base::ByteSize;

use super::super::run::{RunRecord, Sample};
use super::super::stats;
use super::{COLOURS, Report, engine, key};

/// Points of a line at most: more could not be seen, and would make the page heavy.
const POINTS_MAX: usize = 500;

/// Width and height of a drawing, which is stretched to the width of the page.
const SIZE: (f64, f64) = (1000.0, 100.0);

pub(super) fn charts(f: &mut fmt::Formatter<'_>, report: &Report<'_>) -> fmt::Result {
    let most = |of: &dyn Fn(&Sample) -> f64| {
        let samples = report.records.iter().flat_map(|record| &record.timeline);
        stats::most(&samples.map(of).collect::<Vec<_>>())
    };
    let (Some(end), Some(memory)) = (most(&|sample| sample.at), most(&|sample| sample.memory_bytes as f64))
    else {
        return Ok(());
    };
    let cores = report.records.iter().map(|record| f64::from(record.cores)).fold(0.0, f64::max);
    let cores = most(&|sample| sample.cpu_cores).unwrap_or(0.0).max(cores);
    writeln!(
        f,
        "<h2>Cores and memory over time</h2>\n<p class=\"note\">All runs have the same scales: {end:.0} s, {cores:.0} cores and \
         {}.</p>",
        ByteSize(memory as u64)
    )?;
    for (number, record) in report.numbered().filter(|(_, record)| !record.timeline.is_empty()) {
        let scale = Scale { end, cores, memory };
        run(f, number, record, &scale)?;
    }
    Ok(())
}

/// What the far ends of the axes stand for.
struct Scale {
    end: f64,
    cores: f64,
    memory: f64,
}

fn run(f: &mut fmt::Formatter<'_>, number: usize, record: &RunRecord, scale: &Scale) -> fmt::Result {
    let cores: Vec<f64> = record.timeline.iter().map(|sample| sample.cpu_cores).collect();
    let memory = record.timeline.iter().map(|sample| sample.memory_bytes).max().unwrap_or_default();
    writeln!(
        f,
        "<h3>{}</h3>\n<div class=\"times\">",
        key(number, &format!(" {}, {}", engine(record), record.mode))
    )?;
    let mean = stats::mean(&cores).unwrap_or_default();
    let most = stats::most(&cores).unwrap_or_default();
    let told = format!("Cores: mean {mean:.1}, most {most:.1}");
    // A mean shows how busy the cores were; of memory it is the peak that must not be lost.
    let points = thinned(&record.timeline, |sample| sample.cpu_cores, stats::mean);
    line(f, number, &told, &points, scale.end, scale.cores)?;
    let told = format!("Memory: most {}", ByteSize(memory));
    let points = thinned(&record.timeline, |sample| sample.memory_bytes as f64, stats::most);
    line(f, number, &told, &points, scale.end, scale.memory)?;
    f.write_str("</div>\n")
}

/// Points of a line, with one for each of equally long parts where there are too many samples.
fn thinned(
    samples: &[Sample],
    of: impl Fn(&Sample) -> f64,
    together: impl Fn(&[f64]) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let parts = samples.chunks(samples.len().div_ceil(POINTS_MAX).max(1));
    let point = |part: &[Sample]| {
        let values: Vec<f64> = part.iter().map(&of).collect();
        Some((part.last()?.at, together(&values)?))
    };
    parts.filter_map(point).collect()
}

fn line(
    f: &mut fmt::Formatter<'_>,
    number: usize,
    told: &str,
    points: &[(f64, f64)],
    end: f64,
    top: f64,
) -> fmt::Result {
    let (width, height) = SIZE;
    let part = |value: f64, of: f64| if of > 0.0 { value / of } else { 0.0 };
    let path: Vec<String> = points
        .iter()
        .map(|(at, value)| format!("{:.1} {:.1}", part(*at, end) * width, (1.0 - part(*value, top)) * height))
        .collect();
    let path = path.join("L");
    let x = |point: Option<&(f64, f64)>| point.map_or(0.0, |(at, _)| part(*at, end) * width);
    let (from, to) = (x(points.first()), x(points.last()));
    let colour = number % COLOURS;
    writeln!(
        f,
        "<figure><figcaption>{told}</figcaption>\
         <svg class=\"c{colour}\" viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" role=\"img\">\
         <title>{told}</title><path class=\"area\" d=\"M{from:.1} {height}L{path}L{to:.1} {height}Z\"/>\
         <path class=\"line\" d=\"M{path}\"/></svg>\
         <div class=\"axis\"><span>0 s</span><span>{} s</span><span>{} s</span></div></figure>",
        tick(end / 2.0),
        tick(end)
    )
}

fn tick(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_samples_are_thinned_without_losing_the_peak_or_the_end() {
        let sample = |i: u32| Sample { at: f64::from(i), cpu_cores: 1.0, memory_bytes: u64::from(i == 777) };
        let samples: Vec<Sample> = (0..2345).map(sample).collect();
        let points = thinned(&samples, |sample| sample.memory_bytes as f64, stats::most);
        assert!(points.len() <= POINTS_MAX);
        assert_eq!(points.last().unwrap().0, 2344.0);
        assert_eq!(points.iter().map(|(_, value)| value).sum::<f64>(), 1.0);
        assert_eq!(thinned(&samples[..3], |sample| sample.at, stats::most).len(), 3);
    }
}
