//! Models and devices on a real adapter. If the machine has no adapter, tests say loudly that they are skipped.

use std::sync::OnceLock;

use vectile::executor::{AdapterOptions, Executor};
use vectile::{
    AdapterChoice, CheckpointDtype, DtypeRequest, Error, Feature, FloatDtype, ModelBuilder,
    Precision, Storage, TextModel, block_on,
};

use super::skip::skip;

/// The environment variable that is set on machines with an adapter. A test that finds no adapter then fails.
pub const REQUIRE_ADAPTER: &str = "VECTILE_REQUIRE_ADAPTER";

/// The adapter that tests run on, as `--adapter` takes it.
pub const ADAPTER: &str = "VECTILE_ADAPTER";

/// The adapter that tests run on: the one that `VECTILE_ADAPTER` names, or else the best GPU, which may be a software
/// driver. Tests of shaders would otherwise run on the CPU of a machine without a GPU.
pub fn adapter() -> AdapterChoice {
    std::env::var(ADAPTER).map_or(AdapterChoice::Gpu, |name| name.parse().unwrap())
}

/// True if tests run on the CPU, which runs no shaders.
pub fn on_cpu() -> bool {
    adapter() == AdapterChoice::Cpu
}

/// Says that a test of shaders does not run, and returns true, if tests run on the CPU.
pub fn lacks_shaders() -> bool {
    if on_cpu() {
        super::skip::lacks("the CPU runs no shaders");
    }
    on_cpu()
}

/// Builds a model on the adapter that tests run on. If the machine has no adapter, returns `None` and says loudly that a
/// test is skipped. Panics on any other error.
#[track_caller]
pub fn build<M: TextModel>(builder: ModelBuilder<M>) -> Option<M> {
    built(block_on(builder.or_adapter(adapter()).build()))
}

/// Returns the value of a result. If the error says that the machine has no adapter, returns `None` and says loudly
/// that a test is skipped. Panics on any other error.
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

/// Opens the adapter that tests run on, without some of its features, or with so many threads.
#[track_caller]
pub fn open(disabled: &[Feature], threads: Option<usize>) -> Option<Executor> {
    let options =
        AdapterOptions { disabled: disabled.to_vec(), threads, ..AdapterOptions::default() };
    built(block_on(Executor::open(&adapter(), &options)))
}

/// Whether the machine has an adapter. If not, this says loudly that a test is skipped.
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

/// Makes the precision of an f32 checkpoint with these storages.
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
