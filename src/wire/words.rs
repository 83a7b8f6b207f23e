//! The closed sets of the model, mirrored: each word is written as the model's `as_str` says it (a test compares), and
//! a word that is not in the set is told apart from nonsense, with the words that are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;

/// Gives nouns the serde traits of their mirrors, which the derive's `remote` only offers as functions.
macro_rules! mirrored {
    ($($noun:ty => $mirror:ident),* $(,)?) => {$(
        impl serde::Serialize for $noun {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $mirror::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $noun {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $mirror::deserialize(deserializer)
            }
        }
    )*};
}

pub(super) use mirrored;

mirrored! {
    model::ChangeKind => ChangeKindWord,
    model::HttpMethod => HttpMethodWord,
    model::Idempotency => IdempotencyWord,
    model::IncidentPhase => IncidentPhaseWord,
    model::Mode => ModeWord,
    model::OutcomeResult => OutcomeResultWord,
    model::Phase => PhaseWord,
    model::PlanEnd => PlanEndWord,
    model::Reason => ReasonWord,
    model::Role => RoleWord,
    model::Severity => SeverityWord,
    model::VerdictKind => VerdictKindWord,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::ChangeKind", rename_all = "snake_case")]
enum ChangeKindWord {
    Deploy,
    Config,
    Scaling,
    Cron,
}

/// The method of a webhook.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "model::HttpMethod", rename_all = "UPPERCASE")]
pub(super) enum HttpMethodWord {
    Post,
    Put,
    Patch,
    Delete,
}

/// What the target makes of a second delivery of the same action.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "model::Idempotency", rename_all = "snake_case")]
pub(super) enum IdempotencyWord {
    /// It does it again: never repeated by itself, an attempt in doubt is reported.
    None,
    /// It drops a second call with the same idempotency key.
    Key,
    /// It refuses an older fence, which keeps out late calls and not second ones: not repeated by itself either.
    Fence,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::IncidentPhase", rename_all = "snake_case")]
enum IncidentPhaseWord {
    Open,
    Closed,
}

/// Whether plans are carried out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "model::Mode", rename_all = "snake_case")]
pub(super) enum ModeWord {
    /// Plans are made and shown, nothing is touched.
    Shadow,
    /// Plans of armed playbooks are carried out.
    Auto,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::OutcomeResult", rename_all = "snake_case")]
enum OutcomeResultWord {
    Succeeded,
    Failed,
    NotStarted,
    TimedOut,
    InDoubt,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::Phase", rename_all = "snake_case")]
enum PhaseWord {
    Pending,
    Firing,
    Resolved,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::PlanEnd", rename_all = "snake_case")]
enum PlanEndWord {
    Verified,
    Undone,
    Failed,
    InDoubt,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::Reason", rename_all = "snake_case")]
enum ReasonWord {
    Shadow,
    NoPlaybook,
    Exhausted,
    Unsure,
    Cooldown,
    Concurrency,
    Rate,
    Halted,
    Contended,
    InDoubt,
    Stale,
    Superseded,
    Refused,
    Limit,
    Storm,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::Role", rename_all = "snake_case")]
enum RoleWord {
    Monitor,
    Analyzer,
    Planner,
    Executor,
    Knowledge,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::Severity", rename_all = "snake_case")]
enum SeverityWord {
    None,
    Info,
    Warning,
    Critical,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "model::VerdictKind", rename_all = "snake_case")]
enum VerdictKindWord {
    Verified,
    Ineffective,
    Harmful,
    Inconclusive,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_on_the_wire_is_the_models_word() {
        fn check<T: Serialize + Copy>(words: &[T], as_str: fn(T) -> &'static str) {
            for word in words {
                assert_eq!(serde_json::to_value(word).unwrap(), as_str(*word));
            }
        }
        use model::{
            ChangeKind as C, HttpMethod as H, Idempotency as I, IncidentPhase as P, Mode, OutcomeResult as O,
            Phase, PlanEnd as E, Severity as S, VerdictKind as V,
        };
        check(&[C::Deploy, C::Config, C::Scaling, C::Cron], C::as_str);
        check(&[H::Post, H::Put, H::Patch, H::Delete], H::as_str);
        check(&[I::None, I::Key, I::Fence], I::as_str);
        check(&[P::Open, P::Closed], P::as_str);
        check(&[Mode::Shadow, Mode::Auto], Mode::as_str);
        check(&[O::Succeeded, O::Failed, O::NotStarted, O::TimedOut, O::InDoubt], O::as_str);
        check(&[Phase::Pending, Phase::Firing, Phase::Resolved], Phase::as_str);
        check(&[E::Verified, E::Undone, E::Failed, E::InDoubt, E::Cancelled], E::as_str);
        check(&[S::None, S::Info, S::Warning, S::Critical], S::as_str);
        check(&[V::Verified, V::Ineffective, V::Harmful, V::Inconclusive], V::as_str);
        check(&model::Reason::ALL, model::Reason::as_str);
        check(&model::Role::ALL, model::Role::as_str);
    }
}
