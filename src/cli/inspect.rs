//! `vectile inspect`: shows the parts of a model and how it runs on this machine.

use vectile::block_on;

use super::args::InspectArgs;
use super::failure::Failure;
use super::model;
use super::stdout::{print, to_json};

pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let inspection = match (args.rerank, args.sparse, args.multi_vector) {
        (true, _, _) => block_on(model::open_reranker(&args.model)?.inspect()),
        (_, true, _) => block_on(model::open_sparse(&args.model)?.inspect()),
        (_, _, true) => block_on(model::open_multi_vector(&args.model)?.inspect()),
        _ => block_on(model::open(&args.model)?.inspect()),
    };
    print(&if args.json { to_json(&inspection)? } else { inspection.to_string() })
}
