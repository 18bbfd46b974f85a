//! An embedder looked at from within, for `vectile verify`: rows in any storage of activations, the
//! largest values that pass through each layer, the ranges of weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::batch::plan;
use crate::convert::{self, Loss};
use crate::dtype::{F16Facts, Precision, Storage};
use crate::embedder::f16_record::{
    F16Record, f16_record_beside, f16_record_path, write_f16_record,
};
use crate::embedder::rows::Rows;
use crate::embedder::{EmbedOptions, Embedder, kept};
use crate::error::Error;
use crate::gpu::graph::{Graph, TensorId};
use crate::tokenize::Tokens;

/// Rows, a text each, in the order of the texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probed {
    /// `[texts, dim]`.
    pub rows: Vec<f32>,
    /// Values of a row.
    pub dim: usize,
    /// Texts with an activation out of range or a value that is not finite: their rows mean nothing.
    pub unusable: Vec<usize>,
    /// Tokens that were run.
    pub tokens: usize,
}

impl Probed {
    pub fn row(&self, text: usize) -> &[f32] {
        &self.rows[text * self.dim..][..self.dim]
    }
}

/// The largest value that passes between two kernels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationRange {
    /// The transformer layer, counted from 0; `None` before the first.
    pub layer: Option<usize>,
    /// What the tensor is, as `inspect` calls it; `normed after down` where a layer has several.
    pub tensor: String,
    /// The kernel that writes it.
    pub kernel: String,
    /// The largest magnitude over all texts, in f32; `None` where a value is not finite.
    pub largest: Option<f32>,
    /// The text that has it.
    pub text: usize,
    /// The token of that text.
    pub token: usize,
    /// How many texts have a value here beyond the largest f16.
    pub texts_beyond_f16: usize,
}

impl ActivationRange {
    /// `layer 0 up`.
    pub fn place(&self) -> String {
        match self.layer {
            Some(layer) => format!("layer {layer} {}", self.tensor),
            None => self.tensor.clone(),
        }
    }
}

/// The values of a tensor of the checkpoint, and what rounding them to f16 does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightRange {
    /// Its name.
    pub tensor: String,
    /// Its dtype in the file.
    pub dtype: String,
    /// How many values it has.
    pub values: usize,
    /// False for biases and norms, which are f32 in every precision.
    pub takes_16_bits: bool,
    /// The largest magnitude.
    pub largest: f32,
    /// Values beyond the largest f16.
    pub overflowed: usize,
    /// The first of them.
    pub first_overflow: Option<f32>,
    /// Values that become zero or subnormal in f16.
    pub flushed: usize,
    /// Infinities and NaNs.
    pub non_finite: usize,
}

/// Where a verdict was written, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptIn {
    /// The file.
    pub path: PathBuf,
    /// True for the file beside the model, which the caller asked for.
    pub asked_for: bool,
    /// What kept it from being written.
    pub problem: Option<String>,
}

impl Embedder {
    /// The rows of texts with activations stored as `activations`, whatever the policy says; nothing is
    /// run again.
    pub(crate) async fn probe(
        &self,
        texts: &[String],
        activations: Storage,
    ) -> Result<Probed, Error> {
        let precision = Precision { activations, ..self.precision.clone() };
        let (tokens, mut probed) = self.tokens_to_probe(texts)?;
        let lengths: Vec<usize> = tokens.iter().map(|t| t.ids.len()).collect();
        let mut runtime = self.runtime.lock().await;
        for range in plan(&lengths, self.batch_tokens, self.most_texts()) {
            let batch = self.pack(&tokens[range.clone()]);
            let rows = runtime.run(&self.model, &precision, &batch).await?;
            self.append(&mut probed, range.start, &rows);
        }
        Ok(probed)
    }

    /// As [`Embedder::probe`] in f32, with the largest values of every tensor that 16-bit activations
    /// would store in 16 bits, in the order in which they are written; and the texts that have a value
    /// beyond the largest f16.
    pub(crate) async fn ranges(
        &self,
        texts: &[String],
    ) -> Result<(Probed, Vec<ActivationRange>, Vec<usize>), Error> {
        let (tokens, mut probed) = self.tokens_to_probe(texts)?;
        let lengths: Vec<usize> = tokens.iter().map(|t| t.ids.len()).collect();
        let mut ranges: Vec<ActivationRange> = Vec::new();
        let mut places: BTreeMap<(Option<usize>, String), usize> = BTreeMap::new();
        let mut beyond = vec![false; texts.len()];
        let mut runtime = self.runtime.lock().await;
        for range in plan(&lengths, self.batch_tokens, self.most_texts()) {
            let batch = self.pack(&tokens[range.clone()]);
            let total = batch.ids.len().max(1);
            let tapped = runtime.tap(&self.model, &self.precision, &batch, |graph, id, values| {
                let (layer, tensor, kernel) = label(graph, id);
                let at = *places.entry((layer, tensor.clone())).or_insert_with(|| {
                    ranges.push(ActivationRange {
                        layer,
                        tensor,
                        kernel,
                        largest: Some(0.0),
                        text: range.start,
                        token: 0,
                        texts_beyond_f16: 0,
                    });
                    ranges.len() - 1
                });
                // Rows of tokens lie one after the other, without gaps between texts.
                let width = values.len() / total;
                for (text, [first, tokens, _]) in batch.texts.iter().enumerate() {
                    let text = range.start + text;
                    let own = &values[*first as usize * width..][..*tokens as usize * width];
                    if ranges[at].see(own, width, text) {
                        beyond[text] = true;
                    }
                }
            });
            let rows = tapped.await?;
            self.append(&mut probed, range.start, &rows);
        }
        let beyond = (0..texts.len()).filter(|text| beyond[*text]).collect();
        Ok((probed, ranges, beyond))
    }

