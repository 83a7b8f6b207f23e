//! The environment: read here, once, and handed on as a value.

use std::path::PathBuf;

/// What of the environment concerns us.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HOME`
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `~/.config`
    pub config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`, else `~/.local/state`
    pub state_home: Option<PathBuf>,
    /// `NO_COLOR` is set to anything (no-color.org).
    pub no_color: bool,
    /// `HOMEOSTAT_NATS_SERVER`: the `nats-server` program for private servers.
    pub nats_server: Option<PathBuf>,
    /// `NATS_URL`: where the bus is.
    pub nats_url: Option<String>,
    /// `NATS_CONTEXT`: a context of the `nats` tool.
    pub nats_context: Option<String>,
    /// `PATH`
    pub path: Vec<PathBuf>,
    /// `HOSTNAME`, else what `/etc/hostname` says.
    pub host: Option<String>,
    /// `USER`
    pub user: Option<String>,
}

impl Environment {
    /// Reads the environment of this process.
    #[expect(clippy::disallowed_methods, reason = "this is the place where the environment is read")]
    pub fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name: &str| text(name).map(PathBuf::from);
        let home = folder("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let host = text("HOSTNAME").or_else(|| std::fs::read_to_string("/etc/hostname").ok());
        Self {
            config_home: folder("XDG_CONFIG_HOME").or_else(|| below_home(".config")),
            state_home: folder("XDG_STATE_HOME").or_else(|| below_home(".local/state")),
            no_color: text("NO_COLOR").is_some(),
            nats_server: folder("HOMEOSTAT_NATS_SERVER"),
            nats_url: text("NATS_URL"),
            nats_context: text("NATS_CONTEXT"),
            path: text("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            host: host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()),
            user: text("USER"),
            home,
        }
    }

    /// The `nats-server` program: the one that is named, else the first on the path.
    pub fn find_nats_server(&self) -> Option<PathBuf> {
        let on_path =
            || self.path.iter().map(|folder| folder.join("nats-server")).find(|file| file.is_file());
        self.nats_server.clone().or_else(on_path)
    }
}
