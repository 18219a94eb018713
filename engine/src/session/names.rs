//! The nearest of the known names to one that is not known.

use datafusion::common::utils::datafusion_strsim::levenshtein;

/// The name that `wanted` is most likely a slip of, when one is near enough.
pub(crate) fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = wanted.to_lowercase();
    let far = (wanted.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|name| (levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= far && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// The hint that offers `name`.
pub(crate) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name}?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["orders", "lineitem", "part"];
        assert_eq!(nearest("ordrs", known), Some("orders"));
        assert_eq!(nearest("LINEITEM", known), Some("lineitem"));
        assert_eq!(nearest("customers", known), None);
    }
}
