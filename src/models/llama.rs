//! Llama (Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>) and two models derived from it. Mistral (Jiang et
//! al. 2023, <https://arxiv.org/abs/2310.06825>) is a Llama with an attention window. EuroBERT (Boizard et al. 2025,
//! <https://arxiv.org/abs/2503.05500>) is a bidirectional Llama.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::decoder::{
    DEFAULTS, Decoder, DecoderSizes, Defaults, LayerKind, Traits, is_causal,
};
use crate::models::blocks::fields::count_or;
use crate::models::blocks::rotary::Rotary;
use crate::weights::WeightFiles;

/// The class names of the Python code published with EuroBERT.
pub(super) const EUROBERT: &[&str] =
    &["configuration_eurobert.EuroBertConfig", "modeling_eurobert.EuroBertModel"];

/// Reads the config of a Llama model.
pub(super) fn llama(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    read(config, weights, &DEFAULTS, is_causal(config)?, None)
}

/// Reads the config of a EuroBERT model.
pub(super) fn eurobert(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    read(config, weights, &Defaults { eps: 1e-5, ..DEFAULTS }, false, None)
}

/// Reads the config of a Mistral model. All its layers have the attention window.
pub(super) fn mistral(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let defaults = Defaults { kv_heads: Some(8), ..DEFAULTS };
    // `sliding_window: null` disables the window; a missing field does not.
    let none = config.is_null("sliding_window");
    let window = match none {
        true => None,
        false => Some(count_or(config, "sliding_window", 4096, 1 << 30)?),
    };
    read(config, weights, &defaults, is_causal(config)?, window)
}

fn read(
    config: &JsonFile,
    weights: &WeightFiles,
    defaults: &Defaults,
    causal: bool,
    window: Option<usize>,
) -> Result<Box<dyn Transformer>, Error> {
    let sizes = DecoderSizes::read(config, defaults)?;
    let rotary = Rotary::read(config, sizes.head, 10_000.0, None)?;
    let bias = config.bool("attention_bias")?.unwrap_or(false);
    let traits = Traits {
        qkv_bias: bias,
        output_bias: bias,
        mlp_bias: config.bool("mlp_bias")?.unwrap_or(false),
        ..Traits::default()
    };
    let kind = LayerKind { attention: sizes.attention(causal, window), rotary: 0 };
    let kinds = vec![kind; sizes.layers];
    Ok(Box::new(Decoder::new(weights, sizes, traits, vec![rotary], kinds)?))
}
