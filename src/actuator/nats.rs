//! NATS subjects: publish and request.

use bytes::Bytes;
use serde_json::Value;

use super::output::head;
use super::{Answer, Call, End, Message, Messenger, MessengerError, OUTPUT_BYTES_MAX, check_body};

/// What the NATS service API puts into an answer that is an error: why, for people.
pub(crate) const SERVICE_ERROR_HEADER: &str = "Nats-Service-Error";
/// And its number, as HTTP has them.
pub(crate) const SERVICE_ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";
/// A go-between that does not know what became of the request, as on HTTP: bad gateway, gateway timeout.
const GATEWAY_CODES: [&str; 2] = ["502", "504"];
/// Longer than any subject that a person made up.
const SUBJECT_BYTES_MAX: usize = 512;

pub(super) fn prepare(
    subject: &str,
    body: &str,
    own_subjects: &str,
    call: &Call<'_>,
) -> Result<Message, String> {
    check_subject(subject, own_subjects)?;
    check_body(body)?;
    Ok(Message {
        subject: subject.to_owned(),
        headers: call.headers(),
        payload: Bytes::copy_from_slice(body.as_bytes()),
        timeout: call.timeout,
    })
}

/// Labels from outside may be part of a subject, so the whole of it is checked.
fn check_subject(subject: &str, own_subjects: &str) -> Result<(), String> {
    let shown = head(subject, 80);
    let fits = |byte: u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    let is_subject = subject.len() <= SUBJECT_BYTES_MAX
        && subject.bytes().all(fits)
        && subject.split('.').all(|token| !matches!(token, "" | "*" | ">"));
    if !is_subject {
        return Err(format!("`{shown}` is not a subject to publish on: nothing was sent"));
    }
    if subject.starts_with('$') {
        return Err(format!("`{shown}` belongs to the NATS server: nothing was sent"));
    }
    if subject.strip_prefix(own_subjects).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        return Err(format!("`{shown}` belongs to the loop itself: nothing was sent"));
    }
    Ok(())
}

pub(super) async fn publish(messenger: &dyn Messenger, message: Message, call: &Call<'_>) -> End {
    match call.race(messenger.publish(message)).await {
        Ok(Ok(())) => End::succeeded("the server has the message"),
        Ok(Err(error)) => judge_error(&error),
        Err(cut) => End::open(cut),
    }
}

pub(super) async fn request(messenger: &dyn Messenger, message: Message, call: &Call<'_>) -> End {
    match call.race(messenger.request(message)).await {
        Ok(Ok(answer)) => judge(&answer),
        Ok(Err(error)) => judge_error(&error),
        Err(cut) => End::open(cut),
    }
}

fn judge(answer: &Answer) -> End {
    let text = String::from_utf8_lossy(&answer.payload);
    let said = head(&text, OUTPUT_BYTES_MAX);
    let header = |wanted: &str| {
        let found = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    };
    let (why, code) = (header(SERVICE_ERROR_HEADER), header(SERVICE_ERROR_CODE_HEADER));
    if why.is_some() || code.is_some() {
        let why = why.filter(|why| !why.is_empty()).unwrap_or("it does not say which");
        let code = code.unwrap_or("no code");
        if GATEWAY_CODES.contains(&code) {
            return End::open(format_args!("a gateway answered for the target: {why} ({code})")).with(said);
        }
        return End::failed(format!("the target answered with an error: {why} ({code})")).with(said);
    }
    match serde_json::from_slice::<Value>(&answer.payload) {
        Ok(Value::Object(fields)) if fields.get("error").is_some_and(|error| !error.is_null()) => {
            End::failed(format!("the target answered with an error\n{said}"))
        }
        Ok(_) | Err(_) => End::succeeded(said),
    }
}

