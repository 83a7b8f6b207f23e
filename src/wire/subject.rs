//! Subjects: where on the bus a message goes, and what a subject that comes in says.
//!
//! Names of rules, playbooks and kinds are never tokens: every subject of a stream costs the server memory. The only
//! free tokens are users (the server's permission on the token is the identity) and producers.

use std::fmt;
use std::str::FromStr;

use crate::model::{IncidentPhase, OutcomeResult, Role, Severity, Shard, Topic, VerdictKind};

/// Largest number of buckets of a cell: "a few thousand subjects a stream at most", and each bucket is one.
pub const BUCKETS_MAX: u32 = 1_024;
/// Longest free token: a user, a producer.
const TOKEN_BYTES_MAX: usize = 64;
/// Longest prefix: the server takes subjects of some hundred bytes gladly, and the rest needs its share.
const PREFIX_BYTES_MAX: usize = 128;
/// What stands behind the prefix: another major version of the subjects is another loop.
const VERSION: &str = "v1";

/// Why a name or a subject is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not usable as a token.
    #[error("`{0}` is not 1 to {TOKEN_BYTES_MAX} letters, digits, `-` or `_`")]
    Token(String),
    /// Not usable as a prefix.
    #[error(
        "the prefix `{0}` is not letters, digits, `-` or `_` in tokens parted by `.`, at most {PREFIX_BYTES_MAX} bytes"
    )]
    Prefix(String),
    /// Somebody else's subject.
    #[error("`{subject}` does not start with `{expected}`")]
    Foreign {
        /// What came, shortened.
        subject: String,
        /// Our start.
        expected: String,
    },
    /// Under our prefix, but nothing that this version knows.
    #[error("`{0}` is no subject that this version knows")]
    Unknown(String),
}

/// What a subject says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A message of the ledger.
    Ledger(Topic),
    /// Frames of this bucket.
    Samples(u32),
    /// What people and tools send.
    Intake(Intake),
    /// What this role could not take.
    Dlq(Role),
    /// A request for a series table of this producer.
    Tables(String),
}

/// What people and tools may send. The user of a request is who the server's permissions say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Intake {
    /// Violations that somebody else found.
    Violations,
    /// Changes to the system.
    Changes,
    /// Approvals of this user.
    Approvals(String),
    /// Halt and resume, asked for by this user.
    Control(String),
}

/// The subjects of one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// `<prefix>.v1.`
    root: String,
}

impl Default for Subjects {
    /// Under `homeostat`.
    fn default() -> Self {
        Self { root: format!("homeostat.{VERSION}.") }
    }
}

impl Subjects {
    /// Checks the prefix.
    pub fn new(prefix: &str) -> Result<Self, SubjectError> {
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.split('.').all(is_token) || prefix.starts_with('_') {
            return Err(SubjectError::Prefix(shortened(prefix)));
        }
        Ok(Self { root: format!("{prefix}.{VERSION}.") })
    }

    /// Frames of one bucket.
    pub fn samples(&self, bucket: u32) -> String {
        format!("{}samples.{bucket}", self.root)
    }

    /// Frames of every bucket, for streams and subscriptions.
    pub fn samples_all(&self) -> String {
        format!("{}samples.*", self.root)
    }

    /// One topic of the ledger.
    pub fn ledger(&self, topic: Topic) -> String {
        format!("{}{topic}", self.root)
    }

    /// What the ledger's stream captures.
    pub fn ledger_all(&self) -> Vec<String> {
        const TOPICS: [&str; 10] = [
            "violations.*",
            "incidents.*",
            "analyses.*",
            "plans",
            "admission",
            "outcomes.*",
            "verdicts.*",
            "reports.*",
            "changes",
            "control",
        ];
        TOPICS.iter().map(|topic| format!("{}{topic}", self.root)).collect()
    }

    /// Where all users halt and resume.
    pub fn intake_control_all(&self) -> String {
        format!("{}intake.control.*", self.root)
    }

    /// Where violations come in.
    pub fn intake_violations(&self) -> String {
        format!("{}intake.violations", self.root)
    }

    /// Where changes come in.
    pub fn intake_changes(&self) -> String {
        format!("{}intake.changes", self.root)
    }

    /// Where this user approves.
    pub fn intake_approvals(&self, user: &str) -> Result<String, SubjectError> {
        Ok(format!("{}intake.approvals.{}", self.root, token(user)?))
    }

    /// Where this user halts and resumes.
    pub fn intake_control(&self, user: &str) -> Result<String, SubjectError> {
        Ok(format!("{}intake.control.{}", self.root, token(user)?))
    }

