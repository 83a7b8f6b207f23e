//! HTTP endpoints.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url, redirect, retry};

use super::output::head;
use super::{Call, End, OUTPUT_BYTES_MAX, check_body};
use crate::model::HttpMethod;

/// Beyond this a target counts as not reached, which is certain to have done nothing. Only where the action's own
/// timeout is longer: one that ends while connecting cannot be told from one that ends while waiting.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// A longer URL does not pass most servers.
const URL_BYTES_MAX: usize = 8_192;

/// Speaks HTTP to targets. Made at the first call: most cells have no webhooks, and reading the machine's certificates
/// takes a while.
#[derive(Default)]
pub(super) struct Client(OnceLock<Result<reqwest::Client, String>>);

impl Client {
    pub(super) fn prepare(
        &self,
        method: HttpMethod,
        url: &str,
        body: &str,
        call: &Call<'_>,
        hosts: &BTreeSet<Arc<str>>,
    ) -> Result<Request, String> {
        check_body(body)?;
        if url.len() > URL_BYTES_MAX {
            return Err(format!("the URL is {} bytes long, at most {URL_BYTES_MAX} are taken", url.len()));
        }
        let shown = head(url, 200);
        let parsed = Url::parse(url).map_err(|error| format!("`{shown}` is not a URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(format!("`{shown}` is not an http or https URL"));
        }
        check_host(&parsed, hosts)?;
        let client = self.0.get_or_init(connect).as_ref().map_err(Clone::clone)?;
        let mut request = client.request(
            match method {
                HttpMethod::Post => Method::POST,
                HttpMethod::Put => Method::PUT,
                HttpMethod::Patch => Method::PATCH,
                HttpMethod::Delete => Method::DELETE,
            },
            parsed,
        );
        for (name, value) in call.headers() {
            let value = HeaderValue::from_str(&value).map_err(|_| format!("`{value}` fits no header"))?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, content_type(body)).body(body.to_owned());
        }
        request.build().map_err(|error| chain(&error))
    }

    pub(super) async fn send(&self, request: Request, call: &Call<'_>) -> End {
        let client = match self.0.get_or_init(connect) {
            Ok(client) => client,
            Err(why) => return End::failed(why.as_str()),
        };
        let mut answer = Answer::default();
        let received = call.race(receive(client, request, &mut answer)).await;
        match (answer.status, received) {
            // The status is the answer; the body is for people, and may be cut short.
            (Some(status), _) => judge(status, &String::from_utf8_lossy(&answer.body)),
            (None, Err(cut)) => End::open(cut),
            (None, Ok(Err(error))) if error.is_connect() || error.is_builder() => {
                End::failed(format!("not reached, nothing was sent: {}", chain(&error)))
            }
            (None, Ok(Err(error))) => {
                End::open(format_args!("the connection ended before the answer ({})", chain(&error)))
            }
            (None, Ok(Ok(()))) => End::open("no status came"),
        }
    }
}

/// A host of the list is meant with any port, one with a port with that one.
fn check_host(url: &Url, hosts: &BTreeSet<Arc<str>>) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let allowed =
        hosts.is_empty() || hosts.contains(host) || hosts.contains(format!("{host}:{port}").as_str());
    if allowed {
        Ok(())
    } else {
        Err(format!("`{host}:{port}` is not in the charter's list of hosts: not called"))
    }
}

fn connect() -> Result<reqwest::Client, String> {
    // An error says that the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("homeostat/", env!("CARGO_PKG_VERSION")))
            // A redirect could lead the key anywhere, and turns a POST into a GET.
            .redirect(redirect::Policy::none())
            // Whether an effect is repeated is decided elsewhere.
            .retry(retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_WAIT_MAX)
            // A kept connection may be dying unseen, and then nobody knows whether the request arrived.
            .pool_max_idle_per_host(0)
    };
    // On a machine without any certificates, plain HTTP still works.
    let client = builder().build().or_else(|error| {
        tracing::warn!(error = chain(&error), "webhooks over TLS will fail: no certificates are trusted");
        builder().tls_certs_only([]).build()
    });
    client.map_err(|error| format!("no HTTP client: {}", chain(&error)))
}

#[derive(Default)]
struct Answer {
    status: Option<StatusCode>,
    body: Vec<u8>,
}

