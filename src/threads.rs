//! Runs independent pieces of work on several threads.

/// Applies `work` to every item and returns the results in the order of the items. The function uses at most `threads`
/// threads, and at most the machine's available parallelism. Each thread fetches one item at a time, because the items
/// take very different times.
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

/// Runs `aside` on another thread while `here` runs on this thread, and returns both results. If `aside` panics, its
/// result is `None`.
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
    fn a_panic_on_the_other_thread_does_not_end_this_one() {
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
