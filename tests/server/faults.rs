//! Fails every call to the device in turn while the server runs a request, and loses the device again and again while
//! clients send requests.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vectile::gpu::inject::{Fault, FaultPlan, WrongAnswer};
use vectile::server::Served;
use vectile::{Embedder, block_on};

use super::support::{
    Answer, Running, bits, bits_of, build, embedder, files, have_adapter, lacks_shaders, must_have,
    options, resident_memory, texts,
};

/// The default number of losses. `VECTILE_LOSSES` sets another number, such as 200.
const LOSSES: usize = 5;

/// The maximum mean memory in the second half of the losses, relative to the mean in the first half. It is checked only
/// in runs of at least 50 losses.
const MEMORY_GROWTH: f64 = 1.05;

/// The time within which the server must be ready again after a loss.
const READY_AGAIN: Duration = Duration::from_secs(10);

fn row(answer: &Value) -> Vec<u32> {
    bits(&answer["data"][0]["embedding"])
}

/// Checks that a response has the right row, or is a well-formed error. Returns the status.
#[track_caller]
fn check(answer: &Answer, expected: &[u32]) -> u16 {
    match answer.status {
        200 => assert!(row(&answer.ok()) == expected, "other bits"),
        503 => {
            answer.error(503);
            assert!(answer.header("retry-after").is_some(), "{}", answer.message());
        }
        status => assert_eq!(answer.error(status), "internal"),
    }
    answer.status
}

#[test]
fn every_call_of_a_request_may_fail() {
    if !have_adapter() || lacks_shaders() {
        return;
    }
    let plan = Arc::<FaultPlan>::default();
    let model = build(Embedder::builder(files("families/static")).inject(plan.clone())).unwrap();
    let server = Running::start(options(), vec![Served::embedder("m", Arc::new(model))]);
    let request = json!({ "input": "a cat" });
    let post = || server.post("/v1/embeddings", &request);
    let expected = row(&post().ok());
    let mut statuses = BTreeMap::<u16, usize>::new();
    let faults = [Fault::Refusal, Fault::OutOfMemory, Fault::Loss, Fault::LateLoss, Fault::Panic];
    for (start, fault) in faults.into_iter().enumerate() {
        let step = if must_have("VECTILE_EVERY_FAULT") { 1 } else { 5 };
        for at in (1 + start % step..).step_by(step) {
            plan.arm(fault, at as u64);
            let since = Instant::now();
            let answer = post();
            let took = since.elapsed();
            let struck = plan.disarm();
            assert!(took < Duration::from_secs(5), "{fault:?} in {struck:?} took {took:?}");
            *statuses.entry(check(&answer, &expected)).or_default() += 1;
            assert!(row(&post().ok()) == expected, "{fault:?} in {struck:?}: then other bits");
            if struck.is_none() {
                break;
            }
        }
    }
    eprintln!("faults in a request, by status: {statuses:?}");
    assert!(statuses.len() > 1, "no fault reached a request");
}

#[test]
fn a_server_survives_many_losses_under_load() {
    if !have_adapter() || lacks_shaders() {
        return;
    }
    let losses = std::env::var("VECTILE_LOSSES").map_or(LOSSES, |count| count.parse().unwrap());
    let model = embedder("bert_mean_norm");
    let texts = texts(16);
    let rows = block_on(model.embed(&texts)).unwrap();
    let expected: Vec<Vec<u32>> = (0..texts.len()).map(|at| bits_of(rows.row(at))).collect();
    let server = Running::start(options(), vec![Served::embedder("m", model.clone())]);
    let (ended, right, refused) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut memory = Vec::new();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (server, texts, expected) = (&server, &texts, &expected);
            let (ended, right, refused) = (&ended, &right, &refused);
            scope.spawn(move || {
                for at in (client..).take_while(|_| !ended.load(Ordering::SeqCst)) {
                    let at = at % texts.len();
                    let answer = server.post("/v1/embeddings", &json!({ "input": texts[at] }));
                    let count = match check(&answer, &expected[at]) {
                        200 => right,
                        503 => refused,
                        status => panic!("a lost device caused the status {status}"),
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for loss in 0..losses {
            let before = right.load(Ordering::SeqCst);
            block_on(model.lose_device());
            let since = Instant::now();
            // Waits until rows of the new device have arrived too, so that every loss hits a device in use.
            while right.load(Ordering::SeqCst) < before + 6
                || server.get("/health/ready").status != 200
            {
                if since.elapsed() > READY_AGAIN {
                    ended.store(true, Ordering::SeqCst);
                    panic!("not ready {READY_AGAIN:?} after loss {loss}");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            slowest = slowest.max(since.elapsed());
            memory.extend(resident_memory("self").map(|bytes| bytes as f64));
        }
        ended.store(true, Ordering::SeqCst);
    });
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains(&format!("losses_total{{model=\"m\"}} {losses}")), "{metrics}");
    let after: Vec<String> = [1, 2, 5, 10, 20, 50, 100, 150, 200]
        .into_iter()
        .filter_map(|at| Some(format!("{at}: {:.0}", memory.get(at - 1)? / f64::from(1 << 20))))
        .collect();
    eprintln!(
        "{losses} losses: {} right responses, {} responses 503, ready again within {slowest:?}; \
         MiB of memory after loss {}",
        right.load(Ordering::SeqCst),
        refused.load(Ordering::SeqCst),
        after.join(", "),
    );
    // In a short run, other tests of this process use memory at the same time. The memory after one loss varies by a
    // tenth, because the old device may still be closing.
    if memory.len() >= 50 {
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = memory.split_at(memory.len() / 2);
        let (first, last) = (mean(first), mean(last));
        eprintln!("memory in the second half, relative to the first: {:.3}", last / first);
        assert!(last <= first * MEMORY_GROWTH, "memory grows with losses: {memory:?}");
    }
}

#[test]
fn a_wrong_row_is_answered_with_500_if_rows_are_computed_again() {
    if !have_adapter() || lacks_shaders() {
        return;
    }
    let plan = Arc::<FaultPlan>::default();
    let builder = Embedder::builder(files("bert_mean_norm")).inject(plan.clone());
    let model = build(builder.paranoid(NonZeroUsize::MIN)).unwrap();
    let server = Running::start(options(), vec![Served::embedder("m", Arc::new(model))]);
    let post = || server.post("/v1/embeddings", &json!({ "input": "a cat" }));
    let expected = row(&post().ok());
    plan.answer_wrongly(Some(WrongAnswer::FlippedBit(31)));
    let wrong = post();
    plan.answer_wrongly(None);
    assert_eq!(wrong.error(500), "internal");
    assert!(wrong.message().contains("second computation") || wrong.message().contains("CPU"));
    assert!(row(&post().ok()) == expected, "other bits");
}
