//! The loop's own metrics. Their names are contracts and stand here, nowhere else.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::engine::Published;
use crate::engine::monitor::Counters;
use crate::model::{Admission, Batch, Entry, OutcomeResult, Reason, Role, Topic};

const COMPONENT: &str = "mape_k_component_duration_seconds";
const CYCLE: &str = "mape_k_cycle_duration_seconds";
const VIOLATIONS: &str = "mape_k_cycle_violations_processed";
const POLICIES: &str = "mape_k_cycle_policies_generated";
const ACTIONS: &str = "mape_k_cycle_actions_executed";
const PUBLISHED: &str = "homeostat_ledger_published_total";
const UNREADABLE: &str = "homeostat_ledger_unreadable_total";
const DEAD_LETTERS: &str = "homeostat_dead_letters_total";
const REPORTS: &str = "homeostat_reports_total";
const IN_DOUBT: &str = "homeostat_attempts_in_doubt_total";
const VERDICTS: &str = "homeostat_verdicts_total";
const STANDING_BY: &str = "homeostat_standing_by";
const FOLDS: &str = "homeostat_folds_kept_total";
const COMMITS: &str = "homeostat_store_commits_total";
const REBUILDS: &str = "homeostat_store_rebuilds_total";
const STORE_FAILURES: &str = "homeostat_store_failures_total";
const STORE_USABLE: &str = "homeostat_store_usable";
const COMPACTIONS: &str = "homeostat_store_compactions_total";
const LEFT_OUT: &str = "homeostat_knowledge_left_out_total";
const DROPPED: &str = "homeostat_knowledge_dropped_total";
const FULL: &str = "homeostat_knowledge_full_total";
const SAMPLES: &str = "homeostat_samples_total";
const FRAMES_LOST: &str = "homeostat_frames_lost_total";
const FRAMES_REFUSED: &str = "homeostat_frames_refused_total";
const SERIES: &str = "homeostat_series";
const SCRAPES: &str = "homeostat_scrapes_total";
const SCRAPE_LINES_REFUSED: &str = "homeostat_scrape_lines_refused_total";
const SLOW_CONSUMER: &str = "homeostat_bus_slow_consumer_drops_total";
const RECONNECTS: &str = "homeostat_bus_connects_total";

/// From ten microseconds to ten seconds, about three steps a decade.
const SECONDS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Renders what was counted.
#[derive(Clone)]
pub struct Rendered(PrometheusHandle);

impl Rendered {
    /// In the text format 0.0.4.
    pub fn text(&self) -> String {
        self.0.render()
    }
}

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be counted: {0}")]
pub struct MetricsError(String);

/// Begins to count. Once in a process.
pub fn init_metrics() -> Result<Rendered, MetricsError> {
    let refused = |error: metrics_exporter_prometheus::BuildError| MetricsError(error.to_string());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(refused)?;
    let handle = builder.install_recorder().map_err(refused)?;
    describe();
    Ok(Rendered(handle))
}

fn describe() {
    describe_histogram!(COMPONENT, "Time a component took to decide on what it was given");
    describe_histogram!(CYCLE, "Time from the violation to the stored intent, without settle");
    describe_counter!(VIOLATIONS, "Revisions of violations recorded");
    describe_counter!(POLICIES, "Plans made");
    describe_counter!(ACTIONS, "Effects started");
    describe_counter!(PUBLISHED, "Ledger messages by topic and what the ledger said");
    describe_counter!(UNREADABLE, "Messages of the ledger that cannot be read and are skipped");
    describe_counter!(DEAD_LETTERS, "Messages that could not be processed and were put aside");
    describe_counter!(REPORTS, "Why something was not done");
    describe_counter!(IN_DOUBT, "Attempts that may or may not have happened");
    describe_counter!(VERDICTS, "Whether plans helped");
    describe_gauge!(STANDING_BY, "Whether a role waits for its turn while another process has it");
    describe_counter!(FOLDS, "Folds of the ledger by whether they were kept for the next start");
    describe_counter!(COMMITS, "Durable changes of the knowledge store");
    describe_counter!(REBUILDS, "Doubtful stores that were moved aside and rebuilt");
    describe_counter!(STORE_FAILURES, "How often the knowledge store could not be used any more");
    describe_gauge!(STORE_USABLE, "Whether the knowledge store is open and takes what the ledger says");
    describe_counter!(COMPACTIONS, "Compactions of the knowledge store by whether they succeeded");
    describe_counter!(LEFT_OUT, "What the ledger said and the knowledge store could not keep");
    describe_counter!(
        DROPPED,
        "What the knowledge store gave up because it was too many or too old, by kind"
    );
    describe_counter!(
        FULL,
        "How often the knowledge store was nearly full and gave up the oldest before its time"
    );
    describe_counter!(SAMPLES, "Samples by what became of them");
    describe_counter!(FRAMES_LOST, "Frames that producers sent and that did not arrive");
    describe_counter!(FRAMES_REFUSED, "Messages of samples that cannot be read");
    describe_counter!(SCRAPES, "Scrapes by endpoint and whether it answered");
    describe_counter!(SCRAPE_LINES_REFUSED, "Lines of scrapes that cannot be read, by endpoint");
    describe_gauge!(SERIES, "Series in the monitor's windows");
    describe_counter!(SLOW_CONSUMER, "Messages dropped because a subscription was read too slowly");
    describe_counter!(RECONNECTS, "Connections to the bus that came up");
}

