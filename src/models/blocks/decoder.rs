//! The decoder of Llama and its descendants: a norm before each block, rotary positions, key heads shared
//! by several query heads, a gated feed-forward. A family's file says how it differs.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::convert;
use crate::dtype::{F16Facts, Storage};
use crate::error::Error;
use crate::kernels::attention::{Attention, Heads, MAX_HEAD, attend};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Epilogue, Linear, matmul, matmul_then};
use crate::kernels::rms_norm::{RmsNorm, rms_norm};
use crate::kernels::rope::{Angles, HeadNorm, Rope, rope};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::fields::{count, count_or, epsilon, hidden_act};
use crate::models::blocks::rotary::Rotary;
use crate::models::blocks::tables::table_rows;
use crate::models::{Facts, LoadedTransformer, Transformer};
use crate::weights::{Axis, Gate, Loader, Table, WeightFiles};

const WORDS: &str = "embed_tokens.weight";

/// Values of config fields that a family assumes if they are missing.
pub(in crate::models) struct Defaults {
    /// `num_key_value_heads`. `None`: equal to the number of heads.
    pub kv_heads: Option<usize>,
    /// `head_dim`. `None`: the hidden size divided by the number of heads.
    pub head: Option<usize>,
    /// The config field of the activation, and its default.
    pub activation: [&'static str; 2],
    /// `rms_norm_eps`.
    pub eps: f64,
}

/// Defaults that most families share.
pub(in crate::models) const DEFAULTS: Defaults =
    Defaults { kv_heads: None, head: None, activation: ["hidden_act", "silu"], eps: 1e-6 };

/// Sizes of the layers.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct DecoderSizes {
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub activation: Activation,
    pub eps: f32,
}

/// The differences between families.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::models) struct Traits {
    /// Queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// The attention's output has a bias.
    pub output_bias: bool,
    /// The feed-forward's matrices have biases.
    pub mlp_bias: bool,
    /// Each head of queries and of keys is normed before it is rotated.
    pub head_norms: bool,
    /// Gemma's differences: norms scale by 1 + weight, a second norm follows each block, and embeddings
    /// are multiplied by √hidden.
    pub gemma: bool,
    /// Activations may exceed the range of f16.
    pub f16_unsafe: bool,
}

/// The attention of a layer, and the index of its rotary positions in the decoder.
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
}

#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    qkv: Linear,
    /// Index of the weight buffer.
    head_norms: Option<usize>,
    output: Linear,
    mlp_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
    /// The norms after attention and after the feed-forward, if there are any.
    closing: Option<[RmsNorm; 2]>,
}

/// Whether a query sees only what comes before it: transformers makes any decoder bidirectional whose
/// config says `is_causal: false`.
pub(in crate::models) fn is_causal(config: &JsonFile) -> Result<bool, Error> {
    Ok(config.bool("is_causal")?.unwrap_or(true))
}

/// Which layers have a window: by `layer_types` if the config has it, else by `default`.
pub(in crate::models) fn sliding_layers(
    config: &JsonFile,
    layers: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, Error> {
    let Some(types) = config.strings("layer_types")? else {
        return Ok((0..layers).map(default).collect());
    };
    if types.len() != layers {
        let problem = format!("names {} layers, but num_hidden_layers is {layers}", types.len());
        return Err(config.error("layer_types", problem));
    }
    let sliding = types.iter().map(|kind| match *kind {
        "sliding_attention" => Some(true),
        "full_attention" => Some(false),
        _ => None,
    });
    let sliding: Option<Vec<bool>> = sliding.collect();
    sliding.ok_or_else(|| {
        config.unsupported("layer_types", "supported: full_attention and sliding_attention")
    })
}

impl DecoderSizes {
    /// Reads the sizes and checks that they fit together.
    pub fn read(config: &JsonFile, defaults: &Defaults) -> Result<Self, Error> {
        let hidden = count(config, "hidden_size", 65536)?;
        let heads = count(config, "num_attention_heads", 1024)?;
        let kv_heads =
            count_or(config, "num_key_value_heads", defaults.kv_heads.unwrap_or(heads), 1024)?;
        if !heads.is_multiple_of(kv_heads) {
            let problem =
                format!("is {kv_heads}; expected: a divisor of {heads}, the number of heads");
            return Err(config.error("num_key_value_heads", problem));
        }
        let head = match defaults.head {
            _ if config.has("head_dim") => count(config, "head_dim", MAX_HEAD)?,
            Some(head) => head,
            None if hidden.is_multiple_of(heads) && hidden / heads <= MAX_HEAD => hidden / heads,
            None => {
                let problem = format!(
                    "is {heads} and hidden_size is {hidden}; expected: heads of equal size, at most \
                     {MAX_HEAD} values"
                );
                return Err(config.error("num_attention_heads", problem));
            }
        };
        let [field, activation] = defaults.activation;
        Ok(DecoderSizes {
            hidden,
            heads,
            kv_heads,
            head,
            intermediate: count(config, "intermediate_size", 1 << 20)?,
            layers: count(config, "num_hidden_layers", 1000)?,
            activation: hidden_act(config, field, activation)?,
            eps: epsilon(config, "rms_norm_eps", defaults.eps)?,
        })
    }

    /// The attention over whole texts or, with a window, over nearby tokens.
    ///
    /// In a causal model the window holds `window` tokens and ends with the query's own. Otherwise it
    /// extends `window` tokens in both directions.
    pub fn attention(&self, causal: bool, window: Option<usize>) -> Attention {
        let (before, after) = match causal {
            true => (window.map(|window| window - 1), Some(0)),
            false => (window, window),
        };
        let plain = Attention::new(self.heads, self.head);
        Attention { kv_heads: self.kv_heads, before, after, ..plain }
    }

    fn axes(&self) -> [Axis; 2] {
        [self.heads, self.kv_heads].map(|blocks| Axis { blocks, block: self.head })
    }
}

impl Decoder {
    /// A decoder with one kind per layer.
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
        // The order of values within a head does not change the products of queries and keys.
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
        Facts {
            hidden,
            widest: qkv.max(intermediate.next_multiple_of(4)).max(hidden.next_multiple_of(4)),
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
        let windows = match windows {
            0 => String::new(),
            some => format!(", {some} layers with a window"),
        };
        format!(
            "{layers} layers, hidden {hidden}, {heads} heads of {head} with {kv_heads} of keys, \
             intermediate {intermediate}, {}{windows}, {activation:?}",
            if causal { "causal" } else { "bidirectional" }
        )
    }

    fn reach(&self) -> Option<usize> {
        self.kinds.iter().filter_map(|kind| kind.attention.before).min()
    }

    /// Loads embeddings, layers and the final norm, but not the head that predicts tokens.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error> {
        let words = loader.table(&format!("{}{WORDS}", self.prefix), self.sizes.hidden)?;
        let layers = (0..self.sizes.layers)
            .map(|layer| self.load_layer(loader, layer))
            .collect::<Result<_, _>>()?;
        let norm = self.norm(loader, "norm")?;
        Ok(Box::new(LoadedDecoder { decoder: self.clone(), words, layers, norm }))
    }
}

