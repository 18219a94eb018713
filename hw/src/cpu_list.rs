//! Lists of small numbers as the kernel writes them: `0-3,8,10-11`.

/// Reads a list such as `0-3,8`; `None` when the text is no such list.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last - first > RANGE_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// The widest range that is believed; a wider one is a fault in the text and no machine.
const RANGE_MAX: u32 = 1 << 16;

/// Prints numbers as such a list, runs of neighbours joined: `0-3,8`.
#[must_use]
pub fn display(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if number == *last + 1 => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let written: Vec<_> = parts.into_iter().map(|(first, last)| range(first, last)).collect();
    written.join(",")
}

fn range(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_and_print_the_same() {
        for text in ["", "0", "0-3", "0-3,8,10-11"] {
            assert_eq!(display(&parse(text).unwrap()), text);
        }
        assert_eq!(parse("0-1,5\n"), Some(vec![0, 1, 5]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["x", "3-1", "1-", "0-4294967295", "-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
