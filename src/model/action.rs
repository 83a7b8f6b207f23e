//! Actions: one step of a plan, ready to be carried out.

use std::sync::Arc;
use std::time::Duration;

use super::violation::UnknownWord;
use super::{ActionId, Labels, Misfit, Place, Template};

/// What the target makes of a second delivery of the same action. It decides what may happen after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Idempotency {
    /// The target does it again: never repeated by itself, an attempt in doubt is reported.
    None,
    /// The target drops a second call with the same idempotency key.
    Key,
    /// The target refuses a call whose fencing token is older than the newest it saw. That keeps out a call that comes
    /// too late, and cannot tell a second call from the first: never repeated by itself either.
    Fence,
}

impl Idempotency {
    /// The word on the wire and in playbooks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key => "key",
            Self::Fence => "fence",
        }
    }
}

impl std::str::FromStr for Idempotency {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::None, Self::Key, Self::Fence]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "none, key, fence"))
    }
}

/// Methods a webhook may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl HttpMethod {
    /// As HTTP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl std::str::FromStr for HttpMethod {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Post, Self::Put, Self::Patch, Self::Delete]
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or_else(|| UnknownWord::new(text, "POST, PUT, PATCH, DELETE"))
    }
}

/// What is done, with every place filled in. `Text` is a template in a playbook and a plain text in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionSpec<Text = Arc<str>> {
    /// Publish a message on a NATS subject; done when the server has it.
    NatsPublish {
        /// Where.
        subject: Text,
        /// What.
        body: Text,
    },
    /// Ask on a NATS subject; done when the answer is in and does not say `error`.
    NatsRequest {
        /// Where.
        subject: Text,
        /// What.
        body: Text,
    },
    /// Call an HTTP endpoint; done with a status of 200 to 299.
    Webhook {
        /// How.
        method: HttpMethod,
        /// Where.
        url: Text,
        /// What.
        body: Text,
    },
    /// Run a program of the charter's list, without a shell; done with exit code 0.
    Command {
        /// Its absolute path.
        program: Arc<str>,
        /// Its arguments.
        arguments: Vec<Text>,
    },
}

impl ActionSpec<Template> {
    /// With the labels filled in, each text for the place it is used in.
    pub fn fill(&self, labels: &Labels) -> Result<ActionSpec, Misfit> {
        Ok(match self {
            Self::NatsPublish { subject, body } => ActionSpec::NatsPublish {
                subject: subject.fill(Place::Subject, labels)?,
                body: body.fill(Place::Body, labels)?,
            },
            Self::NatsRequest { subject, body } => ActionSpec::NatsRequest {
                subject: subject.fill(Place::Subject, labels)?,
                body: body.fill(Place::Body, labels)?,
            },
            Self::Webhook { method, url, body } => ActionSpec::Webhook {
                method: *method,
                url: url.fill(Place::Url, labels)?,
                body: body.fill(Place::Body, labels)?,
            },
            Self::Command { program, arguments } => ActionSpec::Command {
                program: Arc::clone(program),
                arguments: arguments
                    .iter()
                    .map(|argument| argument.fill(Place::Argument, labels))
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}

impl<Text> ActionSpec<Text> {
    /// The kind's word: `nats_publish`, `nats_request`, `webhook` or `command`, as playbooks say it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NatsPublish { .. } => "nats_publish",
            Self::NatsRequest { .. } => "nats_request",
            Self::Webhook { .. } => "webhook",
            Self::Command { .. } => "command",
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Plan and step; also the idempotency key that the target gets.
    pub id: ActionId,
    /// The step's name in the playbook.
    pub name: Arc<str>,
    /// What is done.
    pub spec: ActionSpec,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What may happen after a crash.
    pub idempotency: Idempotency,
}
