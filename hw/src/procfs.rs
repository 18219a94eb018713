//! The few numbers that are read from /proc.

use std::fs;

/// The value of a `Key:   123 kB` line in bytes, as in `/proc/meminfo`.
#[must_use]
pub fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => number.checked_mul(1024),
        _ => Some(number),
    }
}

/// All memory that the kernel manages.
#[must_use]
pub fn memory_total_bytes() -> Option<u64> {
    meminfo_bytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_matched_whole() {
        let text = "MemTotal:       24682416 kB\nHugePages_Total:       4\nHugepagesize:       2048 kB\n";
        assert_eq!(meminfo_bytes(text, "MemTotal"), Some(24_682_416 << 10));
        assert_eq!(meminfo_bytes(text, "HugePages_Total"), Some(4));
        assert_eq!(meminfo_bytes(text, "Mem"), None);
    }
}
