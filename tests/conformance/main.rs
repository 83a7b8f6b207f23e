//! One suite of claims over both buses, the memory bus of replays and simulations and NATS with a real server: what a
//! simulation proves on the one has to be true of the other.
//!
//! What the memory bus by design does not have is not here: connections, permissions, objects, leases, dead letters.
#![expect(clippy::unwrap_used, reason = "what a test needs is there, or the test fails at that line")]

mod bus;
mod ledger;
mod queue;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../support/mod.rs"]
mod support;

/// Runs each claim over both.
macro_rules! claims {
    ($($module:ident :: $claim:ident),+ $(,)?) => {
        mod on_memory {
            $(#[tokio::test]
            async fn $claim() {
                crate::$module::$claim(crate::bus::Bus::memory()).await;
            })+
        }
        mod on_nats {
            $(#[tokio::test]
            async fn $claim() {
                crate::$module::$claim(crate::bus::Bus::nats().await).await;
            })+
        }
    };
}

claims! {
    ledger::what_is_published_is_read_back_whole,
    ledger::an_id_is_stored_once_on_whatever_topic,
    ledger::a_condition_is_on_its_own_topic_and_holds_or_nothing_is_written,
    ledger::what_was_refused_may_be_tried_again_under_its_id,
    ledger::a_condition_that_does_not_hold_comes_before_a_known_id,
    ledger::the_feed_brings_everything_in_order_from_any_place,
    queue::only_matching_work_comes_and_what_is_acknowledged_does_not_come_again,
    queue::each_message_comes_to_one_of_two_members,
    queue::what_is_not_settled_comes_again_and_progress_puts_it_off,
    queue::what_a_dead_member_had_in_hand_comes_to_another_one,
    queue::what_is_given_back_comes_again_after_its_delay,
    queue::what_is_given_back_first_comes_again_first,
    queue::what_is_dead_does_not_come_again,
    queue::an_acknowledgement_settles_later_deliveries_of_the_message_too,
    queue::what_is_given_back_late_comes_again_from_other_hands,
    queue::settling_twice_changes_nothing,
    queue::no_more_is_handed_out_than_may_be_unsettled,
    queue::a_queue_that_exists_goes_on_where_it_was,
}
