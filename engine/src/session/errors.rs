//! What DataFusion's errors mean: to the driver, which decides about retries, and to the person who waits.

use std::error::Error;
use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;
use firesteel_base::{Class, UserError};
use firesteel_shuffle::fetch::FetchError;
use tokio::task::JoinError;

use super::names::{did_you_mean, nearest};
use crate::run::TaskError;

/// How messages about damaged data begin, wherever the reader ran.
pub(super) const DAMAGED_PARQUET: &str = "a Parquet file is damaged";
pub(super) const DAMAGED_CSV: &str = "a CSV file is damaged";
pub(super) const DAMAGED_JSON: &str = "a JSON file is damaged";
pub(super) const UNREADABLE_VALUE: &str = "a value cannot be read";

/// How many column names a message lists at most.
const COLUMNS_NAMED_MAX: usize = 20;

/// What may be done about `fault`, and how it is told to a person.
#[must_use]
pub fn classify(fault: &DataFusionError) -> (Class, UserError) {
    match fault {
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let (class, error) = classify(inner);
            match diagnostic.span {
                Some(span) if span.start.line > 0 => {
                    let place = at(span.start.line, span.start.column);
                    let detail = match error.detail.as_deref() {
                        None => place,
                        Some(more) if more.starts_with(&place) => more.to_owned(),
                        Some(more) => format!("{place}; {more}"),
                    };
                    (class, error.detail(detail))
                }
                _ => (class, error),
            }
        }
        DataFusionError::Context(_, inner) => classify(inner),
        DataFusionError::Shared(inner) => classify(inner),
        DataFusionError::Collection(faults) => {
            faults.first().map_or_else(|| internal("no error was given"), classify)
        }
        DataFusionError::External(inner) => classify_any(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => of_arrow(inner),
        DataFusionError::ParquetError(inner) => of_parquet(inner),
        DataFusionError::ObjectStore(inner) => of_store(inner),
        DataFusionError::IoError(inner) => of_io(inner),
        DataFusionError::SQL(inner, _) => (Class::User, of_parser(inner)),
        DataFusionError::SchemaError(inner, _) => (Class::User, of_schema(inner)),
        DataFusionError::NotImplemented(text) => user(format!("this is not supported: {}", tidy(text))),
        DataFusionError::Plan(text) => (Class::User, of_plan(text)),
        DataFusionError::Configuration(text) | DataFusionError::Substrait(text) => user(tidy(text)),
        DataFusionError::Execution(text) => of_execution(text),
        DataFusionError::ExecutionJoin(inner) => of_join(inner),
        DataFusionError::ResourcesExhausted(text) => (
            Class::Resources,
            UserError::new("the query ran out of memory or scratch space")
                .detail(tidy(text))
                .hint("give the executors more memory, or run it in more partitions (firesteel.partitions)"),
        ),
        DataFusionError::Internal(text) | DataFusionError::Ffi(text) => internal(text),
    }
}

