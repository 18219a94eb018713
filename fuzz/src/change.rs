//! Changes of inputs, the same way for the same seed.

/// Numbers that come from a seed.
pub struct Numbers(u64);

impl Numbers {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below that, which is more than 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A number as such fields have it, small for the most part, and now and then at an end of what there is.
    pub fn number(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => u64::MAX - self.next() % 3,
            2 => u64::from(u32::MAX) - self.next() % 3,
            3 => 1 << self.below(64),
            4 => self.next(),
            _ => self.next() % 6,
        }
    }
}

/// Changes some bytes: one, several, or where they are.
pub fn change_bytes(bytes: &mut Vec<u8>, n: &mut Numbers) {
    if bytes.is_empty() {
        return bytes.push(n.next() as u8);
    }
    let (at, count) = (n.below(bytes.len()), 1 + n.below(8));
    let end = (at + count).min(bytes.len());
    match n.below(6) {
        0 => bytes[at] ^= 1 << n.below(8),
        1 => bytes[at] = n.next() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        // The largest number of so many bytes.
        4 => drop(bytes.splice(at..end, std::iter::repeat_n(0xff, count).chain([1]))),
        _ => bytes.truncate(at),
    }
}

/// Changes a text by words that mean something to its reader, or its bytes.
pub fn change_text(text: &mut Vec<u8>, words: &[&str], n: &mut Numbers) {
    if text.is_empty() || n.below(3) == 0 {
        return change_bytes(text, n);
    }
    let at = n.below(text.len() + 1);
    let word = match n.below(4) {
        0 => n.number().to_string(),
        _ => n.pick(words).to_owned(),
    };
    match n.below(3) {
        0 => drop(text.splice(at..at, word.into_bytes())),
        // In the place of what it stands at.
        1 => {
            let is_end = |byte: &u8| !byte.is_ascii_alphanumeric();
            let end = text[at..].iter().position(is_end).map_or(text.len(), |length| at + length);
            drop(text.splice(at..end, word.into_bytes()));
        }
        // A line of it again, elsewhere.
        _ => {
            let lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let again = lines[n.below(lines.len())].clone();
            drop(text.splice(at..at, again.into_iter().chain([b'\n'])));
        }
    }
}
