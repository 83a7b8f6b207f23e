//! Questions and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use homeostat::bus::nats::{Answer, AskError, Question, Refusal, ServiceSpec, ask, serve};
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use crate::support::{Bed, PATIENCE, soon};

fn spec(concurrency: usize) -> ServiceSpec {
    ServiceSpec {
        name: "knowledge".into(),
        version: "1.0.0".into(),
        description: "what the loop remembers".into(),
        queue_group: "knowledge".into(),
        endpoints: vec![
            ("get".into(), "homeostat.v1.kb.get".into()),
            ("scan".into(), "homeostat.v1.kb.scan".into()),
        ],
        concurrency,
    }
}

fn text(text: &'static str) -> Answer {
    Answer { headers: vec![("as-of".into(), "7".into())], payload: text.into() }
}

async fn answer(question: Question) -> Result<Answer, Refusal> {
    match question.payload.as_ref() {
        b"panic" => panic!("on purpose"),
        b"bad" => Err(Refusal { code: 400, status: "not a\r\nquestion".into() }),
        _ if question.subject.ends_with("scan") => Ok(text("scanned")),
        _ => Ok(text("got")),
    }
}

#[tokio::test]
async fn a_service_answers_refuses_and_outlives_a_panic() {
    let bed = Bed::start().await;
    let (server, client) = (bed.connect().await, bed.connect().await);
    let get = |payload: &'static str| {
        ask(&client, "homeostat.v1.kb.get", Answer { headers: Vec::new(), payload: payload.into() }, PATIENCE)
    };
    assert_eq!(get("early").await, Err(AskError::Nobody("homeostat.v1.kb.get".into())));

    let stop = CancellationToken::new();
    let questions = async {
        while get("first").await.is_err() {}
        assert_eq!(get("one").await.unwrap(), text("got"));
        assert_eq!(
            ask(&client, "homeostat.v1.kb.scan", text("two"), PATIENCE).await.unwrap(),
            text("scanned")
        );
        let refused = get("bad").await.unwrap_err();
        assert_eq!(refused.to_string(), "`homeostat.v1.kb.get` refuses: not a  question (400)");
        assert!(matches!(get("panic").await, Err(AskError::Refused { refusal, .. }) if refusal.code == 500));
        assert_eq!(get("three").await.unwrap(), text("got"));
        let found = ask(&client, "$SRV.INFO.knowledge", Answer::default(), PATIENCE).await.unwrap();
        let found: serde_json::Value = serde_json::from_slice(&found.payload).unwrap();
        assert_eq!((&found["version"], found["endpoints"].as_array().unwrap().len()), (&"1.0.0".into(), 2));
        stop.cancel();
    };
    let (end, ()) =
        soon("all of it", async { tokio::join!(serve(&server, spec(8), stop.clone(), answer), questions) })
            .await;
    end.unwrap();
    assert_eq!(get("late").await, Err(AskError::Nobody("homeostat.v1.kb.get".into())));
}

#[tokio::test]
async fn no_more_questions_are_answered_at_once_than_allowed_and_a_slow_one_times_out() {
    const AT_ONCE: usize = 3;
    let bed = Bed::start().await;
    let (server, client) = (bed.connect().await, bed.connect().await);
    let (now, most, full) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(AT_ONCE)));
    let handler = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |question: Question| {
            let (now, most, full) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&full));
            async move {
                if question.payload.as_ref() == b"never" {
                    std::future::pending::<()>().await;
                }
                if question.payload.as_ref() == b"first" {
                    return Ok(text("got"));
                }
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                full.wait().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(text("got"))
            }
        }
    };
    let stop = CancellationToken::new();
    let get = |payload: &'static str, timeout| {
        ask(&client, "homeostat.v1.kb.get", Answer { headers: Vec::new(), payload: payload.into() }, timeout)
    };
    let questions = async {
        while get("first", PATIENCE).await.is_err() {}
        let all = futures::future::join_all((0..AT_ONCE * 4).map(|_| get("wait", PATIENCE))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        let late = get("never", Duration::from_millis(50)).await;
        assert_eq!(late, Err(AskError::TimedOut("homeostat.v1.kb.get".into())));
        stop.cancel();
    };
    let (end, ()) = soon("all of it", async {
        tokio::join!(serve(&server, spec(AT_ONCE), stop.clone(), handler), questions)
    })
    .await;
    end.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
}
