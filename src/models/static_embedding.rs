//! Static embeddings, which have a vector for each token and no layers. There are two kinds of such models:
//! sentence-transformers' `StaticEmbedding` (static-retrieval-mrl) and model2vec
//! (<https://github.com/MinishLab/model2vec>, potion).
//!
//! In model2vec, several tokens may share a row (`mapping`), and each token's row may have a factor (`weights`).
//! Vectile applies `mapping` and `weights` at load, which gives one row for each token, as in sentence-transformers.

use crate::batch::PackedBatch;
use crate::config::FirstModule;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::lookup::lookup;
use crate::kernels::{Activations, Builder};
use crate::models::blocks::tables::{table_rows, zero_row};
use crate::models::{Facts, LoadedTransformer, Transformer};
use crate::weights::{Loader, Table, WeightFiles};

/// A width or a vocabulary above this size is refused as a mistake in the file.
const MAX_SIZE: usize = 1 << 24;

/// A static embedding model whose tensor shapes have been read.
#[derive(Debug, Clone)]
struct StaticEmbedding {
    table: &'static str,
    tokens: usize,
    width: usize,
    /// The table row of each token; `None` if the rows are already in token order.
    rows: Option<Vec<usize>>,
    /// The factor by which each token's row is multiplied; `None` if there are no factors.
    scales: Option<Vec<f32>>,
}

/// A static embedding model with its table loaded.
#[derive(Debug)]
struct LoadedStaticEmbedding {
    width: usize,
    words: Table,
}

/// Reads the shapes of the tensors, and the rows and factors of tokens if there are any.
///
/// # Errors
/// Returns [`Error::Tensor`] for a missing tensor, inconsistent shapes, or a mapping to a row outside the table.
/// Returns the same error for an 8-bit table in a `StaticEmbedding` module, which sentence-transformers does not load.
pub(crate) fn read(
    weights: &WeightFiles,
    input: FirstModule,
) -> Result<Box<dyn Transformer>, Error> {
    let own = "embedding.weight";
    let table = if weights.has(own) { own } else { "embeddings" };
    let (name, entry) = weights.find(table)?;
    let wrong = |problem: String| Error::tensor(weights.file_of(entry), &name, problem);
    let (stored, width) = match entry.shape[..] {
        [rows, width] if rows <= MAX_SIZE && width <= MAX_SIZE => (rows, width),
        _ => return Err(wrong(format!("has shape {:?}; expected: [rows, width]", entry.shape))),
    };
    let whole = entry.dtype == safetensors::Dtype::I8;
    if whole && input == FirstModule::StaticEmbedding {
        let problem = "has the dtype I8, which sentence-transformers does not load; remove \
                       modules.json to read the model as model2vec does";
        return Err(wrong(problem.to_owned()));
    }
    let (mut rows, mut scales) = (whole.then(|| (0..stored).collect::<Vec<usize>>()), None);
    if table != own && weights.has("mapping") {
        rows = Some(mapping(weights, stored)?);
    }
    let tokens = rows.as_ref().map_or(stored, Vec::len);
    if table != own && weights.has("weights") {
        let (name, entry) = weights.find("weights")?;
        if entry.shape != [tokens] {
            let problem = format!("has shape {:?}; expected: [{tokens}]", entry.shape);
            return Err(Error::tensor(weights.file_of(entry), name, problem));
        }
        scales = Some(weights.values(&name, entry, 0, tokens)?);
        rows.get_or_insert_with(|| (0..stored).collect());
    }
    Ok(Box::new(StaticEmbedding { table, tokens, width, rows, scales }))
}

fn mapping(weights: &WeightFiles, stored: usize) -> Result<Vec<usize>, Error> {
    let (name, entry) = weights.find("mapping")?;
    let wrong = |problem: String| Error::tensor(weights.file_of(entry), &name, problem);
    if entry.shape.len() != 1 || entry.shape[0] > MAX_SIZE {
        return Err(wrong(format!("has shape {:?}; expected: [tokens]", entry.shape)));
    }
    let row = |value: i64| {
        let row = usize::try_from(value).ok().filter(|row| *row < stored);
        row.ok_or_else(|| wrong(format!("holds {value}, but the table has {stored} rows")))
    };
    weights.integers(&name, entry)?.into_iter().map(row).collect()
}

impl Transformer for StaticEmbedding {
    fn facts(&self) -> Facts {
        Facts {
            hidden: self.width,
            projected_from: None,
            widest: self.width.next_multiple_of(4),
            table_rows: self.tokens,
            type_rows: None,
            positions: None,
            f16: F16Facts { activations_unsafe: false },
        }
    }

    fn describe(&self) -> String {
        let scaled = if self.scales.is_some() { ", scaled by token" } else { "" };
        format!("{} tokens, {} values{scaled}", self.tokens, self.width)
    }

    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let words = match &self.rows {
            Some(rows) => loader.folded_table(self.table, rows, self.scales.as_deref())?,
            None => loader.table(self.table, self.width)?,
        };
        Ok(Box::new(LoadedStaticEmbedding { width: self.width, words }))
    }
}

impl LoadedTransformer for LoadedStaticEmbedding {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let (words, rows) = table_rows(builder, &self.words, &batch.ids);
        let rows: Vec<[u32; 4]> = rows.into_iter().map(|row| [row, 0, 0, 0]).collect();
        let zeros = zero_row(builder, self.width);
        lookup(builder, &rows, [words, zeros, zeros], self.width)
    }
}
