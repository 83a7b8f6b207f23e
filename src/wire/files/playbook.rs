//! Playbooks, as people write them: one to a file.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::error::FileError;
use super::yaml::{self, DurationText, LabelTexts, Passage, ProgramPath, TemplateText};
use crate::model::{
    ActionSpec, Answer, Confidence, HttpMethod, Idempotency, Labels, Playbook, PlaybookError, StepTemplate,
    Template, Verification,
};
use crate::wire::words::{HttpMethodWord, IdempotencyWord};

/// How long an attempt may take where the step does not say: as long as people wait for a page.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Where a playbook stands among its equals if it does not say: with room before and behind it.
const ORDER_DEFAULT: u32 = 100;

/// A playbook, and where its expressions stand.
#[derive(Clone, Debug)]
pub struct PlaybookFile {
    /// The playbook.
    pub playbook: Playbook,
    /// `verify.expr`, for errors that point into it.
    pub expr: Passage,
    /// `verify.harm`.
    pub harm: Option<Passage>,
}

/// Reads a playbook.
pub fn parse(file: &str, text: &str) -> Result<PlaybookFile, FileError> {
    let shape: Option<PlaybookShape> = yaml::read(file, text)?;
    let shape = shape.ok_or_else(|| FileError::new(file, super::Place::START, "the file is empty"))?;
    let source: Arc<str> = text.into();
    let verify = &shape.verify.value;
    let expr = Passage::of(&source, &verify.expr);
    let harm = verify.harm.as_ref().map(|harm| Passage::of(&source, harm));
    let playbook = Playbook {
        name: shape.playbook.value.as_str().into(),
        answers: shape.answers.value.iter().map(AnswerShape::read).collect(),
        settle: shape.settle.map(|settle| settle.0),
        order: shape.order.unwrap_or(ORDER_DEFAULT),
        steps: steps(file, &shape.steps.value)?,
        verify: verify.read(file)?,
        undo: steps(file, &shape.undo)?,
    };
    let playbook = playbook.checked().map_err(|error| {
        let place = match &error {
            PlaybookError::Name(_) => shape.playbook.referenced,
            PlaybookError::NoAnswers => shape.answers.referenced,
            PlaybookError::NoSteps | PlaybookError::TooManySteps(_) => shape.steps.referenced,
            PlaybookError::NoTimeToVerify => shape.verify.referenced,
        };
        FileError::new(file, super::Place::of(place), error)
    })?;
    Ok(PlaybookFile { playbook, expr, harm })
}

/// A template of plans: which causes it answers, what is done, how the effect is checked, how it is undone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Playbook")]
pub(super) struct PlaybookShape {
    /// Its name, unique in a bundle.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    playbook: Spanned<String>,
    /// The causes it answers.
    #[schemars(with = "Vec<AnswerShape>", length(min = 1))]
    answers: Spanned<Vec<AnswerShape>>,
    /// How long an incident has to be stable before a plan is made. Without it: the longest sample interval, at most
    /// 30 s.
    settle: Option<DurationText>,
    /// Tried in this order among playbooks of equal learned effectiveness, lower first. 100 where it is not given.
    order: Option<u32>,
    /// What is done, in this order.
    #[schemars(with = "Vec<StepShape>", length(min = 1, max = 16))]
    steps: Spanned<Vec<Spanned<StepShape>>>,
    /// How the effect is checked, on samples taken after it.
    #[schemars(with = "VerifyShape")]
    verify: Spanned<VerifyShape>,
    /// What is done if it did not help, in this order.
    #[serde(default)]
    #[schemars(with = "Vec<StepShape>", length(max = 16))]
    undo: Vec<Spanned<StepShape>>,
}

/// A cause that a playbook answers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerShape {
    /// The cause's name in the catalogue, or `symptom:` and an alert's name.
    #[schemars(length(min = 1))]
    cause: String,
    /// The least confidence it wants; the charter's holds beside it. 0 where it is not given.
    #[schemars(with = "Option<f64>", range(min = 0.0, max = 1.0))]
    min_confidence: Option<Confidence>,
    /// Labels that the incident's scope must have with these values.
    #[serde(default)]
    #[schemars(with = "LabelTexts")]
    scope: Labels,
}

impl AnswerShape {
    fn read(&self) -> Answer {
        Answer {
            cause: self.cause.as_str().into(),
            scope: self.scope.clone(),
            min_confidence: self.min_confidence.unwrap_or(Confidence::NONE),
        }
    }
}

