//! The decoder of Llama and its descendants. The decoder has a norm before each block, rotary positions, key heads that
//! several query heads share, and a gated feed-forward. The source file of a model family states how the family differs
//! from Llama.

mod config;

pub(in crate::models) use config::{DEFAULTS, DecoderSizes, Defaults, is_causal, sliding_layers};

use crate::batch::PackedBatch;
use crate::convert;
use crate::dtype::{F16Facts, Storage};
use crate::error::Error;
use crate::kernels::attention::{Attention, Heads, attend};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Epilogue, Linear, matmul, matmul_then};
use crate::kernels::rms_norm::{RmsNorm, rms_norm};
use crate::kernels::rope::{Angles, HeadNorm, Rope, rope};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::rotary::Rotary;
use crate::models::blocks::tables::table_rows;
use crate::models::{Facts, LoadedTransformer, Transformer};
use crate::weights::{Axis, Gate, Loader, Table, WeightFiles};

const WORDS: &str = "embed_tokens.weight";
/// The tensor name of the projection of the final hidden states.
pub(in crate::models) const PROJECTION: &str = "linear";

/// The differences between model families.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::models) struct Traits {
    /// True if the matrices for queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// True if the attention's output matrix has a bias.
    pub output_bias: bool,
    /// True if the feed-forward's matrices have biases.
    pub mlp_bias: bool,
    /// True if each head of queries and of keys is normalised before it is rotated.
    pub head_norms: bool,
    /// True if the model differs from Llama as Gemma does: norms scale by 1 + weight, a second norm follows each block,
    /// and embeddings are multiplied by √hidden.
    pub gemma: bool,
    /// True if activations may exceed the range of f16.
    pub f16_unsafe: bool,
    /// The width of the model's own projection of its final hidden states, `linear.weight`; `None` if there is no
    /// projection.
    pub projection: Option<usize>,
}

/// The attention of a layer, and the index of the layer's rotary positions in the decoder.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct LayerKind {
    pub attention: Attention,
    pub rotary: usize,
}

/// A decoder whose config and tensor shapes have been read.
#[derive(Debug, Clone)]
pub(in crate::models) struct Decoder {
    prefix: String,
    table_rows: usize,
    sizes: DecoderSizes,
    traits: Traits,
    rotaries: Vec<Rotary>,
    kinds: Vec<LayerKind>,
}

/// A decoder with its weights loaded.
#[derive(Debug)]
struct LoadedDecoder {
    decoder: Decoder,
    words: Table,
    layers: Vec<Layer>,
    norm: RmsNorm,
    projection: Option<Linear>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    qkv: Linear,
    /// The index of the buffer that holds the weights of the head norms.
    head_norms: Option<usize>,
    output: Linear,
    mlp_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
    /// The norms after attention and after the feed-forward; `None` if there are no such norms.
    closing: Option<[RmsNorm; 2]>,
}

impl Decoder {
    /// Makes a decoder. `kinds` gives the kind of attention of each layer.
    pub fn new(
        weights: &WeightFiles,
        sizes: DecoderSizes,
        traits: Traits,
        rotaries: Vec<Rotary>,
        kinds: Vec<LayerKind>,
    ) -> Result<Self, Error> {
        let prefix = weights.prefix_of(WORDS)?;
        let shape = weights.shape(&format!("{prefix}{WORDS}"))?;
        let table_rows = shape.first().copied().unwrap_or(0);
        Ok(Decoder { prefix, table_rows, sizes, traits, rotaries, kinds })
    }

    fn norm(&self, loader: &mut Loader, name: &str) -> Result<RmsNorm, Error> {
        let base = format!("{}{name}", self.prefix);
        let weight = loader.scales(&[&base], Axis::plain(self.sizes.hidden), self.traits.gemma)?;
        Ok(RmsNorm { weight, eps: self.sizes.eps })
    }

