//! Qwen2 (Yang et al. 2024, <https://arxiv.org/abs/2407.10671>) and Qwen3 (<https://arxiv.org/abs/2505.09388>). Qwen3
//! normalises each head of queries and keys before it rotates the head.
//!
//! With `use_sliding_window`, layers from number `max_window_layers` on have an attention window. Published embedding
//! models do not use such windows.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::decoder::{
    DEFAULTS, Decoder, DecoderSizes, Defaults, LayerKind, PROJECTION, Traits, is_causal,
    sliding_layers,
};
use crate::models::blocks::fields::{count, count_or};
use crate::models::blocks::rotary::Rotary;
use crate::weights::WeightFiles;

/// The class names of the Python code published with gte-Qwen2.
pub(super) const GTE_QWEN2: &[&str] = &["modeling_qwen.Qwen2Model"];

/// Reads the config of a Qwen2 model.
pub(super) fn qwen2(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let defaults = Defaults { kv_heads: Some(32), ..DEFAULTS };
    let traits = Traits { qkv_bias: true, f16_unsafe: true, ..Traits::default() };
    read(config, weights, &defaults, traits)
}

/// Reads the config of a Qwen2 model with the Python code of gte-Qwen2, which is bidirectional by default.
pub(super) fn qwen2_with_code(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    // By default, attention is bidirectional in the model's own code, but causal in transformers. The config must therefore set
    // `is_causal` to false.
    if config.bool("is_causal")? != Some(false) {
        let supported =
            "only false is supported, because attention in the model's own code is bidirectional";
        return Err(config.unsupported("is_causal", supported));
    }
    qwen2(config, weights)
}

/// Reads the config of a Qwen3 model.
pub(super) fn qwen3(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let defaults = Defaults { kv_heads: Some(32), head: Some(128), ..DEFAULTS };
    let bias = config.bool("attention_bias")?.unwrap_or(false);
    let traits = Traits {
        qkv_bias: bias,
        output_bias: bias,
        head_norms: true,
        f16_unsafe: true,
        projection: projection(config, weights)?,
        ..Traits::default()
    };
    read(config, weights, &defaults, traits)
}

/// Returns the width of voyage-4-nano's projection; `None` if the model has no such projection. The code of
/// voyage-4-nano applies `linear.weight` to the final hidden states. This weight has `num_labels` rows; a
/// `linear.weight` of another shape has another purpose.
fn projection(config: &JsonFile, weights: &WeightFiles) -> Result<Option<usize>, Error> {
    let name = format!("{PROJECTION}.weight");
    if !weights.has(&name) {
        return Ok(None);
    }
    let expected = [config.usize("num_labels")?.unwrap_or(0), count(config, "hidden_size", 65536)?];
    Ok((weights.peek_shape(&name) == Some(&expected[..])).then_some(expected[0]))
}

fn read(
    config: &JsonFile,
    weights: &WeightFiles,
    defaults: &Defaults,
    traits: Traits,
) -> Result<Box<dyn Transformer>, Error> {
    let sizes = DecoderSizes::read(config, defaults)?;
    let rotary = Rotary::read(config, sizes.head, 10_000.0, None)?;
    let windows = config.bool("use_sliding_window")?.unwrap_or(false);
    // `sliding_window: null` disables the window; a missing field does not.
    let none = config.is_null("sliding_window");
    let window = match windows && !none {
        true => Some(count_or(config, "sliding_window", 4096, 1 << 30)?),
        false => None,
    };
    let first = config.usize("max_window_layers")?.unwrap_or(28);
    let sliding = sliding_layers(config, sizes.layers, |i| window.is_some() && i >= first)?;
    if window.is_none() && sliding.contains(&true) {
        let problem = "has `sliding_attention`, but `use_sliding_window` and `sliding_window` set \
                       no size of the attention window";
        return Err(config.error("layer_types", problem));
    }
    let causal = is_causal(config)?;
    let kinds = sliding
        .iter()
        .map(|sliding| LayerKind {
            attention: sizes.attention(causal, window.filter(|_| *sliding)),
            rotary: 0,
        })
        .collect();
    Ok(Box::new(Decoder::new(weights, sizes, traits, vec![rotary], kinds)?))
}
