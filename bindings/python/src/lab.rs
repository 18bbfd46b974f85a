//! Runs `verify` and `bench`, and returns their reports as JSON.

use pyo3::prelude::*;
use vectile::lab::verify::{VerifyOptions, verify as verify_model};
use vectile::lab::{BenchOptions, Combination, bench as bench_model};
use vectile::{Embedder, Error, block_on};

use crate::error::OrRaise;
use crate::fork;
use crate::model::json;
use crate::options::{LoadOptions, Source};
use crate::work::interruptible;

/// Checks a model on an adapter. Returns the report as JSON and as text.
#[pyfunction]
pub fn verify(
    py: Python<'_>,
    source: Source,
    options: LoadOptions,
    texts: Option<Vec<String>>,
) -> PyResult<(String, String)> {
    fork::check(py)?;
    let given = VerifyOptions {
        texts: texts.map(|texts| ("texts".to_owned(), texts)),
        ..VerifyOptions::default()
    };
    let report = interruptible(py, None, move |_| {
        let builder = options.apply(Embedder::builder(source.files()?))?;
        block_on(verify_model(builder, &given, |_| {}))
    })?;
    let report = report.or_raise(py)?;
    Ok((json(py, &report)?, report.to_string()))
}

/// Measures a model in several precisions. Returns the report as JSON.
#[pyfunction]
pub fn bench(
    py: Python<'_>,
    source: Source,
    options: LoadOptions,
    precisions: Vec<String>,
    texts: Option<Vec<String>>,
    quick: bool,
    rounds: Option<usize>,
) -> PyResult<String> {
    fork::check(py)?;
    let report = interruptible(py, None, move |_| {
        let precisions: Result<Vec<Combination>, Error> =
            precisions.iter().map(|name| name.parse()).collect();
        let bench = BenchOptions {
            adapters: options.adapter.iter().cloned().map(Into::into).collect(),
            precisions: precisions?,
            texts: texts.map(|texts| ("texts".to_owned(), texts)),
            rounds,
            quick,
            disabled: options.disabled()?,
            max_memory: options.max_memory,
            cache_dir: options.cache_dir.clone(),
            ..BenchOptions::default()
        };
        block_on(bench_model(&source.files()?, &bench, &mut |_, _, _| {}))
    })?;
    json(py, &report.or_raise(py)?)
}
