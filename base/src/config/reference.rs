//! The reference page, made from the table.

use std::fmt::Write;

use super::key::Section;
use super::resolve::SYSTEM_FILE;
use super::table::{KEYS, SECTIONS};

/// `docs/configuration.md`: every key with its default, its range and what it does.
#[must_use]
pub fn reference_page() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         <!-- Made from the table in base/src/config/table.rs; `firesteel config --reference` prints it. -->\n\n\
         A setting is taken from, in this order, the later winning: its default; the configuration file; an \
         environment variable;\na flag of the command. The file is the one named by `--config`, else the one named by \
         `FIRESTEEL_CONFIG`, else\n`{SYSTEM_FILE}` if it is there. It is TOML:\n\n\
         ```toml\n[worker]\nmanager = \"head.example.org:7400\"\nmemory = \"192GiB\"\n\
         scratch = [\"/nvme0/firesteel\", \"/nvme1/firesteel\"]\n```\n\n\
         `firesteel config` shows every key with its value and where that was set. All faults of a configuration are \
         reported\ntogether, and unknown keys are refused. Sizes are written as `512MiB` or `4GiB`, durations as `250ms`, \
         `30s` or `5m`.\n"
    );
    for section in &SECTIONS {
        write_section(&mut page, section);
    }
    page
}

fn write_section(page: &mut String, section: &Section) {
    let rows = KEYS.iter().filter(|key| key.section() == section.name);
    let _ = writeln!(page, "\n## [{}]\n\n{}\n", section.name, section.help);
    page.push_str("| key | default | may be | what it does |\n| --- | --- | --- | --- |\n");
    for key in rows {
        let default =
            if key.default.is_empty() { "(empty)".to_owned() } else { format!("`{}`", key.default) };
        let _ = writeln!(
            page,
            "| `{}`<br>`{}` | {default} | {} | {} |",
            key.name,
            key.variable(),
            key.kind,
            key.help
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(written, reference_page(), "run: firesteel config --reference > docs/configuration.md");
    }

    #[test]
    fn every_key_is_in_a_section_and_is_named_once() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(SECTIONS.iter().any(|section| section.name == key.section()), "{}", key.name);
            assert!(!KEYS[..i].iter().any(|other| other.name == key.name), "{}", key.name);
            assert!(key.kind.parse(key.default).is_ok(), "{}", key.name);
        }
    }
}
