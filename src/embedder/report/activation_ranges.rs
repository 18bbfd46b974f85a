//! Measures an embedder for `vectile verify`. It computes rows with any storage of activations, the largest values in
//! each layer, and the ranges of weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::batch::{PackedBatch, plan};
use crate::convert::{self, Loss};
use crate::dtype::{F16Facts, Precision, Storage};
use crate::embedder::Embedder;
use crate::embedder::assembly::BatchGraph;
use crate::embedder::load::f16_record::{
    F16Record, f16_record_beside, f16_record_path, write_f16_record,
};
use crate::embedder::load::f16_verdict;
use crate::embedder::model::Model;
use crate::embedder::options::EmbedOptions;
use crate::embedder::run::rows::BatchRows;
use crate::embedder::run::runtime::Runtime;
use crate::embedder::text_model::TextModel;
use crate::error::Error;
use crate::gpu::graph::{Graph, TensorId};
use crate::tokenize::Tokens;

/// The rows of a measurement, one for each text, in the order of the texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probed {
    /// The values of all rows, `[texts, dim]`.
    pub rows: Vec<f32>,
    /// The number of values in a row.
    pub dim: usize,
    /// The texts with an activation out of range, or with a value that is not finite. Their rows must not be used.
    pub unusable: Vec<usize>,
    /// The number of tokens of all texts.
    pub tokens: usize,
}

impl Probed {
    pub fn row(&self, text: usize) -> &[f32] {
        &self.rows[text * self.dim..][..self.dim]
    }
}

/// The largest value of a tensor that one kernel passes to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationRange {
    /// The transformer layer, counted from 0; `None` for a tensor before the first layer.
    pub layer: Option<usize>,
    /// The tensor's name, as in `inspect`. If a layer has several tensors with the same name, the name includes the
    /// tensor before it, as in `normed after down`.
    pub tensor: String,
    /// The kernel that writes the tensor.
    pub kernel: String,
    /// The largest magnitude over all texts, in f32; `None` if a value is not finite.
    pub largest: Option<f32>,
    /// The index of the text in which the largest value occurs.
    pub text: usize,
    /// The index of the token with the largest value, in the text with that value.
    pub token: usize,
    /// The number of texts in which a value of this tensor exceeds the largest f16.
    pub texts_beyond_f16: usize,
}

impl ActivationRange {
    /// Returns the layer and the tensor in words, such as `layer 0 up`.
    pub fn place(&self) -> String {
        match self.layer {
            Some(layer) => format!("layer {layer} {}", self.tensor),
            None => self.tensor.clone(),
        }
    }
}

/// The range of the values in a tensor of the checkpoint, and the effect of rounding them to f16.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightRange {
    /// The name of the tensor.
    pub tensor: String,
    /// The tensor's dtype in the file.
    pub dtype: String,
    /// The number of values in the tensor.
    pub values: usize,
    /// False for biases and norms, which are stored as f32 in every precision.
    pub takes_16_bits: bool,
    /// The largest magnitude of the tensor's values.
    pub largest: f32,
    /// The number of values beyond the largest f16.
    pub overflowed: usize,
    /// The first value that exceeds the largest f16; `None` if no value does.
    pub first_overflow: Option<f32>,
    /// The number of values that become zero or subnormal in f16.
    pub flushed: usize,
    /// The number of values that are infinities or NaNs.
    pub non_finite: usize,
}

/// A file to which a verdict was to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptIn {
    /// The path of the file.
    pub path: PathBuf,
    /// True for the file beside the model, which is written only on the caller's request.
    pub asked_for: bool,
    /// The reason why the file could not be written; `None` if it was written.
    pub problem: Option<String>,
}

impl Embedder {
    /// Computes rows with activations stored as `activations`, whatever the dtype policy says. No text is run again
    /// in f32.
    pub(crate) async fn probe(
        &self,
        texts: &[String],
        activations: Storage,
    ) -> Result<Probed, Error> {
        let runner = self.runner();
        let precision = Precision { activations, ..runner.precision.clone() };
        let (tokens, mut probed) = self.tokens_to_probe(texts)?;
        let lengths: Vec<usize> = tokens.iter().map(|t| t.ids.len()).collect();
        let mut runtime = runner.runtime.lock().await;
        for range in plan(&lengths, runner.batch_tokens, runner.max_batch_texts()) {
            let batch = runner.pack(&tokens[range.clone()]);
            let rows = runtime.run(&runner.model, &precision, &batch).await?;
            append(&mut probed, range.start, &rows);
        }
        Ok(probed)
    }

    /// Computes rows as [`Embedder::probe`] does in f32. Also returns the largest values of every tensor that 16-bit
    /// activations would store in 16 bits. These tensors are in the order of writing. The texts with a value beyond
    /// the largest f16 are returned as well.
    pub(crate) async fn ranges(
        &self,
        texts: &[String],
    ) -> Result<(Probed, Vec<ActivationRange>, Vec<usize>), Error> {
        let runner = self.runner();
        let (tokens, mut probed) = self.tokens_to_probe(texts)?;
        let lengths: Vec<usize> = tokens.iter().map(|t| t.ids.len()).collect();
        let mut ranges: Vec<ActivationRange> = Vec::new();
        let mut places: BTreeMap<(Option<usize>, String), usize> = BTreeMap::new();
        let mut beyond = vec![false; texts.len()];
        let mut runtime = runner.runtime.lock().await;
        for range in plan(&lengths, runner.batch_tokens, runner.max_batch_texts()) {
            let batch = runner.pack(&tokens[range.clone()]);
            let total = batch.ids.len().max(1);
            let tapped =
                tap(&mut runtime, &runner.model, &runner.precision, &batch, |graph, id, values| {
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
                    // `values` holds the rows of all tokens in order, without gaps between texts.
                    let width = values.len() / total;
                    for (text, span) in batch.texts.iter().enumerate() {
                        let text = range.start + text;
                        let own =
                            &values[span.first as usize * width..][..span.tokens as usize * width];
                        if ranges[at].see(own, width, text) {
                            beyond[text] = true;
                        }
                    }
                });
            let rows = tapped.await?;
            append(&mut probed, range.start, &rows);
        }
        let beyond = (0..texts.len()).filter(|text| beyond[*text]).collect();
        Ok((probed, ranges, beyond))
    }

