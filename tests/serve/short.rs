//! Runs each check of `benches/soak.rs` for a short time.

use crate::soak::{self, Scale, block_on};

const SHORT: Scale = Scale {
    seconds: 1.0,
    overload: 2.0,
    disconnects: 60,
    signals: 3,
    requests: 1000,
    rounds: 1,
    times: false,
};

#[test]
fn overload_is_refused_and_ends() {
    block_on(soak::overload::check(&SHORT)).unwrap();
}

#[test]
fn disconnected_clients_leave_nothing_behind() {
    block_on(soak::disconnects::check(&SHORT)).unwrap();
}

#[test]
fn a_signal_drops_no_accepted_request() {
    block_on(soak::signals::check(&SHORT)).unwrap();
}

#[test]
fn garbage_is_refused_with_the_right_status() {
    block_on(soak::garbage::check()).unwrap();
}

#[test]
fn small_requests_leave_nothing_behind() {
    block_on(soak::memory::check(&SHORT)).unwrap();
}

#[test]
fn server_and_library_run_side_by_side() {
    block_on(soak::throughput::check(&SHORT, None)).unwrap();
}
