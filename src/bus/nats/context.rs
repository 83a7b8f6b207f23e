//! Contexts of the `nats` command-line tool: a file that says how to reach a server (ADR-21 of NATS).
//!
//! They are `nats/context/<name>.json` below the user's configuration folder; `nats/context.txt` names the selected
//! one. The folder is an argument: only `config` reads the environment.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::settings::{Auth, Secret, Settings, SettingsError};

/// A context is a page of text; more is not one.
const CONTEXT_BYTES_MAX: u64 = 64 * 1024;

/// Where the contexts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFiles {
    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub config_home: PathBuf,
    /// What `~` at the start of a path in a context stands for.
    pub home: Option<PathBuf>,
}

/// Why a context cannot be used.
#[derive(Debug, Error)]
pub enum ContextError {
    /// The name would leave the folder.
    #[error("`{0}` is not a name of a context")]
    Name(String),
    /// No name was given and none is selected.
    #[error("no context is selected in `{}`\nhint: `nats context select NAME`, or name one", .0.display())]
    NoneSelected(PathBuf),
    /// The file cannot be read.
    #[error("the context file `{}` cannot be read\nhint: `nats context ls` shows the contexts there are", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a context.
    #[error("the context file `{}` is not valid", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The context uses what this program cannot do; going on without it would connect as somebody else.
    #[error(
        "the context `{name}` sets `{field}`, which is not supported\nhint: export the credentials to a file and use `creds`"
    )]
    Unsupported {
        /// Which context.
        name: String,
        /// Which field.
        field: &'static str,
    },
    /// Its address is not valid.
    #[error("the context `{name}` is not usable")]
    Settings {
        /// Which context.
        name: String,
        /// Why.
        #[source]
        source: SettingsError,
    },
}

/// The fields as the tool writes them; empty means "not set".
#[derive(Default, Deserialize)]
#[serde(default)]
struct ContextFile {
    url: String,
    token: String,
    user: String,
    password: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    nsc: String,
    jetstream_domain: String,
    jetstream_api_prefix: String,
    inbox_prefix: String,
    tls_first: bool,
    socks_proxy: String,
    user_jwt: String,
    user_seed: String,
    windows_cert_store: String,
}

impl ContextFiles {
    /// Settings from the named context, or from the selected one.
    pub fn load(&self, name: Option<&str>) -> Result<Settings, ContextError> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.selected()?,
        };
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(ContextError::Name(name));
        }
        let path = self.config_home.join("nats/context").join(format!("{name}.json"));
        let text = read_bounded(&path)?;
        let file: ContextFile =
            serde_json::from_str(&text).map_err(|source| ContextError::Invalid { path, source })?;
        self.settings(&name, file)
    }

    fn selected(&self) -> Result<String, ContextError> {
        let path = self.config_home.join("nats/context.txt");
        match read_bounded(&path) {
            Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
            Ok(_) | Err(_) => Err(ContextError::NoneSelected(path)),
        }
    }

    fn settings(&self, name: &str, file: ContextFile) -> Result<Settings, ContextError> {
        let unsupported = [
            ("nsc", &file.nsc),
            ("socks_proxy", &file.socks_proxy),
            ("user_jwt", &file.user_jwt),
            ("user_seed", &file.user_seed),
            ("windows_cert_store", &file.windows_cert_store),
        ];
        if let Some((field, _)) = unsupported.into_iter().find(|(_, value)| !value.is_empty()) {
            return Err(ContextError::Unsupported { name: name.to_owned(), field });
        }
        // The tool's own default where a context names no server.
        let url = if file.url.is_empty() { "nats://127.0.0.1:4222" } else { &file.url };
        let mut settings =
            Settings::new(url).map_err(|source| ContextError::Settings { name: name.to_owned(), source })?;
        if let Some(auth) = self.auth(&file) {
            settings.auth = auth;
        }
        settings.tls.first = file.tls_first;
        if !file.ca.is_empty() {
            settings.tls.authorities = vec![self.path(&file.ca)];
        }
        if !file.cert.is_empty() && !file.key.is_empty() {
            settings.tls.identity = Some((self.path(&file.cert), self.path(&file.key)));
        }
        if !file.inbox_prefix.is_empty() {
            settings.inbox_prefix = file.inbox_prefix;
        }
        if !file.jetstream_api_prefix.is_empty() {
            settings.api_prefix = Some(file.jetstream_api_prefix);
        } else if !file.jetstream_domain.is_empty() {
            settings.api_prefix = Some(format!("$JS.{}.API", file.jetstream_domain));
        }
        Ok(settings)
    }

    /// In the tool's order of precedence.
    fn auth(&self, file: &ContextFile) -> Option<Auth> {
        if !file.user.is_empty() {
            let password = Secret::new(file.password.clone());
            Some(Auth::User { name: file.user.clone(), password })
        } else if !file.creds.is_empty() {
            Some(Auth::Credentials(self.path(&file.creds)))
        } else if !file.nkey.is_empty() {
            Some(Auth::Nkey(self.path(&file.nkey)))
        } else if !file.token.is_empty() {
            Some(Auth::Token(Secret::new(file.token.clone())))
        } else {
            None
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        }
    }
}

