//! Measures an embedder for `vectile verify`. The module computes rows with any storage type of activations. It also
//! measures the largest activations in each layer, and the ranges of weights.

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
use crate::embedder::options::EmbedOptions;
use crate::embedder::run::Runner;
use crate::embedder::run::rows::BatchRows;
use crate::embedder::run::runtime::Runtime;
use crate::embedder::text_model::TextModel;
use crate::error::Error;
use crate::gpu::graph::{Graph, TensorId, TensorInfo, TensorSource};
use crate::tokenize::Tokens;

/// The rows that a measurement computed. There is one row for each text, in the order of the texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probed {
    /// The values of all rows, with the shape `[texts, dim]`.
    pub rows: Vec<f32>,
    /// The number of values in a row.
    pub dim: usize,
    /// The indices of the texts with an activation out of range, or with a value that is not finite. The rows of these
    /// texts must not be used.
    pub unusable: Vec<usize>,
    /// The number of tokens of all texts.
    pub tokens: usize,
}

impl Probed {
    pub fn row(&self, text: usize) -> &[f32] {
        &self.rows[text * self.dim..][..self.dim]
    }
}

/// The range of the values in a tensor that one kernel writes and another kernel reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationRange {
    /// The transformer layer, counted from 0; `None` for a tensor before the first layer.
    pub layer: Option<usize>,
    /// The tensor's name, as in `inspect`. If a layer has several tensors with this name, the name of the kernel's
    /// first input is added, as in `normed after down`.
    pub tensor: String,
    /// The kernel that writes the tensor.
    pub kernel: String,
    /// The largest magnitude over all texts, computed with f32 activations; `None` if a value is not finite.
    pub largest: Option<f32>,
    /// The index of the text in which the largest magnitude occurs.
    pub text: usize,
    /// The index of the token with the largest magnitude, counted from the beginning of that text.
    pub token: usize,
    /// The number of texts in which a value of this tensor exceeds the largest f16 value.
    pub texts_beyond_f16: usize,
}

impl ActivationRange {
    /// Returns the layer and the name of the tensor, such as `layer 0 up`.
    pub fn place(&self) -> String {
        match self.layer {
            Some(layer) => format!("layer {layer} {}", self.tensor),
            None => self.tensor.clone(),
        }
    }
}

/// The range of the values in a tensor of the checkpoint, and the effect of rounding these values to f16.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightRange {
    /// The name of the tensor.
    pub tensor: String,
    /// The tensor's dtype in the file.
    pub dtype: String,
    /// The number of values in the tensor.
    pub values: usize,
    /// True if a 16-bit precision stores the tensor in 16 bits. False for biases and norm weights, which are stored as
    /// f32 in every precision.
    pub takes_16_bits: bool,
    /// The largest magnitude of the tensor's values.
    pub largest: f32,
    /// The number of values whose magnitude exceeds the largest f16 value.
    pub overflowed: usize,
    /// The first value, in the tensor's order, whose magnitude exceeds the largest f16 value; `None` if there is none.
    pub first_overflow: Option<f32>,
    /// The number of values that become zero or subnormal in f16.
    pub flushed: usize,
    /// The number of values that are infinities or NaNs.
    pub non_finite: usize,
}

/// A file for the verdict on whether f16 is safe for a model, and the outcome of writing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptIn {
    /// The path of the file.
    pub path: PathBuf,
    /// True for the file in the model's directory, which is written only on the caller's request.
    pub asked_for: bool,
    /// The reason why the file could not be written; `None` if it was written.
    pub problem: Option<String>,
}

impl Embedder {
    /// Returns the rows of `texts`, computed with activations stored as `activations`. The dtype policy is not applied,
    /// and no text is run again in f32.
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

