//! Checks a loaded model, and returns facts about the model, for the server.

use std::sync::atomic::Ordering;

use crate::config::{Module, PoolingMode};
use crate::dtype::{Precision, Storage};
use crate::embedder::run::Runner;
use crate::error::Error;
use crate::selftest::wrong_kernels;

impl Runner {
    /// Runs the known-answer tests of the kernels that the model uses, on this device.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] with the names of kernels that compute wrongly; otherwise returns the errors of
    /// running a graph.
    pub(crate) async fn check_kernels(&self) -> Result<(), Error> {
        let tokens = self.model.tokenizer.encode(None, "a")?;
        let mut runtime = self.runtime.lock().await;
        let (batch, plan) = (self.pack([&tokens]), runtime.plan());
        let (weights, activations) = (self.precision.weights, self.precision.activations);
        let mut storages = vec![(weights, activations)];
        if self.precision.retries_in_f32() {
            storages.push((weights, Storage::F32));
        }
        for storages in storages {
            let (weights, activations) = storages;
            let precision = Precision { weights, activations, ..self.precision.clone() };
            let graph = runtime.graph(&precision, &batch).graph;
            let wrong = wrong_kernels(&mut runtime.executor, &graph, &plan, storages).await?;
            if !wrong.is_empty() {
                let names: Vec<&str> = wrong.iter().map(|check| check.kernel).collect();
                return Err(Error::Internal(format!(
                    "kernels {} on {} give wrong results with {} weights and {} activations; run \
                     `vectile verify` for details",
                    names.join(", "),
                    self.adapter,
                    storages.0,
                    storages.1
                )));
            }
        }
        Ok(())
    }

    /// Returns the number of times that the device was lost since the model was loaded.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// Returns the names of the pooling modes, as sentence-transformers writes them.
    pub(crate) fn pooling(&self) -> String {
        let modes = self.model.config.modules.iter().find_map(|module| match module {
            Module::Pooling(pooling) => Some(&pooling.modes),
            _ => None,
        });
        let name = |mode: &PoolingMode| match mode {
            PoolingMode::Cls => "cls",
            PoolingMode::Max => "max",
            PoolingMode::Mean => "mean",
            PoolingMode::MeanSqrtLen => "mean_sqrt_len",
            PoolingMode::WeightedMean => "weightedmean",
            PoolingMode::LastToken => "lasttoken",
        };
        modes.map(|modes| modes.iter().map(name).collect::<Vec<_>>().join("+")).unwrap_or_default()
    }
}