/// The same for any error, however deep it hides what it is.
fn classify_any(fault: &(dyn Error + 'static)) -> (Class, UserError) {
    if let Some(error) = fault.downcast_ref::<UserError>() {
        return (Class::User, error.clone());
    }
    if let Some(failure) = fault.downcast_ref::<TaskError>() {
        return (failure.class, failure.error.clone());
    }
    if let Some(fetch) = fault.downcast_ref::<FetchError>() {
        return (fetch.class(), UserError::new(fetch.to_string()));
    }
    if let Some(inner) = fault.downcast_ref::<DataFusionError>() {
        return classify(inner);
    }
    if let Some(inner) = fault.downcast_ref::<ArrowError>() {
        return of_arrow(inner);
    }
    if let Some(inner) = fault.downcast_ref::<ParquetError>() {
        return of_parquet(inner);
    }
    if let Some(inner) = fault.downcast_ref::<object_store::Error>() {
        return of_store(inner);
    }
    if let Some(inner) = fault.downcast_ref::<io::Error>() {
        return of_io(inner);
    }
    if let Some(inner) = fault.downcast_ref::<JoinError>() {
        return of_join(inner);
    }
    match fault.source() {
        Some(cause) => classify_any(cause),
        None => user(tidy(&fault.to_string())),
    }
}

fn user(message: String) -> (Class, UserError) {
    (Class::User, UserError::new(message))
}

fn internal(text: &str) -> (Class, UserError) {
    let error = UserError::new("the engine met a state it does not expect").detail(tidy(text));
    (Class::Transient, error)
}

fn of_arrow(fault: &ArrowError) -> (Class, UserError) {
    match fault {
        ArrowError::ExternalError(inner) => classify_any(inner.as_ref()),
        ArrowError::IoError(_, inner) => of_io(inner),
        ArrowError::MemoryError(text) => {
            (Class::Resources, UserError::new("the query ran out of memory").detail(tidy(text)))
        }
        ArrowError::DivideByZero => user("division by zero".to_owned()),
        ArrowError::ArithmeticOverflow(text) => user(format!("arithmetic overflow: {}", tidy(text))),
        ArrowError::CastError(text) => user(format!("a value cannot be cast: {}", tidy(text))),
        ArrowError::CsvError(text) => user(format!("{DAMAGED_CSV}: {}", tidy(text))),
        ArrowError::JsonError(text) => user(format!("{DAMAGED_JSON}: {}", tidy(text))),
        ArrowError::ParquetError(text) => user(format!("{DAMAGED_PARQUET}: {}", tidy(text))),
        // So the readers of text files put it; a cast in a query has other words.
        ArrowError::ParseError(text) if text.starts_with("Error while parsing value") => {
            user(format!("{UNREADABLE_VALUE}: {}", tidy(text)))
        }
        ArrowError::ParseError(text) => user(tidy(text)),
        ArrowError::IpcError(text) => user(format!("an Arrow file is damaged: {}", tidy(text))),
        other => user(tidy(&other.to_string())),
    }
}

fn of_parquet(fault: &ParquetError) -> (Class, UserError) {
    match fault {
        ParquetError::External(inner) => classify_any(inner.as_ref()),
        other => user(format!("{DAMAGED_PARQUET}: {}", tidy(&other.to_string()))),
    }
}

fn of_store(fault: &object_store::Error) -> (Class, UserError) {
    use object_store::Error as Fault;
    match fault {
        Fault::NotFound { path, .. } => user(format!("'{}' does not exist", absolute(path))),
        Fault::PermissionDenied { path, .. } => {
            user(format!("there is no permission to use '{}'", absolute(path)))
        }
        Fault::Unauthenticated { path, source } => (
            Class::User,
            UserError::new(format!("the credentials for '{path}' were refused")).detail(source.to_string()),
        ),
        Fault::AlreadyExists { path, .. } => user(format!("'{}' exists already", absolute(path))),
        Fault::Generic { source, .. } => match find_io(source.as_ref()) {
            Some(inner) => of_io_at(inner, Some(&fault.to_string())),
            // What is left are requests that failed after the store's own retries.
            None => (Class::Transient, UserError::new(tidy(&fault.to_string()))),
        },
        Fault::JoinError { source } => of_join(source),
        other => user(tidy(&other.to_string())),
    }
}

fn find_io<'a>(fault: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(fault);
    while let Some(error) = cause {
        if let Some(inner) = error.downcast_ref::<io::Error>() {
            return Some(inner);
        }
        cause = error.source();
    }
    None
}

fn of_io(fault: &io::Error) -> (Class, UserError) {
    if let Some(inner) = fault.get_ref() {
        let inner: &(dyn Error + 'static) = inner;
        if inner.is::<FetchError>() || inner.is::<DataFusionError>() || inner.is::<object_store::Error>() {
            return classify_any(inner);
        }
    }
    of_io_at(fault, None)
}

fn of_io_at(fault: &io::Error, place: Option<&str>) -> (Class, UserError) {
    use io::ErrorKind;
    let class = match fault.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => Class::Resources,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::ConnectionRefused
        | ErrorKind::BrokenPipe
        | ErrorKind::TimedOut
        | ErrorKind::Interrupted => Class::Transient,
        _ => Class::User,
    };
    let error = UserError::new(fault.to_string());
    (
        class,
        match place {
            Some(place) => error.detail(tidy(place)),
            None => error,
        },
    )
}

fn of_join(fault: &JoinError) -> (Class, UserError) {
    if fault.is_cancelled() {
        return (Class::Cancelled, UserError::new("the work was cancelled"));
    }
    let text = fault.to_string();
    (Class::Transient, UserError::new("a part of the engine panicked").detail(tidy(&text)))
}

fn of_execution(text: &str) -> (Class, UserError) {
    if let Some(panic) = text.strip_prefix("panicked: ") {
        return (Class::Transient, UserError::new("a part of the engine panicked").detail(tidy(panic)));
    }
    if text == "the attempt was cancelled" {
        return (Class::Cancelled, UserError::new("the attempt was cancelled"));
    }
    user(tidy(text))
}

fn of_parser(fault: &ParserError) -> UserError {
    let text = match fault {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement nests too deeply",
    };
    let text = tidy(text);
    match split_place(&text) {
        Some((what, line, column)) => {
            UserError::new(format!("syntax error: {what}")).detail(at(line, column))
        }
        None => UserError::new(format!("syntax error: {text}")),
    }
}

fn at(line: u64, column: u64) -> String {
    format!("line {line}, column {column}")
}

/// Splits `... at Line: 3, Column: 7` into the text before, the line and the column.
fn split_place(text: &str) -> Option<(&str, u64, u64)> {
    let (what, place) = text.rsplit_once("at Line: ")?;
    let (line, column) = place.split_once(", Column")?;
    let column = column.trim_start_matches(':').trim();
    Some((what.trim_end(), line.trim().parse().ok()?, column.parse().ok()?))
}