/// A component has decided on what it was given.
pub fn component_duration(role: Role, took: Duration) {
    histogram!(COMPONENT, "component" => role.as_str()).record(took.as_secs_f64());
}

/// A violation has led to an admitted effect.
pub fn cycle_duration(took: Duration) {
    histogram!(CYCLE).record(took.as_secs_f64());
}

/// A decision is about to be published.
pub fn decided(batch: &Batch) {
    for entry in &batch.entries {
        match entry {
            Entry::Violation(violation) => {
                counter!(VIOLATIONS).increment(1);
                tracing::info!(trace = %format_args!("{:032x}", batch.trace), rule = %violation.rule, phase = %violation.phase, labels = %violation.labels, value = violation.value, "violation");
            }
            Entry::Plan(plan) => {
                counter!(POLICIES).increment(1);
                tracing::info!(trace = %format_args!("{:032x}", batch.trace), plan = %plan.id, playbook = %plan.playbook, cause = %plan.cause, mode = plan.mode.as_str(), "plan");
            }
            Entry::Analysis(analysis) => {
                let cause = analysis.causes.first().map_or("unknown", |cause| cause.name.as_ref());
                tracing::info!(trace = %format_args!("{:032x}", batch.trace), incident = %analysis.incident, cause, "analysis");
            }
            Entry::Verdict(verdict) => {
                counter!(VERDICTS, "verdict" => verdict.kind.as_str()).increment(1);
                tracing::info!(trace = %format_args!("{:032x}", batch.trace), plan = %verdict.plan, verdict = verdict.kind.as_str(), reason = %verdict.reason, "verdict");
            }
            Entry::Report(report) => {
                counter!(REPORTS, "reason" => report.reason.as_str()).increment(1);
                let quiet = matches!(report.reason, Reason::Shadow | Reason::Superseded);
                if quiet {
                    tracing::debug!(reason = report.reason.as_str(), text = %report.text, "report");
                } else {
                    tracing::info!(reason = report.reason.as_str(), text = %report.text, "report");
                }
            }
            Entry::Outcome(outcome) => {
                if outcome.result == OutcomeResult::InDoubt {
                    counter!(IN_DOUBT).increment(1);
                }
                tracing::info!(trace = %format_args!("{:032x}", batch.trace), attempt = %outcome.attempt, result = outcome.result.as_str(), "outcome");
            }
            Entry::Admission(Admission::Halt { by, reason, .. }) => {
                tracing::warn!(%by, %reason, "automation is halted");
            }
            Entry::Admission(Admission::Resume { by, .. }) => tracing::warn!(%by, "automation goes on"),
            Entry::Admission(Admission::Intent(_) | Admission::Release(_) | Admission::Charter { .. })
            | Entry::Incident(_)
            | Entry::Change(_)
            | Entry::Applied { .. } => {}
        }
    }
}