    /// What a role could not take.
    pub fn dlq(&self, role: Role) -> String {
        format!("{}dlq.{role}", self.root)
    }

    /// Every dead letter, for its stream.
    pub fn dlq_all(&self) -> String {
        format!("{}dlq.*", self.root)
    }

    /// Where a producer answers requests for its series tables.
    pub fn tables(&self, producer: &str) -> Result<String, SubjectError> {
        Ok(format!("{}tables.{}", self.root, token(producer)?))
    }

    /// What a subject says.
    pub fn parse(&self, subject: &str) -> Result<Subject, SubjectError> {
        let rest = subject.strip_prefix(&self.root).ok_or_else(|| SubjectError::Foreign {
            subject: shortened(subject),
            expected: self.root.clone(),
        })?;
        parse_rest(rest).ok_or_else(|| SubjectError::Unknown(shortened(subject)))
    }
}

impl fmt::Display for Subjects {
    /// `<prefix>.v1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.trim_end_matches('.'))
    }
}

/// Checks a name that becomes a token. Names that stand for somebody are refused rather than changed: two users must
/// not become one.
pub fn token(name: &str) -> Result<&str, SubjectError> {
    if is_token(name) { Ok(name) } else { Err(SubjectError::Token(shortened(name))) }
}

/// A token made of any text, for names that nobody chose: a host name as a producer's.
pub fn token_from(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let token: String = text.chars().take(TOKEN_BYTES_MAX).map(fit).collect();
    if token.is_empty() { "-".into() } else { token }
}

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

fn parse_rest(rest: &str) -> Option<Subject> {
    let mut tokens = rest.split('.');
    let subject = match (tokens.next()?, tokens.next()) {
        ("samples", Some(bucket)) => Subject::Samples(number(bucket).filter(|bucket| *bucket < BUCKETS_MAX)?),
        ("tables", Some(producer)) => Subject::Tables(token(producer).ok()?.into()),
        ("dlq", Some(name)) => Subject::Dlq(role(name)?),
        ("intake", Some(kind)) => Subject::Intake(parse_intake(kind, &mut tokens)?),
        (noun, detail) => Subject::Ledger(parse_topic(noun, detail)?),
    };
    tokens.next().is_none().then_some(subject)
}

fn parse_intake<'a>(kind: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<Intake> {
    let mut user = || rest.next().and_then(|user| token(user).ok()).map(String::from);
    match kind {
        "violations" => Some(Intake::Violations),
        "changes" => Some(Intake::Changes),
        "approvals" => user().map(Intake::Approvals),
        "control" => user().map(Intake::Control),
        _ => None,
    }
}

fn parse_topic(noun: &str, detail: Option<&str>) -> Option<Topic> {
    fn word<T: FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    Some(match (noun, detail) {
        ("violations", Some(severity)) => Topic::Violations(word::<Severity>(severity)?),
        ("incidents", Some(phase)) => Topic::Incidents(word::<IncidentPhase>(phase)?),
        ("analyses", Some(shard)) => Topic::Analyses(Shard(u16::try_from(number(shard)?).ok()?)),
        ("outcomes", Some(result)) => Topic::Outcomes(word::<OutcomeResult>(result)?),
        ("verdicts", Some(verdict)) => Topic::Verdicts(word::<VerdictKind>(verdict)?),
        ("reports", Some(name)) => Topic::Reports(role(name)?),
        ("plans", None) => Topic::Plans,
        ("admission", None) => Topic::Admission,
        ("changes", None) => Topic::Changes,
        ("control", None) => Topic::Control,
        _ => return None,
    })
}

/// The topic of a ledger subject's part behind prefix and version.
pub(super) fn topic(text: &str) -> Option<Topic> {
    let mut tokens = text.splitn(2, '.');
    parse_topic(tokens.next()?, tokens.next())
}

fn role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == name)
}

