//! Gemma 3's text model (Kamath et al. 2025, <https://arxiv.org/abs/2503.19786>) and EmbeddingGemma (Schechter Vera et
//! al. 2025, <https://arxiv.org/abs/2509.20354>). EmbeddingGemma is bidirectional.
//!
//! Five of every six layers have an attention window and their own rotary base. In a bidirectional model the window
//! extends half of `sliding_window` in each direction.

use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::attention::Attention;
use crate::models::Transformer;
use crate::models::blocks::decoder::{
    DEFAULTS, Decoder, DecoderSizes, Defaults, LayerKind, Traits, sliding_layers,
};
use crate::models::blocks::fields::count_or;
use crate::models::blocks::rotary::Rotary;
use crate::weights::WeightFiles;

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    if config.has("attn_logit_softcapping") {
        return Err(config.unsupported(
            "attn_logit_softcapping",
            "only null is supported, which means that attention scores have no upper limit",
        ));
    }
    let defaults = Defaults {
        kv_heads: Some(4),
        head: Some(256),
        activation_field: "hidden_activation",
        activation: "gelu_pytorch_tanh",
        ..DEFAULTS
    };
    let sizes = DecoderSizes::read(config, &defaults)?;
    let bias = config.bool("attention_bias")?.unwrap_or(false);
    let traits = Traits {
        qkv_bias: bias,
        output_bias: bias,
        head_norms: true,
        gemma: true,
        f16_unsafe: true,
        ..Traits::default()
    };
    let scalar = count_or(config, "query_pre_attn_scalar", 256, 1 << 20)?;
    let scale = 1.0 / (scalar as f32).sqrt();
    let [full, window] = attentions(config, &sizes)?;
    let every = count_or(config, "sliding_window_pattern", 6, 1000)?;
    let sliding = sliding_layers(config, sizes.layers, |i| !(i + 1).is_multiple_of(every))?;
    let kinds = sliding
        .iter()
        .map(|sliding| LayerKind {
            attention: Attention { scale, ..if *sliding { window } else { full } },
            rotary: usize::from(*sliding),
        })
        .collect();
    let rotaries = rotaries(config, sizes.head)?;
    Ok(Box::new(Decoder::new(weights, sizes, traits, rotaries, kinds)?))
}

/// Returns the attention of layers without a window, and of layers with a window.
fn attentions(config: &JsonFile, sizes: &DecoderSizes) -> Result<[Attention; 2], Error> {
    let window = count_or(config, "sliding_window", 4096, 1 << 30)?;
    let causal = config.bool("is_causal")?.unwrap_or(true);
    if !config.bool("use_bidirectional_attention")?.unwrap_or(false) {
        return Ok([None, Some(window)].map(|window| sizes.attention(causal, window)));
    }
    // transformers uses half of `sliding_window` as the bound of the distance. The bound is exclusive if `is_causal` is
    // true, and inclusive if it is false.
    let reach = if causal { window / 2 } else { window / 2 + 1 };
    Ok([None, Some(reach)].map(|window| sizes.attention(false, window)))
}

/// Returns the rotary positions of layers without a window, and of layers with a window.
fn rotaries(config: &JsonFile, head: usize) -> Result<Vec<Rotary>, Error> {
    let given = config.object("rope_parameters")?;
    let of = |kind: &str| given.as_ref().map(|given| given.object(kind)).transpose();
    let mut full = of("full_attention")?.flatten();
    let sliding = of("sliding_attention")?.flatten();
    // In configs written by transformers 4, `rope_scaling` applies only to layers without a window.
    if let Some(mut scaling) = config.object("rope_scaling")? {
        if let Some(full) = full {
            full.mark_read(&full.map.keys().map(String::as_str).collect::<Vec<_>>());
            let known: Vec<_> =
                full.map.into_iter().filter(|(field, _)| !scaling.has(field)).collect();
            scaling.map.extend(known);
        }
        full = Some(scaling);
    }
    let whole = config.f64("rope_theta")?.unwrap_or(1_000_000.0);
    let local = config.f64("rope_local_base_freq")?.unwrap_or(10_000.0);
    Ok(vec![
        Rotary::of(config, full.as_ref(), head, whole)?,
        Rotary::of(config, sliding.as_ref(), head, local)?,
    ])
}