    fn tokens_to_probe(&self, texts: &[String]) -> Result<(Vec<Tokens>, Probed), Error> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let prepared = self.prepare(0, &texts, &EmbedOptions::default())?;
        let tokens: Vec<Tokens> = prepared
            .into_iter()
            .map(|text| text.map(|text| text.tokens))
            .collect::<Result<_, _>>()?;
        let count = tokens.iter().map(|tokens| tokens.ids.len()).sum();
        let dim = self.runner().default_dimension();
        Ok((tokens, Probed { dim, tokens: count, ..Probed::default() }))
    }

    /// Returns the ranges of every floating-point tensor that the model uses.
    pub(crate) fn weight_ranges(&self) -> Result<Vec<WeightRange>, Error> {
        let mut ranges = Vec::new();
        for weights in self.runner().model.weight_files() {
            for (tensor, dtype, shape, used) in weights.listing() {
                // Integer tensors are skipped: they hold indices, or numbers that are exact in f16.
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

    /// Returns the SHA-256 of the weights. The call reads every byte of them.
    pub(crate) fn weights_sha256(&self) -> Result<String, Error> {
        self.runner().model.weights_sha256()
    }

    /// The facts about f16 that the architecture states.
    pub(crate) fn f16_facts(&self) -> F16Facts {
        self.runner().model.transformer.facts().f16
    }

    /// The model's name in messages.
    pub(crate) fn label(&self) -> String {
        self.runner().model.files.label()
    }

    /// Stores a verdict for the next load, in the cache directory and, if `beside` is true, beside the model's files.
    /// If the stored verdict is worse, it stays, because some texts have exceeded the range of f16. Returns the
    /// verdict that counts. Also returns each file, with the reason if it could not be written.
    ///
    /// # Errors
    /// [`Error::File`] if the model's files can no longer be read.
    pub(crate) fn keep(
        &self,
        cache: Option<&Path>,
        beside: bool,
        mut record: F16Record,
    ) -> Result<(F16Record, Vec<KeptIn>), Error> {
        record.name = self.runner().model.verdict_name()?;
        if let Some(known) = f16_verdict::record(&self.runner().model, cache)?
            && known.verdict.safety > record.verdict.safety
        {
            record = known;
        }
        let in_cache = cache.map(|cache| (f16_record_path(cache, &record.name), false));
        let beside =
            f16_record_beside(&self.runner().model.files).filter(|_| beside).map(|p| (p, true));
        let written = in_cache.into_iter().chain(beside).map(|(path, asked_for)| {
            let problem = write_f16_record(&path, &record).err().map(|e| e.to_string());
            KeptIn { path, asked_for, problem }
        });
        let written = written.collect();
        Ok((record, written))
    }

    /// True if the model's files are in a directory, so that a verdict can be written there.
    pub(crate) fn has_directory(&self) -> bool {
        f16_record_beside(&self.runner().model.files).is_some()
    }
}

fn append(probed: &mut Probed, first: usize, rows: &BatchRows) {
    for row in rows.iter() {
        probed.rows.extend_from_slice(&row[..probed.dim]);
    }
    probed.unusable.extend(rows.suspects.iter().map(|suspect| first + suspect));
}

/// Runs a batch with f32 activations. It calls `visit` with the f32 values of each tensor that 16-bit activations
/// would store in 16 bits. A lost device is not recovered.
async fn tap(
    runtime: &mut Runtime,
    model: &Model,
    precision: &Precision,
    batch: &PackedBatch,
    mut visit: impl FnMut(&Graph, TensorId, &[f32]),
) -> Result<BatchRows, Error> {
    let with = |activations| Precision { activations, ..precision.clone() };
    let BatchGraph { graph, output } = runtime.graph(&with(Storage::F32), batch);
    // The same graph is also built with 16-bit activations. A tensor holds activations if it has half as many bytes in
    // that graph.
    let narrow = runtime.graph(&with(Storage::PackedF16), batch).graph;
    if narrow.tensors.len() != graph.tensors.len() {
        return Err(Error::Internal(
            "the graph with 16-bit activations and the graph with f32 activations have different \
             numbers of tensors, so the ranges of activations cannot be measured"
                .into(),
        ));
    }
    let halved: Vec<bool> =
        graph.tensors.iter().zip(&narrow.tensors).map(|(a, b)| b.bytes < a.bytes).collect();
    let tapped = runtime.executor.run_tapped(&graph, &halved, |id, bytes| {
        visit(&graph, id, &convert::decode(Storage::F32, bytes));
    });
    let outcome = tapped.await?;
    Ok(BatchRows::new(model, batch, &output, &outcome))
}

impl ActivationRange {
    /// Updates the range with the values of a text. Returns true if one of the values exceeds the largest f16.
    fn see(&mut self, values: &[f32], width: usize, text: usize) -> bool {
        let mut beyond = false;
        for (token, row) in values.chunks_exact(width.max(1)).enumerate() {
            // `max` ignores NaN, so a separate flag records whether all values are finite.
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

/// Returns the layer, name and kernel of a tensor. If the layer has several tensors with the same name, the name
/// includes the tensor before it.
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
