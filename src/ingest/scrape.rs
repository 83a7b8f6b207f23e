//! Scraping: the exposition text of an HTTP endpoint as samples, with the labels and the extra samples that
//! Prometheus gives them.
//!
//! Fetching is the only part that waits; what a body means is a pure function of it, the time and how long it took.
//! The loop that calls them belongs to the role that scrapes.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::model::{Labels, LabelsError, METRIC_NAME, Sample, Timestamp};

use super::error::RowError;
use super::exposition::{Dialect, ExpositionReader};
use super::samples::ERRORS_REPORTED_MAX;

/// A whole scrape; Prometheus' default.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// The exposition of 300,000 series; larger is not an exporter, or one that would burst each receiver.
const SCRAPE_BODY_BYTES_MAX: usize = 64 << 20;

/// Text 0.0.4 first, as it is what is read best; whatever else is taken if it reads.
const ACCEPTED: &str =
    "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

/// Why a scrape gives no samples of its target.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The address is none.
    #[error("`{0}` is not an http or https address")]
    Address(String),
    /// The client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// No answer, or not a whole one in time.
    #[error("cannot scrape {url}")]
    Request {
        /// The target.
        url: String,
        /// What went wrong.
        #[source]
        cause: reqwest::Error,
    },
    /// An answer that is not 200.
    #[error("{url} answered {status}")]
    Status {
        /// The target.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is too long.
    #[error("{url} answered more than {} MiB", SCRAPE_BODY_BYTES_MAX >> 20)]
    TooLarge {
        /// The target.
        url: String,
    },
    /// The target's job or instance breaks a limit of labels.
    #[error(transparent)]
    Labels(#[from] LabelsError),
}

/// What fetches. Clones share connections.
#[derive(Clone, Debug)]
pub struct ScrapeClient(reqwest::Client);

/// One endpoint, with what its series looked like before.
pub struct ScrapeTarget {
    url: reqwest::Url,
    /// `instance` and `job`.
    labels: Labels,
    text_reader: ExpositionReader,
    open_metrics_reader: ExpositionReader,
}

/// What an endpoint answered.
#[derive(Clone, Debug)]
pub struct ScrapeBody {
    bytes: Vec<u8>,
    dialect: Dialect,
}

/// The samples of one scrape.
#[derive(Debug)]
pub struct Scrape {
    /// Those of the target, then `up`, `scrape_duration_seconds` and `scrape_samples_scraped`.
    pub samples: Vec<Sample>,
    /// The first lines that were refused, with their numbers.
    pub refusals: Vec<(u64, RowError)>,
    /// How many lines were refused.
    pub refused: u64,
}

impl ScrapeClient {
    /// TLS with the system's roots and ring. Installs ring as the process's provider unless another is there.
    pub fn new() -> Result<Self, ScrapeError> {
        // It fails only where a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(SCRAPE_TIMEOUT)
            .user_agent(concat!("homeostat/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ScrapeError::Client)?;
        Ok(Self(client))
    }
}

impl ScrapeTarget {
    /// The target's `instance` is the host and port of the address.
    pub fn new(url: &str, job: &str) -> Result<Self, ScrapeError> {
        let no_address = || ScrapeError::Address(url.to_owned());
        let url = reqwest::Url::parse(url).map_err(|_| no_address())?;
        let host =
            url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or_else(no_address)?;
        let instance = match url.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let labels = Labels::new([("instance", instance.as_str()), ("job", job)])?;
        Ok(Self {
            url,
            text_reader: ExpositionReader::of_target(Dialect::Prometheus, labels.clone()),
            open_metrics_reader: ExpositionReader::of_target(Dialect::OpenMetrics, labels.clone()),
            labels,
        })
    }

    /// The address, without a password.
    pub fn address(&self) -> String {
        let mut url = self.url.clone();
        if url.password().is_some() {
            let _ = url.set_password(Some("***"));
        }
        url.into()
    }

    /// Asks the endpoint once. Cancel safe.
    pub async fn fetch(&self, client: &ScrapeClient) -> Result<ScrapeBody, ScrapeError> {
        let failed =
            |cause: reqwest::Error| ScrapeError::Request { url: self.address(), cause: cause.without_url() };
        let request = client.0.get(self.url.clone()).header(ACCEPT, ACCEPTED);
        let mut answer = request.send().await.map_err(failed)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(ScrapeError::Status { url: self.address(), status: answer.status().as_u16() });
        }
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_open_metrics =
            content_type.is_some_and(|kind| kind.trim().starts_with("application/openmetrics-text"));
        let dialect = if is_open_metrics { Dialect::OpenMetrics } else { Dialect::Prometheus };
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > SCRAPE_BODY_BYTES_MAX {
                return Err(ScrapeError::TooLarge { url: self.address() });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(ScrapeBody { bytes, dialect })
    }

    /// The samples of an answer, or of there being none. A label of the target's own is kept as `exported_…` where it
    /// meets `instance` or `job`. The target is up if a sample of it could be read, or it had none to give.
    pub fn samples(&mut self, body: Option<&ScrapeBody>, at: Timestamp, took: Duration) -> Scrape {
        let mut scrape = Scrape { samples: Vec::new(), refusals: Vec::new(), refused: 0 };
        if let Some(body) = body {
            let reader = match body.dialect {
                Dialect::Prometheus => &mut self.text_reader,
                Dialect::OpenMetrics => &mut self.open_metrics_reader,
            };
            read_body(reader, &body.bytes, at, &mut scrape);
        }
        let scraped = scrape.samples.len();
        let is_up = body.is_some() && (scraped > 0 || scrape.refused == 0);
        let report = [
            ("up", f64::from(u8::from(is_up))),
            ("scrape_duration_seconds", took.as_secs_f64()),
            ("scrape_samples_scraped", scraped as f64),
        ];
        for (name, value) in report {
            // The name is short and the target has two labels, so that no limit can be met.
            if let Ok(series) = self.labels.with(METRIC_NAME, name) {
                scrape.samples.push(Sample { series, at, value });
            }
        }
        scrape
    }
}

fn read_body(reader: &mut ExpositionReader, bytes: &[u8], at: Timestamp, scrape: &mut Scrape) {
    reader.start(at);
    let mut samples = VecDeque::new();
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1_u64..) {
        let read = match std::str::from_utf8(line) {
            Ok(line) => reader.read(line, &mut samples),
            Err(error) => Err(RowError::NotUtf8(error.valid_up_to() + 1)),
        };
        if let Err(cause) = read {
            scrape.refused += 1;
            if scrape.refused <= ERRORS_REPORTED_MAX {
                scrape.refusals.push((number, cause));
            }
        }
    }
    scrape.samples = samples.into();
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Serves until the runtime of the test ends.
    async fn serve(tasks: &mut tokio::task::JoinSet<()>, router: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    fn lines(scrape: &Scrape) -> Vec<String> {
        scrape
            .samples
            .iter()
            .map(|s| format!("{} {} {}", s.series, s.value, s.at.as_millis() - AT.as_millis()))
            .collect()
    }

    fn body(text: &str) -> ScrapeBody {
        ScrapeBody { bytes: text.into(), dialect: Dialect::Prometheus }
    }

    #[tokio::test]
    async fn an_endpoint_is_read_with_labels_and_report() {
        let mut tasks = tokio::task::JoinSet::new();
        let text = "# TYPE a gauge\na{job=\"own\",x=\"1\"} 2\nb 3 1700000000005\nbad\n";
        let open_metrics = || async {
            (
                [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                "c 1 1700000000.5\n# EOF\n",
            )
        };
        let router = Router::new()
            .route("/metrics", get(move || async move { text }))
            .route("/om", get(open_metrics))
            .route("/gone", get(|| async { StatusCode::GONE }));
        let address = serve(&mut tasks, router).await;
        let client = ScrapeClient::new().unwrap();
        let target = |path: &str| ScrapeTarget::new(&format!("http://{address}{path}"), "web").unwrap();

        let mut metrics = target("/metrics");
        let body = metrics.fetch(&client).await.unwrap();
        let scrape = metrics.samples(Some(&body), AT, Duration::from_millis(250));
        let own = format!("instance=\"{address}\",job=\"web\"");
        assert_eq!(
            lines(&scrape),
            [
                format!("a{{exported_job=\"own\",{own},x=\"1\"}} 2 0"),
                format!("b{{{own}}} 3 5"),
                format!("up{{{own}}} 1 0"),
                format!("scrape_duration_seconds{{{own}}} 0.25 0"),
                format!("scrape_samples_scraped{{{own}}} 2 0"),
            ]
        );
        assert_eq!((scrape.refused, &scrape.refusals[..]), (1, &[(4, RowError::NoValue)][..]));

        let mut om = target("/om");
        let body = om.fetch(&client).await.unwrap();
        for _ in 0..2 {
            assert_eq!(lines(&om.samples(Some(&body), AT, Duration::ZERO))[0], format!("c{{{own}}} 1 500"));
        }

        let error = target("/gone").fetch(&client).await.unwrap_err();
        assert_eq!(error.to_string(), format!("http://{address}/gone answered 410"));
    }

    #[tokio::test]
    async fn an_endless_body_and_a_closed_port_are_errors() {
        let mut tasks = tokio::task::JoinSet::new();
        let endless = || async {
            let chunk = bytes::Bytes::from(vec![b'#'; 1 << 20]);
            let chunks = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            axum::body::Body::from_stream(chunks)
        };
        let address = serve(&mut tasks, Router::new().route("/metrics", get(endless))).await;
        let client = ScrapeClient::new().unwrap();
        let target = ScrapeTarget::new(&format!("http://{address}/metrics"), "web").unwrap();
        let error = target.fetch(&client).await.unwrap_err();
        assert_eq!(error.to_string(), format!("http://{address}/metrics answered more than 64 MiB"));

        tasks.shutdown().await;
        let closed = ScrapeTarget::new(&format!("http://user:secret@{address}/metrics"), "web").unwrap();
        let error = closed.fetch(&client).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot scrape http://user:***@{address}/metrics"));
    }

    #[test]
    fn no_answer_and_an_unreadable_one_are_down() {
        let mut target = ScrapeTarget::new("http://localhost/metrics", "web").unwrap();
        let own = "instance=\"localhost:80\",job=\"web\"";
        let mut up = |body: Option<&ScrapeBody>| lines(&target.samples(body, AT, Duration::ZERO))[0].clone();
        assert_eq!(up(None), format!("up{{{own}}} 0 0"));
        assert_eq!(up(Some(&body("<html>\n</html>"))), format!("up{{{own}}} 0 0"));
        assert_eq!(up(Some(&body(""))), format!("up{{{own}}} 1 0"));
    }

    #[test]
    fn a_series_keeps_its_labels_in_memory_from_scrape_to_scrape() {
        let mut target = ScrapeTarget::new("http://localhost:9100/metrics", "node").unwrap();
        let body = body("a{b=\"1\"} 1\n");
        let mut address = || target.samples(Some(&body), AT, Duration::ZERO).samples[0].series.address();
        assert_eq!(address(), address());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "localhost:9100", "ftp://host/metrics", "http://"] {
            assert!(matches!(ScrapeTarget::new(url, "x"), Err(ScrapeError::Address(_))), "{url}");
        }
    }
}
