//! Frames: never waited for, every loss counted.

use std::time::Duration;

use bytes::Bytes;
use homeostat::bus::Incoming;
use homeostat::bus::nats::{Connection, Ledger, Listener, Purpose, outbox};
use tokio_util::sync::CancellationToken;

use crate::support::{Bed, soon};

fn frame(bed: &Bed, bucket: usize, number: usize) -> Incoming {
    let headers = vec![("ce-type".into(), "frame".into())];
    Incoming {
        subject: bed.subject(&format!("samples.{bucket}")),
        headers,
        payload: number.to_string().into(),
    }
}

async fn samples(bed: &Bed) -> Connection {
    Connection::open(&bed.settings(), Purpose::Samples).await.unwrap()
}

#[tokio::test]
async fn frames_of_the_buckets_that_were_asked_for_come_in_order_and_are_kept() {
    let (bed, decisions) = Bed::ready().await;
    let (to, from) = (samples(&bed).await, samples(&bed).await);
    let mut listener =
        Listener::open(&from, &[bed.subject("samples.1"), bed.subject("samples.3")]).await.unwrap();
    let (outbox, pump) = outbox(to);
    let stop = CancellationToken::new();
    let produce = async {
        for number in 0..1_000 {
            assert_eq!(outbox.push(frame(&bed, number % 4, number)), 0);
        }
        stop.cancel();
    };
    tokio::join!(pump.run(stop.clone()), produce);
    assert_eq!((outbox.counts().sent, outbox.counts().waiting), (1_000, 0));

    let mut seen = Vec::new();
    while seen.len() < 500 {
        seen.extend(soon("a frame", listener.next_batch(64)).await.unwrap());
    }
    for bucket in [1, 3] {
        let subject = bed.subject(&format!("samples.{bucket}"));
        let numbers: Vec<_> = seen.iter().filter(|frame| frame.subject == subject).collect();
        let expected: Vec<_> =
            (0..1_000).filter(|n| n % 4 == bucket).map(|n| frame(&bed, bucket, n)).collect();
        assert_eq!(numbers, expected.iter().collect::<Vec<_>>());
    }
    let kept = Ledger::of_stream(decisions, &bed.names.samples).await.unwrap();
    assert_eq!(kept.tail().await.unwrap().last_sequence, 1_000);
}

#[tokio::test]
async fn a_producer_never_waits_for_a_dead_server_and_sheds_the_oldest() {
    const COUNT: usize = 10_000;
    let (mut bed, _) = Bed::ready().await;
    let connection = samples(&bed).await;
    let mut listener = Listener::open(&samples(&bed).await, &[bed.subject("samples.0")]).await.unwrap();
    let mut link = connection.events().link();
    bed.server.kill().await;
    soon("the loss of the connection", link.wait_for(|link| !link.up)).await.unwrap();
    let (outbox, pump) = outbox(connection);
    let stop = CancellationToken::new();
    let last = frame(&bed, 0, COUNT - 1);
    let produce = async {
        let shed: u64 = (0..COUNT).map(|number| outbox.push(frame(&bed, 0, number))).sum();
        assert_eq!(shed, outbox.counts().shed);
        assert_eq!(outbox.counts().waiting + shed, COUNT as u64);
        assert!(shed > 5_000, "{shed}");
        bed.server.restart().await.unwrap();
        // The listener may be back later than the pump: frames are repeated until it hears one.
        loop {
            outbox.push(last.clone());
            let heard = tokio::time::timeout(Duration::from_millis(50), listener.next_batch(10_000)).await;
            if heard.is_ok_and(|frames| frames.unwrap().contains(&last)) {
                break;
            }
        }
        stop.cancel();
    };
    soon("all of it", async { tokio::join!(pump.run(stop.clone()), produce) }).await;
    let counts = outbox.counts();
    assert_eq!((counts.waiting, counts.refused), (0, 0), "{counts:?}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_counted_and_the_rest_goes_on() {
    let (bed, _) = Bed::ready().await;
    let mut listener = Listener::open(&samples(&bed).await, &[bed.subject("samples.0")]).await.unwrap();
    let (outbox, pump) = outbox(samples(&bed).await);
    outbox.push(Incoming { payload: Bytes::from(vec![0; 2 << 20]), ..frame(&bed, 0, 0) });
    outbox.push(Incoming { subject: "a b".into(), ..frame(&bed, 0, 1) });
    outbox.push(frame(&bed, 0, 2));
    let stop = CancellationToken::new();
    stop.cancel();
    pump.run(stop).await;
    assert_eq!((outbox.counts().refused, outbox.counts().sent), (2, 1));
    assert_eq!(soon("a frame", listener.next_batch(10)).await.unwrap(), [frame(&bed, 0, 2)]);
}

#[tokio::test]
async fn a_listener_that_does_not_keep_up_shows_in_the_events() {
    const COUNT: usize = 40_000;
    let (bed, _) = Bed::ready().await;
    let slow = samples(&bed).await;
    let mut listener = Listener::open(&slow, &[bed.subject("samples.0")]).await.unwrap();
    let (outbox, pump) = outbox(samples(&bed).await);
    let stop = CancellationToken::new();
    let produce = async {
        for number in 0..COUNT {
            outbox.push(frame(&bed, 0, number));
            if number % 1_000 == 0 {
                while outbox.counts().waiting > 1_000 {
                    tokio::task::yield_now().await;
                }
            }
        }
        stop.cancel();
    };
    tokio::join!(pump.run(stop.clone()), produce);
    // Whoever answers this has sent us everything before.
    assert!(slow.barrier().await);
    let mut heard = 0;
    while let Ok(frames) = tokio::time::timeout(Duration::from_millis(200), listener.next_batch(10_000)).await
    {
        heard += frames.unwrap().len();
    }
    let counts = slow.events().counts();
    assert!(heard < COUNT && counts.slow_consumer > 0, "heard {heard} of {COUNT}, {counts:?}");
}
