//! BERT (Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>): MiniLM, BGE, E5, GTE v1, mxbai,
//! Snowflake Arctic v1.
//!
//! Learned absolute positions, token types, post-norm, erf GELU unless `hidden_act` says otherwise.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::attention::{MAX_HEAD, attention};
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::lookup::lookup;
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::layers::{count, epsilon, hidden_act, table_rows};
use crate::models::{Facts, Loaded, Transformer};
use crate::weights::{Axis, Loader, Table, WeightFiles};

const WORDS: &str = "embeddings.word_embeddings.weight";

/// A BERT's sizes.
#[derive(Debug, Clone)]
struct Bert {
    prefix: String,
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    positions: usize,
    table_rows: usize,
    type_rows: usize,
    activation: Activation,
    eps: f32,
}

/// A BERT's weights.
#[derive(Debug)]
struct Weights {
    sizes: Bert,
    words: Table,
    positions: Table,
    types: Table,
    norm: Norm,
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

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    if let Some(kind) = config.str("position_embedding_type")?
        && kind != "absolute"
    {
        let supported = "supported is absolute";
        return Err(Error::unsupported(&config.name, "position_embedding_type", kind, supported));
    }
    for field in ["is_decoder", "add_cross_attention"] {
        if config.bool(field)? == Some(true) {
            let supported = "a bidirectional encoder is expected";
            return Err(Error::unsupported(&config.name, field, true, supported));
        }
    }
    let hidden = count(config, "hidden_size", 65536)?;
    let heads = count(config, "num_attention_heads", 1024)?;
    if !hidden.is_multiple_of(heads) || hidden / heads > MAX_HEAD {
        let problem = format!(
            "is {heads} and hidden_size is {hidden}; heads of a whole size up to {MAX_HEAD} \
             are expected"
        );
        return Err(Error::config(&config.name, "num_attention_heads", problem));
    }
    let prefix = weights.prefix_of(WORDS)?;
    let table = weights.shape(&format!("{prefix}{WORDS}"))?;
    let positions = weights.shape(&format!("{prefix}embeddings.position_embeddings.weight"))?;
    let types = weights.shape(&format!("{prefix}embeddings.token_type_embeddings.weight"))?;
    let stated = count(config, "max_position_embeddings", 1 << 20)?;
    Ok(Box::new(Bert {
        prefix,
        layers: count(config, "num_hidden_layers", 1000)?,
        hidden,
        heads,
        intermediate: count(config, "intermediate_size", 1 << 20)?,
        positions: stated.min(positions.first().copied().unwrap_or(stated)),
        table_rows: table.first().copied().unwrap_or(0),
        type_rows: types.first().copied().unwrap_or(0),
        activation: hidden_act(config, "hidden_act")?,
        eps: epsilon(config, "layer_norm_eps", 1e-12)?,
    }))
}

impl Bert {
    fn head_axis(&self) -> Axis {
        Axis { blocks: self.heads, block: self.hidden / self.heads }
    }
}

impl Transformer for Bert {
    fn facts(&self) -> Facts {
        Facts {
            hidden: self.hidden,
            widest: (3 * self.head_axis().filled()).max(self.intermediate.next_multiple_of(4)),
            table_rows: self.table_rows,
            type_rows: Some(self.type_rows),
            positions: Some(self.positions),
            f16: F16Facts { activations_unsafe: false },
        }
    }

    fn describe(&self) -> String {
        format!(
            "{} layers, hidden {}, {} heads, intermediate {}, {} positions, {:?}",
            self.layers,
            self.hidden,
            self.heads,
            self.intermediate,
            self.positions,
            self.activation
        )
    }

    /// Loads embeddings and layers; the pooler and any heads are left.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn Loaded>, Error> {
        let (hidden, intermediate) = (Axis::plain(self.hidden), Axis::plain(self.intermediate));
        let heads = self.head_axis();
        let named = |name: &str| format!("{}{name}", self.prefix);
        let words = loader.table(&named(WORDS), self.hidden)?;
        let positions =
            loader.table(&named("embeddings.position_embeddings.weight"), self.hidden)?;
        let types = loader.table(&named("embeddings.token_type_embeddings.weight"), self.hidden)?;
        let norm = loader.norm(&named("embeddings.LayerNorm"), self.hidden, self.eps)?;
        let mut layers = Vec::new();
        for i in 0..self.layers {
            let base = named(&format!("encoder.layer.{i}."));
            let part = |name: &str| format!("{base}{name}");
            let qkv = ["query", "key", "value"].map(|name| part(&format!("attention.self.{name}")));
            layers.push(Layer {
                qkv: loader.linear(&qkv.each_ref().map(String::as_str), true, hidden, heads)?,
                output: loader.linear(&[&part("attention.output.dense")], true, heads, hidden)?,
                attention_norm: loader.norm(
                    &part("attention.output.LayerNorm"),
                    self.hidden,
                    self.eps,
                )?,
                up: loader.linear(&[&part("intermediate.dense")], true, hidden, intermediate)?,
                down: loader.linear(&[&part("output.dense")], true, intermediate, hidden)?,
                norm: loader.norm(&part("output.LayerNorm"), self.hidden, self.eps)?,
            });
        }
        Ok(Box::new(Weights { sizes: self.clone(), words, positions, types, norm, layers }))
    }
}

impl Loaded for Weights {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let position = batch.texts.iter().flat_map(|[_, tokens]| 0..*tokens).collect::<Vec<u32>>();
        let (words, word_rows) = table_rows(builder, &self.words, &batch.ids);
        let (positions, position_rows) = table_rows(builder, &self.positions, &position);
        let (types, type_rows) = table_rows(builder, &self.types, &batch.type_ids);
        let rows: Vec<[u32; 4]> = (0..batch.ids.len())
            .map(|t| [word_rows[t], position_rows[t], type_rows[t], 0])
            .collect();
        let x = lookup(builder, &rows, [words, positions, types], self.sizes.hidden);
        let mut x = layer_norm(builder, x, None, &self.norm);
        let none = Activation::None;
        for (i, layer) in self.layers.iter().enumerate() {
            builder.layer(i);
            let qkv = matmul(builder, "qkv", x, &layer.qkv, none, None);
            let head = self.sizes.hidden / self.sizes.heads;
            let context = attention(builder, qkv, &batch.texts, self.sizes.heads, head);
            let attended = matmul(builder, "attended", context, &layer.output, none, None);
            x = layer_norm(builder, attended, Some(x), &layer.attention_norm);
            let up = matmul(builder, "up", x, &layer.up, self.sizes.activation, None);
            let down = matmul(builder, "down", up, &layer.down, none, None);
            x = layer_norm(builder, down, Some(x), &layer.norm);
        }
        x
    }
}
