//! The form of all micro benches.
//!
//! A bench shows what it computed and not only how long that took: it prints `name: hash` once, with a hash (xxh3, hex) of
//! its result, so that two builds can be seen to do the same work. `cargo bench` measures with input of full size. Under
//! `cargo test` and nextest every bench runs with tiny input, unmeasured, and its hash must be the one that is stored in the
//! `.hashes` file beside its source: so benches cannot rot. `FIRESTEEL_BENCH_TINY` (1 or 0) decides on the size itself.
//!
//! A bench target has this form, and in its manifest `harness = false` and `test = true`:
//!
//! ```no_run
//! use firesteel_micro::{Bench, Throughput, run};
//!
//! fn sums(bench: &mut Bench) {
//!     let numbers: Vec<u64> = (0..bench.size(1 << 20, 100)).collect();
//!     let mut group = bench.group("sum", Throughput::Elements(numbers.len() as u64));
//!     group.bench("u64", || numbers.iter().sum::<u64>(), |sum, digest| digest.number(*sum));
//! }
//!
//! // All of its main, where the hashes are include_str!("sums.hashes").
//! run("sum/u64: 0123456789abcdef", &[sums]);
//! ```
//!
//! Development only: no product crate depends on this one.

mod digest;
mod stored;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

pub use criterion::Throughput;
pub use digest::Digest;
use stored::Stored;

/// The variable that asks for tiny input, or for input of full size.
const TINY: &str = "FIRESTEEL_BENCH_TINY";

/// Runs the benches that `parts` define, as the process's arguments say. `stored` are lines `name: hash`, one for each bench
/// with tiny input.
///
/// # Panics
/// When a bench with tiny input has another result than is stored, or a line is stored for no bench.
pub fn run(stored: &str, parts: &[fn(&mut Bench)]) {
    let argument = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let variable = std::env::var_os(TINY).map(|value| value.to_string_lossy().into_owned());
    let tiny = is_tiny(variable.as_deref(), argument("--bench"));
    let stored = tiny.then(|| Stored::parse(stored));
    if let (Some(stored), true) = (&stored, argument("--list")) {
        // A runner of tests asks for the list first: it must not depend on benches being able to start.
        if !argument("--ignored") {
            stored.names().for_each(|name| println!("{name}: benchmark"));
        }
        return;
    }
    let criterion = Criterion::default().configure_from_args();
    let mut bench = Bench { criterion, tiny, stored, names: BTreeSet::new() };
    parts.iter().for_each(|part| part(&mut bench));
    if let Some(stored) = bench.stored {
        stored.check_names(&bench.names).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// Whether input is tiny, given the variable and whether it is `cargo bench` that runs this.
fn is_tiny(variable: Option<&str>, measured: bool) -> bool {
    match variable {
        None => !measured,
        Some("1") => true,
        Some("0") => false,
        Some(other) => panic!("{TINY} is 1 for tiny input or 0 for input of full size, not '{other}'"),
    }
}

/// Takes in the benches of one target.
pub struct Bench {
    criterion: Criterion,
    tiny: bool,
    stored: Option<Stored>,
    names: BTreeSet<String>,
}

impl Bench {
    /// A size of the input: `full` when it is measured, `tiny` when it only has to run.
    #[must_use]
    pub fn size<T>(&self, full: T, tiny: T) -> T {
        if self.tiny { tiny } else { full }
    }

    /// Benches that belong together. `once` is how much each works through in one go.
    pub fn group(&mut self, name: &str, once: Throughput) -> Group<'_> {
        let mut group = self.criterion.benchmark_group(name);
        group.throughput(once);
        Group { group, name: name.to_owned(), stored: self.stored.as_ref(), names: &mut self.names }
    }
}

/// Benches that belong together; a bench's full name is the group's name, `/` and its own.
pub struct Group<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    name: String,
    stored: Option<&'a Stored>,
    names: &'a mut BTreeSet<String>,
}

impl Group<'_> {
    /// Takes that many samples, at least 10, instead of 100: for work that takes long.
    pub fn samples(&mut self, count: usize) {
        self.group.sample_size(count);
    }

    /// Measures `work`. `hash` adds to the digest what the result consists of.
    ///
    /// # Panics
    /// When input is tiny and the result's hash is not the stored one.
    pub fn bench<T>(
        &mut self,
        name: impl Display,
        mut work: impl FnMut() -> T,
        hash: impl Fn(&T, &mut Digest),
    ) {
        let mut found = None;
        self.group.bench_function(name.to_string(), |bencher| {
            found.get_or_insert_with(|| Digest::of(&work(), &hash));
            bencher.iter(&mut work);
        });
        self.tell(&name, found);
    }

    /// Measures work that takes its own time, because some of what it does is not to be measured. `work` is told how often
    /// to do it, and gives the time of all of that and the last result.
    ///
    /// # Panics
    /// When input is tiny and the result's hash is not the stored one.
    pub fn bench_timed<T>(
        &mut self,
        name: impl Display,
        mut work: impl FnMut(u64) -> (Duration, T),
        hash: impl Fn(&T, &mut Digest),
    ) {
        let mut found = None;
        self.group.bench_function(name.to_string(), |bencher| {
            bencher.iter_custom(|times| {
                let (took, result) = work(times);
                found.get_or_insert_with(|| Digest::of(&result, &hash));
                took
            });
        });
        self.tell(&name, found);
    }

    /// Prints the hash of a bench that ran. It is held against the stored one when input is tiny.
    fn tell(&mut self, name: &impl Display, found: Option<String>) {
        let name = format!("{}/{name}", self.name);
        if let Some(hash) = found {
            println!("{name}: {hash}");
            if let Some(wrong) = self.stored.and_then(|stored| stored.check(&name, &hash).err()) {
                panic!("{wrong}");
            }
        }
        self.names.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_of_full_size_only_where_it_is_measured_or_asked_for() {
        assert!(is_tiny(None, false));
        assert!(!is_tiny(None, true));
        assert!(is_tiny(Some("1"), true));
        assert!(!is_tiny(Some("0"), false));
    }

    #[test]
    #[should_panic(expected = "not 'yes'")]
    fn other_values_are_refused() {
        is_tiny(Some("yes"), true);
    }
}