/// One step: a name, and exactly one of `nats_publish`, `nats_request`, `webhook` and `command`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["nats_publish"] },
    { "required": ["nats_request"] },
    { "required": ["webhook"] },
    { "required": ["command"] },
]))]
struct StepShape {
    /// Its name, for people.
    #[schemars(length(min = 1))]
    name: String,
    /// Publish a message on a NATS subject; done when the server has it.
    nats_publish: Option<NatsShape>,
    /// Ask on a NATS subject; done when the answer is in and does not say `error`. Asked again, twice, where nobody is there
    /// to answer.
    nats_request: Option<NatsShape>,
    /// Call an HTTP endpoint; done with a status of 200 to 299.
    webhook: Option<WebhookShape>,
    /// Run a program of the charter's list, without a shell; done with exit code 0.
    command: Option<CommandShape>,
    /// How long one attempt may take. 10s where it is not given.
    timeout: Option<DurationText>,
    /// What the target makes of a second delivery. `none` where it is not given: then it is never repeated by itself.
    #[schemars(with = "Option<IdempotencyWord>")]
    idempotency: Option<Idempotency>,
}

/// A message on NATS.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NatsShape {
    /// Where.
    subject: TemplateText,
    /// What; empty where it is not given.
    body: Option<TemplateText>,
}

/// An HTTP call.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebhookShape {
    /// How; POST where it is not given.
    #[schemars(with = "Option<HttpMethodWord>")]
    method: Option<HttpMethod>,
    /// Where.
    url: TemplateText,
    /// What; empty where it is not given.
    body: Option<TemplateText>,
}

/// A program.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommandShape {
    /// Its absolute path, as it stands in the charter's list.
    program: ProgramPath,
    /// Its arguments, one by one: there is no shell that would part them.
    #[serde(default)]
    arguments: Vec<TemplateText>,
}

/// How the effect is checked, on samples taken after the effect and `settle`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyShape {
    /// A PromQL expression that has a result when the plan has helped.
    #[schemars(with = "String")]
    expr: Spanned<String>,
    /// A PromQL expression that has a result when the plan has done harm.
    #[schemars(with = "Option<String>")]
    harm: Option<Spanned<String>>,
    /// How long the effect may take to show: samples before are not looked at. 0s where it is not given.
    settle: Option<DurationText>,
    /// How long after `settle` the verdict may take.
    #[schemars(extend("not" = { "pattern": "^(0+[a-z]*)+$" }))]
    within: DurationText,
    /// How many evaluations in a row must agree. 1 where it is not given.
    evaluations: Option<NonZeroU32>,
}

impl VerifyShape {
    fn read(&self, file: &str) -> Result<Verification<Template>, FileError> {
        let template = |text: &Spanned<String>| {
            Template::parse(&text.value).map_err(|error| FileError::at(file, text, error))
        };
        Ok(Verification {
            expr: template(&self.expr)?,
            harm: self.harm.as_ref().map(template).transpose()?,
            settle: self.settle.map_or(Duration::ZERO, |settle| settle.0),
            within: self.within.0,
            evaluations: self.evaluations.map_or(1, NonZeroU32::get),
        })
    }
}

fn steps(file: &str, shapes: &[Spanned<StepShape>]) -> Result<Vec<StepTemplate>, FileError> {
    let step = |shape: &Spanned<StepShape>| {
        let refuse = |cause: &str| FileError::at(file, shape, cause);
        let step = &shape.value;
        if step.name.is_empty() {
            return Err(refuse("the step has an empty name"));
        }
        let mut specs = step.specs();
        let (Some(spec), None) = (specs.next(), specs.next()) else {
            return Err(refuse(
                "a step has exactly one of `nats_publish`, `nats_request`, `webhook` and `command`",
            ));
        };
        if let ActionSpec::Webhook { url, .. } = &spec {
            url.check_authority().map_err(|misfit| refuse(&misfit.to_string()))?;
        }
        Ok(StepTemplate {
            name: step.name.as_str().into(),
            spec,
            timeout: step.timeout.map_or(TIMEOUT_DEFAULT, |timeout| timeout.0),
            idempotency: step.idempotency.unwrap_or(Idempotency::None),
        })
    };
    shapes.iter().map(step).collect()
}

