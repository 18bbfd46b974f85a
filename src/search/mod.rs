//! Exact search for the nearest rows of a corpus: on the adapter of a loaded model ([`CorpusSearch`]), or on the host
//! ([`semantic_search`]).
//!
//! ```text
//! queries ──prepare──▶ ┐
//!                      ├─ similarity ──▶ scores ──top_k──▶ the best of each tile ──host──▶ the best hits
//! corpus ──blocks────▶ ┘
//! ```

mod best;
mod block;
mod corpus;
mod host;
mod queries;
mod sums;

pub use best::SearchHit;
pub use corpus::{CorpusRows, CorpusSearch, SearchOptions};
pub use host::semantic_search;
