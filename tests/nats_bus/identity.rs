//! Every way of saying who we are, and of being told that we are not.

use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use homeostat::bus::nats::{Auth, ConnectError, Connection, ContextFiles, Purpose, Secret, Settings};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair as TlsKey};
use tempfile::TempDir;

use crate::support::Bed;

async fn open(settings: &Settings) -> Result<Connection, ConnectError> {
    Connection::open(settings, Purpose::Decisions).await
}

/// Gets in, and can use JetStream.
async fn accepted(settings: &Settings) {
    let connection = open(settings).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(connection.barrier().await);
}

async fn unauthorized(settings: &Settings) {
    let error = open(settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("hint: "), "{error}");
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn user_and_password_come_from_the_address_or_the_settings() {
    let bed = Bed::with("authorization {\n  user: \"me@home\"\n  password: \"p:w\"\n}\n").await;
    let port = bed.server.port();
    accepted(&Settings::new(&format!("nats://me%40home:p%3Aw@127.0.0.1:{port}")).unwrap()).await;
    let mut settings = bed.settings();
    unauthorized(&settings).await;
    settings.auth = Auth::User { name: "me@home".into(), password: Secret::new("p:w".into()) };
    accepted(&settings).await;
    settings.auth = Auth::User { name: "me@home".into(), password: Secret::new("wrong".into()) };
    unauthorized(&settings).await;
}

#[tokio::test]
async fn a_token_comes_from_the_address_or_the_settings() {
    let bed = Bed::with("authorization {\n  token: \"s3cret\"\n}\n").await;
    accepted(&Settings::new(&format!("nats://s3cret@127.0.0.1:{}", bed.server.port())).unwrap()).await;
    let mut settings = bed.settings();
    settings.auth = Auth::Token(Secret::new("s3cret".into()));
    accepted(&settings).await;
    settings.auth = Auth::Token(Secret::new("other".into()));
    unauthorized(&settings).await;
}

#[tokio::test]
async fn an_nkey_is_a_file_with_a_seed() {
    let key = KeyPair::new_user();
    let users = format!("authorization {{\n  users: [\n    {{ nkey: \"{}\" }}\n  ]\n}}\n", key.public_key());
    let (bed, folder) = (Bed::with(&users).await, tempfile::tempdir().unwrap());
    let mut settings = bed.settings();
    settings.auth =
        Auth::Nkey(write(folder.path(), "me.nk", &format!("# a comment\n{}\n", key.seed().unwrap())));
    accepted(&settings).await;
    let other = KeyPair::new_user().seed().unwrap();
    settings.auth = Auth::Nkey(write(folder.path(), "other.nk", &other));
    unauthorized(&settings).await;
    settings.auth = Auth::Nkey(write(folder.path(), "none.nk", "nothing here"));
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Invalid { .. }), "{error}");
    settings.auth = Auth::Nkey(folder.path().join("missing.nk"));
    assert!(matches!(open(&settings).await, Err(ConnectError::File { .. })));
}

/// A JWT as NATS signs them: ed25519 by an nkey, over base64url.
#[expect(clippy::needless_pass_by_value, reason = "the claims are made for the call")]
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: serde_json::Value) -> String {
    let header = serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = serde_json::json!({
        "jti": name, "iat": 1_700_000_000, "name": name,
        "iss": issuer.public_key(), "sub": subject.public_key(), "nats": claims,
    });
    let encode = |json: &serde_json::Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&body));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

fn account_claims(jetstream: bool) -> serde_json::Value {
    let mut limits = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    if jetstream {
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[limit] = (-1).into();
        }
    }
    serde_json::json!({ "type": "account", "version": 2, "limits": limits })
}

