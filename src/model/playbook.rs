//! Playbooks: templates of plans. Which causes they answer, steps, verification, undo.

use std::sync::Arc;
use std::time::Duration;

use super::{ActionSpec, Confidence, Idempotency, Labels, Template};

/// A plan longer than this is a program, and belongs into one.
pub(crate) const STEPS_PER_PLAYBOOK_MAX: usize = 16;

/// Why a playbook is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaybookError {
    /// Without a name, or with one that does not fit a header.
    #[error("the name `{0}` is not 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name(String),
    /// It would never be chosen.
    #[error("it answers nothing")]
    NoAnswers,
    /// It would do nothing.
    #[error("it has no steps")]
    NoSteps,
    /// Too long.
    #[error("{0} steps, at most {STEPS_PER_PLAYBOOK_MAX} are taken")]
    TooManySteps(usize),
    /// The verification can never be reached.
    #[error("`verify.within` has to be longer than zero")]
    NoTimeToVerify,
}

/// Which cause a playbook answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The cause's name.
    pub cause: Arc<str>,
    /// Labels that the incident's scope must have with these values.
    pub scope: Labels,
    /// The least confidence it wants.
    pub min_confidence: Confidence,
}

/// One step, with places to fill in.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTemplate {
    /// Its name, for people.
    pub name: Arc<str>,
    /// What is done.
    pub spec: ActionSpec<Template>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What may happen after a crash.
    pub idempotency: Idempotency,
}

/// How the effect of a plan is checked, on samples taken after `effect_ended + settle`.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification<Text = Arc<str>> {
    /// A PromQL expression that has a result when the plan has helped.
    pub expr: Text,
    /// A PromQL expression that has a result when the plan has done harm.
    pub harm: Option<Text>,
    /// How long the effect may take to show: samples before are not looked at.
    pub settle: Duration,
    /// How long after `settle` the verdict may take.
    pub within: Duration,
    /// How many evaluations in a row must agree, at least 1.
    pub evaluations: u32,
}

impl Verification<Template> {
    /// The same with the scope's labels filled in.
    pub fn render(&self, scope: &Labels) -> Verification {
        Verification {
            expr: self.expr.render(scope, f64::NAN),
            harm: self.harm.as_ref().map(|harm| harm.render(scope, f64::NAN)),
            settle: self.settle,
            within: self.within,
            evaluations: self.evaluations,
        }
    }
}

/// A template of plans.
#[derive(Clone, Debug, PartialEq)]
pub struct Playbook {
    /// Unique in a bundle.
    pub name: Arc<str>,
    /// Which causes it answers.
    pub answers: Vec<Answer>,
    /// How long an incident has to be stable before a plan is made; `None` takes the longest sample interval, at most
    /// 30 s.
    pub settle: Option<Duration>,
    /// Tried in this order among playbooks of equal learned effectiveness; lower first.
    pub order: u32,
    /// What is done, in this order.
    pub steps: Vec<StepTemplate>,
    /// How its effect is checked.
    pub verify: Verification<Template>,
    /// What is done if it did not help.
    pub undo: Vec<StepTemplate>,
}

impl Playbook {
    /// Checks what a single field cannot.
    pub fn checked(self) -> Result<Self, PlaybookError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(fits) {
            return Err(PlaybookError::Name(self.name.chars().take(80).collect()));
        }
        if self.answers.is_empty() {
            return Err(PlaybookError::NoAnswers);
        }
        if self.steps.is_empty() {
            return Err(PlaybookError::NoSteps);
        }
        let longest = self.steps.len().max(self.undo.len());
        if longest > STEPS_PER_PLAYBOOK_MAX {
            return Err(PlaybookError::TooManySteps(longest));
        }
        if self.verify.within.is_zero() {
            return Err(PlaybookError::NoTimeToVerify);
        }
        Ok(self)
    }
}
