//! Text and numbers as the page shows them.

use std::fmt::{self, Write};

/// Text that is shown as it is, whatever is in it; also inside of a quoted attribute.
pub(crate) struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Control characters are not allowed in a page; messages of engines hold some, such as colour codes.
            c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

/// The letter of a run: A to Z, then A1 to Z1 and so on.
pub(super) fn letter(number: usize) -> String {
    let letter = char::from(b'A' + u8::try_from(number % 26).unwrap_or(0));
    match number / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}

/// Seconds with no more digits than are measured well.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.3}") } else { format!("{seconds:.1}") }
}

/// `86 586 082`, with spaces that do not break.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{a0}');
        }
        grouped.push(digit);
    }
    grouped
}

/// `A`, `A and B`, `A, B and C`.
pub(super) fn joined(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<String> = items.collect();
    match items.pop() {
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
        None => String::new(),
    }
}

/// Words as a shell reads them back.
pub(super) fn command(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            Text("<script>alert(\"1\")</script> & 'x'\u{1b}[0m").to_string(),
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;\u{fffd}[0m"
        );
    }

    #[test]
    fn runs_are_lettered_beyond_z() {
        assert_eq!([0, 1, 25, 26, 53].map(letter), ["A", "B", "Z", "A1", "B2"]);
    }

    #[test]
    fn numbers_and_lists_read_well() {
        assert_eq!(
            [0, 999, 1000, 86_586_082].map(grouped),
            ["0", "999", "1\u{a0}000", "86\u{a0}586\u{a0}082"]
        );
        let list = |items: &[&str]| joined(items.iter().map(|item| (*item).to_owned()));
        assert_eq!((list(&[]), list(&["A"])), (String::new(), "A".to_owned()));
        assert_eq!((list(&["A", "B"]), list(&["A", "B", "C"])), ("A and B".into(), "A, B and C".into()));
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let words = ["a", "--set", "x=1", "two words", "it's", "$HOME", ""].map(str::to_owned);
        assert_eq!(command(&words), "a --set x=1 'two words' 'it'\\''s' '$HOME' ''");
    }
}