fn of_schema(fault: &SchemaError) -> UserError {
    let SchemaError::FieldNotFound { field, valid_fields } = fault else {
        return UserError::new(tidy(&fault.to_string()));
    };
    let error = UserError::new(format!("column '{}' does not exist", field.flat_name()));
    let names: Vec<&str> = valid_fields.iter().map(Column::name).collect();
    let error = if names.is_empty() { error } else { error.detail(listed("the columns are", &names)) };
    match nearest(field.name(), names.iter().copied()) {
        Some(name) if name == field.name() => {
            error.hint(format!("column '{name}' is there, but not of '{}'", relation(field)))
        }
        Some(name) => error.hint(did_you_mean(&quoted_if_needed(name))),
        None => error,
    }
}

fn relation(field: &Column) -> String {
    field.relation.as_ref().map_or_else(String::new, ToString::to_string)
}

/// A column name as it must be written in SQL.
fn quoted_if_needed(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

fn listed(lead: &str, names: &[&str]) -> String {
    let shown = names.iter().take(COLUMNS_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    let rest = names.len().saturating_sub(COLUMNS_NAMED_MAX);
    if rest == 0 { format!("{lead} {shown}") } else { format!("{lead} {shown} and {rest} more") }
}

fn of_plan(text: &str) -> UserError {
    let text = tidy(text);
    if let Some(table) = text.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        return UserError::new(format!("table '{}' does not exist", short_table(table)));
    }
    if let Some((function, rest)) =
        text.strip_prefix("Invalid function '").and_then(|rest| rest.split_once('\''))
    {
        let error = UserError::new(format!("function '{function}' does not exist"));
        let candidate = rest.split_once("Did you mean '").and_then(|(_, name)| name.split_once('\''));
        return match candidate {
            Some((name, _)) => error.hint(did_you_mean(name)),
            None => error,
        };
    }
    UserError::new(text)
}

/// A table's name without the catalog and schema that everybody uses.
fn short_table(name: &str) -> &str {
    name.strip_prefix("datafusion.public.").unwrap_or(name)
}

/// A store's path, which has no leading slash, as a person writes it.
fn absolute(path: &str) -> String {
    if path.starts_with('/') || path.contains("://") { path.to_owned() } else { format!("/{path}") }
}

/// The text without backtraces, prefixes and advice that is not ours to give.
fn tidy(text: &str) -> String {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    let text = text.split(".\nThis issue was likely caused by a bug in DataFusion").next().unwrap_or(text);
    let mut text = text.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    text.trim_end_matches('.').to_owned()
}

const PREFIXES: [&str; 12] = [
    "Arrow error: ",
    "Compute error: ",
    "Configuration error: ",
    "Error during planning: ",
    "Execution error: ",
    "External error: ",
    "External: ",
    "Internal error: ",
    "Invalid argument error: ",
    "Invalid or Unsupported Configuration: ",
    "Parquet error: ",
    "Schema error: ",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::common::internal_datafusion_err;

    use super::*;

    fn message(fault: &DataFusionError) -> (Class, String) {
        let (class, error) = classify(fault);
        (class, error.message)
    }

    #[test]
    fn what_the_data_did_is_the_users_to_mend() {
        let fault = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert_eq!(message(&fault), (Class::User, "division by zero".to_owned()));
        let fault = DataFusionError::Context("rule".to_owned(), Box::new(fault));
        assert_eq!(message(&DataFusionError::Shared(Arc::new(fault))).0, Class::User);
    }

    #[test]
    fn internal_errors_carry_no_foreign_advice() {
        let (class, error) = classify(&internal_datafusion_err!("lost a column"));
        assert_eq!(class, Class::Transient);
        assert!(!error.to_string().contains("DataFusion"), "{error}");
        assert!(error.to_string().contains("lost a column"), "{error}");
    }

    #[test]
    fn a_users_error_survives_wrapping() {
        let error = UserError::new("no").detail("there").hint("do");
        let fault = DataFusionError::External(Box::new(error.clone()));
        let fault =
            ArrowError::ExternalError(Box::new(DataFusionError::Context("x".into(), Box::new(fault))));
        assert_eq!(classify(&DataFusionError::ArrowError(Box::new(fault), None)), (Class::User, error));
    }

    #[test]
    fn parse_errors_tell_the_place() {
        let fault = ParserError::ParserError("Expected: a, found: b at Line: 3, Column: 7".to_owned());
        let error = of_parser(&fault);
        assert_eq!(error.message, "syntax error: Expected: a, found: b");
        assert_eq!(error.detail.as_deref(), Some("line 3, column 7"));
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_query() {
        let fault = io::Error::new(io::ErrorKind::StorageFull, "no space left on device");
        assert_eq!(message(&DataFusionError::IoError(fault)).0, Class::Resources);
    }
}
