//! The encoders of T5 (Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>), mT5 and UMT5. Published models:
//! sentence-t5, gtr-t5, instructor. mT5 and UMT5 have the gated activation of T5 v1.1.
//!
//! A root mean square norm comes before each block. Linear layers have no biases, and scores are not scaled. Positions
//! affect only the attention, by a bias that depends on the distance. All layers share the bias table of layer 0,
//! except in UMT5, where each layer has its own table. A decoder in the same file is not loaded.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::attention::{Attention, Heads, MAX_HEAD, attend};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Epilogue, Linear, matmul, matmul_then};
use crate::kernels::rms_norm::{RmsNorm, rms_norm};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::buckets::Buckets;
use crate::models::blocks::fields::{SUPPORTED_ACTIVATIONS, activation, count, count_or, epsilon};
use crate::models::blocks::tables::table_rows;
use crate::models::{Facts, LoadedTransformer, Transformer};
use crate::weights::{Axis, Gate, Loader, MatrixShape, Table, WeightFiles};

const FINAL_NORM: &str = "encoder.final_layer_norm";

/// A T5 encoder whose config and tensor shapes have been read.
#[derive(Debug, Clone)]
struct T5 {
    /// The prefix of all tensor names.
    prefix: String,
    /// The name of the token table, without the prefix. The table is either shared with the decoder or belongs to the
    /// encoder.
    words: &'static str,
    rows: usize,
    hidden: usize,
    heads: usize,
    /// The number of values in a head. `heads` · `head` need not equal `hidden`.
    head: usize,
    intermediate: usize,
    layers: usize,
    activation: Activation,
    /// True if the feed-forward is gated.
    gated: bool,
    buckets: Buckets,
    /// True if every layer has its own bias table; false if all layers use the table of layer 0.
    own_bias: bool,
    eps: f32,
}

/// A T5 encoder with its weights loaded.
#[derive(Debug)]
struct LoadedT5 {
    t5: T5,
    words: Table,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

#[derive(Debug)]
struct Layer {
    /// The bias table `[buckets, heads]`; `None` if the layer uses the table of layer 0.
    bias: Option<Vec<f32>>,
    attention_norm: RmsNorm,
    qkv: Linear,
    output: Linear,
    norm: RmsNorm,
    /// The up projection. If there is a gate, four columns of the gate and four columns of the up projection alternate.
    up: Linear,
    down: Linear,
}

/// Reads the sizes of T5 and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    Ok(Box::new(T5::read(config, weights, "relu", false)?))
}

/// Reads the sizes of mT5 and checks that they fit together.
pub(super) fn read_mt5(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    Ok(Box::new(T5::read(config, weights, "gated-gelu", false)?))
}

/// Reads the sizes of UMT5 and checks that they fit together.
pub(super) fn read_umt5(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    Ok(Box::new(T5::read(config, weights, "gated-gelu", true)?))
}

/// Reads the activation from `feed_forward_proj`, and whether it is gated. `gated-gelu` means the tanh approximation of
/// GELU. When transformers saves a config, it derives other fields from `feed_forward_proj`. These derived fields take
/// precedence.
fn feed_forward(config: &JsonFile, default: &str) -> Result<(Activation, bool), Error> {
    let field = "feed_forward_proj";
    let proj = config.str(field)?.unwrap_or(default);
    let (gated, name) = match proj.split_once('-') {
        None => (false, proj),
        Some(("gated", "gelu")) => (true, "gelu_new"),
        Some(("gated", name)) => (true, name),
        Some(_) => {
            return Err(config.unsupported(
                field,
                "only the name of an activation function is supported, with or without the prefix \
                 `gated-`",
            ));
        }
    };
    let stored = "dense_act_fn";
    let (field, name) = config.str(stored)?.map_or((field, name), |name| (stored, name));
    let activation =
        activation(name).ok_or_else(|| config.unsupported(field, SUPPORTED_ACTIVATIONS))?;
    Ok((activation, config.bool("is_gated_act")?.unwrap_or(gated)))
}

impl T5 {
    fn read(
        config: &JsonFile,
        weights: &WeightFiles,
        proj: &str,
        own_bias: bool,
    ) -> Result<Self, Error> {
        if config.bool("is_decoder")? == Some(true) {
            return Err(config.unsupported(
                "is_decoder",
                "only false is supported, because the model is a bidirectional encoder",
            ));
        }
        let (activation, gated) = feed_forward(config, proj)?;
        let maximum = 1 << 20;
        let buckets = Buckets::new(
            config,
            count_or(config, "relative_attention_num_buckets", 32, maximum)?,
            count_or(config, "relative_attention_max_distance", 128, maximum)?,
        )?;
        let prefix = weights.prefix_of(&format!("{FINAL_NORM}.weight"))?;
        let there = |name: &&str| weights.shape(&format!("{prefix}{name}")).is_ok();
        let words = ["shared.weight", "encoder.embed_tokens.weight"];
        let words = words.into_iter().find(there).unwrap_or(words[0]);
        Ok(T5 {
            rows: weights.shape(&format!("{prefix}{words}"))?[0],
            words,
            prefix,
            hidden: count(config, "d_model", 65536)?,
            heads: count(config, "num_heads", 1024)?,
            head: count(config, "d_kv", MAX_HEAD)?,
            intermediate: count(config, "d_ff", 1 << 20)?,
            layers: count(config, "num_layers", 1000)?,
            activation,
            gated,
            buckets,
            own_bias,
            eps: epsilon(config, "layer_norm_epsilon", 1e-6)?,
        })
    }

