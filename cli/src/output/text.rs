//! Short lists of things for people: aligned columns, ages, numbers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::table::printable;

/// Lines with these columns under each other. A header that starts with `>` has its column stand to the right.
pub fn columns(headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(headers.iter().map(|header| header.trim_start_matches('>')));
    table.add_rows(
        rows.into_iter().map(|row| row.into_iter().map(|cell| printable(&cell)).collect::<Vec<_>>()),
    );
    for (i, header) in headers.iter().enumerate() {
        let Some(column) = table.column_mut(i) else { continue };
        column.set_padding((0, 2));
        if header.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A span as people say it: `850ms`, `12.3s`, `4m05s`, `3h12m`, `2d03h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A point in unix time as its distance from now.
pub fn ago(unix_ms: u64) -> String {
    format!("{} ago", span(Duration::from_millis(unix_ms_now().saturating_sub(unix_ms))))
}

/// The unix clock in milliseconds.
pub fn unix_ms_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// So many of a thing: `1 row`, `1,000 rows`.
pub fn count(n: u64, thing: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", number(n))
}

/// A number with its thousands set apart: `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The first line of a text, cut to `width` characters.
pub fn brief(text: &str, width: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    let cut: String = line.chars().take(width.saturating_sub(3)).collect();
    format!("{cut}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text = columns(
            &["JOB", ">ROWS"],
            [vec!["job1".into(), "5".into()], vec!["job20".into(), "1000".into()]],
        );
        assert_eq!(text, "JOB    ROWS\njob1      5\njob20  1000\n");
    }

    #[test]
    fn spans_and_numbers_read_as_people_say_them() {
        let spans = [
            (850, "850ms"),
            (12_340, "12.3s"),
            (245_000, "4m05s"),
            (11_520_000, "3h12m"),
            (183_600_000, "2d03h"),
        ];
        for (millis, text) in spans {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), text);
        }
        assert_eq!((count(1, "row"), count(0, "core")), ("1 row".to_owned(), "0 cores".to_owned()));
        assert_eq!(brief("select *\n  from t", 20), "select * from t");
        assert_eq!((count(1, "row"), count(0, "core")), ("1 row".to_owned(), "0 cores".to_owned()));
        assert_eq!(brief("select * from orders", 10), "select ...");
    }
}
