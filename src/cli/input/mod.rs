//! Texts from arguments, files and stdin, read in chunks of bounded size.

mod chunk;
#[cfg(feature = "bulk")]
mod columns;
mod delimited;
mod encoding;
mod file;
mod header;
mod json;
mod jsonl;
mod lines;
mod objects;
mod paths;
mod quotes;
mod source;

pub use chunk::{Chunk, ReadOptions, VectorColumn};
pub use file::{Compression, format_of};
pub use paths::expand;
pub use source::TextSource;