/// Rounds a number to what a storage holds.
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
        // transformers rounds the factor to the dtype of the weights.
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
            // A closing norm comes between the block's matmul and the residual sum.
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
        rms_norm(builder, x, &self.norm, None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(changes: Value) -> JsonFile {
        let mut value = json!({"hidden_size": 32, "num_attention_heads": 4,
            "intermediate_size": 64, "num_hidden_layers": 2});
        let (Value::Object(map), Value::Object(changes)) = (&mut value, changes) else { panic!() };
        map.extend(changes);
        JsonFile::new("config.json", map.clone())
    }

    #[test]
    fn windows_end_at_the_query_if_causal_and_surround_it_otherwise() {
        let sizes = DecoderSizes::read(&file(json!({})), &DEFAULTS).unwrap();
        let reach = |causal, window| {
            let attention = sizes.attention(causal, window);
            (attention.before, attention.after)
        };
        assert_eq!(reach(true, None), (None, Some(0)));
        assert_eq!(reach(true, Some(5)), (Some(4), Some(0)));
        assert_eq!(reach(false, None), (None, None));
        assert_eq!(reach(false, Some(5)), (Some(5), Some(5)));
    }

    #[test]
    fn inconsistent_sizes_are_refused_by_field() {
        for (changes, field) in [
            (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
            (json!({"num_attention_heads": 5}), "num_attention_heads"),
            (json!({"head_dim": 512}), "head_dim"),
            (json!({"head_dim": 0}), "head_dim"),
            (json!({"rms_norm_eps": -1.0}), "rms_norm_eps"),
            (json!({"hidden_act": "laplace"}), "hidden_act"),
        ] {
            let error =
                DecoderSizes::read(&file(changes.clone()), &DEFAULTS).unwrap_err().to_string();
            assert!(error.contains("config.json") && error.contains(field), "{changes}: {error}");
        }
        let wide = DecoderSizes::read(
            &file(json!({"head_dim": 128, "num_key_value_heads": 2})),
            &DEFAULTS,
        );
        assert_eq!(wide.map(|sizes| (sizes.head, sizes.kv_heads)).ok(), Some((128, 2)));
    }

    #[test]
    fn windowed_layers_are_named_or_counted() {
        let layers = |changes| sliding_layers(&file(changes), 2, |i| i == 1);
        assert_eq!(layers(json!({})).ok(), Some(vec![false, true]));
        let named = json!({"layer_types": ["sliding_attention", "full_attention"]});
        assert_eq!(layers(named).ok(), Some(vec![true, false]));
        for list in [json!(["full_attention"]), json!(["full_attention", "linear_attention"])] {
            let error = layers(json!({"layer_types": list})).unwrap_err().to_string();
            assert!(error.contains("layer_types"), "{error}");
        }
    }

    #[test]
    fn numbers_round_as_in_the_storage() {
        assert_eq!(rounded(Storage::F32, 640f32.sqrt()), 640f32.sqrt());
        assert_eq!(rounded(Storage::PackedBf16, 640f32.sqrt()), 25.25);
    }
}
