//! Streams are created or verified, never changed.

use homeostat::bus::nats::{SampleStorage, Topology, TopologyError, buckets};

use crate::support::Bed;

#[tokio::test]
async fn streams_are_created_once_and_verified_after_that() {
    let bed = Bed::start().await;
    let connection = bed.connect().await;
    assert!(
        matches!(bed.topology.verify(&connection).await, Err(TopologyError::Missing(name)) if name == "HOMEOSTAT_LEDGER")
    );
    let created = bed.topology.ensure(&connection).await.unwrap();
    assert_eq!(
        created,
        [
            "HOMEOSTAT_LEDGER",
            "HOMEOSTAT_INTAKE",
            "HOMEOSTAT_CONTROL",
            "HOMEOSTAT_SAMPLES",
            "HOMEOSTAT_DLQ",
            "KV_HOMEOSTAT_LEASES",
            "OBJ_HOMEOSTAT_OBJECTS",
        ]
    );
    assert_eq!(bed.topology.ensure(&connection).await.unwrap(), Vec::<String>::new());
    bed.topology.verify(&connection).await.unwrap();
    assert_eq!(buckets(&connection, &bed.names).await.unwrap(), 8);
}

#[tokio::test]
async fn a_differing_stream_is_refused_with_the_difference() {
    let bed = Bed::start().await;
    let connection = bed.connect().await;
    bed.topology.ensure(&connection).await.unwrap();
    let mut other = bed.topology.clone();
    other.replicas = Some(3);
    other.cell = "elsewhere".into();
    let error = other.ensure(&connection).await.unwrap_err();
    let TopologyError::Differs { name, differences, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "HOMEOSTAT_LEDGER");
    let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        differences,
        [r#"metadata.homeostat.cell: wanted "elsewhere", found "test""#, "num_replicas: wanted 3, found 1"]
    );
    bed.topology.verify(&connection).await.unwrap();

    let mut other = bed.topology.clone();
    other.buckets = 16;
    let error = other.verify(&connection).await.unwrap_err().to_string();
    assert!(error.contains(r#"metadata.homeostat.buckets: wanted "16", found "8""#), "{error}");
}

#[tokio::test]
async fn sizes_are_the_creators_and_what_decisions_rest_on_is_not() {
    let bed = Bed::start().await;
    let connection = bed.connect().await;
    bed.topology.ensure(&connection).await.unwrap();
    let mut other = Topology::new("homeostat", "test").unwrap();
    other.sample_storage = SampleStorage::AsyncFile;
    other.verify(&connection).await.unwrap();
    assert_eq!(other.ensure(&connection).await.unwrap(), Vec::<String>::new());

    // A bundle that grows too old is a bundle that is lost: that is not a size.
    let client = async_nats::connect(bed.server.url()).await.unwrap();
    let stream = format!("OBJ_{}", bed.names.objects);
    let info = client.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    let mut config = info["config"].clone();
    config["max_age"] = 3_600_000_000_000_u64.into();
    let changed =
        client.request(format!("$JS.API.STREAM.UPDATE.{stream}"), config.to_string().into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&changed.payload).contains("error"), "{changed:?}");
    let error = other.verify(&connection).await.unwrap_err().to_string();
    assert!(error.contains("max_age: wanted 0ns, found 3600s"), "{error}");
}

#[tokio::test]
async fn samples_may_be_kept_in_asynchronous_files() {
    let mut bed = Bed::start().await;
    bed.topology.sample_storage = SampleStorage::AsyncFile;
    let connection = bed.connect().await;
    bed.topology.ensure(&connection).await.unwrap();
    bed.topology.verify(&connection).await.unwrap();
}

#[tokio::test]
async fn two_cells_share_a_server_under_different_prefixes_and_not_under_overlapping_ones() {
    let bed = Bed::start().await;
    let connection = bed.connect().await;
    bed.topology.ensure(&connection).await.unwrap();
    let mut other = bed.topology.clone();
    other.prefix = "other".into();
    assert_eq!(other.ensure(&connection).await.unwrap().len(), 7);

    let client = async_nats::connect(bed.server.url()).await.unwrap();
    let taken = serde_json::json!({ "name": "ALL", "subjects": ["third.>"], "storage": "memory" });
    let request = client.request("$JS.API.STREAM.CREATE.ALL", taken.to_string().into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&request.payload).contains("error"), "{request:?}");
    let mut third = bed.topology.clone();
    third.prefix = "third".into();
    let error = third.ensure(&connection).await.unwrap_err();
    assert!(
        matches!(&error, TopologyError::SubjectTaken { owner, wanted, .. } if owner == "ALL" && wanted == "THIRD_LEDGER"),
        "{error}"
    );
}

#[tokio::test]
async fn streams_larger_than_the_server_are_refused_with_a_hint() {
    let mut bed = Bed::start().await;
    bed.topology.ledger.bytes = 1 << 40;
    let connection = bed.connect().await;
    let error = bed.topology.ensure(&connection).await.unwrap_err();
    assert!(matches!(error, TopologyError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains("max_file"), "{error}");
}

#[test]
fn prefixes_and_buckets_are_checked() {
    for bad in ["", "Upper", "a.b", "1a", "a b", "a-name-that-is-longer-than-thirty-two"] {
        assert!(matches!(Topology::new(bad, "cell"), Err(TopologyError::Prefix(_))), "{bad}");
    }
    assert_eq!(Topology::new("team_1-x", "cell").unwrap().names().ledger, "TEAM_1-X_LEDGER");
}

#[tokio::test]
async fn a_restarted_server_has_no_sample_stream_until_it_is_made_anew() {
    let (mut bed, connection) = Bed::ready().await;
    assert!(!bed.topology.ensure_samples(&connection).await.unwrap());
    bed.server.restart().await.unwrap();
    let connection = bed.connect().await;
    assert!(bed.topology.ensure_samples(&connection).await.unwrap());
    assert!(!bed.topology.ensure_samples(&connection).await.unwrap());
    // What is kept in files is still there.
    assert_eq!(bed.topology.ensure(&connection).await.unwrap(), [] as [String; 0]);
}
