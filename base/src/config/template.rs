//! A configuration file to begin with, made from the table.

use std::fmt::Write;

use super::key::Key;
use super::resolve::SYSTEM_FILE;
use super::table::{KEYS, SECTIONS};

/// The longest line of the explanations.
const COLUMNS: usize = 100;

/// A configuration file in which every key is explained and commented out, with its default: as it stands it sets nothing. What
/// begins with `#` and no blank is a setting, what begins with `# ` is prose.
#[must_use]
pub fn template() -> String {
    let mut file = String::new();
    comment(
        &mut file,
        &format!(
            "The configuration of Firesteel on this host, for all of its roles. Every key is here with its default: copy this to \
             {SYSTEM_FILE} and take the # away before those that you set. An environment variable or a flag comes before this \
             file. `firesteel config` shows what is in effect and where each value was set, and tells all faults together."
        ),
    );
    for section in &SECTIONS {
        file.push('\n');
        comment(&mut file, section.help);
        let _ = writeln!(file, "[{}]", section.name);
        KEYS.iter().filter(|key| key.section() == section.name).for_each(|key| explain(&mut file, key));
    }
    file
}

fn explain(file: &mut String, key: &Key) {
    file.push('\n');
    comment(file, key.help);
    comment(file, &format!("May be: {}. Environment: {}.", key.kind, key.variable()));
    let name = key.name.rsplit('.').next().expect("a key has a name");
    let _ = writeln!(file, "#{name} = {}", as_toml(key.default));
}

/// Numbers and switches stand bare, everything else is text. No default needs more than quotes.
fn as_toml(value: &str) -> String {
    let is_bare = value.parse::<f64>().is_ok() || value.parse::<bool>().is_ok();
    if is_bare { value.to_owned() } else { format!("\"{value}\"") }
}

fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS && line.len() > 1 {
            let _ = writeln!(file, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(file, "{line}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Inputs, Layer, Source, load};
    use super::*;

    fn read(text: &str) -> Layer {
        Layer::from_toml(Path::new("template"), text)
    }

    fn uncommented() -> String {
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let lines = template();
        let lines = lines.lines().map(|line| if is_setting(&line) { &line[1..] } else { line });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn as_it_stands_it_sets_nothing() {
        assert_eq!(read(&template()), Layer::default());
    }

    #[test]
    fn without_the_comment_signs_it_sets_every_key_to_its_default() {
        let layer = read(&uncommented());
        assert!(layer.faults.is_empty(), "{:?}", layer.faults);
        for key in KEYS {
            let (value, source) = layer.values.get(key.name).unwrap_or_else(|| panic!("{}", key.name));
            assert_eq!(value, key.default, "{}", key.name);
            assert!(matches!(source, Source::File(..)), "{}", key.name);
        }
        assert_eq!(layer.values.len(), KEYS.len());
    }

    #[test]
    fn all_of_it_together_is_a_right_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("firesteel.toml");
        std::fs::write(&file, uncommented()).unwrap();
        load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
    }

    #[test]
    fn lines_are_short_and_every_section_is_explained() {
        let file = template();
        assert!(file.lines().all(|line| line.len() <= COLUMNS), "{file}");
        for section in &SECTIONS {
            assert!(file.contains(&format!("\n[{}]\n", section.name)), "{}", section.name);
        }
    }
}
