//! Text with several statements, and the parsing of one.

use datafusion::common::plan_datafusion_err;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{GenericDialect, dialect_from_str};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use firesteel_base::UserError;

use super::classify;

/// The statements of a text, each checked to parse. Each begins with as many line breaks and spaces as put it at its place
/// in the whole text, so that errors about it tell the right line and column; trim it to print it.
///
/// # Errors
/// When a statement does not parse; names the line and column.
pub fn split_statements(text: &str) -> Result<Vec<String>, UserError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().map_err(|fault| {
        let fault = DataFusionError::SQL(Box::new(ParserError::TokenizerError(fault.to_string())), None);
        classify(&fault).1
    })?;
    let mut statements = Vec::new();
    let mut start: Option<Location> = None;
    let lines = LineStarts::new(text);
    for token in tokens {
        match (&token.token, start) {
            (Token::SemiColon, Some(from)) => {
                statements.push(lines.cut(text, from, Some(token.span.start)));
                start = None;
            }
            (Token::SemiColon | Token::Whitespace(_), _) | (_, Some(_)) => {}
            (_, None) => start = Some(token.span.start),
        }
    }
    if let Some(from) = start {
        statements.push(lines.cut(text, from, None));
    }
    for statement in &statements {
        parse_one(statement, &ConfigOptions::new()).map_err(|fault| classify(&fault).1)?;
    }
    Ok(statements)
}

/// Parses a text that must be one statement.
pub(super) fn parse_one(text: &str, options: &ConfigOptions) -> Result<Statement> {
    let dialect = options.sql_parser.dialect;
    let dialect = dialect_from_str(dialect)
        .ok_or_else(|| plan_datafusion_err!("there is no SQL dialect '{dialect}'"))?;
    let mut statements = DFParserBuilder::new(text)
        .with_dialect(dialect.as_ref())
        .with_recursion_limit(options.sql_parser.recursion_limit.get())
        .build()?
        .parse_statements()?;
    match statements.len() {
        1 => Ok(statements.pop_front().expect("there is one statement")),
        0 => Err(external(UserError::new("there is no statement in the text"))),
        several => Err(external(
            UserError::new(format!("one statement was expected, and there are {several}"))
                .hint("send them one after the other"),
        )),
    }
}

/// A message for people, on its way through DataFusion's errors.
pub(super) fn external(error: UserError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Byte offsets of a text's lines.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn new(text: &str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after_breaks).collect())
    }

    fn offset(&self, text: &str, at: Location) -> usize {
        let line = self.0[usize::try_from(at.line).unwrap_or(1).saturating_sub(1).min(self.0.len() - 1)];
        let column = usize::try_from(at.column).unwrap_or(1).saturating_sub(1);
        text[line..].char_indices().nth(column).map_or(text.len(), |(offset, _)| line + offset)
    }

    /// The text between two places, put at its place in the whole.
    fn cut(&self, text: &str, from: Location, to: Option<Location>) -> String {
        let end = to.map_or(text.len(), |to| self.offset(text, to));
        let lines = usize::try_from(from.line).unwrap_or(1).saturating_sub(1);
        let columns = usize::try_from(from.column).unwrap_or(1).saturating_sub(1);
        let body = text[self.offset(text, from)..end].trim_end();
        format!("{}{}{body}", "\n".repeat(lines), " ".repeat(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_not_in_texts_or_comments() {
        let text = "select ';' as a; -- not; here\nselect /* nor; here */ 2;;\n\n  select 3 -- end;";
        let statements = split_statements(text).unwrap();
        assert_eq!(statements, ["select ';' as a", "\nselect /* nor; here */ 2", "\n\n\n  select 3 -- end;"]);
        assert!(split_statements(" -- nothing\n;").unwrap().is_empty());
    }

    #[test]
    fn faults_tell_the_place_in_the_whole_text() {
        let fault = split_statements("select 1;\nselect 'ü';\n select\n  frm x y z;").unwrap_err();
        assert_eq!(fault.detail.as_deref(), Some("line 4, column 9"), "{fault}");
        let fault = split_statements("select 1;\nselect 'open").unwrap_err();
        assert_eq!(fault.detail.as_deref(), Some("line 2, column 8"), "{fault}");
    }
}
