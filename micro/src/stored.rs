//! The hashes that benches must have with tiny input.

use std::collections::{BTreeMap, BTreeSet};

/// Hashes by bench.
pub(crate) struct Stored(BTreeMap<String, String>);

impl Stored {
    /// Reads lines `name: hash`, which is what benches print.
    ///
    /// # Panics
    /// When a line is none of these, or a bench has two.
    pub(crate) fn parse(text: &str) -> Self {
        let mut hashes = BTreeMap::new();
        for line in text.lines() {
            let (name, hash) =
                line.rsplit_once(": ").unwrap_or_else(|| panic!("'{line}' is not 'name: hash'"));
            let before = hashes.insert(name.to_owned(), hash.to_owned());
            assert!(before.is_none(), "two hashes of {name} are stored");
        }
        Self(hashes)
    }

    /// Says what is wrong with the hash of a bench.
    pub(crate) fn check(&self, name: &str, found: &str) -> Result<(), String> {
        match self.0.get(name) {
            Some(stored) if stored == found => Ok(()),
            Some(stored) => Err(format!(
                "{name} computes something else than before: its hash is {found}, stored is {stored}\n  \
                 hint: if that is meant, store the new one in the .hashes file beside the bench"
            )),
            None => Err(format!(
                "no hash of {name} is stored\n  hint: add the line '{name}: {found}' to the .hashes file beside the bench"
            )),
        }
    }

    /// The benches that hashes are stored of.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Says where what is stored and `names`, all benches that there are, differ.
    pub(crate) fn check_names(&self, names: &BTreeSet<String>) -> Result<(), String> {
        let surplus: Vec<_> = self.names().filter(|name| !names.contains(*name)).collect();
        let missing: Vec<_> = names.iter().filter(|name| !self.0.contains_key(*name)).collect();
        if surplus.is_empty() && missing.is_empty() {
            return Ok(());
        }
        Err(format!("hashes are stored of benches that there are not: {surplus:?}, and not of {missing:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_right_wrong_or_missing() {
        let stored = Stored::parse("frame/encode: 00ff\nframe/decode: 1234\n");
        assert_eq!(stored.check("frame/encode", "00ff"), Ok(()));
        let wrong = stored.check("frame/decode", "00ff").unwrap_err();
        assert!(wrong.contains("its hash is 00ff, stored is 1234"), "{wrong}");
        let missing = stored.check("frame/copy", "00ff").unwrap_err();
        assert!(missing.contains("add the line 'frame/copy: 00ff'"), "{missing}");
    }

    #[test]
    fn a_hash_of_no_bench_and_a_bench_without_a_hash_are_found() {
        let names = BTreeSet::from(["a/b".to_owned(), "a/c".to_owned()]);
        assert_eq!(Stored::parse("a/b: 1\na/c: 2").check_names(&names), Ok(()));
        let wrong = Stored::parse("a/b: 1\na/d: 2").check_names(&names).unwrap_err();
        assert!(wrong.contains("are not: [\"a/d\"], and not of [\"a/c\"]"), "{wrong}");
    }

    #[test]
    #[should_panic(expected = "'a/b 1' is not 'name: hash'")]
    fn other_lines_are_refused() {
        Stored::parse("a/b 1");
    }
}