    /// Returns the rows of [`Embedder::probe`] with f32 activations. Also returns the range of every tensor that 16-bit
    /// activations would store in 16 bits, in the order in which the tensors are written. Also returns the indices of
    /// the texts with a value beyond the largest f16 value.
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
            let tapped = tap(
                &mut runtime,
                runner,
                &batch,
                Tapped::Activations,
                |graph, id, values, width| {
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
                    // `values` holds the values of all tokens in order, without gaps between texts.
                    for (text, span) in batch.texts.iter().enumerate() {
                        let text = range.start + text;
                        let own =
                            &values[span.first as usize * width..][..span.tokens as usize * width];
                        if ranges[at].see(own, width, text) {
                            beyond[text] = true;
                        }
                    }
                },
            );
            let rows = tapped.await?;
            append(&mut probed, range.start, &rows);
        }
        let beyond = (0..texts.len()).filter(|text| beyond[*text]).collect();
        Ok((probed, ranges, beyond))
    }

    pub(super) fn tokens_to_probe(&self, texts: &[String]) -> Result<(Vec<Tokens>, Probed), Error> {
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

    /// Returns the range of every floating-point tensor that the model uses.
    pub(crate) fn weight_ranges(&self) -> Result<Vec<WeightRange>, Error> {
        let mut ranges = Vec::new();
        for weights in self.runner().model.weight_files() {
            for (tensor, dtype, shape, used) in weights.listing() {
                // Integer tensors are skipped, because they hold indices, or numbers that f16 represents exactly.
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

    /// Returns the SHA-256 of the weights. The call reads all bytes of the weights.
    pub(crate) fn weights_sha256(&self) -> Result<String, Error> {
        self.runner().model.weights_sha256()
    }

    /// Returns the facts about f16 that hold for the model's architecture, such as whether its activations can exceed
    /// the range.
    pub(crate) fn f16_facts(&self) -> F16Facts {
        self.runner().model.transformer.facts().f16
    }

    /// Returns the name that messages use for the model.
    pub(crate) fn label(&self) -> String {
        self.runner().model.files.label()
    }

    /// Stores a verdict on whether f16 is safe for the model, so that later loads use the verdict. The files are in the
    /// cache directory and, if `beside` is true, in the model's directory. If an earlier verdict is worse, the earlier
    /// verdict stays, because it was measured on texts that f16 does not suit. Returns the verdict that is stored
    /// afterwards. Also returns each file, and the reason if a file could not be written.
    ///
    /// # Errors
    /// Returns [`Error::File`] if the model's files can no longer be read.
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

    /// Returns true if the model's files are in a directory, so that a verdict can be stored in that directory.
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

/// The tensors that [`tap`] visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tapped {
    /// The tensors that 16-bit activations would store in 16 bits.
    Activations,
    /// The tensors of `Activations`, and also the tensors outside of the layers, such as the results of pooling and of
    /// later modules.
    ActivationsAndRows,
}

/// Runs a batch with f32 activations, and calls `visit` with the values and the width of each tensor that `tapped`
/// names. The width is the number of values per token. For a tensor with a row for each text, the width is the number
/// of all values. If the device is lost, it is not opened again.
pub(super) async fn tap(
    runtime: &mut Runtime,
    runner: &Runner,
    batch: &PackedBatch,
    tapped: Tapped,
    mut visit: impl FnMut(&Graph, TensorId, &[f32], usize),
) -> Result<BatchRows, Error> {
    let with = |activations| Precision { activations, ..runner.precision.clone() };
    let BatchGraph { graph, output } = runtime.graph(&with(Storage::F32), batch);
    // The graph is also built for 16-bit activations. A tensor holds activations if it has half as many bytes in this
    // second graph.
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
    let rows = |tensor: &TensorInfo| {
        tapped == Tapped::ActivationsAndRows
            && tensor.layer.is_none()
            && matches!(tensor.source, TensorSource::Scratch | TensorSource::Zeroed)
    };
    let wanted: Vec<bool> =
        graph.tensors.iter().zip(&halved).map(|(tensor, halved)| *halved || rows(tensor)).collect();
    let total = batch.ids.len().max(1);
    let visited = runtime.executor.run_tapped(&graph, &wanted, |id, bytes| {
        let values = convert::decode(Storage::F32, bytes);
        let width = if halved[id.0] { values.len() / total } else { values.len() };
        visit(&graph, id, &values, width);
    });
    let outcome = visited.await?;
    Ok(BatchRows::new(&runner.model, batch, &output, &outcome))
}

impl ActivationRange {
    /// Extends the range by the values of a text. Returns true if one of the values exceeds the largest f16 value.
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

/// Returns the layer and the name of a tensor, and the kernel that writes it. If the layer has several tensors with
/// this name, the name of the kernel's first input is added.
pub(super) fn label(graph: &Graph, id: TensorId) -> (Option<usize>, String, String) {
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
