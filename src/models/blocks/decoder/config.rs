//! The config fields of decoders.

use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Activation;
use crate::kernels::attention::{Attention, MAX_HEAD};
use crate::models::blocks::fields::{count, count_or, epsilon, hidden_act};
use crate::weights::Axis;

/// The values that a model family assumes for missing config fields.
pub(in crate::models) struct Defaults {
    /// The default of `num_key_value_heads`; `None` if the default is the number of heads.
    pub kv_heads: Option<usize>,
    /// The default of `head_dim`; `None` if the default is the hidden size divided by the number of heads.
    pub head: Option<usize>,
    /// The config field of the activation.
    pub activation_field: &'static str,
    /// The default activation, by its name in transformers.
    pub activation: &'static str,
    /// The default of the config field `rms_norm_eps`.
    pub eps: f64,
}

/// The defaults that most model families share.
pub(in crate::models) const DEFAULTS: Defaults = Defaults {
    kv_heads: None,
    head: None,
    activation_field: "hidden_act",
    activation: "silu",
    eps: 1e-6,
};

/// The sizes of a decoder's layers.
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

/// Returns whether a query sees only its own token and the tokens before it.
///
/// Decoders are causal unless the config sets `is_causal: false`, which transformers honours, or
/// `use_bidirectional_attention: true`, as voyage-4-nano and EmbeddingGemma do.
pub(in crate::models) fn is_causal(config: &JsonFile) -> Result<bool, Error> {
    let (field, causal) = ("use_bidirectional_attention", config.bool("is_causal")?);
    match config.bool(field)?.unwrap_or(false) {
        true if causal == Some(true) => Err(config.error(
            field,
            "is true, but `is_causal` is true too, and a model cannot be both; remove the wrong field",
        )),
        true => Ok(false),
        false => Ok(causal.unwrap_or(true)),
    }
}

/// Returns for each layer whether it has an attention window. If the config has the field `layer_types`, this field
/// decides. Otherwise, `default` decides.
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
                    "is {heads} and hidden_size is {hidden}; expected: heads of equal size, with at most \
                     {MAX_HEAD} values each"
                );
                return Err(config.error("num_attention_heads", problem));
            }
        };
        Ok(DecoderSizes {
            hidden,
            heads,
            kv_heads,
            head,
            intermediate: count(config, "intermediate_size", 1 << 20)?,
            layers: count(config, "num_hidden_layers", 1000)?,
            activation: hidden_act(config, defaults.activation_field, defaults.activation)?,
            eps: epsilon(config, "rms_norm_eps", defaults.eps)?,
        })
    }

    /// Returns the attention over whole texts or, if `window` is given, over nearby tokens.
    ///
    /// In a causal model the window consists of the query's own token and the `window` − 1 tokens before it. Otherwise
    /// it extends `window` tokens in both directions.
    pub fn attention(&self, causal: bool, window: Option<usize>) -> Attention {
        let (before, after) = match causal {
            true => (window.map(|window| window - 1), Some(0)),
            false => (window, window),
        };
        let plain = Attention::new(self.heads, self.head);
        Attention { kv_heads: self.kv_heads, before, after, ..plain }
    }

    pub(super) fn axes(&self) -> [Axis; 2] {
        [self.heads, self.kv_heads].map(|blocks| Axis { blocks, block: self.head })
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
    fn attention_is_bidirectional_by_either_field() {
        for (changes, causal) in [
            (json!({}), Some(true)),
            (json!({"is_causal": false}), Some(false)),
            (json!({"use_bidirectional_attention": true}), Some(false)),
            (json!({"use_bidirectional_attention": true, "is_causal": false}), Some(false)),
            (json!({"use_bidirectional_attention": false}), Some(true)),
            (json!({"use_bidirectional_attention": true, "is_causal": true}), None),
            (json!({"use_bidirectional_attention": "vision"}), None),
        ] {
            assert_eq!(is_causal(&file(changes.clone())).ok(), causal, "{changes}");
        }
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
}
