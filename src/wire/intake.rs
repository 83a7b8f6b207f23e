//! Intake: what people and tools send. JSON or MessagePack, with or without CloudEvents headers, so that a person with
//! the `nats` command can take part; fields are named as Alertmanager names them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::body::{self, ContentType};
use super::envelope::{self, Envelope, Kind, Message, Source};
use super::error::{DecodeError, EncodeError};
use super::leaf::{float_option, pairs};
use super::subject::{Intake, Subject, Subjects};
use crate::engine::{self, monitor::EXTERNAL_GROUP};
use crate::model::{
    Change, ChangeKind, EpisodeId, Labels, Operator, OperatorRequest, Phase, RuleName, Severity, Timestamp,
    Violation,
};

/// Longest name of an alert: it becomes a label's value.
const NAME_BYTES_MAX: usize = 256;
/// What somebody did, in a paragraph: it is kept with its incident, and a document belongs behind a link.
const SUMMARY_BYTES_MAX: usize = 4_096;
/// Why automation is halted: shown with every attempt that is not admitted.
const REASON_BYTES_MAX: usize = 1_024;
/// The label that holds an alert's name.
const ALERT_NAME: &str = "alertname";

/// A violation that somebody else found.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedViolation {
    /// The alert's name.
    pub alert: Arc<str>,
    /// Its labels, `alertname` included.
    pub labels: Labels,
    /// Text for people, in the order of the names.
    pub annotations: Vec<(Arc<str>, Arc<str>)>,
    /// From the field `severity`, else from the label.
    pub severity: Severity,
    /// `firing` or `resolved`.
    pub phase: Phase,
    /// When it began, where the sender says so.
    pub since: Option<Timestamp>,
    /// The value it was found with, where the sender says so.
    pub value: Option<f64>,
}

impl ReportedViolation {
    /// The violation as a deciding role takes it. What the sender did not say is its message's: the time, no value.
    pub fn taken_in(self, received_at: Timestamp) -> Violation {
        let since = self.since.unwrap_or(received_at);
        Violation {
            // The role that records it knows whether an episode goes on, and derives both anew.
            episode: EpisodeId::of(&[&EXTERNAL_GROUP, &self.labels, &since]),
            rev: 0,
            rule: RuleName { group: EXTERNAL_GROUP.into(), alert: self.alert },
            severity: self.severity,
            phase: self.phase,
            labels: self.labels,
            annotations: self.annotations,
            since,
            at: received_at,
            value: self.value.unwrap_or(f64::NAN),
            sample_interval: Duration::ZERO,
        }
    }
}

/// A change that somebody made; without a time it is as old as its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedChange {
    /// What was done.
    pub kind: ChangeKind,
    /// To what.
    pub scope: Labels,
    /// When, where the sender says so.
    pub at: Option<Timestamp>,
    /// In words.
    pub summary: Arc<str>,
}

impl ReportedChange {
    /// The change as a deciding role takes it.
    pub fn taken_in(self, received_at: Timestamp) -> Change {
        Change::new(self.kind, self.scope, self.at.unwrap_or(received_at), self.summary)
    }
}

/// One message of the intake.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A violation that somebody else found.
    Violation(ReportedViolation),
    /// A change that somebody made.
    Change(ReportedChange),
    /// What an operator asks for.
    Control(Operator, OperatorRequest),
}

impl Received {
    /// What a deciding role is handed.
    pub fn taken_in(self, received_at: Timestamp) -> engine::Intake {
        match self {
            Self::Violation(violation) => {
                engine::Intake::Violation(Box::new(violation.taken_in(received_at)))
            }
            Self::Change(change) => engine::Intake::Change(change.taken_in(received_at)),
            Self::Control(by, request) => engine::Intake::Operator { by, request },
        }
    }
}

