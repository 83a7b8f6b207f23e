//! A Prometheus of our own: on loopback, with an empty folder, ended by its process id.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::answer::{Answer, Names, Value};
use crate::fleet::{Fleet, SPAN_SECONDS};
use crate::question::{Question, When};
use crate::remote_write;

/// Past it a Prometheus without data is not slow but stuck.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How often a starting one is asked whether it is ready.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// The slowest of the generated questions takes a second.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);
/// Its experiments that we have. A text that is damaged may become a calculated duration.
const FEATURES: &str = "promql-experimental-functions,promql-duration-expr";

/// To be ended with [`stop`](Self::stop); dropped, it is killed and its folder removed all the same.
pub(crate) struct Prometheus {
    address: String,
    client: reqwest::Client,
    child: Child,
    folder: TempDir,
}

impl Prometheus {
    /// Starts one that has the samples of a fleet and no others.
    pub(crate) async fn with(program: &Path, fleet: &Fleet) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "global: {}\n")?;
        // Free now; should another process take it meanwhile, Prometheus says so and ends.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--enable-feature={FEATURES}"))
            .args(["--web.enable-remote-write-receiver", "--log.level=error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        // It fails only where a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWERS_WITHIN).build()?;
        let mut prometheus = Self { address, client, child, folder };
        tokio::time::timeout(STARTS_WITHIN, prometheus.is_ready())
            .await
            .context("it does not get ready")??;
        prometheus.load(fleet).await?;
        Ok(prometheus)
    }

    /// Ends it, and then removes its folder: it has nothing to save.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(self.folder.close()?)
    }

    /// What it answers.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answer> {
        let query = question.expression.to_string();
        let seconds = |millis: i64| format!("{:.3}", millis as f64 / 1_000.0);
        let (path, times) = match question.when {
            When::Instant(at) => ("query", vec![("time", seconds(at))]),
            When::Range { start, end, step } => (
                "query_range",
                vec![("start", seconds(start)), ("end", seconds(end)), ("step", seconds(step))],
            ),
        };
        let body = std::iter::once(("query", query)).chain(times).map(|(name, value)| pair(name, &value));
        let answer = self
            .client
            .post(format!("http://{}/api/v1/{path}", self.address))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body.collect::<Vec<_>>().join("&"))
            .send()
            .await?;
        let text = answer.text().await?;
        let json: Json = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
        read(&json).with_context(|| format!("an answer that is not understood: {text}"))
    }

    async fn is_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/-/ready", self.address);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("Prometheus ended with {status}");
            }
            if self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    async fn load(&self, fleet: &Fleet) -> Result<()> {
        let answer = self
            .client
            .post(format!("http://{}/api/v1/write", self.address))
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(remote_write::body(fleet))
            .send()
            .await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "Prometheus refuses the samples: {status} {text}");
        // A sample that it left out would look like a difference in every answer.
        let expression = format!("{{__name__!=\"\"}}[{}s]", 2 * SPAN_SECONDS);
        let answer = self.ask(&Question::instant(&expression, SPAN_SECONDS * 1_000)).await?;
        let Value::Matrix(rows) = answer.value else {
            bail!("it does not show its samples: {:?}", answer.value)
        };
        let known: usize = rows.iter().map(|(_, samples)| samples.len()).sum();
        let sent = fleet.samples();
        ensure!(known == sent, "Prometheus has {known} of {sent} samples");
        Ok(())
    }
}

fn pair(name: &str, value: &str) -> String {
    let mut pair = format!("{name}=");
    for byte in value.bytes() {
        // Writing to a `String` does not fail.
        let _ = write!(pair, "%{byte:02X}");
    }
    pair
}

fn read(json: &Json) -> Option<Answer> {
    if json.get("status")? == "error" {
        let (kind, message) = (json.get("errorType")?.as_str()?, json.get("error")?.as_str()?);
        let is_about_the_question = matches!(kind, "bad_data" | "execution");
        return is_about_the_question.then(|| Answer::failed(message));
    }
    let said = |name: &str| {
        let texts = json.get(name).and_then(Json::as_array).into_iter().flatten();
        texts.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let (data, result) = (json.get("data")?, json.pointer("/data/result")?);
    let value = match data.get("resultType")?.as_str()? {
        "scalar" => Value::Scalar(sample(result)?.1),
        "string" => Value::Text(result.get(1)?.as_str()?.to_owned()),
        "vector" => {
            let element = |json: &Json| Some((labels(json)?, sample(json.get("value")?)?.1));
            Value::Vector(result.as_array()?.iter().map(element).collect::<Option<_>>()?)
        }
        "matrix" => {
            let row = |json: &Json| {
                let samples = json.get("values")?.as_array()?.iter().map(sample).collect::<Option<_>>()?;
                Some((labels(json)?, samples))
            };
            Value::Matrix(result.as_array()?.iter().map(row).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(Answer { value, warnings: said("warnings"), infos: said("infos") })
}

fn labels(json: &Json) -> Option<Names> {
    let pairs = json.get("metric")?.as_object()?.iter();
    pairs.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Milliseconds and the value.
fn sample(json: &Json) -> Option<(i64, f64)> {
    #[expect(clippy::cast_possible_truncation, reason = "times of a fleet are small")]
    let at = (json.get(0)?.as_f64()? * 1_000.0).round() as i64;
    let value = match json.get(1)?.as_str()? {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some((at, value))
}