/// The ledger has answered a publish.
pub fn published(topic: Topic, result: Published) {
    let result = match result {
        Published::Stored { duplicate: false, .. } => "stored",
        Published::Stored { duplicate: true, .. } => "duplicate",
        Published::WrongLastSequence => "conflict",
        Published::TimedOut => "timed_out",
        Published::Refused => "refused",
    };
    let kind = match topic {
        Topic::Violations(_) => "violations",
        Topic::Incidents(_) => "incidents",
        Topic::Analyses(_) => "analyses",
        Topic::Plans => "plans",
        Topic::Admission => "admission",
        Topic::Outcomes(_) => "outcomes",
        Topic::Verdicts(_) => "verdicts",
        Topic::Reports(_) => "reports",
        Topic::Changes => "changes",
        Topic::Control => "control",
    };
    counter!(PUBLISHED, "topic" => kind, "result" => result).increment(1);
}

/// An admitted effect is started.
pub fn effect_started() {
    counter!(ACTIONS).increment(1);
}

/// A message of the ledger cannot be read.
pub fn ledger_unreadable() {
    counter!(UNREADABLE).increment(1);
}

/// A message was put aside.
pub fn dead_letter(role: Role) {
    counter!(DEAD_LETTERS, "role" => role.as_str()).increment(1);
}

/// A message of samples cannot be read.
pub fn frame_refused() {
    counter!(FRAMES_REFUSED).increment(1);
}

/// An endpoint was scraped.
pub fn scraped(address: &Arc<str>, answered: bool, lines_refused: u64) {
    let outcome = if answered { "answered" } else { "failed" };
    counter!(SCRAPES, "endpoint" => Arc::clone(address), "outcome" => outcome).increment(1);
    counter!(SCRAPE_LINES_REFUSED, "endpoint" => Arc::clone(address)).increment(lines_refused);
}

/// Whether a role waits for its turn.
pub fn standing_by(role: Role, stands_by: bool) {
    gauge!(STANDING_BY, "role" => role.as_str()).set(f64::from(u8::from(stands_by)));
}

/// A fold of the ledger was kept, or why it was not.
pub fn fold_kept(outcome: &'static str) {
    counter!(FOLDS, "outcome" => outcome).increment(1);
}

/// The store has taken a durable change.
pub fn store_committed() {
    counter!(COMMITS).increment(1);
}

/// A doubtful store was moved aside.
pub fn store_rebuilt() {
    counter!(REBUILDS).increment(1);
}

/// The store takes nothing any more.
pub fn store_failed() {
    counter!(STORE_FAILURES).increment(1);
}

/// Whether the store takes what the ledger says.
pub fn store_usable(usable: bool) {
    gauge!(STORE_USABLE).set(f64::from(u8::from(usable)));
}

/// The disk space that the store does not need was given back, or could not be.
pub fn store_compacted(succeeded: bool) {
    let outcome = if succeeded { "succeeded" } else { "failed" };
    counter!(COMPACTIONS, "outcome" => outcome).increment(1);
}

/// Something that the ledger says cannot be kept.
pub fn knowledge_left_out() {
    counter!(LEFT_OUT).increment(1);
}

/// Old knowledge was given up.
pub fn knowledge_dropped(kind: &'static str, count: u64) {
    counter!(DROPPED, "kind" => kind).increment(count);
}

/// The store had no room and gave up old knowledge before its time.
pub fn knowledge_full() {
    counter!(FULL).increment(1);
}

/// What the monitor has counted so far.
pub fn monitor_counters(counters: &Counters) {
    let samples = [
        ("stored", counters.samples),
        ("duplicate", counters.samples_duplicate),
        ("conflicting", counters.samples_conflicting),
        ("too_late", counters.samples_too_late),
        ("out_of_time", counters.samples_out_of_time),
        ("refused", counters.samples_refused),
    ];
    for (result, count) in samples {
        counter!(SAMPLES, "result" => result).absolute(count);
    }
    counter!(FRAMES_LOST).absolute(counters.frames_lost);
    gauge!(SERIES).set(counters.series as f64);
}

/// What the connections have counted so far.
pub fn connection_counts(connection: &'static str, connects: u64, slow_consumer: u64) {
    counter!(RECONNECTS, "connection" => connection).absolute(connects);
    counter!(SLOW_CONSUMER, "connection" => connection).absolute(slow_consumer);
}
