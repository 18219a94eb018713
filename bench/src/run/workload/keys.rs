//! Keys that rows are shuffled by: as SQL, and as the numbers that the SQL gives.

use std::fmt;
use std::str::FromStr;

use firesteel_base::UserError;

/// 2^64 divided by the golden ratio: its multiples fall evenly between 0 and 2^64.
const MULTIPLIER: i64 = 0x9e37_79b9_7f4a_7c15_u64.cast_signed();
/// Bits of a fraction, as many as a double has.
const FRACTION_BITS: u32 = 53;
const FRACTION_MASK: i64 = (1 << FRACTION_BITS) - 1;
/// 2 to the [`FRACTION_BITS`].
const FRACTION_END: f64 = 9_007_199_254_740_992.0;
/// A bounded Zipf distribution draws from 1 to this.
pub(super) const ZIPF_KEYS: f64 = 1_048_576.0;
const EXPONENT_MAX: f64 = 10.0;

/// How the keys of rows are distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keys {
    /// Every row has a key of its own: its number by a multiplicative hash.
    Uniform,
    /// Key `x` of 1 to 1 048 576 is as frequent as `x` to the power of minus this, drawn by inverting the distribution.
    Zipf(f64),
}

impl Keys {
    /// SQL that gives the key of the row with the number `value`, from 1.
    pub(super) fn sql(self) -> String {
        let hash = format!("value * {MULTIPLIER}");
        let shift = 64 - FRACTION_BITS;
        let fraction = format!("CAST((({hash}) >> {shift}) & {FRACTION_MASK} AS DOUBLE) / {FRACTION_END:?}");
        match self {
            Self::Uniform => hash,
            Self::Zipf(1.0) => format!("CAST(power({ZIPF_KEYS:?}, {fraction}) AS BIGINT)"),
            Self::Zipf(exponent) => {
                let Inverse { span, power } = Inverse::of(exponent);
                format!("CAST(power(1.0 + {fraction} * ({span:?}), {power:?}) AS BIGINT)")
            }
        }
    }

    /// The key of the row with that number, step by step as the SQL computes it.
    pub(super) fn of(self, row: i64) -> i64 {
        let hash = row.wrapping_mul(MULTIPLIER);
        let fraction = || ((hash >> (64 - FRACTION_BITS)) & FRACTION_MASK) as f64 / FRACTION_END;
        match self {
            Self::Uniform => hash,
            Self::Zipf(1.0) => ZIPF_KEYS.powf(fraction()) as i64,
            Self::Zipf(exponent) => {
                let Inverse { span, power } = Inverse::of(exponent);
                (1.0 + fraction() * span).powf(power) as i64
            }
        }
    }
}

/// The inverse of the distribution whose density falls with a power of `x`, between 1 and [`ZIPF_KEYS`]: of a fraction `u`
/// it is `(1 + u * span)` to the `power`.
struct Inverse {
    span: f64,
    power: f64,
}

impl Inverse {
    fn of(exponent: f64) -> Self {
        let rest = 1.0 - exponent;
        Self { span: ZIPF_KEYS.powf(rest) - 1.0, power: rest.recip() }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf-{exponent}"),
        }
    }
}

impl FromStr for Keys {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let (name, exponent) = match text.trim().split_once(':') {
            Some((name, exponent)) => (name, Some(exponent)),
            None => (text.trim(), None),
        };
        match (name.to_ascii_lowercase().as_str(), exponent) {
            ("uniform", None) => Ok(Self::Uniform),
            ("zipf", Some(exponent)) => {
                let number = exponent.parse().ok().filter(|number| *number > 0.0 && *number <= EXPONENT_MAX);
                number.map(Self::Zipf).ok_or_else(|| {
                    UserError::new(format!("'{exponent}' is no exponent of a Zipf distribution"))
                        .hint(format!("give a number above 0 and up to {EXPONENT_MAX}, such as zipf:1.1"))
                })
            }
            _ => Err(UserError::new(format!("there are no keys '{}'", text.trim()))
                .hint("give uniform or zipf:EXPONENT, such as zipf:1.1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_named() {
        for (text, keys, name) in [
            ("uniform", Keys::Uniform, "uniform"),
            ("zipf:1.1", Keys::Zipf(1.1), "zipf-1.1"),
            (" ZIPF:2 ", Keys::Zipf(2.0), "zipf-2"),
        ] {
            assert_eq!(text.parse::<Keys>().unwrap(), keys);
            assert_eq!(keys.to_string(), name);
        }
        for bad in [
            "",
            "zipf",
            "zipf:",
            "zipf:0",
            "zipf:-1",
            "zipf:NaN",
            "zipf:inf",
            "zipf:11",
            "uniform:1",
            "gauss",
        ] {
            assert!(bad.parse::<Keys>().unwrap_err().hint.is_some(), "{bad}");
        }
    }

    /// The share of rows that have key 1: the density's integral from 1 to 2 over that from 1 to the end.
    fn share_of_first(exponent: f64) -> f64 {
        let integral = |end: f64| {
            if exponent == 1.0 { end.ln() } else { (end.powf(1.0 - exponent) - 1.0) / (1.0 - exponent) }
        };
        integral(2.0) / integral(ZIPF_KEYS)
    }

    #[test]
    fn zipf_keys_are_as_frequent_as_they_should_be() {
        const ROWS: i64 = 200_000;
        for exponent in [0.5, 1.0, 1.1, 2.0] {
            let keys: Vec<i64> = (1..=ROWS).map(|row| Keys::Zipf(exponent).of(row)).collect();
            assert!(keys.iter().all(|key| (1..=ZIPF_KEYS as i64).contains(key)), "{exponent}");
            let first = keys.iter().filter(|key| **key == 1).count() as f64 / ROWS as f64;
            assert!((first - share_of_first(exponent)).abs() < 0.001, "{exponent}: {first}");
        }
    }

    #[test]
    fn uniform_keys_are_all_different_and_spread_out() {
        let mut keys: Vec<i64> = (1..=10_000).map(|row| Keys::Uniform.of(row)).collect();
        keys.sort_unstable();
        let widest = keys.windows(2).map(|pair| i128::from(pair[1]) - i128::from(pair[0])).max().unwrap();
        let even = (1_i128 << 64) / 10_000;
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]) && widest < 3 * even, "{widest}");
    }
}