impl StepShape {
    fn specs(&self) -> impl Iterator<Item = ActionSpec<Template>> {
        fn body(text: Option<&TemplateText>) -> Template {
            text.map_or_else(|| Template::verbatim(""), |text| text.0.clone())
        }
        let publish = self.nats_publish.as_ref().map(|NatsShape { subject, body: text }| {
            ActionSpec::NatsPublish { subject: subject.0.clone(), body: body(text.as_ref()) }
        });
        let request = self.nats_request.as_ref().map(|NatsShape { subject, body: text }| {
            ActionSpec::NatsRequest { subject: subject.0.clone(), body: body(text.as_ref()) }
        });
        let webhook =
            self.webhook.as_ref().map(|WebhookShape { method, url, body: text }| ActionSpec::Webhook {
                method: method.unwrap_or(HttpMethod::Post),
                url: url.0.clone(),
                body: body(text.as_ref()),
            });
        let command = self.command.as_ref().map(|CommandShape { program, arguments }| ActionSpec::Command {
            program: Arc::clone(&program.0),
            arguments: arguments.iter().map(|argument| argument.0.clone()).collect(),
        });
        [publish, request, webhook, command].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"playbook: restart-worker
answers:
  - cause: memory_leak
    min_confidence: 0.6
    scope: {service: checkout}
settle: 0s
order: 20
steps:
  - name: restart
    nats_request:
      subject: "workers.{{ $labels.worker }}.restart"
      body: '{"key":"{{ $labels.worker }}"}'
    timeout: 5s
    idempotency: key
  - name: tell
    webhook: {url: "http://localhost/hook"}
verify:
  expr: worker_rss_bytes{worker="{{ $labels.worker }}"} < 100e6
  settle: 200ms
  within: 5s
  evaluations: 3
undo:
  - name: undo
    command: {program: /bin/true, arguments: ["{{ $labels.worker }}", 7]}
"#;

    fn refused(text: &str) -> String {
        parse("p.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_playbook_is_read() {
        let PlaybookFile { playbook, expr, harm } = parse("p.yaml", GOOD).unwrap();
        assert_eq!((playbook.name.as_ref(), playbook.order), ("restart-worker", 20));
        assert_eq!(playbook.settle, Some(Duration::ZERO));
        assert_eq!(playbook.answers[0].scope, Labels::new([("service", "checkout")]).unwrap());
        assert_eq!(playbook.answers[0].min_confidence, Confidence::new(0.6).unwrap());
        let labels = Labels::new([("worker", "w1")]).unwrap();
        let filled = |spec: &ActionSpec<Template>| spec.fill(&labels).unwrap();
        let restart = &playbook.steps[0];
        assert_eq!((restart.timeout, restart.idempotency), (Duration::from_secs(5), Idempotency::Key));
        let (subject, body) = ("workers.w1.restart".into(), r#"{"key":"w1"}"#.into());
        assert_eq!(filled(&restart.spec), ActionSpec::NatsRequest { subject, body });
        let tell = &playbook.steps[1];
        assert_eq!((tell.timeout, tell.idempotency), (TIMEOUT_DEFAULT, Idempotency::None));
        let (method, url) = (HttpMethod::Post, "http://localhost/hook".into());
        assert_eq!(filled(&tell.spec), ActionSpec::Webhook { method, url, body: "".into() });
        let (program, arguments) = ("/bin/true".into(), vec!["w1".into(), "7".into()]);
        assert_eq!(filled(&playbook.undo[0].spec), ActionSpec::Command { program, arguments });
        assert_eq!(playbook.verify.evaluations, 3);
        assert_eq!(expr.text.as_ref(), playbook.verify.expr.source());
        assert_eq!(expr.place(expr.text.find("100e6").unwrap()).to_string(), "18:59");
        assert_eq!(harm, None);
    }

    #[test]
    fn mistakes_are_told_with_line_and_column() {
        let cases = [
            ("order: 20", "ordr: 20", "p.yaml:7:1: unknown field `ordr`\nhint: did you mean `order`?"),
            (
                "idempotency: key",
                "idempotency: keys",
                "p.yaml:14:18: `keys` is not one of none, key, fence\nhint: did",
            ),
            ("0.6", "1.6", "p.yaml:4:21: `1.6` is not between 0 and 1"),
            ("    webhook: {url: \"http://localhost/hook\"}\n", "", "p.yaml:15:5: a step has exactly one of"),
            (
                "    timeout: 5s\n",
                "    command: {program: /bin/true}\n",
                "p.yaml:9:5: a step has exactly one of",
            ),
            ("/bin/true", "true", "p.yaml:24:24: `true` is not an absolute path"),
            ("/bin/true", "/bin/../x", "p.yaml:24:24: `/bin/../x` is not an absolute path"),
            (
                "http://localhost/hook",
                "http://{{ $labels.worker }}/hook",
                "p.yaml:15:5: a place in scheme, host or port of the URL `http://{{ $labels.worker }}/hook`",
            ),
            ("within: 5s", "within: 0s", "p.yaml:18:3: `verify.within` has to be longer than zero"),
            (
                "evaluations: 3",
                "evaluations: 0",
                "p.yaml:21:3: invalid value: integer `0`, expected a nonzero u32",
            ),
            ("restart-worker", "restart worker", "p.yaml:1:11: the name `restart worker` is not"),
            ("within: 5s", "harm: '{{ $x }}'", "p.yaml:21:3: `within` is missing"),
            ("$labels.worker }}.restart", "worker }}.restart", "p.yaml:11:16: cannot expand `{{ worker }}`"),
        ];
        for (from, to, expected) in cases {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD);
            assert!(refused(&text).starts_with(expected), "{}", refused(&text));
        }
        assert_eq!(refused(""), "p.yaml:1:1: the file is empty");
        let many = GOOD.replace("  - name: tell\n", &"  - {name: x, webhook: {url: u}}\n".repeat(16));
        let many = many.replace("    webhook: {url: \"http://localhost/hook\"}\n", "");
        assert!(refused(&many).starts_with("p.yaml:9:3: 17 steps, at most 16"), "{}", refused(&many));
    }
}
