//! Runs a call on another thread. Meanwhile, Python's thread waits without the GIL and handles signals.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::error::named;

/// The interval at which Python's thread checks for signals and reports progress.
const TICK: Duration = Duration::from_millis(50);

/// The time to wait for a stopped call. After this time, the call finishes by itself on its thread.
const GRACE: Duration = Duration::from_millis(400);

/// The state that a call and its waiting thread share.
#[derive(Default)]
pub struct Watch {
    stop: AtomicBool,
    /// The number of inputs that are finished.
    done: AtomicUsize,
}

impl Watch {
    /// Returns true if the call should stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn count_one(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The result of a call, as soon as the call has finished.
struct Slot<T> {
    result: Mutex<Option<thread::Result<T>>>,
    arrived: Condvar,
}

impl<T> Slot<T> {
    fn take_within(&self, time: Duration) -> Option<thread::Result<T>> {
        let waiting = lock(&self.result);
        let waited = self.arrived.wait_timeout_while(waiting, time, |result| result.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of running calls. Their threads may run longer than the call from Python.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

struct Running;

impl Running {
    fn new() -> Self {
        *lock(&RUNNING.0) += 1;
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *lock(&RUNNING.0) -= 1;
        RUNNING.1.notify_all();
    }
}

/// Waits until no call runs, for at most `seconds`. Python calls this function at its exit, because a driver may crash
/// if the process ends while the driver runs.
#[pyfunction]
pub fn wait_for_workers(py: Python<'_>, seconds: f64) {
    if crate::fork::forked() {
        return;
    }
    let seconds = Duration::from_secs_f64(seconds.clamp(0.0, 3600.0));
    py.detach(|| {
        let running = lock(&RUNNING.0);
        drop(RUNNING.1.wait_timeout_while(running, seconds, |running| *running > 0));
    });
}

/// Runs `work` on another thread and returns its result. A signal such as Ctrl-C ends the wait with Python's exception
/// and stops the call. `progress` is called with the number of finished inputs, and may raise an exception too.
pub fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Watch) -> T + Send + 'static,
) -> PyResult<T> {
    let watch = Arc::new(Watch::default());
    let slot = Arc::new(Slot { result: Mutex::new(None), arrived: Condvar::new() });
    let (theirs, to) = (watch.clone(), slot.clone());
    let running = Running::new();
    let spawned = thread::Builder::new().name("vectile".to_owned()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&theirs)));
        *lock(&to.result) = Some(result);
        to.arrived.notify_all();
        drop(running);
    });
    if let Err(error) = spawned {
        return Err(named(py, "InternalError", format!("no thread can be started: {error}")));
    }
    let mut reported = 0;
    let mut report = || -> PyResult<()> {
        let done = watch.done.load(Ordering::Relaxed);
        let Some(progress) = progress.filter(|_| done > reported) else { return Ok(()) };
        reported = done;
        progress.call1((done,)).map(|_| ())
    };
    let mut ticked = Instant::now();
    loop {
        if let Some(result) = py.detach(|| slot.take_within(TICK)) {
            report()?;
            return result.map_err(|panic| named(py, "InternalError", message(&*panic)));
        }
        // `wait_timeout_while` may return early, and `progress`, which is Python code, should not run too often.
        if ticked.elapsed() < TICK / 2 {
            continue;
        }
        ticked = Instant::now();
        if let Err(exception) = py.check_signals().and_then(|()| report()) {
            watch.stop.store(true, Ordering::Relaxed);
            drop(py.detach(|| slot.take_within(GRACE)));
            return Err(exception);
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("internal error (please report it): {}", text.unwrap_or_else(|| "a panic".to_owned()))
}
