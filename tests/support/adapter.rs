//! Opens models and devices on a real adapter. If the machine has no adapter, tests print that they are skipped.

use std::sync::OnceLock;

use vectile::executor::{AdapterOptions, Executor};
use vectile::{
    AdapterChoice, CheckpointDtype, DtypeRequest, Error, Feature, FloatDtype, ModelBuilder,
    Precision, Storage, TextModel, block_on,
};

use super::skip::skip;

/// The environment variable that is set on machines with an adapter. If it is set, a test that finds no adapter fails.
pub const REQUIRE_ADAPTER: &str = "VECTILE_REQUIRE_ADAPTER";

/// The environment variable that names the adapter of the tests. It takes the values of `--adapter`.
pub const ADAPTER: &str = "VECTILE_ADAPTER";

/// Returns the adapter of the tests: the adapter that `VECTILE_ADAPTER` names, or else the best GPU, which may be a
/// software driver. The default is not the CPU, so that tests of shaders run on machines without a GPU too.
pub fn adapter() -> AdapterChoice {
    std::env::var(ADAPTER).map_or(AdapterChoice::Gpu, |name| name.parse().unwrap())
}

/// Returns true if tests run on the CPU, which runs no shaders.
pub fn on_cpu() -> bool {
    adapter() == AdapterChoice::Cpu
}

/// Returns true if tests run on the CPU, and then prints that a test of shaders is skipped.
pub fn lacks_shaders() -> bool {
    if on_cpu() {
        super::skip::lacks("the CPU runs no shaders");
    }
    on_cpu()
}

/// Builds a model on the adapter of the tests. If the machine has no adapter, returns `None` and prints that a test is
/// skipped. Panics on any other error.
#[track_caller]
pub fn build<M: TextModel>(builder: ModelBuilder<M>) -> Option<M> {
    built(block_on(builder.or_adapter(adapter()).build()))
}

/// Returns the value of a result. If the error says that the machine has no adapter, returns `None` and prints that a
/// test is skipped. Panics on any other error.
#[track_caller]
pub fn built<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Adapter { adapter, problem }) if adapter == "none" => {
            skip(REQUIRE_ADAPTER, &problem);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Opens the adapter of the tests, with some features disabled, or with a number of threads.
#[track_caller]
pub fn open(disabled: &[Feature], threads: Option<usize>) -> Option<Executor> {
    let options =
        AdapterOptions { disabled: disabled.to_vec(), threads, ..AdapterOptions::default() };
    built(block_on(Executor::open(&adapter(), &options)))
}

/// Returns true if the machine has an adapter. Otherwise, prints that a test is skipped.
#[track_caller]
pub fn have_adapter() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let adapters = block_on(vectile::adapters());
        on_cpu() || adapters.iter().any(|adapter| !adapter.is_cpu())
    });
    if !found {
        skip(REQUIRE_ADAPTER, "there is no GPU adapter");
    }
    found
}

/// Returns the precision of an f32 checkpoint with these storage types.
pub fn precision(weights: Storage, activations: Storage) -> Precision {
    Precision {
        requested: DtypeRequest::Auto,
        checkpoint: CheckpointDtype {
            dtype: FloatDtype::Float32,
            source: "a test".into(),
            reasons: vec![],
        },
        weights,
        activations,
        weight_bytes: 0,
        reasons: vec![],
        measured: None,
    }
}
