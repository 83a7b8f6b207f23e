//! Large things, whole.

use std::time::Duration;

use homeostat::bus::nats::{OBJECT_BYTES_MAX, ObjectError, Objects, Publisher};
use homeostat::bus::{Outgoing, PublishError};
use homeostat::clock::Clock;

use crate::support::Bed;

async fn objects() -> (Bed, Objects) {
    let (bed, connection) = Bed::ready().await;
    let objects = Objects::open(connection, &bed.names).await.unwrap();
    (bed, objects)
}

#[tokio::test]
async fn objects_are_read_as_they_were_written_replaced_listed_and_deleted() {
    let (_bed, objects) = objects().await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    assert_eq!(objects.get("checkpoints/a").await.unwrap(), None);
    objects.put("checkpoints/a", &large).await.unwrap();
    objects.put("checkpoints/b", b"").await.unwrap();
    objects.put("bundles/1", b"old").await.unwrap();
    objects.put("bundles/1", b"new").await.unwrap();
    assert!(objects.get("checkpoints/a").await.unwrap().unwrap() == large);
    assert_eq!(objects.get("checkpoints/b").await.unwrap().unwrap().len(), 0);
    assert_eq!(objects.get("bundles/1").await.unwrap().unwrap().as_ref(), b"new");

    let listed = objects.list("checkpoints/").await.unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.name.as_str(), entry.bytes)).collect();
    assert_eq!(listed, [("checkpoints/a", large.len()), ("checkpoints/b", 0)]);
    objects.delete("checkpoints/a").await.unwrap();
    objects.delete("checkpoints/a").await.unwrap();
    objects.delete("never").await.unwrap();
    assert_eq!(objects.get("checkpoints/a").await.unwrap(), None);
    assert_eq!(objects.list("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn objects_survive_a_killed_server_and_too_large_ones_are_refused() {
    let (mut bed, objects) = objects().await;
    objects.put("a", b"kept").await.unwrap();
    bed.server.kill().await;
    bed.server.restart().await.unwrap();
    let objects = Objects::open(bed.connect().await, &bed.names).await.unwrap();
    assert_eq!(objects.get("a").await.unwrap().unwrap().as_ref(), b"kept");
    let large = vec![0; OBJECT_BYTES_MAX + 1];
    assert!(matches!(objects.put("b", &large).await, Err(ObjectError::TooLarge { .. })));
}

/// A chunk of a writer that did not come to its end.
async fn litter(bed: &Bed, nuid: &str, bytes: usize) -> Result<(), PublishError> {
    let publisher = Publisher::new(bed.connect().await, &format!("OBJ_{}", bed.names.objects));
    let outgoing = Outgoing {
        subject: format!("$O.{}.C.{nuid}", bed.names.objects),
        headers: Vec::new(),
        payload: vec![7; bytes].into(),
        id: String::new(),
        expected_last_on_subject: None,
    };
    publisher.publish(outgoing).await.map(drop)
}

#[tokio::test]
async fn what_a_writer_left_that_did_not_come_to_its_end_is_swept_and_one_at_work_is_left_alone() {
    let (bed, objects) = objects().await;
    let contents = vec![1; 300_000];
    objects.put("a", &contents).await.unwrap();
    objects.put("deleted", &contents).await.unwrap();
    objects.delete("deleted").await.unwrap();
    for nuid in ["lost", "lost", "forsaken"] {
        litter(&bed, nuid, 1_000).await.unwrap();
    }
    let now = Clock::system().now();
    assert_eq!(objects.sweep(now).await.unwrap(), 0);
    assert_eq!(objects.sweep(now + Duration::from_mins(59)).await.unwrap(), 0);
    assert_eq!(objects.sweep(now + Duration::from_mins(61)).await.unwrap(), 2);
    assert_eq!(objects.sweep(now + Duration::from_mins(61)).await.unwrap(), 0);
    assert!(objects.get("a").await.unwrap().unwrap() == contents);
}

#[tokio::test]
async fn from_a_full_bucket_can_be_deleted_and_what_does_not_fit_is_known_before() {
    let mut bed = Bed::start().await;
    bed.topology.object_bytes = 1024 * 1024;
    let connection = bed.connect().await;
    bed.topology.ensure(&connection).await.unwrap();
    let objects = Objects::open(connection, &bed.names).await.unwrap();
    objects.has_room("b", 900_000).await.unwrap();
    objects.put("a", &vec![1; 500_000]).await.unwrap();
    objects.has_room("b", 400_000).await.unwrap();
    let refused = objects.has_room("b", 500_000).await.unwrap_err();
    assert!(matches!(refused, ObjectError::NoRoom { .. }), "{refused}");

    let mut bytes = 500_000;
    while bytes > 0 {
        if litter(&bed, "lost", bytes).await.is_err() {
            bytes /= 2;
        }
    }
    assert!(objects.put("b", b"x").await.is_err(), "it is full");
    objects.delete("a").await.unwrap();
    assert_eq!(objects.get("a").await.unwrap(), None);
    objects.put("b", b"x").await.unwrap();
}
