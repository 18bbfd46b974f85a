//! The encoder of BERT and its descendants, which adds positions to the embeddings. The layers have a norm after each
//! residual sum. The source file of a model family gives the sizes and the tensor names.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::attention::{Attention, Heads, attend, attend_relative};
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::buckets::Buckets;
use crate::models::blocks::disentangled::{Disentangled, LoadedTable};
use crate::models::blocks::embeddings::{Embeddings, LoadedEmbeddings};
use crate::models::blocks::sizes::EncoderSizes;
use crate::models::{Facts, LoadedTransformer, Transformer};
use crate::weights::{Axis, Loader, MatrixShape};

const BIASES: &str = "encoder.relative_attention_bias.weight";

/// BERT's tensor names within a layer.
pub(in crate::models) const BERT_LAYER: LayerNames = LayerNames {
    qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
};

/// The tensor names of a model family within a layer.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct LayerNames {
    /// The names of the matrices for queries, keys and values: one name if a single matrix holds all three, or else
    /// three names.
    pub qkv: &'static [&'static str],
    pub output: &'static str,
    pub attention_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub norm: &'static str,
}

/// An encoder whose config and tensor shapes have been read.
#[derive(Debug, Clone)]
pub(in crate::models) struct AbsoluteEncoder {
    /// The prefix of all tensor names: `bert.`, `0.auto_model.` or nothing.
    pub prefix: String,
    pub sizes: EncoderSizes,
    pub embeddings: Embeddings,
    /// The epsilon of all norms.
    pub eps: f32,
    /// The name of each stored layer, without the final dot.
    pub layers: Vec<String>,
    /// The index of the stored layer that is applied at each step. ALBERT applies its stored layers repeatedly.
    pub order: Vec<usize>,
    pub names: LayerNames,
    /// The factor by which q · k is multiplied.
    pub scale: f32,
    /// The buckets of the bias that depends on the distance; `None` if the model has no such bias. All layers share the
    /// bias.
    pub bias: Option<Buckets>,
    /// The settings of disentangled attention; `None` if the model has ordinary attention.
    pub relative: Option<Disentangled>,
}

/// An encoder with its weights loaded.
#[derive(Debug)]
struct LoadedAbsoluteEncoder {
    encoder: AbsoluteEncoder,
    embeddings: LoadedEmbeddings,
    /// The bias table, `[buckets, heads]`.
    biases: Option<Vec<f32>>,
    relative: Option<LoadedTable>,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    /// The layer's projection of the rows that belong to distances; `None` if `qkv` projects these rows too.
    relative: Option<Linear>,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// Returns an error for an option that would change the computation of these model families.
pub(in crate::models) fn check_options(config: &JsonFile) -> Result<(), Error> {
    if config.str("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
        return Err(config.unsupported("position_embedding_type", "supported: absolute"));
    }
    for field in ["is_decoder", "add_cross_attention"] {
        if config.bool(field)? == Some(true) {
            return Err(config.unsupported(
                field,
                "only the value false is supported, because the model is a bidirectional encoder",
            ));
        }
    }
    Ok(())
}

impl AbsoluteEncoder {
    /// Returns an encoder of `sizes.layers` layers with BERT's tensor names.
    pub fn bert(prefix: String, sizes: EncoderSizes, embeddings: Embeddings, eps: f32) -> Self {
        AbsoluteEncoder {
            prefix,
            sizes,
            embeddings,
            eps,
            layers: (0..sizes.layers).map(|i| format!("encoder.layer.{i}")).collect(),
            order: (0..sizes.layers).collect(),
            names: BERT_LAYER,
            scale: 1.0 / ((sizes.hidden / sizes.heads) as f32).sqrt(),
            bias: None,
            relative: None,
        }
    }

    fn load_layer(&self, loader: &mut Loader, layer: &str) -> Result<Layer, Error> {
        let EncoderSizes { hidden, intermediate, .. } = self.sizes;
        let (wide, inner, heads) =
            (Axis::plain(hidden), Axis::plain(intermediate), self.sizes.head_axis());
        let part = |name: &str| format!("{}{layer}.{name}", self.prefix);
        let qkv: Vec<String> = self.names.qkv.iter().map(|name| part(name)).collect();
        let parts: Vec<&str> = qkv.iter().map(String::as_str).collect();
        let columns = Axis { blocks: 3 / parts.len() * heads.blocks, ..heads };
        let qkv = loader.linear(&parts, true, wide, columns)?;
        let relative = match self.relative {
            Some(relative) => relative.load_projection(loader, part, wide, heads)?,
            None => None,
        };
        Ok(Layer {
            qkv,
            relative,
            output: loader.linear(&[&part(self.names.output)], true, heads, wide)?,
            attention_norm: loader.norm(&part(self.names.attention_norm), hidden, self.eps)?,
            up: loader.linear(&[&part(self.names.up)], true, wide, inner)?,
            down: loader.linear(&[&part(self.names.down)], true, inner, wide)?,
            norm: loader.norm(&part(self.names.norm), hidden, self.eps)?,
        })
    }
}

impl Transformer for AbsoluteEncoder {
    fn facts(&self) -> Facts {
        let EncoderSizes { hidden, intermediate, .. } = self.sizes;
        let Embeddings { width, rows, types, .. } = self.embeddings;
        Facts {
            hidden,
            projected_from: None,
            widest: [3 * self.sizes.head_axis().padded(), intermediate, width]
                .map(|values| values.next_multiple_of(4))
                .into_iter()
                .fold(hidden, usize::max),
            table_rows: rows,
            type_rows: types,
            positions: self.embeddings.longest(),
            f16: F16Facts { activations_unsafe: false },
        }
    }

