//! What a server asks of an embedder beside rows.

use std::sync::atomic::Ordering;

use crate::config::{Module, PoolingMode};
use crate::dtype::{Precision, Storage};
use crate::embedder::{EmbedOptions, Embedder, OnTooLong, Prepared};
use crate::error::Error;
use crate::selftest::wrong_kernels;
use crate::tokenize::{Piece, Tokens};

impl Embedder {
    /// Texts whose tokens the caller has: ids of the model's own tokenizer, special tokens and prompt
    /// included.
    ///
    /// # Errors
    /// The outer one as of [`Embedder::prepare`]; the inner one [`Error::Option`] for an id that the
    /// model does not have, [`Error::TooLong`] where there are more than it takes.
    pub(crate) fn prepare_ids(
        &self,
        texts: Vec<Vec<u32>>,
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        if options.prompt.is_some() || options.prompt_name.is_some() || options.task.is_some() {
            let problem =
                "a prompt is text, and goes before texts only; leave it out with token ids";
            return Err(Error::option("prompt", problem));
        }
        self.output_dimension(options)?;
        let cuts = options.on_too_long == OnTooLong::Truncate;
        let tokens = texts.into_iter().enumerate().map(|(text, mut ids)| {
            let untruncated = ids.len();
            let rows = self.model.tokenizer.rows();
            if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
                let problem = format!("token id {id} is not one of the model's {rows}");
                return Err(Error::option(format!("text {text}"), problem));
            }
            if let Some(limit) = self.max_seq_length().filter(|limit| *limit < ids.len()) {
                if !cuts {
                    return Err(Error::TooLong { text, tokens: untruncated, limit });
                }
                ids.truncate(limit);
            }
            let (type_ids, seen) = (vec![0; ids.len()], ids.len());
            Ok(Tokens { ids, type_ids, prompt_len: 0, untruncated, seen })
        });
        let tokens = tokens.collect();
        Ok(self.checked(0, tokens, options.on_too_long))
    }

    /// The prompt and a text joined, and the tokens of that.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown prompt, [`Error::Tokenizer`] where tokenizing fails.
    pub(crate) fn describe(
        &self,
        text: &str,
        options: &EmbedOptions,
        special: bool,
    ) -> Result<(String, Vec<Piece>), Error> {
        let prompt = self.prompt(options)?.unwrap_or_default();
        let joined = format!("{prompt}{text}");
        let pieces = self.model.tokenizer.describe(&joined, special)?;
        Ok((joined, pieces))
    }

    /// Asks the kernels that the model runs their known answers on this device.
    ///
    /// # Errors
    /// [`Error::Internal`] that names those that are wrong; else those of running a graph.
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
                    "{} on {} with weights as {} and activations as {}: wrong answers; \
                     `vectile verify` tells more",
                    names.join(", "),
                    self.adapter,
                    storages.0,
                    storages.1
                )));
            }
        }
        Ok(())
    }

    /// How often the device was lost since it was first opened.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// True where texts that are too long lose their beginnings.
    pub(crate) fn truncates_left(&self) -> bool {
        self.model.tokenizer.truncates_left()
    }

    /// True where the model's last module scales vectors to length one and nothing is cut from them.
    pub(crate) fn normalizes(&self) -> bool {
        let all = self.model.dimension;
        self.are_unit(self.model.config.truncate_dim.map_or(all, |dim| dim.min(all)))
    }

    /// How tokens become a vector, by sentence-transformers' names.
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
