//! One holder at a time, and a number that grows.

use std::time::{Duration, Instant};

use homeostat::bus::nats::{Acquired, Lease, LeaseError, Leases};

use crate::support::{Bed, soon};

const KEY: &str = "monitor.group-1";

/// Tests measure, so they may look at the clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn leases() -> (Bed, Leases) {
    let (bed, connection) = Bed::ready().await;
    let leases = Leases::open(connection, &bed.names).await.unwrap();
    (bed, leases)
}

async fn acquired(leases: &Leases, holder: &str, ttl: Duration) -> Lease {
    soon("the lease", async {
        loop {
            match leases.acquire(KEY, holder, ttl, now()).await.unwrap() {
                Acquired::Ours(lease) => return lease,
                Acquired::Held(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_held_lease_is_refused_by_name_and_a_released_one_is_free_at_once() {
    let (_bed, leases) = leases().await;
    assert_eq!(leases.holder(KEY).await.unwrap(), None);
    let first = acquired(&leases, "one", Duration::from_mins(1)).await;
    assert!(first.is_valid(now()) && !first.is_valid(now() + Duration::from_secs(31)));
    let held = leases.acquire(KEY, "two", Duration::from_mins(1), now()).await.unwrap();
    assert!(matches!(&held, Acquired::Held(holder) if holder.name == "one"), "{held:?}");

    let renewed = leases.renew(&first, now()).await.unwrap();
    assert_eq!(renewed.fence(), first.fence());
    assert_eq!(leases.release(first).await, Err(LeaseError::Lost(KEY.into())), "of before the renewal");
    leases.release(renewed.clone()).await.unwrap();
    assert_eq!(leases.holder(KEY).await.unwrap(), None);
    let Acquired::Ours(second) = leases.acquire(KEY, "two", Duration::from_mins(1), now()).await.unwrap()
    else {
        panic!("it is free")
    };
    assert!(second.fence() > renewed.fence());
    assert_eq!(leases.renew(&renewed, now()).await, Err(LeaseError::Lost(KEY.into())));
    assert_eq!(leases.holder(KEY).await.unwrap().unwrap().name, "two");
}

#[tokio::test]
async fn a_lease_ends_by_itself_however_often_the_key_was_used_before() {
    let (_bed, leases) = leases().await;
    let mut fence = 0;
    // Over nothing, over a marker of the server's clock, and over a marker of a release.
    for (round, holder) in ["one", "two", "three", "four"].into_iter().enumerate() {
        let lease = acquired(&leases, holder, Duration::from_secs(1)).await;
        assert!(lease.fence() > fence);
        fence = lease.fence();
        if round == 1 {
            leases.release(lease).await.unwrap();
        } else {
            let next = leases.acquire(KEY, "next", Duration::from_secs(1), now()).await.unwrap();
            assert!(matches!(next, Acquired::Held(_)), "{next:?}");
        }
    }
    let last = acquired(&leases, "five", Duration::from_secs(1)).await;
    assert!(last.fence() > fence);
}

#[tokio::test]
async fn a_renewed_lease_outlives_its_time_and_a_stolen_one_is_lost() {
    let (_bed, leases) = leases().await;
    let mut lease = acquired(&leases, "one", Duration::from_secs(2)).await;
    let start = now();
    let mut beat = tokio::time::interval(Duration::from_millis(400));
    while now() - start < Duration::from_secs(3) {
        beat.tick().await;
        lease = leases.renew(&lease, now()).await.unwrap();
        let other = leases.acquire(KEY, "two", Duration::from_secs(2), now()).await.unwrap();
        assert!(matches!(other, Acquired::Held(_)), "{other:?}");
    }
    // It stops to renew, as a paused process does: the other gets it, and it finds out at its next renewal.
    let other = acquired(&leases, "two", Duration::from_secs(2)).await;
    assert!(!lease.is_valid(now()));
    assert!(other.fence() > lease.fence());
    assert_eq!(leases.renew(&lease, now()).await, Err(LeaseError::Lost(KEY.into())));
}

#[tokio::test]
async fn of_two_who_try_at_once_one_gets_it() {
    let (bed, leases) = leases().await;
    let others = Leases::open(bed.connect().await, &bed.names).await.unwrap();
    for key in ["a", "b", "c", "d"] {
        let ttl = Duration::from_mins(1);
        let (one, two) =
            tokio::join!(leases.acquire(key, "one", ttl, now()), others.acquire(key, "two", ttl, now()));
        let ours = [one.unwrap(), two.unwrap()].iter().filter(|it| matches!(it, Acquired::Ours(_))).count();
        assert_eq!(ours, 1, "{key}");
    }
}

#[tokio::test]
async fn leases_survive_a_killed_server_and_an_unreachable_one_is_said_so() {
    let (mut bed, _) = leases().await;
    let mut settings = bed.settings();
    settings.request_timeout = Duration::from_millis(500);
    let connection =
        homeostat::bus::nats::Connection::open(&settings, homeostat::bus::nats::Purpose::Services);
    let leases = Leases::open(connection.await.unwrap(), &bed.names).await.unwrap();
    let lease = acquired(&leases, "one", Duration::from_mins(1)).await;
    bed.server.kill().await;
    let error = soon("an answer", leases.renew(&lease, now())).await.unwrap_err();
    assert!(matches!(error, LeaseError::Unavailable { .. }), "{error}");
    bed.server.restart().await.unwrap();
    let renewed = soon("the renewal", async {
        loop {
            match leases.renew(&lease, now()).await {
                Ok(lease) => return lease,
                Err(LeaseError::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert_eq!(renewed.fence(), lease.fence());
}