/// What came in, by the subject it came on.
pub fn open(subjects: &Subjects, message: &Message) -> Result<Received, DecodeError> {
    let intake = match subjects.parse(&message.subject) {
        Ok(Subject::Intake(intake)) => intake,
        Ok(Subject::Ledger(_) | Subject::Samples(_) | Subject::Dlq(_) | Subject::Tables(_)) => {
            return Err(DecodeError::malformed("not a subject of the intake"));
        }
        Err(error) => return Err(DecodeError::malformed(error)),
    };
    let kind = match &intake {
        Intake::Violations => Kind::IntakeViolation,
        Intake::Changes => Kind::IntakeChange,
        Intake::Control(_) => Kind::IntakeControl,
        Intake::Approvals(_) => return Err(DecodeError::unknown("this version takes no approvals")),
    };
    let content = content(message, kind)?;
    Ok(match intake {
        Intake::Violations => Received::Violation(decode_violation(content, &message.payload)?),
        Intake::Changes => Received::Change(decode_change(content, &message.payload)?),
        Intake::Control(user) | Intake::Approvals(user) => {
            Received::Control(user.into(), decode_control(content, &message.payload)?)
        }
    })
}

/// The message that asks for something; the sender names it, because asking twice may be meant.
pub fn message(
    subjects: &Subjects,
    source: Source<'_>,
    id: &str,
    sent: &Received,
) -> Result<Message, EncodeError> {
    let (subject, kind, payload) = match sent {
        Received::Violation(violation) => {
            (subjects.intake_violations(), Kind::IntakeViolation, encode_violation(violation)?)
        }
        Received::Change(change) => (subjects.intake_changes(), Kind::IntakeChange, encode_change(change)?),
        Received::Control(user, request) => {
            let subject =
                subjects.intake_control(user).map_err(|error| EncodeError::Refused(error.to_string()))?;
            (subject, Kind::IntakeControl, encode_control(request)?)
        }
    };
    let (source, content) = (source.to_string(), ContentType::MessagePack);
    let envelope = Envelope { kind, id: id.into(), source, at: None, trace: None, content };
    Ok(Message { subject, headers: envelope.headers(), payload })
}

