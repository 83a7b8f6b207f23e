//! Where the bus is.

use std::path::PathBuf;

use clap::Args;

/// How to reach the bus, and which cell on it.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Bus {
    /// Server addresses, with commas between them [env: `NATS_URL`] [default: the nats context, else 127.0.0.1:4222]
    #[arg(short, long, value_name = "URL", help_heading = "Connection")]
    pub(in crate::cli) server: Option<String>,
    /// A context of the nats tool [env: `NATS_CONTEXT`] [default: the selected one]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(in crate::cli) context: Option<String>,
    /// A .creds file
    #[arg(
        long,
        value_name = "FILE",
        env = "NATS_CREDS",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    pub(in crate::cli) creds: Option<PathBuf>,
    /// A file with the seed of an nkey
    #[arg(long, value_name = "FILE", env = "NATS_NKEY", hide_env_values = true, help_heading = "Connection")]
    pub(in crate::cli) nkey: Option<PathBuf>,
    /// Certificates to trust, PEM
    #[arg(long, value_name = "FILE", env = "NATS_CA", hide_env_values = true, help_heading = "Connection")]
    pub(in crate::cli) tls_ca: Option<PathBuf>,
    /// Our certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "NATS_CERT",
        hide_env_values = true,
        requires = "tls_key",
        help_heading = "Connection"
    )]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// The key of our certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "NATS_KEY",
        hide_env_values = true,
        requires = "tls_cert",
        help_heading = "Connection"
    )]
    pub(in crate::cli) tls_key: Option<PathBuf>,
    /// The first token of every subject
    #[arg(long, value_name = "TOKEN", default_value = "homeostat", help_heading = "Connection")]
    pub(in crate::cli) prefix: String,
    /// The cell's id, which is in all ids; where it is given, the streams must be that cell's [default: default]
    #[arg(long, value_name = "ID", help_heading = "Connection")]
    pub(in crate::cli) cell: Option<String>,
}

impl Bus {
    /// The cell's id.
    pub(in crate::cli) fn cell(&self) -> &str {
        self.cell.as_deref().unwrap_or("default")
    }
}
