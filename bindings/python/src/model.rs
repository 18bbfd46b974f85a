//! [`Model`]: a loaded model of any kind.

use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vectile::{
    EmbedOptions, Embedder, EncodeCounts, Error, ModelBuilder, ModelKind, MultiVectorEncoder,
    OutputPrecision, Quantized, Reranker, SparseEncoder, TextModel, block_on,
};

use crate::array::{Array, Values};
use crate::error::{OrRaise, exception, option};
use crate::fork;
use crate::options::{CallOptions, LoadOptions, Source};
use crate::texts::Texts;
use crate::work::{Watch, interruptible};

/// Returns the machine's adapters as JSON, best first.
#[pyfunction]
pub fn adapters(py: Python<'_>) -> PyResult<String> {
    fork::check(py)?;
    let adapters = py.detach(|| block_on(vectile::adapters()));
    json(py, &adapters)
}

/// Returns the kind of a model: `embedding`, `reranker`, `sparse` or `multi-vector`.
#[pyfunction]
pub fn kind_of(py: Python<'_>, source: Source) -> PyResult<&'static str> {
    let kind = py.detach(|| ModelKind::of(&source.files()?));
    Ok(kind.or_raise(py)?.name())
}

pub fn json(py: Python<'_>, value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value)
        .map_err(|error| exception(py, &Error::Internal(format!("no JSON: {error}"))))
}

#[derive(Clone)]
enum Loaded {
    Dense(Arc<Embedder>),
    Reranker(Arc<Reranker>),
    Sparse(Arc<SparseEncoder>),
    MultiVector(Arc<MultiVectorEncoder>),
}

/// Calls a method that models of all kinds have.
macro_rules! of_any {
    ($loaded:expr, $model:ident => $call:expr) => {
        match $loaded {
            Loaded::Dense($model) => $call,
            Loaded::Reranker($model) => $call,
            Loaded::Sparse($model) => $call,
            Loaded::MultiVector($model) => $call,
        }
    };
}

/// A loaded model. Any number of threads may call it.
#[pyclass(frozen, module = "vectile._core")]
pub struct Model {
    /// It is `None` only while the object is dropped.
    loaded: Option<Loaded>,
}

/// The results of a call.
#[pyclass(frozen, get_all, module = "vectile._core")]
pub struct Encoded {
    /// All numbers: rows of an embedder or a reranker, weights of a sparse encoder, token vectors.
    values: Py<Array>,
    /// For each input, the index of its first value or token vector; then the index after the last one. `None` if each
    /// input has one row.
    offsets: Option<Py<Array>>,
    /// The token of each weight of a sparse encoder.
    indices: Option<Py<Array>>,
    /// The number of values in a row, or for a sparse encoder the number of tokens in the vocabulary.
    dim: usize,
    /// The indices of the inputs that were truncated.
    truncated: Vec<usize>,
    /// The number of tokens of all inputs.
    tokens: usize,
    /// The number of inputs that were run again with f32 activations.
    retried: usize,
    /// The indices of the inputs without a result, each with its error.
    errors: Vec<(usize, String)>,
}

fn load<M: TextModel>(
    builder: impl FnOnce(vectile::ModelFiles) -> ModelBuilder<M>,
    source: &Source,
    options: &LoadOptions,
) -> Result<Arc<M>, Error> {
    let builder = options.apply(builder(source.files()?))?;
    Ok(Arc::new(block_on(builder.build())?))
}

#[pymethods]
impl Model {
    /// Loads a model of the given kind.
    #[new]
    fn new(py: Python<'_>, kind: &str, source: Source, options: LoadOptions) -> PyResult<Self> {
        fork::check(py)?;
        let kind = kind.to_owned();
        let loaded = interruptible(py, None, move |_| match kind.as_str() {
            "reranker" => load(Reranker::builder, &source, &options).map(Loaded::Reranker),
            "sparse" => load(SparseEncoder::builder, &source, &options).map(Loaded::Sparse),
            "multi-vector" => {
                load(MultiVectorEncoder::builder, &source, &options).map(Loaded::MultiVector)
            }
            _ => load(Embedder::builder, &source, &options).map(Loaded::Dense),
        })?;
        Ok(Model { loaded: Some(loaded.or_raise(py)?) })
    }

    /// Returns a description of the model and of how it runs, as JSON.
    fn inspect(&self, py: Python<'_>) -> PyResult<String> {
        let loaded = self.loaded(py)?;
        let inspection = py.detach(|| of_any!(loaded, model => block_on(model.inspect())));
        json(py, &inspection)
    }

    /// Returns the model's precision with its reasons, as a sentence and as JSON.
    fn precision(&self, py: Python<'_>) -> PyResult<(String, String)> {
        let precision = of_any!(self.loaded(py)?, model => model.precision());
        Ok((precision.to_string(), json(py, precision)?))
    }

    /// Returns the adapter on which the model runs, as JSON.
    fn adapter(&self, py: Python<'_>) -> PyResult<String> {
        of_any!(self.loaded(py)?, model => json(py, model.adapter()))
    }

    /// Returns the number of values of a result.
    fn dimension(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(of_any!(self.loaded(py)?, model => TextModel::dimension(&**model)))
    }

    /// Returns the number of values of a vector after the model's own `truncate_dim`.
    fn default_dimension(&self, py: Python<'_>) -> PyResult<usize> {
        self.dense(py)?.output_dimension(&EmbedOptions::default()).or_raise(py)
    }

    /// Returns the maximum number of tokens of an input. For a multi-vector encoder, this number depends on the task.
    fn max_seq_length(&self, py: Python<'_>, task: Option<&str>) -> PyResult<Option<usize>> {
        let task = task.map(str::parse).transpose().or_raise(py)?;
        let embed = EmbedOptions { task, ..EmbedOptions::default() };
        Ok(match self.loaded(py)? {
            Loaded::Dense(model) => model.max_tokens(&embed),
            Loaded::Reranker(model) => model.max_tokens(&Default::default()),
            Loaded::Sparse(model) => model.max_tokens(&embed),
            Loaded::MultiVector(model) => model.max_tokens(&embed),
        })
    }

    /// Returns the digest of the files that determine the model's vectors.
    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        let loaded = self.loaded(py)?;
        let fingerprint = py.detach(|| match loaded {
            Loaded::Dense(model) => model.fingerprint(),
            Loaded::Sparse(model) => model.fingerprint(),
            Loaded::MultiVector(model) => model.fingerprint(),
            Loaded::Reranker(model) => model.fingerprint(),
        });
        fingerprint.or_raise(py)
    }

    /// Returns the token ids of each text.
    fn tokenize(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        options: CallOptions,
    ) -> PyResult<Vec<Vec<u32>>> {
        let texts = Texts::read(texts)?;
        let texts = present(py, &texts)?;
        let embed = options.embed(py)?;
        let model = self.dense(py)?;
        py.detach(|| model.tokenize(&texts, &embed)).or_raise(py)
    }

    /// Returns the text of a token in the vocabulary of a sparse encoder.
    fn token(&self, py: Python<'_>, index: u32) -> PyResult<Option<String>> {
        match self.loaded(py)? {
            Loaded::Sparse(model) => Ok(model.token(index)),
            _ => Err(PyTypeError::new_err("only a SparseEncoder has tokens as dimensions")),
        }
    }

    /// Encodes texts, or pairs of texts for a reranker.
    #[pyo3(signature = (texts, second, options, progress=None))]
    fn encode(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        second: Option<&Bound<'_, PyAny>>,
        options: CallOptions,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Encoded> {
        let call = Call { texts: Arc::new(Texts::read(texts)?), options, progress };
        match self.loaded(py)?.clone() {
            Loaded::Dense(model) => {
                let options = call.options.embed(py)?;
                let dim = model.output_dimension(&options).or_raise(py)?;
                let gathered = call.run(py, move |texts, watch| {
                    let mut rows = Rows::new(texts.len(), dim);
                    gather(&*model, texts, &options, watch, |at, row: Vec<f32>| rows.put(at, &row))
                        .map(|counts| (rows, counts))
                })?;
                call.rows(py, gathered)
            }
            Loaded::Reranker(model) => {
                let options = call.options.rerank(py)?;
                let second = second.map(Texts::read).transpose()?;
                let Some(second) = second.filter(|second| second.len() == call.texts.len()) else {
                    return Err(option(py, "a reranker takes pairs: two lists of equal length"));
                };
                let second = Arc::new(
                    present(py, &second)?.into_iter().map(str::to_owned).collect::<Vec<_>>(),
                );
                let gathered = call.run(py, move |texts, watch| {
                    let mut rows = Rows::new(texts.len(), TextModel::dimension(&*model));
                    let pairs: Vec<(&str, &str)> = texts
                        .iter()
                        .zip(second.iter())
                        .map(|(first, second)| (first.unwrap_or_default(), second.as_str()))
                        .collect();
                    let take = |at, row: Vec<f32>| rows.put(at, &row);
                    let counts = each(&*model, &pairs, &options, watch, take);
                    counts.map(|counts| (rows, counts))
                })?;
                call.rows(py, gathered)
            }
            Loaded::Sparse(model) => {
                let options = call.options.embed(py)?;
                let dim = model.dimension();
                let most = call.options.max_active_dims;
                let (vectors, counts) = call.run(py, move |texts, watch| {
                    let mut vectors = vec![None; texts.len()];
                    gather(&*model, texts, &options, watch, |at, row: vectile::SparseVector| {
                        vectors[at] = Some(most.map_or_else(|| row.clone(), |most| row.top(most)));
                    })
                    .map(|counts| (vectors, counts))
                })?;
                let (mut values, mut indices, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
                for vector in vectors.into_iter().map(Option::unwrap_or_default) {
                    values.extend_from_slice(&vector.values);
                    indices.extend_from_slice(&vector.indices);
                    offsets.push(values.len() as i64);
                }
                let count = values.len();
                let indices = Array::new(Values::U32(indices), vec![count]);
                let values = Array::new(Values::F32(values), vec![count]);
                call.encoded(py, dim, values, Some(offsets), Some(indices), counts)
            }
            Loaded::MultiVector(model) => {
                let options = call.options.embed(py)?;
                let dim = model.dimension();
                let (vectors, counts) = call.run(py, move |texts, watch| {
                    let mut vectors = vec![None; texts.len()];
                    let take =
                        |at: usize, row: vectile::MultiVector| vectors[at] = Some(row.values);
                    let counts = gather(&*model, texts, &options, watch, take);
                    counts.map(|counts| (vectors, counts))
                })?;
                let (mut values, mut offsets) = (Vec::new(), vec![0]);
                for vector in vectors.into_iter().map(Option::unwrap_or_default) {
                    values.extend_from_slice(&vector);
                    offsets.push((values.len() / dim.max(1)) as i64);
                }
                let shape = vec![values.len() / dim.max(1), dim];
                let values = Array::new(Values::F32(values), shape);
                call.encoded(py, dim, values, Some(offsets), None, counts)
            }
        }
    }

    /// Returns the hidden states of each token of each text.
    fn token_embeddings(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        options: CallOptions,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Array>> {
        let model = self.dense(py)?;
        let embed = options.embed(py)?;
        let texts =
            present(py, &Texts::read(texts)?)?.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let vectors = interruptible(py, progress, move |watch| {
            let one = |text: &String| {
                if watch.stopped() {
                    return Err(Error::Internal("the call was stopped".to_owned()));
                }
                let vectors = block_on(model.token_embeddings(text, &embed));
                watch.count_one();
                vectors
            };
            texts.iter().map(one).collect::<Result<Vec<_>, Error>>()
        })?;
        let arrays = vectors.or_raise(py)?.into_iter().map(|vectors| {
            let shape = vec![vectors.len(), vectors.dim];
            Array::new(Values::F32(vectors.values), shape)
        });
        Ok(arrays.collect())
    }
}

impl Model {
    /// Returns the embedder of a `SentenceTransformer`.
    pub fn dense(&self, py: Python<'_>) -> PyResult<Arc<Embedder>> {
        match self.loaded(py)? {
            Loaded::Dense(model) => Ok(model.clone()),
            _ => Err(PyTypeError::new_err("a model of the class SentenceTransformer is expected")),
        }
    }

    fn loaded(&self, py: Python<'_>) -> PyResult<&Loaded> {
        fork::check(py)?;
        self.loaded
            .as_ref()
            .ok_or_else(|| exception(py, &Error::Internal("the model is gone".to_owned())))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // A forked process lacks the driver's threads, so closing the device could hang.
        if fork::forked() {
            mem::forget(self.loaded.take());
        }
    }
}

/// Returns the texts. A null is an error.
fn present<'t>(py: Python<'_>, texts: &'t Texts) -> PyResult<Vec<&'t str>> {
    let texts = texts.all().into_iter().enumerate();
    texts
        .map(|(at, text)| {
            text.ok_or_else(|| option(py, format!("input {at} is null; a text is expected")))
        })
        .collect()
}

/// The counts of a call, and its inputs without a result.
type Counts = (EncodeCounts, Vec<(usize, Error)>);

/// Encodes inputs until an input has an error that ends the call, or the call is stopped.
fn each<M: TextModel>(
    model: &M,
    inputs: &[M::Input<'_>],
    options: &M::Options,
    watch: &Watch,
    mut put: impl FnMut(usize, M::Row),
) -> Result<Counts, Error> {
    let mut errors = Vec::new();
    let counts = block_on(model.encode_each(inputs, options, |at, row| {
        match row {
            Ok(row) => put(at, row),
            Err(error) => errors.push((at, error)),
        }
        watch.count_one();
        match watch.stopped() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }))?;
    Ok((counts.unwrap_or_default(), errors))
}

/// Encodes the texts that are not null. The index of a result is the index of its text among all texts.
fn gather<M: for<'a> TextModel<Input<'a> = &'a str>>(
    model: &M,
    texts: &[Option<&str>],
    options: &M::Options,
    watch: &Watch,
    mut put: impl FnMut(usize, M::Row),
) -> Result<Counts, Error> {
    let given: Vec<(usize, &str)> =
        texts.iter().enumerate().filter_map(|(at, text)| Some((at, (*text)?))).collect();
    let inputs: Vec<&str> = given.iter().map(|(_, text)| *text).collect();
    let (counts, errors) = each(model, &inputs, options, watch, |at, row| put(given[at].0, row))?;
    let truncated = counts.truncated.iter().map(|at| given[*at].0).collect();
    let errors = errors.into_iter().map(|(at, error)| (given[at].0, error)).collect();
    Ok((EncodeCounts { truncated, ..counts }, errors))
}

/// Returns rows of equal width, one for each input. The row of an input without a result has zeros.
struct Rows {
    count: usize,
    dim: usize,
    values: Vec<f32>,
    valid: Vec<bool>,
}

impl Rows {
    fn new(count: usize, dim: usize) -> Self {
        Rows { count, dim, values: vec![0.0; count * dim], valid: vec![false; count] }
    }

    fn put(&mut self, at: usize, row: &[f32]) {
        self.values[at * self.dim..(at + 1) * self.dim].copy_from_slice(row);
        self.valid[at] = true;
    }
}

/// The arguments of a call of `encode`.
struct Call<'a, 'py> {
    texts: Arc<Texts>,
    options: CallOptions,
    progress: Option<&'a Bound<'py, PyAny>>,
}

impl Call<'_, '_> {
    /// Runs the call and checks its inputs' errors.
    fn run<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&[Option<&str>], &Watch) -> Result<(T, Counts), Error> + Send + 'static,
    ) -> PyResult<(T, Counts)> {
        let texts = self.texts.clone();
        let all = texts.all();
        if let (false, Some(at)) =
            (self.options.null_on_error, all.iter().position(Option::is_none))
        {
            return Err(option(py, format!("input {at} is null; a text is expected")));
        }
        drop(all);
        let result = interruptible(py, self.progress, move |watch| work(&texts.all(), watch))?
            .or_raise(py)?;
        let (_, (_, errors)) = &result;
        match errors.first() {
            Some((_, error)) if !self.options.null_on_error => Err(exception(py, error)),
            _ => Ok(result),
        }
    }

    /// Returns the results of a model with one row for each input, in the requested number format.
    fn rows(&self, py: Python<'_>, (rows, counts): (Rows, Counts)) -> PyResult<Encoded> {
        let Rows { count, dim, values, valid } = rows;
        let valid = valid.contains(&false).then_some(valid).filter(|_| self.options.null_on_error);
        let (values, columns) = match self.options.precision.as_deref() {
            None | Some("float32") => (Values::F32(values), dim),
            Some(name) => {
                let precision: OutputPrecision = name.parse().or_raise(py)?;
                (quantized(py, &values, dim.max(1), precision)?, precision.columns(dim))
            }
        };
        let array = Array::with_nulls(values, vec![count, columns], valid);
        self.encoded(py, columns, array, None, None, counts)
    }

    fn encoded(
        &self,
        py: Python<'_>,
        dim: usize,
        values: Array,
        offsets: Option<Vec<i64>>,
        indices: Option<Array>,
        (counts, errors): Counts,
    ) -> PyResult<Encoded> {
        let offsets = offsets.map(|offsets| {
            let count = offsets.len();
            Array::new(Values::I64(offsets), vec![count])
        });
        Ok(Encoded {
            values: Py::new(py, values)?,
            offsets: offsets.map(|offsets| Py::new(py, offsets)).transpose()?,
            indices: indices.map(|indices| Py::new(py, indices)).transpose()?,
            dim,
            truncated: counts.truncated,
            tokens: counts.tokens,
            retried: counts.retried,
            errors: errors.into_iter().map(|(at, error)| (at, error.to_string())).collect(),
        })
    }
}

/// Returns rows in an output precision.
pub fn quantized(
    py: Python<'_>,
    values: &[f32],
    dim: usize,
    precision: OutputPrecision,
) -> PyResult<Values> {
    let quantized = py.detach(|| vectile::quantize(values, dim, precision, None));
    Ok(match quantized.or_raise(py)? {
        Quantized::Float32(values) => Values::F32(values),
        Quantized::Float16(values) => Values::F16(values),
        Quantized::Int8(values) => Values::I8(values),
        Quantized::Uint8(values) => Values::U8(values),
    })
}
