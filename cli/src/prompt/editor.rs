//! The line editor: prompt, keys, history, and when a statement is whole.

use std::borrow::Cow;
use std::path::PathBuf;

use firesteel_engine::datafusion::sql::sqlparser::dialect::GenericDialect;
use firesteel_engine::datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use reedline::{
    ColumnarMenu, EditCommand, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, ValidationResult, Validator,
    default_emacs_keybindings,
};

use super::complete::{Names, SqlCompleter};

const HISTORY_LINES: usize = 10_000;
const MENU: &str = "completion";

/// An editor that completes from `names`.
pub fn make(names: Names) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete =
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let newline = ReedlineEvent::Edit(vec![EditCommand::InsertNewline]);
    keys.add_binding(KeyModifiers::ALT, KeyCode::Enter, newline);
    let editor = Reedline::create()
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(UntilSemicolon))
        .with_completer(Box::new(SqlCompleter::new(names)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name(MENU))));
    match history() {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(reason) => {
            tracing::warn!(reason, "what is typed is not remembered");
            editor
        }
    }
}

fn history() -> Result<FileBackedHistory, String> {
    let file = history_file().ok_or("there is no home folder")?;
    FileBackedHistory::with_file(HISTORY_LINES, file).map_err(|fault| fault.to_string())
}

/// `$XDG_STATE_HOME/firesteel/history`, else below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("firesteel").join("history"))
}

/// Enter ends the input when the last statement has its semicolon; a line that starts with a backslash is whole.
struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, text: &str) -> ValidationResult {
        if is_whole(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

fn is_whole(text: &str) -> bool {
    if text.trim().is_empty() || text.starts_with('\\') {
        return true;
    }
    // A literal or comment that is still open has no tokens.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else { return false };
    tokens.iter().rfind(|token| !matches!(token, Token::Whitespace(_))) == Some(&Token::SemiColon)
}

/// What stands before the input.
pub struct Ps;

impl Prompt for Ps {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("firesteel")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("        -> ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!(" (history: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn enter_runs_only_what_is_whole() {
        for text in ["", "  ", "\\dt", "select 1;", "select 1; -- done", "select ';' ;\n"] {
            assert!(is_whole(text), "{text}");
        }
        for text in ["select 1", "select 1; select", "select 'a;", "select /* ; ", "select \"a;"] {
            assert!(!is_whole(text), "{text}");
        }
    }
}
