//! Independent pieces of work on the threads the machine has.

/// `work` of every item, in the order of the items, on at most `threads` threads and as many as the machine
/// has. Items are dealt out one by one, since what they cost differs widely.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let available = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let threads = available.min(items.len()).min(threads);
        if threads > 1 {
            return shared(items, threads, work);
        }
    }
    _ = threads;
    items.iter().map(work).collect()
}

/// Both results, `aside`'s from another thread while `here` works on this one; `None` where that thread
/// panicked.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn beside<A: Send, B>(
    aside: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> B,
) -> (Option<A>, B) {
    std::thread::scope(|scope| {
        let aside = scope.spawn(aside);
        let here = here();
        (aside.join().ok(), here)
    })
}

#[cfg(not(target_arch = "wasm32"))]
fn shared<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut results = take();
        for worker in workers {
            match worker.join() {
                Ok(done) => results.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::{beside, each};

    #[test]
    fn what_goes_wrong_aside_does_not_end_what_goes_on_here() {
        assert_eq!(beside(|| 1, || 2), (Some(1), 2));
        let panics = || -> u32 { panic!("on purpose") };
        assert_eq!(beside(panics, || 2), (None, 2));
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..1000).collect();
        for threads in [0, 1, 2, 64] {
            let doubled = each(&items, threads, |item| item * 2);
            assert!(doubled.iter().zip(&items).all(|(doubled, item)| *doubled == item * 2));
            assert_eq!(doubled.len(), items.len());
        }
        assert!(each(&[] as &[u64], 4, |item| *item).is_empty());
    }
}
