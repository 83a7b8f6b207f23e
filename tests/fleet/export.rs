//! An export that fails leaves nothing behind: not in the object store, and not beside the file it was for.

use std::path::Path;
use std::process::Stdio;

use homeostat::bus::nats::{Objects, Topology};
use homeostat::clock::Clock;
use tokio::process::Command;

use crate::member::Member;
use crate::support::{Bed, soon};

/// Of the bucket: an export is refused while it still has room for what the loop keeps.
const BUCKET_BYTES: i64 = 256 * 1024;
const FILLER_BYTES: usize = 150 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_fails_leaves_no_parts_and_one_without_room_is_refused_before() {
    let mut bed = Bed::start().await;
    bed.topology = Topology::new("homeostat", "default").unwrap();
    bed.topology.object_bytes = BUCKET_BYTES;
    let connection = bed.connect().await;
    bed.topology.ensure(&connection).await.unwrap();
    let objects = Objects::open(connection, &bed.names).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut knowledge = Member::start("knowledge", &bed.server.url(), folder.path(), None).await;
    knowledge.ready().await;
    let parts = async || objects.list("export.").await.unwrap().len();

    let (code, err) = export(&bed, Path::new("/dev/full")).await;
    assert!(code == Some(3) && err.contains("`/dev/full` cannot be written"), "{err}");
    assert_eq!(parts().await, 0);

    // What an export of before has left makes room for this one.
    objects.put("export.knowledge.00007", &vec![0; FILLER_BYTES]).await.unwrap();
    let file = folder.path().join("remembered");
    let (code, err) = export(&bed, &file).await;
    assert_eq!((code, err.as_str(), parts().await), (Some(0), "", 0));

    objects.put("filler", &vec![0; FILLER_BYTES]).await.unwrap();
    objects.put("another", &vec![0; 48 * 1024]).await.unwrap();
    let late = folder.path().join("late");
    let (code, err) = export(&bed, &late).await;
    assert!(code == Some(3) && err.contains("the object store has room for "), "{err}");
    assert!(err.contains("nats stream edit OBJ_HOMEOSTAT_OBJECTS --max-bytes"), "{err}");
    assert_eq!(parts().await, 0);
    assert!(!late.exists() && !folder.path().join("late.partial").exists());
    // And what is there is left alone.
    assert_eq!(objects.get("filler").await.unwrap().unwrap().len(), FILLER_BYTES);
    assert_eq!(objects.sweep(Clock::system().now()).await.unwrap(), 0);
}

async fn export(bed: &Bed, file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    command.args(["kb", "export"]).arg(file).args(["--server", &bed.server.url()]);
    let ended = soon("an export", command.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}
