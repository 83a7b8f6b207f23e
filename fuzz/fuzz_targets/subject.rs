//! A subject: what parses is written the same.
#![no_main]

use homeostat::wire::{Intake, Subject, Subjects};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Subjects::new(text);
    let subjects = Subjects::default();
    for subject in [text.to_owned(), format!("{subjects}.{text}")] {
        let written = match subjects.parse(&subject) {
            Err(_) => continue,
            Ok(Subject::Ledger(topic)) => subjects.ledger(topic),
            Ok(Subject::Samples(bucket)) => subjects.samples(bucket),
            Ok(Subject::Dlq(role)) => subjects.dlq(role),
            Ok(Subject::Tables(producer)) => subjects.tables(&producer).expect("a producer that was read"),
            Ok(Subject::Intake(Intake::Violations)) => subjects.intake_violations(),
            Ok(Subject::Intake(Intake::Changes)) => subjects.intake_changes(),
            Ok(Subject::Intake(Intake::Approvals(user))) => {
                subjects.intake_approvals(&user).expect("a user that was read")
            }
            Ok(Subject::Intake(Intake::Control(user))) => {
                subjects.intake_control(&user).expect("a user that was read")
            }
        };
        assert_eq!(written, subject);
    }
});
