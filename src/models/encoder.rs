//! The encoder of BERT and its descendants: summed embeddings, a norm, then layers whose norms follow
//! the residual sum. A family's file says its sizes and what its tensors are called.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::attention::{Attention, Heads, MAX_HEAD, attend};
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::lookup::lookup;
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::buckets::Buckets;
use crate::models::layers::{count, hidden_act, table_rows, zero_row};
use crate::models::{Facts, Loaded, Transformer};
use crate::weights::{Axis, Loader, Table, WeightFiles};

/// The token table, under the name that all these families give it.
pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";
const BIASES: &str = "encoder.relative_attention_bias.weight";
const EMBEDDINGS_NORM: &str = "embeddings.LayerNorm";

/// Config fields under the names that most families have for them.
pub(super) const FIELDS: Fields = Fields {
    hidden: "hidden_size",
    heads: "num_attention_heads",
    intermediate: "intermediate_size",
    layers: "num_hidden_layers",
    activation: "hidden_act",
};

/// BERT's names for the parts of a layer.
pub(super) const BERT_LAYER: LayerNames = LayerNames {
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

/// What a family's config calls its sizes.
pub(super) struct Fields {
    pub hidden: &'static str,
    pub heads: &'static str,
    pub intermediate: &'static str,
    pub layers: &'static str,
    pub activation: &'static str,
}

/// What a family calls the parts of a layer, after the layer's own name.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerNames {
    pub qkv: [&'static str; 3],
    pub output: &'static str,
    pub attention_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub norm: &'static str,
}

/// Sizes of the layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub hidden: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub activation: Activation,
}

/// The embeddings: which tables there are, and how positions are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Embeddings {
    /// Width of the tables.
    pub width: usize,
    /// Rows of the token table.
    pub rows: usize,
    /// Rows of the position table that are used.
    pub positions: usize,
    /// RoBERTa counts positions from the row after this token's id, and passes over the token
    /// itself, wherever a text spells it out.
    pub padding: Option<u32>,
    /// Rows of the type table, where there is one.
    pub types: Option<usize>,
    /// The linear layer from the tables' width to the hidden one.
    pub projection: Option<&'static str>,
}

/// An encoder whose config and tensor shapes have been read.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    /// Before all names: `bert.`, `0.auto_model.` or nothing.
    pub prefix: String,
    pub sizes: Sizes,
    pub embeddings: Embeddings,
    /// Epsilon of all norms.
    pub eps: f32,
    /// What each stored layer is called, up to the dot.
    pub layers: Vec<String>,
    /// The stored layers as they are applied, one after the other: ALBERT repeats its own.
    pub order: Vec<usize>,
    pub names: LayerNames,
    /// How the distances of a bias fall into buckets, where there is one for all layers.
    pub bias: Option<Buckets>,
}

/// An encoder's weights.
#[derive(Debug)]
struct Weights {
    encoder: Encoder,
    words: Table,
    positions: Table,
    types: Option<Table>,
    norm: Norm,
    projection: Option<Linear>,
    /// `[buckets, heads]`
    biases: Option<Vec<f32>>,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// Refuses what turns these families into something else.
pub(super) fn check_options(config: &JsonFile) -> Result<(), Error> {
    if config.str("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
        return Err(config.unsupported("position_embedding_type", "supported is absolute"));
    }
    for field in ["is_decoder", "add_cross_attention"] {
        if config.bool(field)? == Some(true) {
            return Err(config.unsupported(field, "a bidirectional encoder is expected"));
        }
    }
    Ok(())
}

impl Sizes {
    /// Reads the sizes and checks that they fit together; `activation` is the family's default.
    pub fn read(config: &JsonFile, fields: &Fields, activation: &str) -> Result<Self, Error> {
        Self::with(config, fields, hidden_act(config, fields.activation, activation)?)
    }

    /// As [`Sizes::read`], for a family that names its activation in a way of its own.
    pub fn with(config: &JsonFile, fields: &Fields, activation: Activation) -> Result<Self, Error> {
        let hidden = count(config, fields.hidden, 65536)?;
        let heads = count(config, fields.heads, 1024)?;
        if !hidden.is_multiple_of(heads) || hidden / heads > MAX_HEAD {
            let problem = format!(
                "is {heads} and {} is {hidden}; heads of a whole size up to {MAX_HEAD} are expected",
                fields.hidden
            );
            return Err(config.error(fields.heads, problem));
        }
        Ok(Sizes {
            hidden,
            heads,
            layers: count(config, fields.layers, 1000)?,
            intermediate: count(config, fields.intermediate, 1 << 20)?,
            activation,
        })
    }