    fn load_layer(&self, loader: &mut Loader, layer: usize) -> Result<Layer, Error> {
        let Traits { qkv_bias, output_bias, mlp_bias, head_norms, gemma, .. } = self.traits;
        let [wide, inner] = [self.sizes.hidden, self.sizes.intermediate].map(Axis::plain);
        let [heads, kv_heads] = self.sizes.axes();
        let part = |name: &str| format!("layers.{layer}.{name}");
        let named = |name: &str| format!("{}{}", self.prefix, part(name));
        let [q, k, v] = ["q", "k", "v"].map(|name| named(&format!("self_attn.{name}_proj")));
        let norms = ["self_attn.q_norm", "self_attn.k_norm"].map(named);
        let head = Axis::plain(self.sizes.head);
        // The kernels rotate neighbouring values, so the values of each rotated pair are placed side by side. The order
        // of values in a head does not change the products of queries and keys.
        let rotary = &self.rotaries[self.kinds[layer].rotary];
        let rotated = |heads: Axis| rotary.columns(heads, heads.blocks);
        let closing = ["post_attention_layernorm", "post_feedforward_layernorm"].map(part);
        let mlp_norm = if gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        Ok(Layer {
            attention_norm: self.norm(loader, &part("input_layernorm"))?,
            qkv: loader.joined(
                &[(&q, rotated(heads)), (&k, rotated(kv_heads)), (&v, kv_heads.into())],
                qkv_bias,
                wide,
            )?,
            head_norms: head_norms
                .then(|| loader.scales(&norms.each_ref().map(String::as_str), rotated(head), gemma))
                .transpose()?,
            output: loader.linear(&[&named("self_attn.o_proj")], output_bias, heads, wide)?,
            mlp_norm: self.norm(loader, &part(mlp_norm))?,
            gate_up: loader.gated(
                &[&named("mlp.gate_proj"), &named("mlp.up_proj")],
                Gate::First,
                mlp_bias,
                wide,
                inner,
            )?,
            down: loader.linear(&[&named("mlp.down_proj")], mlp_bias, inner, wide)?,
            closing: match gemma {
                true => Some([self.norm(loader, &closing[0])?, self.norm(loader, &closing[1])?]),
                false => None,
            },
        })
    }
}

impl Transformer for Decoder {
    fn facts(&self) -> Facts {
        let DecoderSizes { hidden, heads, kv_heads, head, intermediate, .. } = self.sizes;
        let qkv = (heads + 2 * kv_heads) * head.next_multiple_of(4);
        let projection = self.traits.projection;
        Facts {
            hidden: projection.unwrap_or(hidden),
            projected_from: projection.map(|_| hidden),
            widest: [intermediate, hidden, projection.unwrap_or(0)]
                .map(|width| width.next_multiple_of(4))
                .into_iter()
                .fold(qkv, usize::max),
            table_rows: self.table_rows,
            type_rows: None,
            positions: None,
            f16: F16Facts { activations_unsafe: self.traits.f16_unsafe },
        }
    }

    fn describe(&self) -> String {
        let DecoderSizes {
            hidden, heads, kv_heads, head, intermediate, layers, activation, ..
        } = self.sizes;
        let causal = self.kinds.iter().all(|kind| kind.attention.after == Some(0));
        let windows = self.kinds.iter().filter(|kind| kind.attention.before.is_some()).count();
        let projection = match self.traits.projection {
            Some(width) => format!(", projected to {width}"),
            None => String::new(),
        };
        let windows = match windows {
            0 => String::new(),
            some => format!(", {some} layers with an attention window"),
        };
        format!(
            "{layers} layers, hidden {hidden}, {heads} heads of {head} values with {kv_heads} key \
             heads, intermediate {intermediate}, {}{windows}, {activation:?}{projection}",
            if causal { "causal" } else { "bidirectional" }
        )
    }

    fn reach(&self) -> Option<usize> {
        self.kinds.iter().filter_map(|kind| kind.attention.before).min()
    }

    /// Loads embeddings, layers and the final norm. The head that predicts tokens is not loaded.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let words = loader.table(&format!("{}{WORDS}", self.prefix), self.sizes.hidden)?;
        let layers = (0..self.sizes.layers)
            .map(|layer| self.load_layer(loader, layer))
            .collect::<Result<_, _>>()?;
        let norm = self.norm(loader, "norm")?;
        let hidden = Axis::plain(self.sizes.hidden);
        let projection = self
            .traits
            .projection
            .map(|width| loader.linear(&[PROJECTION], false, hidden, Axis::plain(width)))
            .transpose()?;
        Ok(Box::new(LoadedDecoder { decoder: self.clone(), words, layers, norm, projection }))
    }
}

