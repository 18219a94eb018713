//! Reading the sources of the product, without its tests.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Attribute, Item};

use crate::CRATES;

/// One file of the product.
pub struct Source {
    /// Its path below the project's root.
    pub path: String,
    /// What is written in it.
    pub tree: syn::File,
}

impl Source {
    /// Reads `text` as what is at `path`.
    ///
    /// # Errors
    /// When it is not Rust, with the place.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let tree = syn::parse_file(text).map_err(|fault| {
            let at = fault.span().start();
            format!("{path}:{}:{}: {fault}", at.line, at.column + 1)
        })?;
        Ok(Self { path: path.to_owned(), tree })
    }

    /// The folder of the crate that it is of.
    pub(crate) fn package(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The module that it is: its own name, or its folder's.
    pub(crate) fn module(&self) -> &str {
        let mut parts = self.path.trim_end_matches(".rs").rsplit('/');
        let name = match parts.next() {
            Some("mod" | "lib" | "main") => parts.next(),
            name => name,
        };
        name.unwrap_or_default()
    }

    /// The folder in which the files of its child modules lie.
    fn folder(&self) -> String {
        let without = self.path.trim_end_matches(".rs");
        match without.rsplit_once('/') {
            Some((folder, "mod" | "lib" | "main")) => folder.to_owned(),
            _ => without.to_owned(),
        }
    }

    /// The paths below which only tests are: of modules with `#[cfg(test)]`.
    fn test_modules(&self) -> impl Iterator<Item = String> {
        let modules = self.tree.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && is_test(&module.attrs) => Some(module),
            _ => None,
        });
        modules.map(|module| format!("{}/{}", self.folder(), module.ident))
    }
}

/// Whether an item or statement with `attributes` is of tests alone.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.meta.to_token_stream().to_string().replace(' ', "");
        let is_condition = condition.starts_with("cfg(") && condition.contains("test");
        condition == "test" || condition == "tokio::test" || is_condition && !condition.contains("not(test)")
    })
}

/// Reads what is below the `src` folders of [`CRATES`], tests left out.
///
/// # Errors
/// When a file cannot be read, or is not Rust.
pub fn read_sources(root: &Path) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for name in CRATES {
        let folder = root.join(name).join("src");
        let files = files(&folder).map_err(|fault| format!("{}: {fault}", folder.display()))?;
        for file in files {
            let text = fs::read_to_string(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
            let path = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            sources.push(Source::parse(&path, &text)?);
        }
    }
    Ok(without_tests(sources))
}

fn without_tests(sources: Vec<Source>) -> Vec<Source> {
    let tests: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    let is_below = |path: &str| {
        tests
            .iter()
            .any(|test| path.strip_prefix(test.as_str()).is_some_and(|rest| rest.starts_with(['.', '/'])))
    };
    sources.into_iter().filter(|source| !is_below(&source.path)).collect()
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}
