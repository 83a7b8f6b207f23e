//! No room: a limit on the size of files stands in for a full disk, since it needs no rights and fails the same way.

use homeostat::store::{Found, Store, StoreError};

use crate::work::{self, Work};

/// In the child: what is promised after a write that failed.
pub(crate) fn check_refusal(store: &Store, error: &StoreError) {
    assert!(matches!(error, StoreError::NotStored { .. }), "{error}");
    let applied = store.applied();
    match work::try_contents(store) {
        Ok(found) => assert_eq!(found, work::model_at(applied), "reads go on, as of {applied}"),
        // A thread of sled that meets the full disk by itself makes every later call fail, reads too.
        Err(error) => assert!(matches!(error, StoreError::System { .. }), "{error}"),
    }
    let again = store.apply(&work::change(applied + 1)).unwrap_err();
    assert!(matches!(again, StoreError::Refusing { .. }), "{again}");
    assert!(store.stats().unwrap().refusing.is_some());
}

#[test]
fn a_write_without_room_is_refused_and_reopening_with_room_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("kb");
    // Blocks of 512 or 1024 bytes, as the shell has it: two or four megabytes.
    let limited = r#"trap "" XFSZ; ulimit -f 4096; exec "$0" "$@""#;
    let (mut child, lines) = work::spawn(&dir, Work::Fill, &["sh", "-c", limited]);
    let stored = lines.map_while(Result::ok).filter_map(|line| work::acknowledged(&line)).last().unwrap();
    assert!(child.wait().unwrap().success(), "the child found a promise broken");

    let opened = work::open(&dir);
    let Found::Intact { applied } = opened.found else { panic!("{:?}", opened.found) };
    assert!(applied >= stored, "{stored} was acknowledged, {applied} is left");
    assert_eq!(work::contents(&opened.store), work::model_at(applied));
    opened.store.apply(&work::change(applied + 1)).unwrap();
    opened.store.compact().unwrap();
    assert_eq!(work::contents(&opened.store), work::model_at(applied + 1));
}
