//! NomicBERT (Nussbaum et al. 2024, <https://arxiv.org/abs/2402.01613>): nomic-embed-text v1 and v1.5,
//! and v2-moe (Nussbaum and Duderstadt 2025, <https://arxiv.org/abs/2502.07972>).
//!
//! NomicBERT is BERT with rotary positions and SwiGLU, mostly without biases. The result of `fc12` is the gate of the
//! result of `fc11`. v2-moe has GELU without gates, and experts in every second layer. The code on the Hub uses GPT-2's
//! names of config fields, and transformers uses BERT's names. The tensor names are the same in both.
//!
//! With `rotary_scaling_factor`, the wavelengths of a text longer than `max_trained_positions` grow with the length of
//! that text. The code on the Hub uses the length of the batch's longest text instead.

use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::Transformer;
use crate::models::blocks::embeddings::WORDS;
use crate::models::blocks::experts::Experts;
use crate::models::blocks::fields::{epsilon, hidden_act};
use crate::models::blocks::rotary::{Rotary, Scaling};
use crate::models::blocks::rotary_encoder::{
    Biases, Positions, RotaryEncoder, TensorNames, refuse_options, table_sizes,
};
use crate::models::blocks::sizes::{EncoderSizes, FIELDS, Fields};
use crate::weights::{Gate, WeightFiles};

/// The class names of the Python code on the Hub.
pub(super) const CODE: &[&str] = &[
    "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
    "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    "configuration_hf_nomic_bert.NomicBertConfig",
    "modeling_hf_nomic_bert.NomicBertModel",
];

const HUB_FIELDS: Fields = Fields {
    hidden: "n_embd",
    heads: "n_head",
    intermediate: "n_inner",
    layers: "n_layer",
    activation: "activation_function",
};

const NAMES: TensorNames = TensorNames {
    embeddings_norm: "emb_ln",
    layers: "encoder.layers",
    qkv: &["attn.Wqkv"],
    output: "attn.out_proj",
    attention_norm: "norm1",
    up: &["mlp.fc12", "mlp.fc11"],
    down: "mlp.fc2",
    norm: "norm2",
};

/// The tensor names of a model without gates.
const PLAIN: TensorNames = TensorNames { up: &["mlp.fc1"], ..NAMES };

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let prefix = weights.prefix_of(WORDS)?;
    let (rows, types) = table_sizes(weights, &prefix, config.usize("type_vocab_size")? != Some(0))?;
    let model = if config.has("n_embd") { hub(config)? } else { native(config)? };
    Ok(Box::new(RotaryEncoder { prefix, rows, types, ..model }))
}

fn model(sizes: EncoderSizes, eps: f32, rotary: Rotary, biases: Biases) -> RotaryEncoder {
    RotaryEncoder {
        prefix: String::new(),
        sizes,
        rows: 0,
        types: None,
        eps,
        positions: Positions::Rotary(rotary),
        names: NAMES,
        more_norms: None,
        biases,
        gate: Some(Gate::First),
        experts: None,
        tasks: None,
        f16: F16Facts { activations_unsafe: false },
    }
}

/// Reads a config that has the field names of transformers.
fn native(config: &JsonFile) -> Result<RotaryEncoder, Error> {
    let sizes = EncoderSizes::with(config, &FIELDS, hidden_act(config, "hidden_act", "silu")?)?;
    if config.usize("head_dim")?.is_some_and(|head| head != sizes.head()) {
        let supported = format!(
            "only {} is supported, which is hidden_size / num_attention_heads",
            sizes.head()
        );
        return Err(config.unsupported("head_dim", supported));
    }
    let rotary = Rotary::read(config, sizes.head(), 1000.0, None)?;
    let none = Biases { qkv: false, output: false, up: false, down: false };
    Ok(model(sizes, epsilon(config, "layer_norm_eps", 1e-12)?, rotary, none))
}

