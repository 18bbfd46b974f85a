//! Models and devices on a real adapter, or a loud skip where the machine has none.

use std::sync::OnceLock;

use vectile::gpu::device::Gpu;
use vectile::{
    AdapterChoice, CheckpointDtype, DtypeRequest, Error, Feature, FloatDtype, ModelBuilder,
    Precision, Storage, TextModel, block_on,
};

use super::skip::skip;

/// Set where the machine has an adapter, so that a test which finds none fails.
pub const REQUIRE_ADAPTER: &str = "VECTILE_REQUIRE_ADAPTER";

/// Builds a model. `None`, with a loud skip, where the machine has no adapter; panics on any other error.
#[track_caller]
pub fn build<M: TextModel>(builder: ModelBuilder<M>) -> Option<M> {
    built(block_on(builder.build()))
}

/// The value of a result. `None`, with a loud skip, where the error says that the machine has no adapter; panics on
/// any other error.
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

/// Whether the machine has an adapter; `false` comes with a loud skip.
#[track_caller]
pub fn have_adapter() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| !block_on(vectile::adapters()).is_empty());
    if !found {
        skip(REQUIRE_ADAPTER, "there is no GPU adapter");
    }
    found
}

/// A precision with these storages, of an f32 checkpoint.
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