    fn describe(&self) -> String {
        let EncoderSizes { hidden, heads, intermediate, activation, .. } = self.sizes;
        let layers = match (self.order.len(), self.layers.len()) {
            (applied, stored) if applied == stored => format!("{applied} layers"),
            (applied, stored) => {
                format!("{applied} layers with the weights of {stored} stored layers")
            }
        };
        let narrow = match self.embeddings {
            Embeddings { width, projection: Some(_), .. } => format!(", embeddings {width}"),
            _ => String::new(),
        };
        let mut positions = Vec::new();
        if let Some(longest) = self.embeddings.longest() {
            positions.push(format!("{longest} positions"));
        }
        if let Some(Buckets { count, max_distance }) = self.bias {
            positions.push(format!(
                "{count} position buckets up to a distance of {max_distance} tokens"
            ));
        }
        if let Some(relative) = &self.relative {
            positions.push(relative.describe());
        }
        if positions.is_empty() {
            positions.push("no positions".to_owned());
        }
        format!(
            "{layers}, hidden {hidden}{narrow}, {heads} heads, intermediate {intermediate}, {}, \
             {activation:?}",
            positions.join(", ")
        )
    }

    /// Loads embeddings and layers. The pooler and the heads are not loaded.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let EncoderSizes { hidden, .. } = self.sizes;
        let named = |name: &str| format!("{}{name}", self.prefix);
        let embeddings = self.embeddings.load(loader, &self.prefix, hidden, self.eps)?;
        let table = |buckets: Buckets| MatrixShape { rows: buckets.count, width: self.sizes.heads };
        let biases = self
            .bias
            .map(|buckets| loader.host_matrix(&named(BIASES), table(buckets)))
            .transpose()?;
        let relative = self
            .relative
            .map(|relative| relative.load(loader, &self.prefix, hidden, self.eps))
            .transpose()?;
        let layers = self
            .layers
            .iter()
            .map(|layer| self.load_layer(loader, layer))
            .collect::<Result<_, _>>()?;
        let encoder = self.clone();
        Ok(Box::new(LoadedAbsoluteEncoder { encoder, embeddings, biases, relative, layers }))
    }
}

impl LoadedTransformer for LoadedAbsoluteEncoder {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let AbsoluteEncoder { sizes, order, scale, .. } = &self.encoder;
        let none = Activation::None;
        let mut x = self.embeddings.forward(builder, batch);
        let attention =
            Attention { scale: *scale, ..Attention::new(sizes.heads, sizes.hidden / sizes.heads) };
        let relative = self.relative.as_ref().map(|table| (table, table.states(builder, batch)));
        let bias = self
            .encoder
            .bias
            .zip(self.biases.as_ref())
            .map(|(buckets, table)| buckets.bias(builder, table, sizes.heads, batch));
        for (i, layer) in order.iter().map(|stored| &self.layers[*stored]).enumerate() {
            builder.layer(i);
            let qkv = matmul(builder, "qkv", x, &layer.qkv, none, None);
            let at = [0, 1, 2].map(|part| Heads { of: qkv, head: part * sizes.heads });
            let context = match relative {
                Some((table, states)) => {
                    let own = layer.relative.as_ref();
                    let relative = table.relative(builder, states, own, &layer.qkv, sizes.heads);
                    attend_relative(builder, at, &batch.texts, &attention, &relative)
                }
                None => attend(builder, at, &batch.texts, &attention, bias),
            };
            let attended = matmul(builder, "attended", context, &layer.output, none, None);
            x = layer_norm(builder, attended, Some(x), &layer.attention_norm);
            let up = matmul(builder, "up", x, &layer.up, sizes.activation, None);
            let down = matmul(builder, "down", up, &layer.down, none, None);
            x = layer_norm(builder, down, Some(x), &layer.norm);
        }
        x
    }
}
