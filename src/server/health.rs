//! Whether a model can be relied on, found out by running it.
//!
//! A model is ready once its kernels have given their known answers, and a text has passed through it
//! alone and in a batch with the same bits; every later probe must give those bits again. A lost device makes it not ready until a probe has
//! passed on the device that was opened in its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::server::models::{Model, Refusal};

/// A row older than this does not show that the device is there.
const FRESH: Duration = Duration::from_millis(800);
/// A probe that takes longer shows that it is not, as far as anyone can wait for.
const PATIENCE: Duration = Duration::from_millis(900);
/// A run without a row for so long is stuck; the executor itself gives up after two minutes.
const STUCK: Duration = Duration::from_secs(30);
/// How often the device is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// After a probe that failed.
const REST: Duration = Duration::from_secs(1);

/// The text that every probe runs, and those beside it the first time.
const PROBE: &str = "The quick brown fox jumps over the lazy dog.";
const NEIGHBOURS: [&str; 3] =
    ["a", PROBE, "Two texts of other lengths stand beside it in a batch."];

/// How a model stands.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Standing>);

#[derive(Debug, Default)]
struct Standing {
    /// What the probe's text gave first, and must give always.
    known: Option<Vec<u32>>,
    /// Why it is not ready. `None` before the first pass and where it is.
    problem: Option<String>,
    /// Losses of the device that are known.
    losses: u64,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True where the last probe passed and nothing went wrong since.
    pub fn is_ready(&self) -> bool {
        let standing = self.lock();
        standing.known.is_some() && standing.problem.is_none()
    }

    /// Something that only a probe can make good again.
    pub fn fail(&self, problem: impl Into<String>) {
        self.lock().problem.get_or_insert_with(|| problem.into());
    }

    fn problem(&self) -> Option<String> {
        let standing = self.lock();
        match &standing.problem {
            None if standing.known.is_none() => Some("its first pass is not done yet".into()),
            problem => problem.clone(),
        }
    }
}

impl Model {
    /// Runs the model for the first time: its kernels, then a text alone and in a batch.
    ///
    /// # Errors
    /// What the run met, or [`Error::Internal`] where what it gave cannot be right.
    pub async fn first_pass(self: &Arc<Self>) -> Result<(), Error> {
        let model = self.clone();
        let asked =
            tokio::task::spawn_blocking(move || pollster::block_on(model.runs().check_kernels()));
        asked.await.map_err(|_| Error::Internal("asking the kernels panicked".to_owned()))??;
        let wrong = |problem: &str| {
            let (name, adapter) = (&self.name, self.runs().adapter());
            Error::Internal(format!(
                "{name}: {problem} on {adapter}; `vectile verify` tells which kernel is wrong"
            ))
        };
        let known = one(self.pass(&[PROBE]).await?);
        let batch = self.pass(&NEIGHBOURS).await?;
        if known.iter().chain(batch.iter().flatten()).any(|value| !value.is_finite()) {
            return Err(wrong("a vector has values that are not finite"));
        }
        if bits(&known) != bits(&batch[1]) {
            return Err(wrong("a text has other bits in a batch than alone"));
        }
        if self.gives_unit_vectors() {
            let length = known.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if (length - 1.0).abs() > 1e-3 {
                return Err(wrong(&format!("a normalised vector has the length {length}")));
            }
        }
        self.health.lock().known = Some(bits(&known));
        Ok(())
    }

    /// Runs the model and compares with what it gave first.
    async fn probe(&self) -> Result<(), String> {
        let row = self.pass(&[PROBE]).await.map(one).map_err(|error| error.to_string())?;
        let mut standing = self.health.lock();
        if standing.known.as_ref() != Some(&bits(&row)) {
            let problem = "a text has other bits than when the model was loaded".to_owned();
            standing.problem = Some(problem.clone());
            return Err(problem);
        }
        standing.problem = None;
        Ok(())
    }

    /// Whether the model can be relied on now. Runs it where nothing did lately.
    ///
    /// # Errors
    /// Why not.
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
                false => Err(format!("the GPU has given nothing for {seconds} s")),
            };
        }
        match tokio::time::timeout(PATIENCE, self.probe()).await {
            Ok(Err(problem)) => {
                self.health.fail(&problem);
                Err(problem)
            }
            Ok(Ok(())) => self.health.problem().map_or(Ok(()), Err),
            // Slow it may be: it is stuck only when it stays so.
            Err(_) => Err(format!("a pass takes longer than {} ms", PATIENCE.as_millis())),
        }
    }

    /// Notes that the device was lost, also where it was opened again meanwhile.
    fn look(&self) {
        let losses = self.runs().losses();
        let mut standing = self.health.lock();
        if losses > standing.losses {
            self.metrics.lost(losses - standing.losses);
            standing.losses = losses;
            standing.problem.get_or_insert_with(|| "the device was lost".to_owned());
        }
    }

    /// Looks at the device for ever, and brings it back where it is lost.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
            if self.health.is_ready() {
                continue;
            }
            match self.probe().await {
                Ok(()) => tracing::info!(model = self.name, "ready again"),
                Err(problem) => {
                    tracing::warn!(model = self.name, %problem, "not ready");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// The rows of texts, past the budget: nobody waits for a place to look at the device.
    async fn pass(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        self.rows_of(texts).await.map_err(|refusal| match refusal {
            Refusal::Failed(error) => error,
            Refusal::Full { .. } | Refusal::Stopped => {
                Error::Internal("a probe was not run".into())
            }
        })
    }
}

fn one(rows: Vec<Vec<f32>>) -> Vec<f32> {
    rows.into_iter().next().unwrap_or_default()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|value| value.to_bits()).collect()
}
