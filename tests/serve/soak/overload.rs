//! Checks a load of four times the capacity. The server must answer or refuse each request, and accepted requests
//! must stay fast.

use std::time::Duration;

use super::pace::{closed, ms, paced, quantile, with_status};
use super::{Found, Scale, bodies, metric, must, settled};
use crate::program::Program;
use crate::support::fixture;

/// Under overload, an accepted request may take at most this many times as long as at 80% load.
const SLOWER: u32 = 3;
/// Number of concurrent requests that saturates the server without being refused.
const AT_ONCE: usize = 4;
/// The time that the server has to recover from overload.
const RECOVERY: Duration = Duration::from_secs(2);

pub async fn check(scale: &Scale) -> Found {
    let program = Program::start(&[fixture("bert_mean_norm")], &[]);
    let address = program.address();
    let bodies = bodies(64, 16, 24);
    let time = Duration::from_secs_f64(scale.seconds);
    // The first requests compile shaders and fill caches, so they are not measured.
    closed(address, &bodies, 2, time / 4).await?;

    let full = closed(address, &bodies, AT_ONCE, time).await?;
    let done = with_status(&full, 200);
    must(done.len() == full.len(), || {
        format!("{} of {} failed below capacity", full.len() - done.len(), full.len())
    })?;
    let capacity = done.len() as f64 / time.as_secs_f64();
    println!("capacity: {capacity:.1} requests/s of 16 texts, p99 {}", ms(quantile(&done, 0.99)));

    let calm = paced(address, &bodies, capacity * 0.8, time).await;
    let before = quantile(&with_status(&calm, 200), 0.99);
    println!(
        "at 80%: {} requests, p50 {}, p99 {}",
        calm.len(),
        ms(quantile(&calm, 0.5)),
        ms(before)
    );
    if scale.times {
        only(&calm, &[200])?;
    }

    let flood =
        paced(address, &bodies, capacity * 4.0, Duration::from_secs_f64(scale.overload)).await;
    let (accepted, refused) = (with_status(&flood, 200), with_status(&flood, 429));
    let slowest = quantile(&accepted, 0.99);
    println!(
        "at 400% for {} s: {} accepted, {:.2} of capacity, p50 {}, p99 {}, {:.2} times that at 80%; {} refused, p99 {}",
        scale.overload,
        accepted.len(),
        accepted.len() as f64 / scale.overload / capacity,
        ms(quantile(&accepted, 0.5)),
        ms(slowest),
        slowest.as_secs_f64() / before.as_secs_f64(),
        refused.len(),
        ms(quantile(&refused, 0.99)),
    );
    only(&flood, &[200, 429])?;
    must(!accepted.is_empty(), || "nothing was accepted under overload".to_owned())?;
    must(refused.iter().all(|one| one.retry_after), || "a 429 without Retry-After".to_owned())?;

    let after = paced(address, &bodies, capacity * 0.8, RECOVERY * 2).await;
    let later: Vec<_> = after.iter().copied().filter(|one| one.due >= RECOVERY).collect();
    let waiting = metric(address, "vectile_queue_tokens").await?;
    println!(
        "80% again: from {RECOVERY:?} on {} requests, {} refused, p99 {}; {waiting} tokens wait at the end",
        later.len(),
        with_status(&later, 429).len(),
        ms(quantile(&later, 0.99))
    );
    if scale.times {
        must(!refused.is_empty(), || "four times the capacity was not too much".to_owned())?;
        must(slowest <= before * SLOWER, || {
            format!("accepted requests took more than {SLOWER} times as long")
        })?;
        only(&later, &[200])?;
        must(quantile(&later, 0.99) <= before * 2, || format!("not as before after {RECOVERY:?}"))?;
    }
    settled(address, Duration::from_secs(10)).await
}

/// Checks that requests have one of these statuses.
fn only(done: &[super::pace::Done], statuses: &[u16]) -> Found {
    let other: Vec<u16> =
        done.iter().map(|one| one.status).filter(|one| !statuses.contains(one)).collect();
    must(other.is_empty(), || {
        format!(
            "{} of {} requests ended as {:?} (0: no answer)",
            other.len(),
            done.len(),
            &other[..other.len().min(9)]
        )
    })
}
