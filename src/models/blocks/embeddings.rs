//! The embeddings of BERT and its descendants: the sum of a token row, a position row and a type row, then a norm. If
//! the tables are narrower than the hidden states, a linear layer follows.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::fields::count;
use crate::models::blocks::tables::table_rows;
use crate::weights::{Axis, Loader, Table, WeightFiles};

/// The tensor name of the token table in all these model families.
pub(in crate::models) const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
pub(in crate::models) const TYPES: &str = "embeddings.token_type_embeddings.weight";

/// The embedding tables of a model, and the settings by which the model counts positions.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Embeddings {
    /// The width of the tables.
    pub width: usize,
    /// The number of rows of the token table.
    pub rows: usize,
    /// The number of rows of the position table that are used; `None` if there is no such table.
    pub positions: Option<usize>,
    /// The id of RoBERTa's padding token. Positions are counted from the row after this id. The padding token itself
    /// takes no position, wherever it occurs in a text.
    pub padding: Option<u32>,
    /// The number of rows of the type table; `None` if there is no such table.
    pub types: Option<usize>,
    /// The tensor name of the norm after the tables.
    pub norm: &'static str,
    /// The linear layer from the tables' width to the hidden width; `None` if there is no such layer.
    pub projection: Option<Projection>,
}

/// A linear layer after the tables.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Projection {
    pub name: &'static str,
    pub bias: bool,
    /// True if the norm comes after the projection, false if it comes before.
    pub normed: bool,
}

impl Projection {
    /// Returns a projection with a bias. The projection is applied after the norm.
    pub fn after(name: &'static str) -> Self {
        Projection { name, bias: true, normed: false }
    }
}

/// Embeddings with their weights loaded.
#[derive(Debug)]
pub(in crate::models) struct LoadedEmbeddings {
    embeddings: Embeddings,
    words: Table,
    positions: Option<Table>,
    types: Option<Table>,
    norm: Norm,
    projection: Option<Linear>,
}

impl Embeddings {
    /// Reads embeddings whose tables are as wide as the hidden states and whose positions start at 0.
    pub fn read(
        config: &JsonFile,
        weights: &WeightFiles,
        prefix: &str,
        hidden: usize,
        types: bool,
    ) -> Result<Self, Error> {
        let stated = count(config, "max_position_embeddings", 1 << 20)?;
        let positions = Some(stated.min(rows(weights, prefix, POSITIONS)?));
        Ok(Embeddings { positions, ..Self::without_positions(weights, prefix, hidden, types)? })
    }

    /// Like [`Embeddings::read`], but for a model without a position table.
    pub fn without_positions(
        weights: &WeightFiles,
        prefix: &str,
        hidden: usize,
        types: bool,
    ) -> Result<Self, Error> {
        Ok(Embeddings {
            width: hidden,
            rows: rows(weights, prefix, WORDS)?,
            positions: None,
            padding: None,
            types: types.then(|| rows(weights, prefix, TYPES)).transpose()?,
            norm: "embeddings.LayerNorm",
            projection: None,
        })
    }

    /// Sets the padding token, so that positions are counted from the row after its id.
    ///
    /// # Errors
    /// Returns [`Error::Config`] about `field` if the position table has no row after the padding token's id.
    pub fn skip_padding(
        &mut self,
        config: &JsonFile,
        field: &str,
        padding: usize,
    ) -> Result<(), Error> {
        if let Some(positions) = self.positions.filter(|positions| padding + 1 >= *positions) {
            let problem = format!(
                "leaves no position for a text: the position table has {positions} rows, but \
                 positions start after {padding}, the id of the padding token"
            );
            return Err(config.error(field, problem));
        }
        self.padding = Some(padding as u32);
        Ok(())
    }

    /// Returns the maximum number of tokens that have a position; `None` if there is no position table.
    pub fn longest(&self) -> Option<usize> {
        let skipped = self.padding.map_or(0, |padding| padding as usize + 1);
        self.positions.map(|positions| positions.saturating_sub(skipped))
    }

