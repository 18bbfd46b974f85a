//! The threads that share the work of a kernel.

use std::sync::Arc;

use crate::error::Error;

/// The threads that run kernels. A clone shares the same threads.
#[derive(Clone)]
pub(super) struct Workers {
    /// `None` on a system without threads. Kernels then run on the caller's thread.
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Workers {
    /// Starts this many threads.
    pub fn new(threads: usize) -> Result<Self, Error> {
        if cfg!(target_arch = "wasm32") {
            return Ok(Workers { pool: None });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|at| format!("vectile-cpu-{at}"))
            .build()
            .map_err(|e| {
                Error::Internal(format!(
                    "the {threads} threads that compute on the CPU could not be started: {e}"
                ))
            })?;
        Ok(Workers { pool: Some(Arc::new(pool)) })
    }

    /// Runs `work` on one of the threads. Calls of [`chunks`] within `work` use all threads.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// Returns the number of threads among which a kernel can divide its work.
pub(super) fn count() -> usize {
    rayon::current_num_threads()
}

/// Splits `y` into chunks of `length` values, and calls `work` with the index and the values of each chunk, on all
/// threads.
pub(super) fn chunks(y: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSliceMut};
    let length = length.max(1);
    if y.len() <= length || count() == 1 {
        y.chunks_mut(length).enumerate().for_each(|(at, chunk)| work(at, chunk));
    } else {
        y.par_chunks_mut(length).enumerate().for_each(|(at, chunk)| work(at, chunk));
    }
}

/// Calls `work` with every item, on all threads.
pub(super) fn each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync + Send) {
    use rayon::prelude::{IntoParallelIterator, ParallelIterator};
    if items.len() <= 1 || count() == 1 {
        items.into_iter().for_each(work);
    } else {
        items.into_par_iter().for_each(work);
    }
}

/// Returns the number of rows in a chunk, so that each thread gets several chunks. A chunk has at least `least` rows.
pub(super) fn rows_a_chunk(rows: usize, least: usize) -> usize {
    rows.div_ceil(4 * count()).max(least)
}

/// Returns the number of threads to use by default: the number of physical cores that this process may use.
pub(super) fn default_count() -> usize {
    let available = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    #[cfg(not(target_arch = "wasm32"))]
    let cores = sysinfo::System::physical_core_count().unwrap_or(available);
    #[cfg(target_arch = "wasm32")]
    let cores = 1;
    available.min(cores).max(1)
}
