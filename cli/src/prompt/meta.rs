//! The shell's own commands, which start with a backslash.

use firesteel_base::UserError;
use firesteel_engine::EngineSession;
use firesteel_engine::datafusion::common::TableReference;
use firesteel_engine::datafusion::prelude::SessionContext;

use crate::exit::Failure;
use crate::output::results::print;
use crate::output::text::columns;
use crate::query::failure;

/// The commands, as `\?` lists them: name, argument, what it does.
pub const META_COMMANDS: [(&str, &str, &str); 5] = [
    ("\\?", "", "list these commands"),
    ("\\d", "TABLE", "show the columns of a table, or of a file named in quotes"),
    ("\\dt", "", "list tables and views"),
    ("\\timing", "", "switch the line with rows and time on or off"),
    ("\\q", "", "leave (also Ctrl-D)"),
];

/// One of the commands.
#[derive(Debug, PartialEq, Eq)]
pub enum Meta {
    /// `\q`
    Quit,
    /// `\?`
    Help,
    /// `\dt`, and `\d` without a name.
    Tables,
    /// `\d TABLE`
    Describe(String),
    /// `\timing`
    Timing,
}

impl Meta {
    /// Reads a line that starts with a backslash.
    pub fn parse(line: &str) -> Result<Self, Failure> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        Ok(match (command, argument) {
            ("\\q", "") => Self::Quit,
            ("\\?", "") => Self::Help,
            ("\\dt" | "\\d", "") => Self::Tables,
            ("\\d", table) => Self::Describe(table.to_owned()),
            ("\\timing", "") => Self::Timing,
            _ => {
                return Err(UserError::new(format!("there is no command '{line}'"))
                    .hint("\\? lists them")
                    .into());
            }
        })
    }
}

/// Prints the commands.
pub fn help() -> Result<(), Failure> {
    let rows = META_COMMANDS
        .iter()
        .map(|(command, argument, what)| vec![format!("{command} {argument}"), (*what).to_owned()]);
    let table = columns(&["COMMAND", "WHAT IT DOES"], rows);
    print(&format!(
        "{table}\nEverything else is SQL and runs when it ends with a semicolon. Ctrl-C cancels a running query, or drops \
         what is typed.\nTab completes, the arrow keys and Ctrl-R go through the history.\n"
    ))
}

/// The tables of all schemas but the built-in one.
pub fn table_names(context: &SessionContext) -> Vec<TableReference> {
    let mut tables = Vec::new();
    for catalog_name in context.catalog_names() {
        let Some(catalog) = context.catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names().into_iter().filter(|name| name != "information_schema") {
            let names = catalog.schema(&schema_name).map(|schema| schema.table_names()).unwrap_or_default();
            let full = |name: String| TableReference::full(catalog_name.as_str(), schema_name.as_str(), name);
            tables.extend(names.into_iter().map(full));
        }
    }
    tables.sort_unstable_by_key(ToString::to_string);
    tables
}

/// Lists the tables.
pub async fn tables(engine: &EngineSession) -> Result<(), Failure> {
    let context = engine.context();
    let mut rows = Vec::new();
    for table in table_names(context) {
        let provider = context.table_provider(table.clone()).await;
        let provider = provider.map_err(|fault| failure(engine, &fault))?;
        let kind = format!("{:?}", provider.table_type()).to_lowercase();
        let schema = table.schema().unwrap_or_default().to_owned();
        rows.push(vec![schema, table.table().to_owned(), kind, provider.schema().fields().len().to_string()]);
    }
    if rows.is_empty() {
        return print(
            "no tables: make one with CREATE EXTERNAL TABLE, or name a file in quotes in a query\n",
        );
    }
    print(&columns(&["SCHEMA", "TABLE", "KIND", ">COLUMNS"], rows))
}

/// Shows a table's columns.
pub async fn describe(engine: &EngineSession, table: &str) -> Result<(), Failure> {
    // A file is named in quotes, and its name is not taken apart at its dots.
    let quoted = table.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let name = quoted.map_or_else(|| TableReference::parse_str(table), TableReference::bare);
    let frame = engine.context().table(name).await.map_err(|fault| failure(engine, &fault))?;
    let rows = frame.schema().fields().iter().map(|field| {
        let nullable = if field.is_nullable() { "" } else { "not null" };
        vec![field.name().clone(), field.data_type().to_string(), nullable.to_owned()]
    });
    print(&columns(&["COLUMN", "TYPE", "NULL"], rows.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_others_refused() {
        assert_eq!(Meta::parse("\\q").unwrap(), Meta::Quit);
        assert_eq!(Meta::parse("\\d").unwrap(), Meta::Tables);
        assert_eq!(Meta::parse("\\d orders;").unwrap(), Meta::Describe("orders".to_owned()));
        assert!(Meta::parse("\\x").is_err());
        assert!(Meta::parse("\\q now").is_err());
    }
}