    fn head_axis(&self) -> Axis {
        Axis { blocks: self.heads, block: self.head }
    }

    fn load_layer(&self, loader: &mut Loader, layer: usize) -> Result<Layer, Error> {
        let (wide, inner) = (Axis::plain(self.hidden), Axis::plain(self.intermediate));
        let named = |name: &str| format!("{}encoder.block.{layer}.layer.{name}", self.prefix);
        let [q, k, v] = ["q", "k", "v"].map(|part| named(&format!("0.SelfAttention.{part}")));
        let bias = named("0.SelfAttention.relative_attention_bias.weight");
        let up = if self.gated { &["wi_0", "wi_1"][..] } else { &["wi"] };
        let up: Vec<String> =
            up.iter().map(|part| named(&format!("1.DenseReluDense.{part}"))).collect();
        let up: Vec<&str> = up.iter().map(String::as_str).collect();
        let table = MatrixShape { rows: self.buckets.count, width: self.heads };
        Ok(Layer {
            bias: (self.own_bias || layer == 0)
                .then(|| loader.host_matrix(&bias, table))
                .transpose()?,
            attention_norm: loader.rms_norm(&named("0.layer_norm"), self.hidden, self.eps)?,
            qkv: loader.linear(&[&q, &k, &v], false, wide, self.head_axis())?,
            output: loader.linear(&[&named("0.SelfAttention.o")], false, self.head_axis(), wide)?,
            norm: loader.rms_norm(&named("1.layer_norm"), self.hidden, self.eps)?,
            up: match self.gated {
                true => loader.gated(&up, Gate::First, false, wide, inner)?,
                false => loader.linear(&up, false, wide, inner)?,
            },
            down: loader.linear(&[&named("1.DenseReluDense.wo")], false, inner, wide)?,
        })
    }
}

impl Transformer for T5 {
    fn facts(&self) -> Facts {
        Facts {
            hidden: self.hidden,
            projected_from: None,
            widest: [3 * self.head_axis().padded(), Axis::plain(self.intermediate).padded()]
                .into_iter()
                .fold(self.hidden.next_multiple_of(4), usize::max),
            table_rows: self.rows,
            type_rows: None,
            positions: None,
            f16: F16Facts { activations_unsafe: true },
        }
    }

    fn describe(&self) -> String {
        let T5 { hidden, heads, head, intermediate, layers, activation, .. } = self;
        let gated = if self.gated { "gated " } else { "" };
        let Buckets { count, max_distance } = self.buckets;
        let tables = if self.own_bias { " in each layer" } else { "" };
        format!(
            "{layers} layers, hidden {hidden}, {heads} heads of {head} values, intermediate \
             {intermediate}, {count} position buckets up to a distance of {max_distance} \
             tokens{tables}, {gated}{activation:?}"
        )
    }

    /// Loads the encoder. The decoder and the heads are not loaded.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let words = loader.table(&format!("{}{}", self.prefix, self.words), self.hidden)?;
        let layers =
            (0..self.layers).map(|i| self.load_layer(loader, i)).collect::<Result<_, _>>()?;
        let norm = format!("{}{FINAL_NORM}", self.prefix);
        let norm = loader.rms_norm(&norm, self.hidden, self.eps)?;
        Ok(Box::new(LoadedT5 { t5: self.clone(), words, layers, norm }))
    }
}

impl LoadedTransformer for LoadedT5 {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let T5 { hidden, heads, head, .. } = self.t5;
        let (words, rows) = table_rows(builder, &self.words, &batch.ids);
        let rows: Vec<[u32; 4]> = rows.into_iter().map(|row| [row, 0, 0, 0]).collect();
        let mut x = lookup_of(builder, &rows, &[words], hidden, 1.0);
        let attention = Attention { scale: 1.0, ..Attention::new(heads, head) };
        let none = Activation::None;
        let mut bias = None;
        for (i, layer) in self.layers.iter().enumerate() {
            builder.layer(i);
            if let Some(table) = &layer.bias {
                bias = Some(self.t5.buckets.bias(builder, table, heads, batch));
            }
            let normed = rms_norm(builder, x, &layer.attention_norm, None);
            let qkv = matmul(builder, "qkv", normed, &layer.qkv, none, None);
            let at = [0, heads, 2 * heads].map(|head| Heads { of: qkv, head });
            let context = attend(builder, at, &batch.texts, &attention, bias);
            x = matmul(builder, "attended", context, &layer.output, none, Some(x));
            let normed = rms_norm(builder, x, &layer.norm, None);
            let up = if self.t5.gated {
                let gated = Epilogue::Gated(self.t5.activation);
                matmul_then(builder, "gated", normed, &layer.up, gated)
            } else {
                matmul(builder, "up", normed, &layer.up, self.t5.activation, None)
            };
            x = matmul(builder, "down", up, &layer.down, none, Some(x));
        }
        rms_norm(builder, x, &self.norm, None)
    }
}
