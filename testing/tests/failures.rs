//! Every test that `docs/failures.md` names exists.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// The `path.rs::test` in backticks.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`')
        .filter_map(|quoted| quoted.split_once("::"))
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect()
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/failures.md")).unwrap();
    let all = named(&page);
    assert!(all.len() > 25, "the page names {} tests", all.len());
    for (path, test) in all {
        let source = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let before =
            source.split(&format!("fn {test}()")).next().filter(|before| before.len() < source.len());
        let before = before.unwrap_or_else(|| panic!("there is no test {test} in {path}"));
        let attribute = before.trim_end().trim_end_matches("async").trim_end();
        assert!(
            attribute.ends_with(']') && attribute.rsplit("#[").next().unwrap().contains("test"),
            "{test} is no test"
        );
    }
}

/// Every paragraph of tests names one of the simulator and one of something real.
#[test]
fn every_failure_has_a_real_test_and_a_simulated_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/failures.md")).unwrap();
    let tests = page.split("## Tests").nth(1).unwrap().split("## ").next().unwrap();
    let paragraphs: Vec<&str> = tests.split("\n\n").filter(|paragraph| paragraph.starts_with("**")).collect();
    let rows =
        page.split("## Tests").next().unwrap().lines().filter(|line| line.starts_with("| ")).count() - 2;
    assert_eq!(paragraphs.len(), rows, "each row of the table has its tests");
    for paragraph in paragraphs {
        let (real, simulated) = paragraph.split_once("Simulator:").unwrap();
        assert!(!named(real).is_empty() && !named(simulated).is_empty(), "{paragraph}");
    }
}