fn read_bounded(path: &Path) -> Result<String, ContextError> {
    let unreadable = |source| ContextError::Unreadable { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > CONTEXT_BYTES_MAX {
        let reason = format!("it has {length} bytes, a context at most {CONTEXT_BYTES_MAX}");
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, reason)));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contexts: &[(&str, &str)], selected: Option<&str>) -> (tempfile::TempDir, ContextFiles) {
        let folder = tempfile::tempdir().unwrap();
        let nats = folder.path().join("nats/context");
        std::fs::create_dir_all(&nats).unwrap();
        for (name, text) in contexts {
            std::fs::write(nats.join(format!("{name}.json")), text).unwrap();
        }
        if let Some(selected) = selected {
            std::fs::write(folder.path().join("nats/context.txt"), selected).unwrap();
        }
        let files = ContextFiles { config_home: folder.path().to_owned(), home: Some("/home/me".into()) };
        (folder, files)
    }

    #[test]
    fn the_selected_context_is_used_where_none_is_named() {
        let (_folder, files) =
            files(&[("a", r#"{"url":"nats://a"}"#), ("b", r#"{"url":"nats://b"}"#)], Some("b\n"));
        assert_eq!(files.load(None).unwrap().servers(), "nats://b");
        assert_eq!(files.load(Some("a")).unwrap().servers(), "nats://a");
    }

    #[test]
    fn fields_become_settings_and_home_is_expanded() {
        let text = r#"{"description":"x","url":"tls://h1,tls://h2","creds":"~/me.creds","ca":"/ca.pem","cert":"/c.pem",
            "key":"/k.pem","jetstream_domain":"hub","inbox_prefix":"_INBOX_me","tls_first":true,"color_scheme":"red"}"#;
        let (_folder, files) = files(&[("a", text)], None);
        let settings = files.load(Some("a")).unwrap();
        assert_eq!(settings.auth, Auth::Credentials("/home/me/me.creds".into()));
        assert_eq!(settings.tls.identity, Some(("/c.pem".into(), "/k.pem".into())));
        assert_eq!(settings.tls.authorities, vec![PathBuf::from("/ca.pem")]);
        assert_eq!(settings.api_prefix.as_deref(), Some("$JS.hub.API"));
        assert_eq!((settings.inbox_prefix.as_str(), settings.tls.first), ("_INBOX_me", true));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let (_folder, files) = files(
            &[("nsc", r#"{"nsc":"nsc://o/a/u"}"#), ("broken", "{"), ("bad", r#"{"url":"http://h"}"#)],
            None,
        );
        assert!(matches!(files.load(None), Err(ContextError::NoneSelected(_))));
        assert!(matches!(files.load(Some("../nsc")), Err(ContextError::Name(_))));
        assert!(matches!(files.load(Some("none")), Err(ContextError::Unreadable { .. })));
        assert!(matches!(files.load(Some("broken")), Err(ContextError::Invalid { .. })));
        assert!(matches!(files.load(Some("bad")), Err(ContextError::Settings { .. })));
        assert!(matches!(files.load(Some("nsc")), Err(ContextError::Unsupported { field: "nsc", .. })));
    }
}