fn judge_error(error: &MessengerError) -> End {
    match error {
        MessengerError::NotSent(_) => End::failed(error.to_string()),
        // The server says so, and hands the request to nobody: a target that is being started is there a moment later.
        MessengerError::NoResponders => End::not_started(error.to_string()),
        MessengerError::Unanswered(_) => End::open(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Behaviour, Bench, nats_publish, nats_request};
    use super::*;
    use crate::model::OutcomeResult;

    #[tokio::test]
    async fn a_request_carries_key_fence_and_trace_and_its_answer_is_the_output() {
        let bench = Bench::with(Behaviour::Answer(Answer { headers: Vec::new(), payload: "done".into() }));
        let act = bench.act(nats_request("demo.restart", "{}"));
        let (key, fence) = (act.action.id.to_string(), act.fence.to_string());
        let outcome = bench.run(act).await;
        assert_eq!((outcome.result, outcome.output.as_ref()), (OutcomeResult::Succeeded, "done"));
        let sent = bench.sent();
        let expected = [
            ("Idempotency-Key", key),
            ("Homeostat-Fence", fence),
            ("traceparent", Bench::TRACEPARENT.into()),
        ];
        assert_eq!((sent[0].subject.as_str(), sent[0].headers.as_slice()), ("demo.restart", &expected[..]));
    }

    #[tokio::test]
    async fn an_answer_that_says_error_is_a_failure() {
        let header = |name: &str| vec![(name.to_owned(), "older fence".to_owned())];
        let cases = [
            (header("Nats-Service-Error"), "", OutcomeResult::Failed),
            (header("nats-service-error"), "{}", OutcomeResult::Failed),
            (vec![(SERVICE_ERROR_CODE_HEADER.to_owned(), "409".to_owned())], "", OutcomeResult::Failed),
            (vec![(SERVICE_ERROR_CODE_HEADER.to_owned(), "504".to_owned())], "", OutcomeResult::TimedOut),
            (Vec::new(), r#"{"error": "no such worker"}"#, OutcomeResult::Failed),
            (Vec::new(), r#"{"error": {"code": 1}}"#, OutcomeResult::Failed),
            (Vec::new(), r#"{"error": null, "ok": true}"#, OutcomeResult::Succeeded),
            (header("X-Other"), r#"["error"]"#, OutcomeResult::Succeeded),
            (Vec::new(), "error", OutcomeResult::Succeeded),
        ];
        for (headers, payload, expected) in cases {
            let bench = Bench::with(Behaviour::Answer(Answer { headers, payload: payload.into() }));
            let outcome = bench.run(bench.act(nats_request("demo.restart", ""))).await;
            assert_eq!(outcome.result, expected, "{payload}: {}", outcome.output);
        }
    }

    #[tokio::test]
    async fn only_what_may_have_happened_is_timed_out() {
        let cases = [
            (MessengerError::NoResponders, OutcomeResult::NotStarted),
            (MessengerError::NotSent("not connected".into()), OutcomeResult::Failed),
            (MessengerError::Unanswered("no answer in time".into()), OutcomeResult::TimedOut),
        ];
        for (error, expected) in cases {
            let bench = Bench::with(Behaviour::Error(error.clone()));
            for spec in [nats_request("demo.restart", ""), nats_publish("demo.restart", "")] {
                assert_eq!(bench.run(bench.act(spec)).await.result, expected, "{error}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_hangs_is_given_up_at_the_timeout() {
        let bench = Bench::with(Behaviour::Hang);
        for spec in [nats_request("demo.restart", ""), nats_publish("demo.restart", "")] {
            let mut act = bench.act(spec);
            act.action.timeout = Duration::from_secs(7);
            let outcome = bench.run(act).await;
            assert_eq!(outcome.result, OutcomeResult::TimedOut);
            assert_eq!(outcome.output.as_ref(), "no answer within 7s: it may have happened");
        }
    }

    #[tokio::test]
    async fn a_publish_is_done_when_the_server_has_it() {
        let bench = Bench::new();
        let outcome = bench.run(bench.act(nats_publish("orders.pause", "please"))).await;
        assert_eq!(outcome.result, OutcomeResult::Succeeded, "{}", outcome.output);
        assert_eq!(bench.sent()[0].payload, "please");
    }

    #[tokio::test]
    async fn nothing_is_sent_to_the_loop_or_the_server_or_nowhere() {
        let bench = Bench::new();
        let refused = [
            "homeostat.v1.admission",
            "homeostat.v1",
            "homeostat.v1.intake.control.somebody",
            "$JS.API.STREAM.DELETE.HOMEOSTAT_LEDGER",
            "$SYS.x",
            "",
            "a..b",
            ".a",
            "a.*",
            "a.>",
            "a b",
            "a\r\nPUB b",
        ];
        for subject in refused {
            for spec in [nats_request(subject, ""), nats_publish(subject, "")] {
                let outcome = bench.run(bench.act(spec)).await;
                assert_eq!(outcome.result, OutcomeResult::Failed, "{subject}");
                assert!(outcome.output.ends_with("nothing was sent"), "{}", outcome.output);
            }
        }
        assert!(bench.sent().is_empty());
        for subject in ["homeostat.v10.x", "homeostat.demo", "homeostatic"] {
            assert!(check_subject(subject, "homeostat.v1").is_ok(), "{subject}");
        }
    }

    #[tokio::test]
    async fn a_huge_body_is_not_sent_and_a_huge_answer_is_cut() {
        let answer = Answer { headers: Vec::new(), payload: vec![b'x'; 1_000_000].into() };
        let bench = Bench::with(Behaviour::Answer(answer));
        let outcome = bench.run(bench.act(nats_request("demo", &"x".repeat(300_000)))).await;
        assert_eq!(outcome.result, OutcomeResult::Failed);
        assert!(bench.sent().is_empty());
        let outcome = bench.run(bench.act(nats_request("demo", ""))).await;
        assert_eq!(outcome.output.len(), OUTPUT_BYTES_MAX);
    }
}