    /// Values of a head.
    pub fn head(self) -> usize {
        self.hidden / self.heads
    }

    /// Heads side by side.
    pub fn head_axis(self) -> Axis {
        Axis { blocks: self.heads, block: self.hidden / self.heads }
    }
}

impl Embeddings {
    /// Tables as wide as the hidden states, positions from 0.
    pub fn read(
        config: &JsonFile,
        weights: &WeightFiles,
        prefix: &str,
        hidden: usize,
        types: bool,
    ) -> Result<Self, Error> {
        let rows = |name: &str| -> Result<usize, Error> {
            Ok(weights.shape(&format!("{prefix}{name}"))?.first().copied().unwrap_or(0))
        };
        let stated = count(config, "max_position_embeddings", 1 << 20)?;
        Ok(Embeddings {
            width: hidden,
            rows: rows(WORDS)?,
            positions: stated.min(rows(POSITIONS)?),
            padding: None,
            types: types.then(|| rows(TYPES)).transpose()?,
            projection: None,
        })
    }

    /// Counts positions from the row after the token `padding`; `field` is the one to blame where
    /// there is none.
    pub fn skip_padding(
        &mut self,
        config: &JsonFile,
        field: &str,
        padding: usize,
    ) -> Result<(), Error> {
        if padding + 1 >= self.positions {
            let problem = format!(
                "leaves no position: of {} in the table, those up to {padding}, the padding, are not used",
                self.positions
            );
            return Err(config.error(field, problem));
        }
        self.padding = Some(padding as u32);
        Ok(())
    }

    /// The row of the position table for each token.
    fn position_rows(&self, batch: &PackedBatch) -> Vec<u32> {
        let mut rows = Vec::with_capacity(batch.ids.len());
        for [first, tokens] in &batch.texts {
            let Some(padding) = self.padding else {
                rows.extend(0..*tokens);
                continue;
            };
            let mut next = padding;
            for id in &batch.ids[*first as usize..(first + tokens) as usize] {
                next += u32::from(*id != padding);
                rows.push(if *id == padding { padding } else { next });
            }
        }
        rows
    }
}

impl Encoder {
    /// An encoder of `sizes.layers` layers under BERT's names.
    pub fn bert(prefix: String, sizes: Sizes, embeddings: Embeddings, eps: f32) -> Self {
        Encoder {
            prefix,
            sizes,
            embeddings,
            eps,
            layers: (0..sizes.layers).map(|i| format!("encoder.layer.{i}")).collect(),
            order: (0..sizes.layers).collect(),
            names: BERT_LAYER,
            bias: None,
        }
    }

    fn load_layer(&self, loader: &mut Loader, layer: &str) -> Result<Layer, Error> {
        let Sizes { hidden, intermediate, .. } = self.sizes;
        let (wide, inner, heads) =
            (Axis::plain(hidden), Axis::plain(intermediate), self.sizes.head_axis());
        let part = |name: &str| format!("{}{layer}.{name}", self.prefix);
        let qkv = self.names.qkv.map(part);
        Ok(Layer {
            qkv: loader.linear(&qkv.each_ref().map(String::as_str), true, wide, heads)?,
            output: loader.linear(&[&part(self.names.output)], true, heads, wide)?,
            attention_norm: loader.norm(&part(self.names.attention_norm), hidden, self.eps)?,
            up: loader.linear(&[&part(self.names.up)], true, wide, inner)?,
            down: loader.linear(&[&part(self.names.down)], true, inner, wide)?,
            norm: loader.norm(&part(self.names.norm), hidden, self.eps)?,
        })
    }
}

impl Transformer for Encoder {
    fn facts(&self) -> Facts {
        let Sizes { hidden, intermediate, .. } = self.sizes;
        let Embeddings { width, rows, positions, padding, types, .. } = self.embeddings;
        let skipped = padding.map_or(0, |padding| padding as usize + 1);
        Facts {
            hidden,
            widest: [3 * self.sizes.head_axis().filled(), intermediate, width]
                .map(|values| values.next_multiple_of(4))
                .into_iter()
                .fold(hidden, usize::max),
            table_rows: rows,
            type_rows: types,
            positions: Some(positions.saturating_sub(skipped)),
            f16: F16Facts { activations_unsafe: false },
        }
    }

