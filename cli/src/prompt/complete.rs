//! Completion of keywords, commands, and the names of tables, columns and functions.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use firesteel_engine::datafusion::prelude::SessionContext;
use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::meta::META_COMMANDS;

const KEYWORDS: &str = "all analyze and as asc avg between by case cast copy count create cross cube date delete desc \
    describe distinct else end except exists explain external extract false filter first from full group grouping having \
    in inner insert intersect interval into is join last lateral left like limit location max min not null nulls \
    offset on options or order outer over partition partitioned right rollup select semi sets show stored sum table then \
    timestamp to true union unnest using values verbose view when where with within";

/// Names of this session that can be completed. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<RwLock<BTreeSet<String>>>);

impl Names {
    /// Takes in the tables, columns and functions that the session has now.
    pub async fn refresh(&self, context: &SessionContext) {
        let mut names: BTreeSet<String> = context.state().scalar_functions().keys().cloned().collect();
        names.extend(context.state().aggregate_functions().keys().cloned());
        names.extend(context.state().window_functions().keys().cloned());
        for table in super::meta::table_names(context) {
            if let Ok(provider) = context.table_provider(table.clone()).await {
                names.extend(provider.schema().fields().iter().map(|field| field.name().clone()));
            }
            names.insert(table.table().to_owned());
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn starting_with(&self, start: &str) -> Vec<String> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter(|name| continues(name, start)).cloned().collect()
    }
}

fn continues(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Completes the word before the cursor.
pub struct SqlCompleter {
    names: Names,
}

impl SqlCompleter {
    /// A completer that knows `names` and the keywords.
    pub fn new(names: Names) -> Self {
        Self { names }
    }

    fn candidates(&self, word: &str) -> Vec<String> {
        if word.starts_with('\\') {
            let commands = META_COMMANDS.iter().map(|(command, ..)| *command);
            return commands.filter(|command| command.starts_with(word)).map(str::to_owned).collect();
        }
        let mut found = self.names.starting_with(word);
        let upper = word.chars().any(char::is_uppercase) && !word.chars().any(char::is_lowercase);
        let keywords = KEYWORDS.split_whitespace().filter(|keyword| continues(keyword, word));
        found.extend(keywords.map(|keyword| if upper { keyword.to_uppercase() } else { keyword.to_owned() }));
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let start = word_start(line, pos);
        let word = &line[start..pos];
        let suggestion = |value: String| Suggestion {
            value,
            span: Span::new(start, pos),
            append_whitespace: true,
            ..Suggestion::default()
        };
        let found = if word.is_empty() { Vec::new() } else { self.candidates(word) };
        CompletionResult::fresh(found.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

/// Where the word before `pos` starts.
fn word_start(line: &str, pos: usize) -> usize {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\\');
    line[..pos].char_indices().rev().take_while(|&(_, c)| in_word(c)).last().map_or(pos, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(names: &[&str], line: &str) -> Vec<String> {
        let known = Names::default();
        known.0.write().unwrap().extend(names.iter().map(|name| (*name).to_owned()));
        let result = SqlCompleter::new(known).complete(line, line.len());
        result.suggestions().iter().map(|suggestion| suggestion.value.clone()).collect()
    }

    #[test]
    fn words_are_completed_from_keywords_and_names() {
        assert_eq!(completed(&["orders", "o_orderkey"], "select * from ord"), ["order", "orders"]);
        assert_eq!(completed(&["o_orderkey"], "SELECT O_"), ["o_orderkey"]);
        assert_eq!(completed(&[], "SEL"), ["SELECT"]);
        assert_eq!(completed(&[], "\\t"), ["\\timing"]);
        assert!(completed(&["orders"], "select ").is_empty());
    }
}
