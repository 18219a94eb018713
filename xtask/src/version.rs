//! Which version a package is of, and of which time.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{firesteel, git, told};

/// The version that a build of this checkout gets: the workspace's, the commit, and whether there are changes beside it.
/// `FIRESTEEL_BUILD` sets it; where there is no git, `FIRESTEEL_COMMIT` names the commit.
pub fn of_checkout(root: &Path) -> Result<String> {
    if let Some(build) = set("FIRESTEEL_BUILD") {
        return checked(build);
    }
    let commit = set("FIRESTEEL_COMMIT").or_else(|| git(root, &["rev-parse", "--short=12", "HEAD"]));
    let commit = commit.context(
        "the commit is not known: this is no git checkout; name it in the environment variable FIRESTEEL_COMMIT",
    )?;
    let changes = git(root, &["status", "--porcelain"]).unwrap_or_default();
    let dirty = if changes.is_empty() { "" } else { ".dirty" };
    checked(format!("{}+g{commit}{dirty}", env!("CARGO_PKG_VERSION")))
}

/// The version that a binary says it is of.
pub fn of_binary(binary: &Path) -> Result<String> {
    let said = told(firesteel(binary).arg("--version"))?;
    let version = said.strip_prefix("firesteel ").and_then(|rest| rest.split_whitespace().next());
    let version = version.with_context(|| {
        format!(
            "{} does not say which version it is: `--version` printed '{}'",
            binary.display(),
            said.trim()
        )
    })?;
    checked(version.to_owned())
}

/// It becomes part of file names, and is a version to dpkg and to Ansible alike.
fn checked(version: String) -> Result<String> {
    let is_right = |c: char| c.is_ascii_alphanumeric() || ".+~".contains(c);
    let starts = version.starts_with(|c: char| c.is_ascii_digit());
    ensure!(
        starts && version.chars().all(is_right),
        "'{version}' is no version of a package: it must begin with a digit, and hold letters, digits, '.', '+' and '~' \
         (FIRESTEEL_BUILD, FIRESTEEL_COMMIT)"
    );
    Ok(version)
}

/// The time that all contents get, in seconds since 1970: `SOURCE_DATE_EPOCH`, or the commit's.
pub fn time(root: &Path) -> Result<u64> {
    if let Some(text) = set("SOURCE_DATE_EPOCH") {
        return text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH = '{text}' is not a number of seconds since 1970"));
    }
    match git(root, &["log", "-1", "--format=%ct"]).and_then(|text| text.parse().ok()) {
        Some(time) => Ok(time),
        None => bail!(
            "the commit's time is not known: this is no git checkout; set SOURCE_DATE_EPOCH to a number of seconds since 1970"
        ),
    }
}

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_for_file_names_and_package_tools() {
        for version in ["0.1.0+gabcdef123456", "0.1.0+gabcdef123456.dirty", "2~rc1"] {
            assert_eq!(checked(version.to_owned()).unwrap(), version);
        }
        for version in ["", "v1", "1/2", "1 2", "1_2", "1-2", "../1"] {
            assert!(checked(version.to_owned()).unwrap_err().to_string().contains(version));
        }
    }
}