    /// Loads the tables, the norm and the projection.
    pub fn load(
        &self,
        loader: &mut Loader,
        prefix: &str,
        hidden: usize,
        eps: f32,
    ) -> Result<LoadedEmbeddings, Error> {
        let mut table = |name: &str| loader.table(&format!("{prefix}{name}"), self.width);
        let words = table(WORDS)?;
        let positions = self.positions.map(|_| table(POSITIONS)).transpose()?;
        let types = self.types.map(|_| table(TYPES)).transpose()?;
        let after = self.projection.is_some_and(|projection| projection.normed);
        let width = if after { hidden } else { self.width };
        let norm = loader.norm(&format!("{prefix}{}", self.norm), width, eps)?;
        let (narrow, wide) = (Axis::plain(self.width), Axis::plain(hidden));
        let projection = self
            .projection
            .map(|Projection { name, bias, .. }| {
                loader.linear(&[&format!("{prefix}{name}")], bias, narrow, wide)
            })
            .transpose()?;
        Ok(LoadedEmbeddings { embeddings: *self, words, positions, types, norm, projection })
    }

    /// Returns the row in the position table of each token.
    fn position_rows(&self, batch: &PackedBatch) -> Vec<u32> {
        let mut rows = Vec::with_capacity(batch.ids.len());
        for text in &batch.texts {
            let Some(padding) = self.padding else {
                rows.extend(0..text.tokens);
                continue;
            };
            let mut next = padding;
            for id in &batch.ids[text.range()] {
                next += u32::from(*id != padding);
                rows.push(if *id == padding { padding } else { next });
            }
        }
        rows
    }
}

fn rows(weights: &WeightFiles, prefix: &str, name: &str) -> Result<usize, Error> {
    Ok(weights.shape(&format!("{prefix}{name}"))?.first().copied().unwrap_or(0))
}

impl LoadedEmbeddings {
    /// Returns the hidden states before the first layer.
    pub fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let mut rows = vec![[0u32; 4]; batch.ids.len()];
        let mut tables = Vec::new();
        let mut add = |builder: &mut Builder, table: &Table, ids: &[u32]| {
            let (table, of) = table_rows(builder, table, ids);
            for (row, of) in rows.iter_mut().zip(of) {
                row[tables.len()] = of;
            }
            tables.push(table);
        };
        add(builder, &self.words, &batch.ids);
        if let Some(positions) = &self.positions {
            add(builder, positions, &self.embeddings.position_rows(batch));
        }
        if let Some(types) = &self.types {
            add(builder, types, &batch.type_ids);
        }
        let x = lookup_of(builder, &rows, &tables, self.embeddings.width, 1.0);
        let project = |builder: &mut Builder, x| match &self.projection {
            Some(linear) => matmul(builder, "projected", x, linear, Activation::None, None),
            None => x,
        };
        if self.embeddings.projection.is_some_and(|projection| projection.normed) {
            let x = project(builder, x);
            return layer_norm(builder, x, None, &self.norm);
        }
        let x = layer_norm(builder, x, None, &self.norm);
        project(builder, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TextSpan;

    #[test]
    fn padding_tokens_in_a_text_take_no_position() {
        let batch = PackedBatch {
            ids: vec![0, 7, 1, 8, 2, 0, 2],
            texts: vec![TextSpan::whole(0, 5), TextSpan::whole(5, 2)],
            ..PackedBatch::default()
        };
        let mut embeddings = Embeddings {
            width: 4,
            rows: 9,
            positions: Some(9),
            padding: None,
            types: None,
            norm: "",
            projection: None,
        };
        assert_eq!(embeddings.position_rows(&batch), [0, 1, 2, 3, 4, 0, 1]);
        embeddings.padding = Some(1);
        assert_eq!(embeddings.position_rows(&batch), [2, 3, 1, 4, 5, 2, 3]);
        assert_eq!(embeddings.longest(), Some(7));
    }
}
