//! Logs, on standard error, so that results on standard output stay clean.

use std::io;

use tracing_subscriber::EnvFilter;

/// What fails below us is told by whoever called it, once and with its cause: the store's engine says it five times.
const QUIET: &str = "sled=off";

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// For people, with colours or without.
    Text {
        /// Whether with colours.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
}

/// The filter is none.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` is no filter of logs\nhint: info, or homeostat=debug,warn")]
pub struct FilterError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Begins to log. A second call changes nothing.
pub fn init_logs(filter: &str, style: LogStyle) -> Result<(), FilterError> {
    // The filter may ask for it all the same: what comes later wins.
    let parsed = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(io::stderr);
    // The only error is that somebody logs already.
    let _ = match style {
        LogStyle::Text { colour } => builder.with_ansi(colour).try_init(),
        LogStyle::Json => builder.json().try_init(),
    };
    Ok(())
}