/// How the body is written: as the headers say, else as it looks.
fn content(message: &Message, expected: Kind) -> Result<ContentType, DecodeError> {
    if let Some(envelope) = Envelope::read(&message.headers)?
        && envelope.kind != expected
    {
        let (found, expected) = (envelope.kind.as_str(), expected.as_str());
        let cause = format_args!("`{found}`, on this subject `{expected}` is taken");
        return Err(DecodeError::malformed(cause).in_field("ce-type"));
    }
    Ok(envelope::content(&message.headers)?.unwrap_or_else(|| ContentType::sniff(&message.payload)))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ViolationShape {
    #[serde(default, alias = "rule", alias = "alert", skip_serializing_if = "Option::is_none")]
    alertname: Option<Arc<str>>,
    #[serde(default)]
    labels: Labels,
    #[serde(default, with = "pairs")]
    annotations: Vec<(Arc<str>, Arc<str>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(default)]
    status: Status,
    #[serde(default, alias = "starts_at", alias = "since", skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    #[serde(default, with = "float_option", skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    #[default]
    Firing,
    Resolved,
}

/// Writes a violation for the intake.
pub fn encode_violation(violation: &ReportedViolation) -> Result<Bytes, EncodeError> {
    let status = match violation.phase {
        Phase::Firing => Status::Firing,
        Phase::Resolved => Status::Resolved,
        Phase::Pending => {
            return Err(EncodeError::Refused("a pending violation is nobody else's business".into()));
        }
    };
    let shape = ViolationShape {
        alertname: Some(Arc::clone(&violation.alert)),
        labels: violation.labels.clone(),
        annotations: violation.annotations.clone(),
        severity: Some(violation.severity),
        status,
        starts_at: violation.since,
        value: violation.value,
    };
    body::encode(&shape).map(Bytes::from)
}

/// Reads a violation of the intake.
pub fn decode_violation(content: ContentType, payload: &[u8]) -> Result<ReportedViolation, DecodeError> {
    let shape: ViolationShape = decode(content, payload)?;
    let named = shape.labels.get(ALERT_NAME);
    let alert = match (&shape.alertname, named) {
        (Some(alert), Some(label)) if alert.as_ref() != label => {
            let cause = format_args!("`{alert}`, but the label `{ALERT_NAME}` says `{label}`");
            return Err(DecodeError::malformed(cause).in_field(ALERT_NAME));
        }
        (Some(alert), _) => Arc::clone(alert),
        (None, Some(label)) => label.into(),
        (None, None) => return Err(DecodeError::malformed("is missing").in_field(ALERT_NAME)),
    };
    if alert.is_empty() || alert.len() > NAME_BYTES_MAX {
        let cause = format_args!("{} bytes, 1 to {NAME_BYTES_MAX} are taken", alert.len());
        return Err(DecodeError::malformed(cause).in_field(ALERT_NAME));
    }
    let severity = shape.severity.unwrap_or_else(|| Severity::from_label(shape.labels.get("severity")));
    let labels = shape.labels.with(ALERT_NAME, &alert).map_err(DecodeError::malformed)?;
    let phase = match shape.status {
        Status::Firing => Phase::Firing,
        Status::Resolved => Phase::Resolved,
    };
    let ViolationShape { annotations, starts_at: since, value, .. } = shape;
    Ok(ReportedViolation { alert, labels, annotations, severity, phase, since, value })
}

#[derive(Serialize, Deserialize)]
struct ChangeShape {
    kind: ChangeKind,
    #[serde(default)]
    scope: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    summary: Arc<str>,
}

/// Writes a change for the intake.
pub fn encode_change(change: &ReportedChange) -> Result<Bytes, EncodeError> {
    let ReportedChange { kind, scope, at, summary } = change.clone();
    bounded("summary", &summary, SUMMARY_BYTES_MAX)
        .map_err(|error| EncodeError::Refused(error.to_string()))?;
    body::encode(&ChangeShape { kind, scope, at, summary }).map(Bytes::from)
}

/// Reads a change of the intake.
pub fn decode_change(content: ContentType, payload: &[u8]) -> Result<ReportedChange, DecodeError> {
    let ChangeShape { kind, scope, at, summary } = decode(content, payload)?;
    bounded("summary", &summary, SUMMARY_BYTES_MAX)?;
    Ok(ReportedChange { kind, scope, at, summary })
}

#[derive(Serialize, Deserialize)]
struct ControlShape {
    request: Request,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Halt,
    Resume,
}

/// Writes an operator's request.
pub fn encode_control(request: &OperatorRequest) -> Result<Bytes, EncodeError> {
    let shape = match request {
        OperatorRequest::Halt { reason } => {
            let fits = bounded("reason", reason, REASON_BYTES_MAX);
            fits.map_err(|error| EncodeError::Refused(error.to_string()))?;
            ControlShape { request: Request::Halt, reason: Some(Arc::clone(reason)) }
        }
        OperatorRequest::Resume => ControlShape { request: Request::Resume, reason: None },
    };
    body::encode(&shape).map(Bytes::from)
}

/// Reads an operator's request.
pub fn decode_control(content: ContentType, payload: &[u8]) -> Result<OperatorRequest, DecodeError> {
    let ControlShape { request, reason } = decode(content, payload)?;
    match (request, reason) {
        (Request::Resume, _) => Ok(OperatorRequest::Resume),
        (Request::Halt, Some(reason)) if !reason.trim().is_empty() => {
            bounded("reason", &reason, REASON_BYTES_MAX)?;
            Ok(OperatorRequest::Halt { reason })
        }
        (Request::Halt, _) => {
            Err(DecodeError::malformed("is missing: people will ask why nothing happens").in_field("reason"))
        }
    }
}

fn bounded(field: &str, text: &str, bytes_max: usize) -> Result<(), DecodeError> {
    if text.len() > bytes_max {
        let cause = format_args!("{} bytes, at most {bytes_max} are taken", text.len());
        return Err(DecodeError::limit(cause).in_field(field));
    }
    Ok(())
}

/// A word we do not know is the sender's mistake here, and said at once: nothing of ours is newer on this side.
fn decode<T: DeserializeOwned>(content: ContentType, payload: &[u8]) -> Result<T, DecodeError> {
    body::decode(content, payload).map_err(DecodeError::into_malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Fault, Headers};

    fn violation(json: &str) -> Result<ReportedViolation, String> {
        decode_violation(ContentType::Json, json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_person_needs_a_name_and_nothing_more() {
        let found = violation(r#"{"alertname": "DiskFull"}"#).unwrap();
        assert_eq!(found.labels, Labels::new([(ALERT_NAME, "DiskFull")]).unwrap());
        assert_eq!((found.severity, found.phase, found.since), (Severity::None, Phase::Firing, None));
    }

    #[test]
    fn what_alertmanager_sends_is_understood() {
        let json = r#"{"labels": {"alertname": "DiskFull", "severity": "page", "host": "a"}, "status": "resolved",
            "annotations": {"summary": "full"}, "startsAt": "2023-11-14T22:13:20.123456Z", "value": "+Inf",
            "endsAt": "2023-11-14T22:14:20Z", "generatorURL": "http://x", "fingerprint": "1"}"#;
        let found = violation(json).unwrap();
        assert_eq!(found.alert.as_ref(), "DiskFull");
        assert_eq!((found.severity, found.phase), (Severity::Critical, Phase::Resolved));
        assert_eq!(found.since, Some(Timestamp::from_millis(1_700_000_000_123)));
        assert_eq!(found.value, Some(f64::INFINITY));
        assert_eq!(found.annotations, [("summary".into(), "full".into())]);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let cases = [
            (
                r#"{"alertname":"A","severity":"urgent"}"#,
                "`severity`: `urgent` is not one of none, info, warning, critical",
            ),
            (r#"{"alertname":"A","status":"broken"}"#, "`status`: `broken` is not one of firing, resolved"),
            (r#"{"labels":{"job":"a"}}"#, "`alertname`: is missing"),
            (
                r#"{"alertname":"A","labels":{"alertname":"B"}}"#,
                "`alertname`: `A`, but the label `alertname` says `B`",
            ),
            (
                r#"{"alertname":"A","labels":{"job":7}}"#,
                "`labels.job`: invalid type: integer `7`, expected a text",
            ),
            (r#"{"alertname":"A","startsAt":"noon"}"#, "`startsAt`: `noon` is no time in RFC 3339"),
            (r#"{"alertname":""}"#, "`alertname`: 0 bytes, 1 to 256 are taken"),
            (r#"{"alertname":"A""#, "not JSON: EOF while parsing an object at line 1 column 16"),
        ];
        for (json, expected) in cases {
            assert_eq!(violation(json).unwrap_err(), expected, "{json}");
        }
        let fault = decode_violation(ContentType::Json, br#"{"alertname":"A","severity":"urgent"}"#)
            .unwrap_err()
            .fault();
        assert_eq!(fault, Fault::Malformed);
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_refused_with_its_place() {
        let value = "v".repeat(2_048);
        let labels: Vec<String> = (0..64).map(|n| format!(r#""l{n}": "{value}""#)).collect();
        let large = format!(r#"{{"alertname": "A", "labels": {{{}}}}}"#, labels.join(","));
        let refused = violation(&large).unwrap_err();
        assert!(refused.starts_with("`labels`: labels of 131254 bytes on one series"), "{refused}");
        // The name that is added counts as well.
        let name = "A".repeat(100);
        let nearly = format!(r#"{{"alertname": "{name}", "labels": {{{}}}}}"#, labels[..3].join(","));
        assert!(violation(&nearly).is_ok());
        let change = format!(r#"{{"kind":"deploy","summary":"{}"}}"#, "x".repeat(SUMMARY_BYTES_MAX + 1));
        let refused = decode_change(ContentType::Json, change.as_bytes()).unwrap_err();
        assert_eq!(refused.to_string(), "`summary`: 4097 bytes, at most 4096 are taken");
        let halt = format!(r#"{{"request":"halt","reason":"{}"}}"#, "x".repeat(REASON_BYTES_MAX + 1));
        let refused = decode_control(ContentType::Json, halt.as_bytes()).unwrap_err();
        assert_eq!(refused.to_string(), "`reason`: 1025 bytes, at most 1024 are taken");
    }

    #[test]
    fn what_the_sender_does_not_say_is_taken_from_the_message() {
        let now = Timestamp::from_millis(7);
        let taken = violation(r#"{"alertname":"A"}"#).unwrap().taken_in(now);
        assert_eq!((taken.since, taken.at, taken.rule.to_string().as_str()), (now, now, "external/A"));
        assert!(taken.value.is_nan());
        let change = decode_change(ContentType::Json, br#"{"kind":"deploy","summary":"v2"}"#).unwrap();
        let expected = Change::new(ChangeKind::Deploy, Labels::empty(), now, "v2");
        assert!(
            matches!(Received::Change(change).taken_in(now), engine::Intake::Change(change) if change == expected)
        );
    }

    #[test]
    fn a_halt_has_a_reason() {
        let control =
            |json: &str| decode_control(ContentType::Json, json.as_bytes()).map_err(|e| e.to_string());
        let reason = "deploy".into();
        assert_eq!(control(r#"{"request":"halt","reason":"deploy"}"#), Ok(OperatorRequest::Halt { reason }));
        assert_eq!(control(r#"{"request":"resume"}"#), Ok(OperatorRequest::Resume));
        assert!(
            control(r#"{"request":"halt","reason":" "}"#).unwrap_err().starts_with("`reason`: is missing")
        );
        assert_eq!(
            control(r#"{"request":"stop"}"#).unwrap_err(),
            "`request`: `stop` is not one of halt, resume"
        );
    }

    #[test]
    fn the_subject_says_what_it_is_and_who_asks() {
        let subjects = Subjects::default();
        let payload = Bytes::from_static(br#"{"request":"resume"}"#);
        let subject = subjects.intake_control("kim").unwrap();
        let message = Message { subject, headers: Headers::new(), payload };
        let expected = Received::Control("kim".into(), OperatorRequest::Resume);
        assert_eq!(open(&subjects, &message), Ok(expected));
        let elsewhere = Message { subject: "homeostat.v1.plans".into(), ..message.clone() };
        assert_eq!(open(&subjects, &elsewhere).unwrap_err().fault(), Fault::Malformed);
        let approval = Message { subject: "homeostat.v1.intake.approvals.kim".into(), ..message };
        assert_eq!(open(&subjects, &approval).unwrap_err().fault(), Fault::Unknown);
    }

    #[test]
    fn what_is_sent_is_received() {
        let subjects = Subjects::default();
        let source = Source { cell: "eu", role: "operator", instance: "kim" };
        let change = ReportedChange {
            kind: ChangeKind::Deploy,
            scope: Labels::new([("service", "checkout")]).unwrap(),
            at: Some(Timestamp::from_millis(5)),
            summary: "v2".into(),
        };
        let halt = OperatorRequest::Halt { reason: "deploy".into() };
        let sent = [
            Received::Violation(violation(r#"{"alertname":"A","value":1.5,"startsAt":7}"#).unwrap()),
            Received::Change(change),
            Received::Control("kim".into(), halt),
            Received::Control("kim".into(), OperatorRequest::Resume),
        ];
        for sent in sent {
            let message = message(&subjects, source, "1", &sent).unwrap();
            assert_eq!(open(&subjects, &message).unwrap(), sent);
            let misplaced = Message { subject: subjects.intake_approvals("kim").unwrap(), ..message };
            assert!(open(&subjects, &misplaced).is_err());
        }
    }

    #[test]
    fn a_type_that_belongs_elsewhere_is_refused() {
        let subjects = Subjects::default();
        let source = Source { cell: "eu", role: "operator", instance: "kim" };
        let sent = Received::Control("kim".into(), OperatorRequest::Resume);
        let mut message = message(&subjects, source, "1", &sent).unwrap();
        message.subject = subjects.intake_changes();
        let error = open(&subjects, &message).unwrap_err().to_string();
        assert!(error.starts_with("`ce-type`: `io.homeostat.intake.control.v1`, on this subject"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
            for content in [ContentType::Json, ContentType::MessagePack] {
                for payload in [bytes.as_slice(), text.as_bytes()] {
                    let _ = decode_violation(content, payload);
                    let _ = decode_change(content, payload);
                    let _ = decode_control(content, payload);
                }
            }
        }
    }
}
