//! Models and devices on a real adapter. If the machine has no adapter, tests say loudly that they are skipped.

use std::sync::OnceLock;

use vectile::gpu::device::Gpu;
use vectile::{
    AdapterChoice, CheckpointDtype, DtypeRequest, Error, Feature, FloatDtype, ModelBuilder,
    Precision, Storage, TextModel, block_on,
};

use super::skip::skip;

/// The environment variable that is set on machines with an adapter. A test that finds no adapter then fails.
pub const REQUIRE_ADAPTER: &str = "VECTILE_REQUIRE_ADAPTER";

/// Builds a model. If the machine has no adapter, returns `None` and says loudly that a test is skipped. Panics on
/// any other error.
#[track_caller]
pub fn build<M: TextModel>(builder: ModelBuilder<M>) -> Option<M> {
    built(block_on(builder.build()))
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

/// Opens the best adapter without some of its features.
#[track_caller]
pub fn open_gpu(disabled: &[Feature]) -> Option<Gpu> {
    built(block_on(Gpu::open(&AdapterChoice::Best, disabled)))
}

/// Whether the machine has an adapter. If not, this says loudly that a test is skipped.
#[track_caller]
pub fn have_adapter() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| !block_on(vectile::adapters()).is_empty());
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
