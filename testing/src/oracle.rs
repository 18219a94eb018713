//! The right answers that tests hold answers against.

pub use firesteel_bench::verify::Answer;

/// The right answers of TPC-H.
pub mod tpch {
    use std::fmt;

    use anyhow::Context as _;
    use firesteel_bench::verify::{Answer, Expected, Rules, compare};
    use firesteel_bench::{Benchmark, queries};

    /// The scales of which there are right answers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Scale {
        /// 0.1
        Tenth,
        /// 1
        One,
    }

    impl Scale {
        /// As a number.
        #[must_use]
        pub fn factor(self) -> f64 {
            match self {
                Self::Tenth => 0.1,
                Self::One => 1.0,
            }
        }
    }

    impl fmt::Display for Scale {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "scale {}", self.factor())
        }
    }

    /// Holds the answer of a query, such as `q01`, against the right one.
    ///
    /// # Errors
    /// The first difference, with the query's name.
    pub fn check(scale: Scale, query: &str, answer: &Answer) -> anyhow::Result<()> {
        let sql = queries::tpch(query).context("there is no such query")?.sql;
        let expected = Expected::stored(Benchmark::Tpch, scale.factor(), query)?;
        compare(&expected, answer, &Rules::of(sql)).with_context(|| format!("{query} at {scale}"))
    }
}