    fn describe(&self) -> String {
        let Sizes { hidden, heads, intermediate, activation, .. } = self.sizes;
        let layers = match (self.order.len(), self.layers.len()) {
            (applied, stored) if applied == stored => format!("{applied} layers"),
            (applied, stored) => format!("{applied} layers of {stored} stored"),
        };
        let narrow = match self.embeddings {
            Embeddings { width, projection: Some(_), .. } => format!(", embeddings {width}"),
            _ => String::new(),
        };
        let positions = self.facts().positions.unwrap_or_default();
        format!(
            "{layers}, hidden {hidden}{narrow}, {heads} heads, intermediate {intermediate}, \
             {positions} positions, {activation:?}"
        )
    }

    /// Loads embeddings and layers; the pooler and any heads are left.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn Loaded>, Error> {
        let Embeddings { width, types, projection, .. } = self.embeddings;
        let named = |name: &str| format!("{}{name}", self.prefix);
        let words = loader.table(&named(WORDS), width)?;
        let positions = loader.table(&named(POSITIONS), width)?;
        let types = types.map(|_| loader.table(&named(TYPES), width)).transpose()?;
        let norm = loader.norm(&named(EMBEDDINGS_NORM), width, self.eps)?;
        let (narrow, wide) = (Axis::plain(width), Axis::plain(self.sizes.hidden));
        let projection = projection
            .map(|name| loader.linear(&[&named(name)], true, narrow, wide))
            .transpose()?;
        let table = |buckets: Buckets| [buckets.count, self.sizes.heads];
        let biases = self
            .bias
            .map(|buckets| loader.host_matrix(&named(BIASES), table(buckets)))
            .transpose()?;
        let layers = self
            .layers
            .iter()
            .map(|layer| self.load_layer(loader, layer))
            .collect::<Result<_, _>>()?;
        let encoder = self.clone();
        Ok(Box::new(Weights { encoder, words, positions, types, norm, projection, biases, layers }))
    }
}

impl Loaded for Weights {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let Encoder { sizes, embeddings, order, .. } = &self.encoder;
        let (words, word_rows) = table_rows(builder, &self.words, &batch.ids);
        let position_rows = embeddings.position_rows(batch);
        let (positions, position_rows) = table_rows(builder, &self.positions, &position_rows);
        let (types, type_rows) = match &self.types {
            Some(types) => table_rows(builder, types, &batch.type_ids),
            None => (zero_row(builder, embeddings.width), vec![0; batch.ids.len()]),
        };
        let rows: Vec<[u32; 4]> = (0..batch.ids.len())
            .map(|t| [word_rows[t], position_rows[t], type_rows[t], 0])
            .collect();
        let none = Activation::None;
        let x = lookup(builder, &rows, [words, positions, types], embeddings.width);
        let mut x = layer_norm(builder, x, None, &self.norm);
        if let Some(projection) = &self.projection {
            x = matmul(builder, "projected", x, projection, none, None);
        }
        let attention = Attention::new(sizes.heads, sizes.hidden / sizes.heads);
        let bias = self
            .encoder
            .bias
            .zip(self.biases.as_ref())
            .map(|(buckets, table)| buckets.bias(builder, table, sizes.heads, batch));
        for (i, layer) in order.iter().map(|stored| &self.layers[*stored]).enumerate() {
            builder.layer(i);
            let qkv = matmul(builder, "qkv", x, &layer.qkv, none, None);
            let at = [0, 1, 2].map(|part| Heads { of: qkv, head: part * sizes.heads });
            let context = attend(builder, at, &batch.texts, &attention, bias);
            let attended = matmul(builder, "attended", context, &layer.output, none, None);
            x = layer_norm(builder, attended, Some(x), &layer.attention_norm);
            let up = matmul(builder, "up", x, &layer.up, sizes.activation, None);
            let down = matmul(builder, "down", up, &layer.down, none, None);
            x = layer_norm(builder, down, Some(x), &layer.norm);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_pass_over_padding_that_a_text_spells_out() {
        let batch = PackedBatch {
            ids: vec![0, 7, 1, 8, 2, 0, 2],
            texts: vec![[0, 5], [5, 2]],
            ..PackedBatch::default()
        };
        let mut embeddings = Embeddings {
            width: 4,
            rows: 9,
            positions: 9,
            padding: None,
            types: None,
            projection: None,
        };
        assert_eq!(embeddings.position_rows(&batch), [0, 1, 2, 3, 4, 0, 1]);
        embeddings.padding = Some(1);
        assert_eq!(embeddings.position_rows(&batch), [2, 3, 1, 4, 5, 2, 3]);
    }
}