/// Returns a number rounded to the nearest value that a storage type can represent.
fn rounded(storage: Storage, value: f32) -> f32 {
    let mut bytes = Vec::new();
    convert::encode(storage, &[value], &mut bytes);
    convert::decode(storage, &bytes).first().copied().unwrap_or(value)
}

impl LoadedDecoder {
    fn attended(
        &self,
        builder: &mut Builder,
        batch: &PackedBatch,
        (layer, kind): (&Layer, &LayerKind),
        angles: &Angles,
        x: Activations,
    ) -> Activations {
        let DecoderSizes { heads, kv_heads, head, eps, .. } = self.decoder.sizes;
        let normed = rms_norm(builder, x, &layer.attention_norm, None);
        let (qkv, rotated) = match layer.head_norms {
            None => {
                let epilogue = Epilogue::Rotated(angles.rotation(heads + kv_heads, head));
                let qkv = matmul_then(builder, "qkv", normed, &layer.qkv, epilogue);
                (qkv, qkv)
            }
            Some(weight) => {
                let norm = HeadNorm { weight: builder.weight("head norms", weight), eps };
                let qkv = matmul(builder, "qkv", normed, &layer.qkv, Activation::None, None);
                (qkv, rope(builder, qkv, angles, &Rope { heads, kv_heads, head }, norm))
            }
        };
        let at = [(rotated, 0), (rotated, heads), (qkv, heads + kv_heads)];
        let at = at.map(|(of, head)| Heads { of, head });
        attend(builder, at, &batch.texts, &kind.attention, None)
    }
}

impl LoadedTransformer for LoadedDecoder {
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations {
        let DecoderSizes { hidden, activation, .. } = self.decoder.sizes;
        let (words, rows) = table_rows(builder, &self.words, &batch.ids);
        let rows: Vec<[u32; 4]> = rows.into_iter().map(|row| [row, 0, 0, 0]).collect();
        // transformers rounds the factor √hidden to the dtype of the weights, so Vectile rounds it too.
        let scale = match self.decoder.traits.gemma {
            true => rounded(builder.weights, (hidden as f32).sqrt()),
            false => 1.0,
        };
        let mut x = lookup_of(builder, &rows, &[words], hidden, scale);
        let angles: Vec<Angles> =
            self.decoder.rotaries.iter().map(|rotary| rotary.angles(builder, batch)).collect();
        let none = Activation::None;
        for (i, (layer, kind)) in self.layers.iter().zip(&self.decoder.kinds).enumerate() {
            builder.layer(i);
            let context = self.attended(builder, batch, (layer, kind), &angles[kind.rotary], x);
            // If a norm follows the matmul, the norm adds the residual, and the matmul does not.
            let within = layer.closing.is_none().then_some(x);
            let attended = matmul(builder, "attended", context, &layer.output, none, within);
            x = match &layer.closing {
                Some([norm, _]) => rms_norm(builder, attended, norm, Some(x)),
                None => attended,
            };
            let normed = rms_norm(builder, x, &layer.mlp_norm, None);
            let gated =
                matmul_then(builder, "gated", normed, &layer.gate_up, Epilogue::Gated(activation));
            let within = layer.closing.is_none().then_some(x);
            let down = matmul(builder, "down", gated, &layer.down, none, within);
            x = match &layer.closing {
                Some([_, norm]) => rms_norm(builder, down, norm, Some(x)),
                None => down,
            };
        }
        let x = rms_norm(builder, x, &self.norm, None);
        match &self.projection {
            Some(linear) => matmul(builder, "projected", x, linear, none, None),
            None => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_as_in_the_storage() {
        assert_eq!(rounded(Storage::F32, 640f32.sqrt()), 640f32.sqrt());
        assert_eq!(rounded(Storage::PackedBf16, 640f32.sqrt()), 25.25);
    }
}
