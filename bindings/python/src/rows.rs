//! Similarities, searches and quantization of rows that numpy holds.

use std::slice;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use vectile::{Embeddings, SimilarityFunction};

use crate::array::{Array, Values};
use crate::error::{OrRaise, option};
use crate::model::quantized;

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

/// Returns, for each query, the indices and scores of the `top_k` nearest rows of the corpus, best first.
#[pyfunction]
pub fn semantic_search<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    top_k: usize,
    function: &str,
) -> PyResult<Vec<Vec<(usize, f32)>>> {
    let function: SimilarityFunction = function.parse().or_raise(py)?;
    let (queries, corpus) = (Rows::read(queries)?, Rows::read(corpus)?);
    let hits = py.detach(|| {
        vectile::semantic_search(&queries.embeddings(), &corpus.embeddings(), top_k, function)
    });
    let hits = hits.or_raise(py)?;
    Ok(hits.iter().map(|hits| hits.iter().map(|hit| (hit.index, hit.score)).collect()).collect())
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