    fn tokens_to_probe(&self, texts: &[String]) -> Result<(Vec<Tokens>, Probed), Error> {
        let options = EmbedOptions::default();
        let dim = self.output_dimension(&options)?;
        let prepared = self.prepare(texts, &options)?;
        let tokens: Vec<Tokens> = prepared
            .into_iter()
            .map(|text| text.map(|text| text.tokens))
            .collect::<Result<_, _>>()?;
        let count = tokens.iter().map(|tokens| tokens.ids.len()).sum();
        Ok((tokens, Probed { dim, tokens: count, ..Probed::default() }))
    }

    fn append(&self, probed: &mut Probed, first: usize, rows: &Rows) {
        for row in rows.each() {
            probed.rows.extend_from_slice(&row[..probed.dim]);
        }
        probed.unusable.extend(rows.suspects.iter().map(|suspect| first + suspect));
    }

    /// The ranges of every floating tensor that embeddings need, by name.
    pub(crate) fn weight_ranges(&self) -> Result<Vec<WeightRange>, Error> {
        let mut ranges = Vec::new();
        let modules = self.model.module_weights.iter().flatten();
        for weights in std::iter::once(&self.model.weights).chain(modules) {
            for (tensor, dtype, shape, used) in weights.listing() {
                // Integers are indices, or values that f16 holds.
                if !used || !["F64", "F32", "F16", "BF16"].contains(&dtype.as_str()) {
                    continue;
                }
                let mut loss = Loss::default();
                weights.each_piece(&tensor, |values| {
                    loss.add(convert::encode(Storage::PackedF16, values, &mut Vec::new()));
                })?;
                ranges.push(WeightRange {
                    tensor,
                    dtype,
                    values: shape.iter().product(),
                    takes_16_bits: shape.len() > 1,
                    largest: loss.largest,
                    overflowed: loss.overflowed,
                    first_overflow: loss.first_overflow,
                    flushed: loss.flushed,
                    non_finite: loss.non_finite,
                });
            }
        }
        Ok(ranges)
    }

    /// See [`kept`]: every byte of the weights is read.
    pub(crate) fn weights_sha256(&self) -> Result<String, Error> {
        self.model.weights_sha256()
    }

    /// What the architecture says about f16.
    pub(crate) fn f16_facts(&self) -> F16Facts {
        self.model.transformer.facts().f16
    }

    /// How messages call the model.
    pub(crate) fn label(&self) -> String {
        self.model.files.label()
    }

    /// Keeps a verdict for the next load, in the cache directory and, where `beside`, beside the model's
    /// files. One that is kept and worse stays: some texts were too much for the model. Returns the one
    /// that counts, and each place with what kept it from being written there.
    ///
    /// # Errors
    /// [`Error::File`] where the model's files cannot be read any more.
    pub(crate) fn keep(
        &self,
        cache: Option<&Path>,
        beside: bool,
        mut record: F16Record,
    ) -> Result<(F16Record, Vec<KeptIn>), Error> {
        record.name = self.model.verdict_name()?;
        if let Some(known) = kept::record(&self.model, cache)?
            && known.verdict.safety > record.verdict.safety
        {
            record = known;
        }
        let in_cache = cache.map(|cache| (f16_record_path(cache, &record.name), false));
        let beside = f16_record_beside(&self.model.files).filter(|_| beside).map(|p| (p, true));
        let written = in_cache.into_iter().chain(beside).map(|(path, asked_for)| {
            let problem = write_f16_record(&path, &record).err().map(|e| e.to_string());
            KeptIn { path, asked_for, problem }
        });
        let written = written.collect();
        Ok((record, written))
    }

    /// True where the model's files lie in a directory, which a verdict can be written into.
    pub(crate) fn has_directory(&self) -> bool {
        f16_record_beside(&self.model.files).is_some()
    }
}

impl ActivationRange {
    /// Takes in a text's values; true where one is beyond the largest f16.
    fn see(&mut self, values: &[f32], width: usize, text: usize) -> bool {
        let mut beyond = false;
        for (token, row) in values.chunks_exact(width.max(1)).enumerate() {
            // NaN compares as not within.
            let mut largest = 0.0f32;
            let mut finite = true;
            for value in row {
                largest = largest.max(value.abs());
                finite &= value.is_finite();
            }
            beyond |= !finite || largest > Storage::F16.max();
            match self.largest {
                Some(known) if finite && largest <= known => {}
                Some(_) => {
                    self.largest = finite.then_some(largest);
                    (self.text, self.token) = (text, token);
                }
                None => {}
            }
        }
        self.texts_beyond_f16 += usize::from(beyond);
        beyond
    }
}

/// The layer, name and kernel of a tensor. Where its layer has several of the name, the name says after
/// which tensor it comes.
fn label(graph: &Graph, id: TensorId) -> (Option<usize>, String, String) {
    let info = &graph.tensors[id.0];
    let writer = graph.dispatches.iter().find(|dispatch| graph.written(dispatch) == Some(id));
    let kernel = writer.map_or("", |dispatch| dispatch.kernel.name).to_owned();
    let alike = |other: TensorId| {
        let other = &graph.tensors[other.0];
        other.layer == info.layer && other.name == info.name
    };
    let twins = graph.dispatches.iter().filter_map(|dispatch| graph.written(dispatch));
    let unique = !twins.into_iter().any(|other| other != id && alike(other));
    let first = writer.and_then(|dispatch| dispatch.bindings.first());
    let name = match first.filter(|_| !unique) {
        Some(input) => format!("{} after {}", info.name, graph.tensors[input.0].name),
        None => info.name.to_owned(),
    };
    (info.layer, name, kernel)
}