async fn receive(client: &reqwest::Client, request: Request, answer: &mut Answer) -> reqwest::Result<()> {
    let mut response = client.execute(request).await?;
    answer.status = Some(response.status());
    while answer.body.len() < OUTPUT_BYTES_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        let room = OUTPUT_BYTES_MAX - answer.body.len();
        answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(())
}

fn judge(status: StatusCode, body: &str) -> End {
    let said = if body.is_empty() { format!("{status}") } else { format!("{status}\n{body}") };
    match status {
        _ if status.is_success() => End::succeeded(said),
        _ if status.is_redirection() => End::failed(format!("redirects are not followed: {said}")),
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
            End::failed(format!("the target refused the key or the fence: {said}"))
        }
        // A gateway that does not know what became of the request.
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            End::open(format_args!("a gateway answered for the target ({status})")).with(body)
        }
        _ => End::failed(said),
    }
}

fn content_type(body: &str) -> &'static str {
    match serde_json::from_str::<serde::de::IgnoredAny>(body) {
        Ok(_) => "application/json",
        Err(_) => "text/plain; charset=utf-8",
    }
}

/// The error with its causes. The URL is in the plan; here it would only take the room.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use axum::routing::any;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::testing::{Bench, webhook};
    use super::*;
    use crate::model::{Outcome, OutcomeResult};

    type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap, Bytes)>>>;

    /// A target on a free port of this machine; it ends with the set.
    async fn serve(tasks: &mut JoinSet<()>) -> (SocketAddr, Seen) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let target = Router::new().fallback(any(move |request: axum::extract::Request| {
            let log = Arc::clone(&log);
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let path = parts.uri.path().to_owned();
                log.lock().unwrap().push((parts.method, path.clone(), parts.headers, body));
                answer(&path).await
            }
        }));
        tasks.spawn(async move { axum::serve(listener, target).await.unwrap() });
        (address, seen)
    }

    async fn answer(path: &str) -> axum::response::Response {
        match path.trim_start_matches('/') {
            "slow" => std::future::pending().await,
            "moved" => (StatusCode::TEMPORARY_REDIRECT, [("location", "/200")], "").into_response(),
            "huge" => {
                let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
                let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
                Body::from_stream(endless).into_response()
            }
            "drip" => {
                let first = futures::stream::iter([Ok::<_, std::io::Error>("first words")]);
                Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()))
                    .into_response()
            }
            status => {
                let status = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()).unwrap();
                (status, format!("this is {status}")).into_response()
            }
        }
    }

    async fn call(bench: &Bench, url: &str, timeout: Duration) -> Outcome {
        let mut act = bench.act(webhook(HttpMethod::Post, url, r#"{"a": 1}"#));
        act.action.timeout = timeout;
        bench.run(act).await
    }

    #[tokio::test]
    async fn a_call_carries_key_fence_trace_and_body() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let (address, seen) = serve(&mut tasks).await;
        let url = format!("http://{address}/200");
        let cases = [
            (HttpMethod::Post, r#"{"a": 1}"#, Some("application/json")),
            (HttpMethod::Put, "a=1", Some("text/plain; charset=utf-8")),
            (HttpMethod::Patch, "[]", Some("application/json")),
            (HttpMethod::Delete, "", None),
        ];
        for (method, body, content_type) in cases {
            let act = bench.act(webhook(method, &url, body));
            let (key, fence) = (act.action.id.to_string(), act.fence.to_string());
            let outcome = bench.run(act).await;
            assert_eq!(outcome.result, OutcomeResult::Succeeded, "{}", outcome.output);
            assert_eq!(outcome.output.as_ref(), "200 OK\nthis is 200 OK");
            let (seen_method, _, headers, seen_body) = seen.lock().unwrap().pop().unwrap();
            assert_eq!((seen_method.as_str(), seen_body.as_ref()), (method.as_str(), body.as_bytes()));
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(header("idempotency-key"), Some(key));
            assert_eq!(header("homeostat-fence"), Some(fence));
            assert_eq!(header("traceparent").as_deref(), Some(Bench::TRACEPARENT));
            assert_eq!(header("content-type").as_deref(), content_type);
        }
    }

    #[tokio::test]
    async fn the_status_decides() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let (address, seen) = serve(&mut tasks).await;
        let cases = [
            ("202", OutcomeResult::Succeeded, "202 Accepted"),
            ("400", OutcomeResult::Failed, "400 Bad Request"),
            ("409", OutcomeResult::Failed, "the target refused the key or the fence: 409 Conflict"),
            (
                "412",
                OutcomeResult::Failed,
                "the target refused the key or the fence: 412 Precondition Failed",
            ),
            ("500", OutcomeResult::Failed, "500 Internal Server Error"),
            ("502", OutcomeResult::TimedOut, "a gateway answered for the target (502 Bad Gateway)"),
            ("504", OutcomeResult::TimedOut, "a gateway answered for the target (504 Gateway Timeout)"),
            ("moved", OutcomeResult::Failed, "redirects are not followed: 307 Temporary Redirect"),
        ];
        for (path, result, text) in cases {
            let outcome = call(&bench, &format!("http://{address}/{path}"), Duration::from_secs(20)).await;
            assert_eq!(outcome.result, result, "{path}: {}", outcome.output);
            assert!(outcome.output.starts_with(text), "{path}: {}", outcome.output);
        }
        assert_eq!(seen.lock().unwrap().len(), cases.len(), "each was called once, and no redirect followed");
    }

    #[tokio::test]
    async fn a_target_that_does_not_answer_may_have_done_it() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let (address, seen) = serve(&mut tasks).await;
        let outcome = call(&bench, &format!("http://{address}/slow"), Duration::from_millis(400)).await;
        assert_eq!(outcome.result, OutcomeResult::TimedOut);
        assert_eq!(outcome.output.as_ref(), "no answer within 400ms: it may have happened");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_target_that_hangs_up_may_have_done_it() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tasks.spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0_u8; 4_096];
                let _ = connection.read(&mut request).await;
                let _ = connection.shutdown().await;
            }
        });
        let outcome = call(&bench, &url, Duration::from_secs(20)).await;
        assert_eq!(outcome.result, OutcomeResult::TimedOut, "{}", outcome.output);
        assert!(outcome.output.starts_with("the connection ended before the answer"), "{}", outcome.output);
    }

    #[tokio::test]
    async fn a_target_that_is_not_there_has_not_done_it() {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = call(&bench, &format!("http://{address}/"), Duration::from_secs(20)).await;
        assert_eq!(outcome.result, OutcomeResult::Failed);
        assert!(outcome.output.starts_with("not reached, nothing was sent: "), "{}", outcome.output);
    }

    #[tokio::test]
    async fn a_target_that_speaks_no_tls_has_not_done_it() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let (address, seen) = serve(&mut tasks).await;
        let outcome = call(&bench, &format!("https://{address}/200"), Duration::from_secs(20)).await;
        assert_eq!(outcome.result, OutcomeResult::Failed, "{}", outcome.output);
        assert!(seen.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn of_an_endless_answer_the_beginning_is_kept() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let (address, _) = serve(&mut tasks).await;
        let outcome = call(&bench, &format!("http://{address}/huge"), Duration::from_secs(20)).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded);
        assert_eq!(outcome.output.len(), OUTPUT_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_does_not_take_the_status_away() {
        let (bench, mut tasks) = (Bench::new(), JoinSet::new());
        let (address, _) = serve(&mut tasks).await;
        let outcome = call(&bench, &format!("http://{address}/drip"), Duration::from_millis(500)).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded);
        assert_eq!(outcome.output.as_ref(), "200 OK\nfirst words");
    }

    #[tokio::test]
    async fn what_is_no_url_is_refused() {
        let bench = Bench::new();
        for url in [
            "",
            "target",
            "ftp://target/",
            "file:///etc/passwd",
            "http://",
            "unix:/run/x",
            &"x".repeat(9_000),
        ] {
            let outcome = call(&bench, url, Duration::from_secs(20)).await;
            assert_eq!(outcome.result, OutcomeResult::Failed, "{url}");
        }
    }

    #[test]
    fn a_list_of_hosts_is_held_to() {
        let check = |url: &str, hosts: &[&str]| {
            check_host(&Url::parse(url).unwrap(), &hosts.iter().map(|host| Arc::from(*host)).collect())
        };
        for (url, hosts) in [
            ("http://anywhere/", &[][..]),
            ("http://OPS/", &["ops"]),
            ("http://ops:8080/", &["ops"]),
            ("https://ops/", &["ops:443"]),
            ("http://[::1]:80/", &["[::1]"]),
        ] {
            assert_eq!(check(url, hosts), Ok(()), "{url}");
        }
        for url in ["http://ops:81/", "http://ops.evil/", "http://evil/", "http://ops:80@evil/"] {
            assert!(check(url, &["ops:80"]).is_err(), "{url}");
        }
    }
}
