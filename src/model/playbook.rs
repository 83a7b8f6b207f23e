//! Playbooks: templates of plans. Which causes they answer, steps, verification, undo.

use std::sync::Arc;
use std::time::Duration;

use super::{ActionSpec, Confidence, Idempotency, Labels, Misfit, Place, Template};

/// A plan longer than this is a program, and belongs into one.
pub(crate) const STEPS_PER_PLAYBOOK_MAX: usize = 16;

/// All texts of a plan together, in bytes: with its labels it stays half of what the store keeps as one row.
const FILLED_PLAN_BYTES_MAX: usize = 128 * 1024;

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
    pub fn fill(&self, scope: &Labels) -> Result<Verification, Misfit> {
        Ok(Verification {
            expr: self.expr.fill(Place::PromQl, scope)?,
            harm: self.harm.as_ref().map(|harm| harm.fill(Place::PromQl, scope)).transpose()?,
            settle: self.settle,
            within: self.within,
            evaluations: self.evaluations,
        })
    }
}

/// What a playbook says about one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// What is done, in this order.
    pub steps: Vec<ActionSpec>,
    /// How its effect is checked.
    pub verify: Verification,
    /// What is done if it did not help.
    pub undo: Vec<ActionSpec>,
}

/// Why a playbook cannot be used on a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// A label's value does not fit where it would stand.
    #[error("in {0}: {1}")]
    Misfit(String, #[source] Misfit),
    /// All of its texts together are too long for one plan.
    #[error("its texts become {0} bytes long, at most {FILLED_PLAN_BYTES_MAX} are taken in all")]
    TooLong(usize),
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
    /// With the scope's labels filled in, each for the place it is used in.
    pub fn fill(&self, scope: &Labels) -> Result<Filled, FillError> {
        let steps = |steps: &[StepTemplate]| {
            let filled = steps.iter().map(|step| {
                let misfit = |misfit| FillError::Misfit(format!("step `{}`", step.name), misfit);
                step.spec.fill(scope).map_err(misfit)
            });
            filled.collect::<Result<Vec<_>, _>>()
        };
        let verify = self.verify.fill(scope);
        let verify = verify.map_err(|misfit| FillError::Misfit("`verify`".to_owned(), misfit))?;
        let filled = Filled { steps: steps(&self.steps)?, verify, undo: steps(&self.undo)? };
        let bytes = filled.bytes();
        if bytes > FILLED_PLAN_BYTES_MAX { Err(FillError::TooLong(bytes)) } else { Ok(filled) }
    }

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

impl Filled {
    fn bytes(&self) -> usize {
        let of_spec = |spec: &ActionSpec| match spec {
            ActionSpec::NatsPublish { subject, body } | ActionSpec::NatsRequest { subject, body } => {
                subject.len() + body.len()
            }
            ActionSpec::Webhook { url, body, .. } => url.len() + body.len(),
            ActionSpec::Command { program, arguments } => {
                program.len() + arguments.iter().map(|argument| argument.len()).sum::<usize>()
            }
        };
        let harm = self.verify.harm.as_ref().map_or(0, |harm| harm.len());
        self.verify.expr.len() + harm + self.steps.iter().chain(&self.undo).map(of_spec).sum::<usize>()
    }
}