fn creds(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let claims = serde_json::json!({
        "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {},
    });
    let jwt = jwt(account, &user, "user", claims);
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// A server in operator mode, and an account that has JetStream.
async fn operator() -> (Bed, KeyPair) {
    let (operator, system, account) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let operator_jwt =
        jwt(&operator, &operator, "operator", serde_json::json!({ "type": "operator", "version": 2 }));
    let config = format!(
        "operator: {operator_jwt}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n  {}: {}\n  {}: {}\n}}\n",
        system.public_key(),
        system.public_key(),
        jwt(&operator, &system, "system", account_claims(false)),
        account.public_key(),
        jwt(&operator, &account, "account", account_claims(true)),
    );
    (Bed::with(&config).await, account)
}

#[tokio::test]
async fn a_creds_file_gets_in_where_an_operator_signed_its_account() {
    let ((bed, account), folder) = (operator().await, tempfile::tempdir().unwrap());
    let mut settings = bed.settings();
    unauthorized(&settings).await;
    settings.auth = Auth::Credentials(write(folder.path(), "me.creds", &creds(&account)));
    accepted(&settings).await;
    settings.auth = Auth::Credentials(write(folder.path(), "other.creds", &creds(&KeyPair::new_account())));
    unauthorized(&settings).await;
    settings.auth = Auth::Credentials(write(folder.path(), "broken.creds", "no marks"));
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn a_context_of_the_nats_tool_gets_in() {
    let ((bed, account), folder) = (operator().await, tempfile::tempdir().unwrap());
    write(folder.path(), "me.creds", &creds(&account));
    std::fs::create_dir_all(folder.path().join("nats/context")).unwrap();
    let context = serde_json::json!({ "url": bed.server.url(), "creds": "~/me.creds", "description": "" });
    write(folder.path(), "nats/context/cell.json", &context.to_string());
    write(folder.path(), "nats/context.txt", "cell");
    let files = ContextFiles { config_home: folder.path().into(), home: Some(folder.path().into()) };
    accepted(&files.load(None).unwrap()).await;
}

/// An authority, and what it signs.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, TlsKey>,
    file: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = TlsKey::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = write(folder.path(), "ca.pem", &certificate.pem());
        Self { folder, issuer: Issuer::new(params, key), file }
    }

    fn signs(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = TlsKey::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            write(self.folder.path(), &format!("{name}.pem"), &certificate.pem()),
            write(self.folder.path(), &format!("{name}.key"), &key.serialize_pem()),
        )
    }

    /// The server's `tls` block.
    fn block(&self, more: &str) -> String {
        let (certificate, key) = self.signs("server");
        format!(
            "tls {{\n  cert_file: \"{}\"\n  key_file: \"{}\"\n  ca_file: \"{}\"\n{more}}}\n",
            certificate.display(),
            key.display(),
            self.file.display()
        )
    }
}

#[tokio::test]
async fn tls_trusts_the_named_authority_only() {
    let (authority, other) = (Authority::new(), Authority::new());
    let bed = Bed::with(&authority.block("")).await;
    let mut settings = bed.settings();
    settings.tls.authorities = vec![authority.file.clone()];
    accepted(&settings).await;
    settings.tls.authorities = vec![other.file.clone()];
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    settings.tls.authorities = vec!["/nowhere/ca.pem".into()];
    assert!(matches!(open(&settings).await, Err(ConnectError::File { .. })));
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let (bed, authority) = (Bed::start().await, Authority::new());
    let mut settings = bed.settings();
    settings.tls.required = true;
    settings.tls.authorities = vec![authority.file.clone()];
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn mutual_tls_asks_who_we_are() {
    let (authority, other) = (Authority::new(), Authority::new());
    let bed = Bed::with(&authority.block("  verify: true\n")).await;
    let mut settings = bed.settings();
    settings.tls.authorities = vec![authority.file.clone()];
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    settings.tls.identity = Some(authority.signs("me"));
    accepted(&settings).await;
    settings.tls.identity = Some(other.signs("me"));
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn tls_may_come_before_the_greeting() {
    let authority = Authority::new();
    let bed = Bed::with(&authority.block("  handshake_first: true\n")).await;
    let mut settings = bed.settings();
    settings.tls.authorities = vec![authority.file.clone()];
    settings.tls.first = true;
    accepted(&settings).await;
}