/// Reads a config that has the field names of the code on the Hub.
fn hub(config: &JsonFile) -> Result<RotaryEncoder, Error> {
    refuse_options(
        config,
        &[
            "prenorm",
            "parallel_block",
            "parallel_block_tied_norm",
            "use_rms_norm",
            "causal",
            "rotary_head_dim",
            "rotary_emb_scale_base",
            "expert_choice_router",
            "num_shared_experts",
            "moe_normalize_expert_weights",
        ],
    )?;
    let (activation, gated) = match config.str("activation_function")?.unwrap_or("gelu") {
        "swiglu" => (Activation::Silu, true),
        "geglu" => (Activation::Gelu, true),
        "glu" => (Activation::Sigmoid, true),
        "gelu" => (Activation::Gelu, false),
        _ => {
            let supported = "supported: swiglu, geglu, glu and gelu";
            return Err(config.unsupported("activation_function", supported));
        }
    };
    let experts = experts(config, gated)?;
    let sizes = EncoderSizes::with(config, &HUB_FIELDS, activation)?;
    if config.usize("num_heads_kv")?.is_some_and(|heads| heads != sizes.heads) {
        return Err(config.unsupported(
            "num_heads_kv",
            "it must equal `n_head`, because every head of queries needs a head of keys and values \
             of its own",
        ));
    }
    let fraction = config.f64("rotary_emb_fraction")?.unwrap_or(0.0);
    if !(fraction > 0.0 && fraction <= 1.0) {
        let supported = "only a number above 0 and at most 1 is supported, because the model needs \
                         rotary positions";
        return Err(config.unsupported("rotary_emb_fraction", supported));
    }
    let scaling = match config.f64("rotary_scaling_factor")? {
        None | Some(0.0) => Scaling::None,
        Some(factor) if factor.is_finite() && factor >= 1.0 => Scaling::Dynamic {
            factor,
            trained: match config.usize("max_trained_positions")? {
                Some(0) => {
                    return Err(
                        config.error("max_trained_positions", "is 0; expected: a number above 0")
                    );
                }
                trained => trained.unwrap_or(2048),
            },
        },
        Some(_) => {
            return Err(config.unsupported(
                "rotary_scaling_factor",
                "supported: null, 0, or a number of at least 1",
            ));
        }
    };
    let rotary = Rotary {
        dims: (sizes.head() as f64 * fraction) as usize,
        theta: config.f64("rotary_emb_base")?.unwrap_or(10_000.0),
        interleaved: config.bool("rotary_emb_interleaved")?.unwrap_or(false),
        scaling,
    };
    rotary.check(config, "rotary_emb_base")?;
    let bias = |field: &str| Ok::<bool, Error>(config.bool(field)?.unwrap_or(true));
    let biases = Biases {
        qkv: bias("qkv_proj_bias")?,
        output: bias("qkv_proj_bias")?,
        up: bias("mlp_fc1_bias")?,
        down: bias("mlp_fc2_bias")?,
    };
    let model = model(sizes, epsilon(config, "layer_norm_epsilon", 1e-5)?, rotary, biases);
    Ok(match gated {
        true => RotaryEncoder { experts, ..model },
        false => RotaryEncoder { experts, names: PLAIN, gate: None, ..model },
    })
}

/// Returns the numbers of experts, if `moe_every_n_layers` says that some layers have experts.
fn experts(config: &JsonFile, gated: bool) -> Result<Option<Experts>, Error> {
    let every = match config.usize("moe_every_n_layers")? {
        None | Some(0) => {
            config.mark_read(&["num_experts", "moe_top_k", "ffn_div"]);
            return Ok(None);
        }
        Some(every) => every,
    };
    if gated {
        let supported = "a model with experts supports only gelu";
        return Err(config.unsupported("activation_function", supported));
    }
    if config.usize("ffn_div")?.is_some_and(|parts| parts != 1) {
        return Err(config.unsupported(
            "ffn_div",
            "only 1 is supported: the hidden layer of each expert must have `n_inner` values",
        ));
    }
    Experts::read(config, every).map(Some)
}
