//! The encoder of GTE v1.5 (Zhang et al. 2024, <https://arxiv.org/abs/2407.19669>): gte-base and
//! gte-large-en-v1.5, gte-multilingual-base, stella_en_400M_v5, snowflake-arctic-embed-m-v2.0.
//!
//! GTE v1.5 is BERT with rotary positions and GEGLU. The second half of `up_gate_proj` is the gate of the first half.
//! The `model_type` is `new` on the Hub and `gte` in transformers; the tensor names are the same in both.

use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::embeddings::WORDS;
use crate::models::blocks::fields::epsilon;
use crate::models::blocks::rotary::Rotary;
use crate::models::blocks::rotary_encoder::{
    Biases, Positions, RotaryEncoder, TensorNames, refuse_options, table_sizes,
};
use crate::models::blocks::sizes::{EncoderSizes, FIELDS};
use crate::weights::{Gate, WeightFiles};

/// The class names of the Python code on the Hub. Some models have a copy of that code in their own repository.
pub(super) const CODE: &[&str] = &[
    "Alibaba-NLP/new-impl--configuration.NewConfig",
    "Alibaba-NLP/new-impl--modeling.NewModel",
    "configuration.NewConfig",
    "modeling.NewModel",
    "configuration_hf_alibaba_nlp_gte.GteConfig",
    "modeling_hf_alibaba_nlp_gte.GteModel",
];

const NAMES: TensorNames = TensorNames {
    embeddings_norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    qkv: &["attention.qkv_proj"],
    output: "attention.o_proj",
    attention_norm: "attn_ln",
    up: &["mlp.up_gate_proj"],
    down: "mlp.down_proj",
    norm: "mlp_ln",
};

const SEPARATE: &[&str] = &["attention.q_proj", "attention.k_proj", "attention.v_proj"];

/// Reads a config with the `model_type` of the Hub, and checks that the sizes fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    with_rope_theta(config, weights, 10_000.0)
}

/// Reads a config with the `model_type` of transformers. The default of `rope_theta` differs from the default in the
/// Hub's code.
pub(super) fn read_native(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let theta = if config.has("auto_map") { 10_000.0 } else { 160_000.0 };
    with_rope_theta(config, weights, theta)
}

fn with_rope_theta(
    config: &JsonFile,
    weights: &WeightFiles,
    theta: f64,
) -> Result<Box<dyn Transformer>, Error> {
    if config.str("position_embedding_type")?.is_some_and(|kind| kind != "rope") {
        return Err(config.unsupported("position_embedding_type", "supported: rope"));
    }
    if config.str("layer_norm_type")?.is_some_and(|kind| kind != "layer_norm") {
        return Err(config.unsupported("layer_norm_type", "supported: layer_norm"));
    }
    refuse_options(config, &["logn_attention_scale"])?;
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let rotary = Rotary::read(config, sizes.head(), theta, None)?;
    let prefix = weights.prefix_of(WORDS)?;
    let typed = config.usize("type_vocab_size")?.unwrap_or(1) > 0;
    let (rows, types) = table_sizes(weights, &prefix, typed)?;
    let packed = config.bool("pack_qkv")?.unwrap_or(true);
    Ok(Box::new(RotaryEncoder {
        prefix,
        sizes,
        rows,
        types,
        eps: epsilon(config, "layer_norm_eps", 1e-12)?,
        positions: Positions::Rotary(rotary),
        names: if packed { NAMES } else { TensorNames { qkv: SEPARATE, ..NAMES } },
        more_norms: None,
        biases: Biases { qkv: true, output: true, up: false, down: true },
        gate: Some(Gate::Second),
        experts: None,
        tasks: None,
        // Activations of stella_en_400M_v5 are known to exceed the range of f16.
        f16: F16Facts { activations_unsafe: true },
    }))
}
