//! Similarities, searches and quantization of rows that numpy holds.

use std::slice;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use vectile::{CorpusRows, Embeddings, SearchOptions, SimilarityFunction, block_on};

use crate::array::{Array, Values};
use crate::error::{OrRaise, option};
use crate::model::{Model, quantized};
use crate::work::interruptible;

/// The number of rows after which a search on an adapter checks whether it was stopped.
const ROWS_AT_ONCE: usize = 1 << 16;

/// Rows of f32 values in memory that a Python object holds.
pub struct Rows<'py> {
    values: &'py [f32],
    count: usize,
    dim: usize,
}

impl<'py> Rows<'py> {
    /// Reads a contiguous array of f32 values with two dimensions through `__array_interface__`.
    fn read(array: &'py Bound<'py, PyAny>) -> PyResult<Self> {
        let py = array.py();
        let interface = array.getattr("__array_interface__")?;
        let interface = interface.cast::<PyDict>()?;
        let get = |key: &str| -> PyResult<Bound<'py, PyAny>> {
            interface.get_item(key)?.ok_or_else(|| option(py, format!("the array has no {key}")))
        };
        let kind: String = get("typestr")?.extract()?;
        let (count, dim): (usize, usize) = get("shape")?.extract()?;
        let strided = interface.get_item("strides")?.is_some_and(|strides| !strides.is_none());
        if kind != "<f4" || strided {
            return Err(option(py, "a contiguous array of float32 is expected"));
        }
        let (address, _): (usize, bool) = get("data")?.extract()?;
        let len = count.checked_mul(dim).ok_or_else(|| option(py, "the array is too large"))?;
        if len == 0 {
            return Ok(Rows { values: &[], count, dim });
        }
        // SAFETY: the array describes this memory and is kept alive by the caller. numpy aligns values of f32.
        let values = unsafe { slice::from_raw_parts(address as *const f32, len) };
        Ok(Rows { values, count, dim })
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.count).map(|row| &self.values[row * self.dim..(row + 1) * self.dim])
    }

    fn embeddings(&self) -> Embeddings {
        Embeddings { dim: self.dim, values: self.values.to_vec(), ..Embeddings::default() }
    }
}

/// Returns the similarity of each row of `a` with each row of `b`, or only with the same row of `b`.
#[pyfunction]
pub fn similarity<'py>(
    py: Python<'py>,
    function: &str,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    pairwise: bool,
) -> PyResult<Array> {
    let function: SimilarityFunction = function.parse().or_raise(py)?;
    let (a, b) = (Rows::read(a)?, Rows::read(b)?);
    if a.dim != b.dim || (pairwise && a.count != b.count) {
        let shapes = format!("[{}, {}] and [{}, {}]", a.count, a.dim, b.count, b.dim);
        return Err(option(py, format!("arrays of the shapes {shapes} cannot be compared")));
    }
    let values: Vec<f32> = py.detach(|| match pairwise {
        true => a.rows().zip(b.rows()).map(|(a, b)| function.score(a, b) as f32).collect(),
        false => {
            let scores = |row| b.rows().map(move |other| function.score(row, other) as f32);
            a.rows().flat_map(scores).collect()
        }
    });
    let shape = if pairwise { vec![a.count] } else { vec![a.count, b.count] };
    Ok(Array::new(Values::F32(values), shape))
}

/// Returns, for each query, the indices and scores of the `top_k` nearest rows of the corpus, best first. The search runs
/// on the adapter of `model`, or on the host's threads if there is no model.
#[pyfunction]
#[pyo3(signature = (queries, corpus, top_k, function, model=None))]
pub fn semantic_search<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    top_k: usize,
    function: &str,
    model: Option<&Bound<'py, Model>>,
) -> PyResult<Vec<Vec<(usize, f32)>>> {
    let function: SimilarityFunction = function.parse().or_raise(py)?;
    let owner = corpus.clone().unbind();
    let (queries, corpus) = (Rows::read(queries)?, Rows::read(corpus)?);
    let hits = match model {
        Some(model) if queries.count > 0 && corpus.count > 0 => {
            if queries.dim != corpus.dim {
                let (ours, theirs) = (queries.dim, corpus.dim);
                let problem = format!("rows of {ours} and {theirs} values cannot be compared");
                return Err(option(py, problem));
            }
            let embedder = model.get().dense(py)?;
            let options = SearchOptions { top_k, similarity: Some(function) };
            let (queries, corpus) = (queries.embeddings(), Held::new(&corpus, owner));
            interruptible(py, None, move |watch| {
                let mut search = embedder.search(&queries, &options)?;
                for rows in corpus.values().chunks(ROWS_AT_ONCE * queries.dim.max(1)) {
                    if watch.stopped() {
                        break;
                    }
                    block_on(search.add(CorpusRows::F32(rows)))?;
                }
                Ok(search.hits())
            })?
        }
        _ => py.detach(|| {
            let (queries, corpus) = (queries.embeddings(), corpus.embeddings());
            vectile::semantic_search(&queries, &corpus, top_k, function)
        }),
    };
    let hits = hits.or_raise(py)?;
    Ok(hits.iter().map(|hits| hits.iter().map(|hit| (hit.index, hit.score)).collect()).collect())
}

/// Rows of f32 values that another thread reads, even after Python's thread has stopped waiting.
struct Held {
    address: usize,
    len: usize,
    /// The array whose memory holds the values.
    _owner: Py<PyAny>,
}

impl Held {
    fn new(rows: &Rows<'_>, owner: Py<PyAny>) -> Self {
        Held { address: rows.values.as_ptr() as usize, len: rows.values.len(), _owner: owner }
    }

    fn values(&self) -> &[f32] {
        // SAFETY: the address and the length are those of a slice, and `_owner` keeps the memory of the slice alive.
        unsafe { slice::from_raw_parts(self.address as *const f32, self.len) }
    }
}

/// Returns rows in another number format, as `quantize_embeddings` of sentence-transformers does.
#[pyfunction]
pub fn quantize<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyAny>,
    precision: &str,
) -> PyResult<Array> {
    let precision: vectile::OutputPrecision = precision.parse().or_raise(py)?;
    let rows = Rows::read(rows)?;
    let values = quantized(py, rows.values, rows.dim.max(1), precision)?;
    Ok(Array::new(values, vec![rows.count, precision.columns(rows.dim)]))
}
