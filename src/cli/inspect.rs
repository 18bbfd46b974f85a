//! `vectile inspect`: what a model is made of and how it runs here.

use vectile::block_on;

use super::args::InspectArgs;
use super::failure::Failure;
use super::model;
use super::table::Plain;

pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let inspection = match (args.rerank, args.sparse, args.multi_vector) {
        (true, _, _) => block_on(model::open_reranker(&args.model)?.inspect()),
        (_, true, _) => block_on(model::open_sparse(&args.model)?.inspect()),
        (_, _, true) => block_on(model::open_multi_vector(&args.model)?.inspect()),
        _ => block_on(model::open(&args.model)?.inspect()),
    };
    let text = if args.json { to_json(&inspection)? } else { inspection.to_string() };
    Plain::new().whole(&text)
}

/// Indented JSON.
pub fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Failure::Ours(format!("internal error (please report it): JSON: {e}")))
}