/// A number as we write it: `+1` and `01` would be second names of the same bucket.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (text.len() == 1 || !text.starts_with(['0', '+'])).then_some(number)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every_topic() -> Vec<Topic> {
        let mut topics = vec![Topic::Plans, Topic::Admission, Topic::Changes, Topic::Control];
        topics.extend([0, 7, u16::MAX].map(|shard| Topic::Analyses(Shard(shard))));
        topics.extend(Role::ALL.map(Topic::Reports));
        let severities = [Severity::None, Severity::Info, Severity::Warning, Severity::Critical];
        topics.extend(severities.map(Topic::Violations));
        topics.extend([IncidentPhase::Open, IncidentPhase::Closed].map(Topic::Incidents));
        let results = [
            OutcomeResult::Succeeded,
            OutcomeResult::Failed,
            OutcomeResult::NotStarted,
            OutcomeResult::TimedOut,
            OutcomeResult::InDoubt,
        ];
        topics.extend(results.map(Topic::Outcomes));
        let verdicts = [
            VerdictKind::Verified,
            VerdictKind::Ineffective,
            VerdictKind::Harmful,
            VerdictKind::Inconclusive,
        ];
        topics.extend(verdicts.map(Topic::Verdicts));
        topics
    }

    #[test]
    fn every_subject_reads_back_and_is_captured_by_its_stream() {
        let subjects = Subjects::new("acme.loop").unwrap();
        let stream = subjects.ledger_all();
        for topic in every_topic() {
            let subject = subjects.ledger(topic);
            assert_eq!(subjects.parse(&subject), Ok(Subject::Ledger(topic)));
            let captured = stream.iter().any(|filter| match filter.strip_suffix('*') {
                Some(start) => subject.strip_prefix(start).is_some_and(|rest| !rest.contains('.')),
                None => *filter == subject,
            });
            assert!(captured, "{subject}");
        }
        for role in Role::ALL {
            assert_eq!(subjects.parse(&subjects.dlq(role)), Ok(Subject::Dlq(role)));
        }
        assert_eq!(subjects.parse(&subjects.samples(7)), Ok(Subject::Samples(7)));
        assert_eq!(subjects.parse(&subjects.tables("web-1").unwrap()), Ok(Subject::Tables("web-1".into())));
        let intake = [
            (subjects.intake_violations(), Intake::Violations),
            (subjects.intake_changes(), Intake::Changes),
            (subjects.intake_approvals("kim").unwrap(), Intake::Approvals("kim".into())),
            (subjects.intake_control("kim").unwrap(), Intake::Control("kim".into())),
        ];
        for (subject, expected) in intake {
            assert_eq!(subjects.parse(&subject), Ok(Subject::Intake(expected)));
        }
    }

    #[test]
    fn the_default_is_what_the_design_says() {
        let subjects = Subjects::default();
        assert_eq!(subjects.samples(3), "homeostat.v1.samples.3");
        assert_eq!(
            subjects.ledger(Topic::Violations(Severity::Critical)),
            "homeostat.v1.violations.critical"
        );
        assert_eq!(subjects, Subjects::new("homeostat").unwrap());
    }

    #[test]
    fn names_that_would_change_the_subject_are_refused() {
        for name in ["", "a.b", "*", ">", "a b", "a\r\nb", "ä", &"x".repeat(65)] {
            assert!(Subjects::default().intake_control(name).is_err(), "{name:?}");
            assert!(token(&token_from(name)).is_ok(), "{name:?}");
        }
        for prefix in ["", ".", "a.", "a..b", "$JS", "_INBOX", "a.*", "a b"] {
            assert!(Subjects::new(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn other_subjects_are_foreign_or_unknown() {
        let subjects = Subjects::default();
        assert!(matches!(subjects.parse("other.v1.plans"), Err(SubjectError::Foreign { .. })));
        assert!(matches!(subjects.parse("homeostat.v2.plans"), Err(SubjectError::Foreign { .. })));
        let unknown = [
            "",
            "plans.x",
            "violations",
            "violations.urgent",
            "samples.01",
            "samples.+1",
            "samples.1024",
            "samples.*",
            "analyses.65536",
            "intake.control",
            "intake.control.a.b",
            "intake.violations.x",
            "dlq.nobody",
        ];
        for rest in unknown {
            let subject = format!("homeostat.v1.{rest}");
            assert!(matches!(subjects.parse(&subject), Err(SubjectError::Unknown(_))), "{subject}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_written_the_same(rest in "[a-z]{1,10}(\\.[a-z0-9_+*>-]{0,8}){0,3}") {
            let subjects = Subjects::default();
            let subject = format!("homeostat.v1.{rest}");
            let again = match subjects.parse(&subject) {
                Err(_) => return Ok(()),
                Ok(Subject::Ledger(topic)) => subjects.ledger(topic),
                Ok(Subject::Samples(bucket)) => subjects.samples(bucket),
                Ok(Subject::Dlq(role)) => subjects.dlq(role),
                Ok(Subject::Tables(producer)) => subjects.tables(&producer).unwrap(),
                Ok(Subject::Intake(Intake::Violations)) => subjects.intake_violations(),
                Ok(Subject::Intake(Intake::Changes)) => subjects.intake_changes(),
                Ok(Subject::Intake(Intake::Approvals(user))) => subjects.intake_approvals(&user).unwrap(),
                Ok(Subject::Intake(Intake::Control(user))) => subjects.intake_control(&user).unwrap(),
            };
            prop_assert_eq!(again, subject);
        }
    }
}
