//! Checks whether a model is ready, by running the model.
//!
//! A model is ready after its first pass. In that pass its kernels must pass their known-answer tests, and
//! a text must give bit-identical rows alone and in a batch. A probe runs that text again and must give a
//! bit-identical row. If the device is lost, the model is not ready until a probe has passed on the newly
//! opened device.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Refusal, ServedModel};
use crate::error::Error;

/// If the latest row was returned less than this time ago, the device is known to work, and no probe is needed.
const FRESH: Duration = Duration::from_millis(800);
/// The time for which a readiness request waits for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);
/// A run counts as stuck if it returns no row for this long. The executor itself stops waiting for the GPU only after
/// two minutes.
const STUCK: Duration = Duration::from_secs(30);
/// Time between two checks for a loss of the device.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Pause after a failed probe.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The text that every probe runs.
const PROBE: &str = "The quick brown fox jumps over the lazy dog.";
/// The batch of the first pass. This batch has the probe's text between texts of other lengths.
const PROBE_BATCH: [&str; 3] =
    ["a", PROBE, "Two texts of other lengths stand beside it in a batch."];

/// The readiness of a model. If the model is not ready, this holds the reason.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The bits of the probe's row in the first pass. The row of every later probe must be bit-identical to this row.
    known: Option<Vec<u32>>,
    /// The reason why the model is not ready. `None` if the model is ready, and before the first pass.
    problem: Option<String>,
    /// Number of device losses seen so far.
    losses: u64,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the first pass has succeeded and no failure has been recorded since the latest probe.
    pub fn is_ready(&self) -> bool {
        let state = self.lock();
        state.known.is_some() && state.problem.is_none()
    }

    /// Marks the model as not ready until a probe passes. If several problems occur, the first one is
    /// reported.
    pub fn fail(&self, problem: impl Into<String>) {
        self.lock().problem.get_or_insert_with(|| problem.into());
    }

    fn problem(&self) -> Option<String> {
        let state = self.lock();
        match &state.problem {
            None if state.known.is_none() => {
                Some("the first test run of the model has not finished".into())
            }
            problem => problem.clone(),
        }
    }
}

impl ServedModel {
    /// Runs the model for the first time: first the known-answer tests of its kernels, then a text alone
    /// and in a batch.
    ///
    /// # Errors
    /// Returns the error if running the model fails, and [`Error::Internal`] if a result is wrong.
    pub async fn first_pass(self: &Arc<Self>) -> Result<(), Error> {
        let model = self.clone();
        let checked = tokio::task::spawn_blocking(move || {
            pollster::block_on(model.model.runner().check_kernels())
        });
        checked
            .await
            .map_err(|_| Error::Internal("checking the kernels panicked".to_owned()))??;
        let runs = self.model.runner();
        let wrong = |problem: &str| {
            Error::Internal(format!(
                "{}: {problem} on {}; `vectile verify` tells which kernel is wrong",
                self.name,
                runs.adapter()
            ))
        };
        let known = self.probe_row().await?;
        let batch = self.numbers_of(&PROBE_BATCH).await?;
        if known.iter().chain(batch.iter().flatten()).any(|value| !value.is_finite()) {
            return Err(wrong("a vector has values that are not finite"));
        }
        if bits(&known) != bits(&batch[1]) {
            return Err(wrong(
                "the result of a text in a batch differs from the result of the same text alone",
            ));
        }
        if self.gives_unit_vectors() {
            let length = known.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if (length - 1.0).abs() > 1e-3 {
                return Err(wrong(&format!(
                    "a normalized vector has the length {length} instead of 1"
                )));
            }
        }
        self.health.lock().known = Some(bits(&known));
        Ok(())
    }

    /// Runs the probe and compares its row with the row of the first pass.
    async fn probe(&self) -> Result<(), String> {
        let row = self.probe_row().await.map_err(|error| error.to_string())?;
        let mut state = self.health.lock();
        if state.known.as_ref() != Some(&bits(&row)) {
            let problem =
                "the result of a text differs from its result when the model was loaded".to_owned();
            state.problem = Some(problem.clone());
            return Err(problem);
        }
        state.problem = None;
        Ok(())
    }

    /// Checks whether the model is ready now. Runs a probe if no row was returned recently.
    ///
    /// # Errors
    /// Returns the reason why the model is not ready.
    pub async fn check_ready(&self) -> Result<(), String> {
        self.look();
        if let Some(problem) = self.health.problem() {
            return Err(problem);
        }
        if self.progress.last_row().is_some_and(|last| last.elapsed() < FRESH) {
            return Ok(());
        }
        if let Some(running) = self.progress.without_row() {
            let seconds = running.as_secs();
            return match running < STUCK {
                true => Ok(()),
                false => Err(format!("the GPU has returned nothing for {seconds} s")),
            };
        }
        match tokio::time::timeout(PROBE_TIMEOUT, self.probe()).await {
            Ok(Err(problem)) => {
                self.health.fail(&problem);
                Err(problem)
            }
            Ok(Ok(())) => self.health.problem().map_or(Ok(()), Err),
            // A test run that takes too long may only mean a slow device, so the model is not marked as failed.
            Err(_) => Err(format!(
                "a test run of the model takes longer than {} ms",
                PROBE_TIMEOUT.as_millis()
            )),
        }
    }

    /// Records each loss of the device, even if the device has been opened again since then.
    fn look(&self) {
        let losses = self.model.runner().losses();
        let mut state = self.health.lock();
        if losses > state.losses {
            self.metrics.lost(losses - state.losses);
            state.losses = losses;
            state.problem.get_or_insert_with(|| "the device was lost".to_owned());
        }
    }

    /// Watches the device until the server ends. If the model has failed, this function runs probes until the model is
    /// ready again.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            self.look();
            if self.health.is_ready() {
                continue;
            }
            match self.probe().await {
                Ok(()) => tracing::info!(model = self.name, "the model is ready again"),
                Err(problem) => {
                    tracing::warn!(model = self.name, %problem, "the model is not ready");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Runs the probe's text and returns the numbers in its row.
    async fn probe_row(&self) -> Result<Vec<f32>, Error> {
        let rows = self.numbers_of(&[PROBE]).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// Runs texts and returns the numbers in their rows. Probes are not charged to the budget, so a full queue does not
    /// refuse them.
    async fn numbers_of(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        self.uncharged_rows(texts).await.map_err(|refusal| match refusal {
            Refusal::Failed(error) => error,
            Refusal::Full { .. } | Refusal::Stopped => {
                Error::Internal("the queue refused the test text of a health check".into())
            }
        })
    }

    /// Closes the queue. Requests are still tokenized, and then refused.
    #[cfg(any(test, fuzzing))]
    pub fn close_queue(&self) {
        self.queue.close();
    }

    /// Accepts no more requests. Requests that were already accepted are still answered.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.queue.close();
    }
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|value| value.to_bits()).collect()
}
