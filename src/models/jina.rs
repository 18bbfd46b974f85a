//! The encoders of jina-embeddings.
//!
//! **v2** (Günther et al. 2023, <https://arxiv.org/abs/2310.19923>) is BERT with ALiBi and a gated feed-forward whose
//! first half is the gate. The variant for code normalises queries and keys, has two norms after attention, and has its
//! gate in the second half. Both variants have BERT's `model_type`, so Vectile distinguishes them by `auto_map`.
//!
//! **v3** (Sturua et al. 2024, <https://arxiv.org/abs/2409.10173>) is XLM-RoBERTa with rotary positions from 0 and no
//! position table. Its `model_type` is `jina_embeddings_v3` in transformers, and `xlm-roberta` with custom code on the
//! Hub. The variant on the Hub has a LoRA for each task. The LoRA of the chosen task is added to the weights at load.
//! If no task is chosen, no LoRA is added, as in a call of `encode` without `task`.

use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::Transformer;
use crate::models::blocks::embeddings::WORDS;
use crate::models::blocks::fields::{count, epsilon, hidden_act};
use crate::models::blocks::rotary::Rotary;
use crate::models::blocks::rotary_encoder::{
    Biases, LoraTasks, MoreNorms, Positions, RotaryEncoder, TensorNames, refuse_options,
    table_sizes,
};
use crate::models::blocks::sizes::{EncoderSizes, FIELDS};
use crate::weights::{Gate, WeightFiles};

/// The class names of the Python code of jina-embeddings-v2.
pub(super) const V2: &[&str] = &[
    "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig",
    "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel",
];

/// The class names of the Python code of jina-embeddings-v2-base-code.
pub(super) const V2_CODE: &[&str] = &[
    "jinaai/jina-bert-v2-qk-post-norm--configuration_bert.JinaBertConfig",
    "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel",
];

/// The class names of the Python code of jina-embeddings-v3.
pub(super) const V3: &[&str] = &[
    "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig",
    "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA",
    // `custom_st.Transformer` is the class of the first module in modules.json. This class is sentence-transformers'
    // Transformer, extended so that it passes the task to the model.
    "custom_st.Transformer",
];

const NAMES: TensorNames = TensorNames {
    embeddings_norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: &["mlp.gated_layers"],
    down: "mlp.wo",
    norm: "mlp.layernorm",
};

const CODE_NAMES: TensorNames = TensorNames {
    up: &["mlp.up_gated_layer"],
    down: "mlp.down_layer",
    norm: "layer_norm_2",
    ..NAMES
};

const CODE_NORMS: MoreNorms = MoreNorms {
    queries_keys: ["attention.self.layer_norm_q", "attention.self.layer_norm_k"],
    after_attention: "layer_norm_1",
};

const V3_NAMES: TensorNames = TensorNames {
    embeddings_norm: "emb_ln",
    layers: "encoder.layers",
    qkv: &["mixer.Wqkv"],
    output: "mixer.out_proj",
    attention_norm: "norm1",
    up: &["mlp.fc1"],
    down: "mlp.fc2",
    norm: "norm2",
};

/// Reads the config of jina-embeddings-v2.
pub(super) fn read_v2(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    Ok(Box::new(v2(config, weights)?))
}

/// Reads the config of jina-embeddings-v2-base-code.
pub(super) fn read_v2_code(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let model = v2(config, weights)?;
    let head = model.sizes.head();
    if !head.is_multiple_of(4) {
        let supported =
            format!("each head gets {head} values, but this number must be a multiple of 4");
        return Err(config.unsupported("num_attention_heads", supported));
    }
    Ok(Box::new(RotaryEncoder {
        names: CODE_NAMES,
        more_norms: Some(CODE_NORMS),
        gate: Some(Gate::Second),
        ..model
    }))
}

fn v2(config: &JsonFile, weights: &WeightFiles) -> Result<RotaryEncoder, Error> {
    if config.str("position_embedding_type")? != Some("alibi") {
        return Err(config.unsupported("position_embedding_type", "supported: alibi"));
    }
    refuse_options(config, &["is_decoder", "add_cross_attention"])?;
    let activation = match config.str("feed_forward_type")?.unwrap_or("original") {
        "geglu" => Activation::Gelu,
        "reglu" => Activation::Relu,
        _ => {
            let supported = "supported: geglu and reglu";
            return Err(config.unsupported("feed_forward_type", supported));
        }
    };
    // `feed_forward_type` names the activation of the gate. `hidden_act` has no effect, but must be a known name.
    hidden_act(config, "hidden_act", "gelu")?;
    let sizes = EncoderSizes::with(config, &FIELDS, activation)?;
    let prefix = weights.prefix_of(WORDS)?;
    let (rows, types) = table_sizes(weights, &prefix, true)?;
    Ok(RotaryEncoder {
        prefix,
        sizes,
        rows,
        types,
        eps: epsilon(config, "layer_norm_eps", 1e-12)?,
        positions: Positions::Alibi,
        names: NAMES,
        more_norms: None,
        biases: Biases { qkv: true, output: true, up: false, down: true },
        gate: Some(Gate::First),
        experts: None,
        tasks: None,
        f16: F16Facts { activations_unsafe: false },
    })
}

/// Reads the config of jina-embeddings-v3, with the config fields of transformers or of the Hub.
pub(super) fn read_v3(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    if config.str("position_embedding_type")?.is_some_and(|kind| kind != "rotary") {
        return Err(config.unsupported("position_embedding_type", "supported: rotary"));
    }
    refuse_options(config, &["is_decoder", "add_cross_attention", "use_reg_tokens"])?;
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let theta = if config.has("rotary_emb_base") { "rotary_emb_base" } else { "rope_theta" };
    let base = config.f64(theta)?.unwrap_or(20_000.0);
    let rotary = Rotary::read(config, sizes.head(), base, None)?;
    rotary.check(config, theta)?;
    let prefix = weights.prefix_of("emb_ln.weight")?;
    let (rows, types) = table_sizes(weights, &prefix, config.usize("type_vocab_size")? != Some(0))?;
    Ok(Box::new(RotaryEncoder {
        prefix,
        sizes,
        rows,
        types,
        eps: epsilon(config, "layer_norm_eps", 1e-5)?,
        positions: Positions::Rotary(rotary),
        names: V3_NAMES,
        more_norms: None,
        biases: Biases { qkv: true, output: true, up: true, down: true },
        gate: None,
        experts: None,
        tasks: tasks(config)?,
        f16: F16Facts { activations_unsafe: false },
    }))
}

/// Returns the tasks of jina-embeddings-v3; `None` if the config names none.
fn tasks(config: &JsonFile) -> Result<Option<LoraTasks>, Error> {
    let Some(names) = config.strings("lora_adaptations")? else { return Ok(None) };
    let rank = count(config, "lora_rank", 65536)?;
    let alpha = config.f64("lora_alpha")?.unwrap_or(1.0);
    if !alpha.is_finite() {
        return Err(config.error("lora_alpha", "is not a finite number"));
    }
    let scale = (alpha / rank as f64) as f32;
    let names = names.into_iter().map(str::to_owned).collect();
    Ok(Some(LoraTasks { names, rank, scale, chosen: None }))
}
