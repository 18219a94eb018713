//! One value against another.

use arrow::datatypes::DataType;

/// How far a floating-point value may be from the right one, relative to it.
const FLOAT_ERROR_MAX: f64 = 1e-9;

/// A number in CSV with so many digits, and so many of them after the point, is a double: decimals of the benchmarks have
/// six after the point at most, and doubles that no other tells apart have fifteen or more in all.
const DOUBLE_DIGITS: usize = 15;
const DOUBLE_DIGITS_AFTER_POINT: i32 = 7;

/// The same for a quotient of decimals that was computed further with: its last digit was rounded before.
const QUOTIENT_ERROR_MAX: f64 = 1e-6;

/// What the type of a column says about comparing its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Integers and decimals with this many digits after the point.
    Exact {
        scale: i32,
    },
    Float,
    Text,
    /// Read from CSV.
    Untyped,
}

impl Kind {
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale) => Self::Exact { scale: i32::from(*scale) },
            DataType::Dictionary(_, values) => Self::of(values),
            other if other.is_integer() => Self::Exact { scale: 0 },
            other if other.is_floating() => Self::Float,
            _ => Self::Text,
        }
    }
}

/// Whether `found`, of a column of that kind, is as good as `right`.
///
/// An average or a quotient of decimals is a double in the engine that made the right answers, with more digits than the
/// decimal has that it is here: those agree to the coarser of the two precisions.
pub(super) fn cells_agree(right: &str, found: Option<&str>, kind: Kind) -> bool {
    let Some(found) = found else { return right.is_empty() };
    let has_more_digits_than = |digits: i32| digits_after_point(right) > digits;
    match kind {
        Kind::Exact { scale } => {
            same_number(right, found)
                || (has_more_digits_than(scale) && near(right, found, 10f64.powi(-scale), QUOTIENT_ERROR_MAX))
        }
        Kind::Float => near(right, found, 0.0, FLOAT_ERROR_MAX),
        Kind::Text => right.trim_end() == found.trim_end(),
        Kind::Untyped => {
            let digits = digits_after_point(found);
            // A decimal beside a double is a quotient, which may have been computed further with.
            let relative = if is_double(right) && !is_double(found) { QUOTIENT_ERROR_MAX } else { 0.0 };
            right.trim_end() == found.trim_end()
                || same_number(right, found)
                || (digits > 0
                    && has_more_digits_than(digits)
                    && near(right, found, 10f64.powi(-digits), relative))
                || ((is_double(right) || is_double(found)) && near(right, found, 0.0, FLOAT_ERROR_MAX))
        }
    }
}

/// Whether two texts are the same decimal number, however many zeros follow it.
fn same_number(a: &str, b: &str) -> bool {
    matches!((Decimal::parse(a), Decimal::parse(b)), (Some(a), Some(b)) if a == b)
}

/// Whether two numbers are within `absolute`, or within `relative` of the first, of each other.
fn near(right: &str, found: &str, absolute: f64, relative: f64) -> bool {
    let (Ok(right), Ok(found)) = (right.parse::<f64>(), found.parse::<f64>()) else { return false };
    if right.is_finite() {
        (right - found).abs() <= absolute.max(relative * right.abs())
    } else {
        right == found || (right.is_nan() && found.is_nan())
    }
}

fn is_double(number: &str) -> bool {
    let digits = number.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    digits >= DOUBLE_DIGITS && digits_after_point(number) >= DOUBLE_DIGITS_AFTER_POINT
}

fn digits_after_point(number: &str) -> i32 {
    number.split_once('.').map_or(0, |(_, fraction)| i32::try_from(fraction.len()).unwrap_or(i32::MAX))
}

/// A decimal number in its one canonical form.
#[derive(PartialEq, Eq)]
struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits == "." || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        Some(Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONEY: Kind = Kind::Exact { scale: 2 };

    #[test]
    fn decimals_agree_as_numbers_and_no_otherwise() {
        for (right, found) in [("7.50", "7.5"), ("-0.00", "0"), ("0.10", ".1"), ("007", "7.000")] {
            assert!(cells_agree(right, Some(found), MONEY), "{right} {found}");
        }
        for (right, found) in
            [("7.50", "7.51"), ("7.5", "-7.5"), ("12345678901234567.89", "12345678901234567.88")]
        {
            assert!(!cells_agree(right, Some(found), MONEY), "{right} {found}");
        }
        assert!(!cells_agree("", Some("0"), MONEY));
        assert!(!cells_agree("0", None, MONEY));
        assert!(cells_agree("", None, MONEY));
    }

    #[test]
    fn averages_agree_to_the_coarser_precision() {
        let average = Kind::Exact { scale: 6 };
        assert!(cells_agree("25.537587116854997", Some("25.537587"), average));
        assert!(!cells_agree("25.537587116854997", Some("25.537551"), average));
        assert!(
            cells_agree("100.34961157203742", Some("100.349600"), average),
            "100 times a rounded quotient"
        );
        assert!(cells_agree("25.537587116854997", Some("25.53758711685"), Kind::Untyped));
        assert!(cells_agree("52.68389862695996", Some("52.68389800"), Kind::Untyped), "a quotient times 100");
        assert!(!cells_agree("52.68389862695996", Some("52.68380000"), Kind::Untyped));
        assert!(!cells_agree("25.537587116854997", Some("25.53755"), average));
        assert!(cells_agree("0.05014459706340077", Some("0.05014459706340078"), Kind::Untyped));
        assert!(!cells_agree("0.05014459706340077", Some("0.05014459806340077"), Kind::Untyped));
        assert!(cells_agree("35588.50968390804", Some("35588.50968390805"), Kind::Untyped));
        assert!(cells_agree("0.25", Some("0.24999999999999997"), Kind::Untyped), "one has no more digits");
        assert!(!cells_agree("55909065222.827692", Some("55909065222.827691"), Kind::Untyped), "a decimal");
        assert!(cells_agree("25.537587116854997", Some("25.5375871168549"), Kind::Float));
        assert!(!cells_agree("25.537587116854997", Some("25.5375873"), Kind::Float));
    }

    #[test]
    fn what_is_no_number_or_too_large_agrees_with_itself_alone() {
        for (right, found) in [("-nan", "NaN"), ("nan", "nan"), ("inf", "inf"), ("-inf", "-Infinity")] {
            assert!(cells_agree(right, Some(found), Kind::Float), "{right} {found}");
        }
        for (right, found) in [("nan", "0"), ("0", "NaN"), ("inf", "-inf"), ("1e300", "inf"), ("inf", "nan")]
        {
            assert!(!cells_agree(right, Some(found), Kind::Float), "{right} {found}");
        }
    }

    #[test]
    fn text_agrees_but_for_blanks_at_its_end() {
        assert!(cells_agree("AIR  ", Some("AIR"), Kind::Text));
        for found in ["air", " AIR", "AIR."] {
            assert!(!cells_agree("AIR", Some(found), Kind::Text), "{found}");
        }
        assert!(!cells_agree("1.50", Some("1.5"), Kind::Text));
    }
}
