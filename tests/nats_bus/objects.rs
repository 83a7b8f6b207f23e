//! Large things, whole.

use homeostat::bus::nats::{OBJECT_BYTES_MAX, ObjectError, Objects};

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
