//! Logging to standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Whether the text is a list of log directives, such as `info` or `warn,firesteel_shuffle=debug`.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    !text.trim().is_empty() && EnvFilter::try_new(text).is_ok()
}

/// Sends what this process logs from now on to `writer`: events that pass `filter`, as lines of text or of JSON.
///
/// A second call changes nothing: the first one of a process counts.
///
/// # Panics
/// When `filter` is none by [`is_filter`]; configuration has checked it.
pub fn init<W>(filter: &str, format: LogFormat, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).expect("the filter was checked when the configuration was read");
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let installed = match format {
        LogFormat::Text => lines.with_ansi(false).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    if installed.is_err() {
        tracing::debug!("logging was set up already");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_lists_of_directives() {
        for text in ["info", "off", "warn,firesteel_shuffle=debug"] {
            assert!(is_filter(text), "{text}");
        }
        for text in ["", "loud=very=much", "firesteel=verbose"] {
            assert!(!is_filter(text), "{text}");
        }
    }
}
