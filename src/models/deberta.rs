//! DeBERTa v2 and v3 (He et al. 2021, <https://arxiv.org/abs/2111.09543>). Published models: mxbai-rerank v1 and other
//! cross-encoders, and encoders for classification.
//!
//! DeBERTa is BERT with disentangled attention, usually without absolute positions and token types. deberta-v2-xlarge
//! has a convolution beside its first layer, which is not supported.

use serde_json::Value;

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{
    AbsoluteEncoder, BERT_LAYER, LayerNames, check_options,
};
use crate::models::blocks::disentangled::{Disentangled, TABLE};
use crate::models::blocks::embeddings::{Embeddings, Projection, WORDS};
use crate::models::blocks::fields::{count_or, epsilon};
use crate::models::blocks::sizes::{EncoderSizes, FIELDS};
use crate::weights::WeightFiles;

const LAYER: LayerNames = LayerNames {
    qkv: &["attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"],
    ..BERT_LAYER
};

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    check_options(config)?;
    if positive(config, "conv_kernel_size")?.is_some() {
        return Err(config.unsupported(
            "conv_kernel_size",
            "only 0 is supported, because Vectile does not compute this model's convolution layer",
        ));
    }
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let head = sizes.hidden / sizes.heads;
    if config.usize("attention_head_size")?.is_some_and(|size| size != head) {
        let supported =
            format!("only {head} is supported, which is hidden_size / num_attention_heads");
        return Err(config.unsupported("attention_head_size", supported));
    }
    let prefix = weights.prefix_of(WORDS)?;
    let embeddings = embeddings(config, weights, &prefix, sizes.hidden)?;
    let [keys, queries] = terms(config)?;
    let relative = if config.bool("relative_attention")?.unwrap_or(false) && (keys || queries) {
        Some(disentangled(config, weights, &prefix, [keys, queries])?)
    } else {
        let relative =
            ["max_relative_positions", "norm_rel_ebd", "position_buckets", "share_att_key"];
        config.mark_read(&relative);
        None
    };
    // `conv_act` and `conv_groups` describe a convolution layer; a check of `conv_kernel_size` refuses models with such
    // a layer.
    config.mark_read(&["conv_act", "conv_groups"]);
    let eps = epsilon(config, "layer_norm_eps", 1e-7)?;
    // transformers counts the relative products even if `relative_attention` is false, so the scale always depends on
    // `pos_att_type`.
    let products = 1 + usize::from(keys) + usize::from(queries);
    Ok(Box::new(AbsoluteEncoder {
        names: LAYER,
        relative,
        scale: 1.0 / ((head * products) as f32).sqrt(),
        ..AbsoluteEncoder::bert(prefix, sizes, embeddings, eps)
    }))
}

/// Reads a number above zero. Zero and negative numbers count as a missing field, as in transformers.
fn positive(config: &JsonFile, field: &str) -> Result<Option<usize>, Error> {
    match config.raw(field).and_then(Value::as_i64) {
        Some(..=0) => Ok(None),
        _ => config.usize(field),
    }
}

/// Returns whether `pos_att_type` contains `c2p`, and whether it contains `p2c`. `c2p` is the term q · (key of the
/// distance), and `p2c` is the term k · (query of the distance).
fn terms(config: &JsonFile) -> Result<[bool; 2], Error> {
    let field = "pos_att_type";
    let lower;
    let names: Vec<&str> = match config.raw(field) {
        Some(Value::String(joined)) => {
            lower = joined.to_lowercase();
            lower.split('|').map(str::trim).collect()
        }
        _ => config.strings(field)?.unwrap_or_default(),
    };
    if names.iter().any(|name| !["c2p", "p2c"].contains(name)) {
        return Err(config.unsupported(field, "supported: c2p and p2c"));
    }
    Ok(["c2p", "p2c"].map(|term| names.contains(&term)))
}

fn disentangled(
    config: &JsonFile,
    weights: &WeightFiles,
    prefix: &str,
    [keys, queries]: [bool; 2],
) -> Result<Disentangled, Error> {
    let most = 16384;
    let max = match positive(config, "max_relative_positions")? {
        Some(_) => "max_relative_positions",
        None => "max_position_embeddings",
    };
    let max_distance = count_or(config, max, 512, most)?;
    let buckets = match positive(config, "position_buckets")? {
        Some(_) => Some(count_or(config, "position_buckets", 1, most)?),
        None => None,
    };
    let norms = config.str("norm_rel_ebd")?.unwrap_or("none").to_lowercase();
    let norms: Vec<&str> = norms.split('|').map(str::trim).collect();
    if norms.iter().any(|norm| !["none", "layer_norm"].contains(norm)) {
        return Err(config.unsupported("norm_rel_ebd", "supported: layer_norm and none"));
    }
    let disentangled = Disentangled {
        span: buckets.unwrap_or(max_distance),
        max_distance: buckets.map(|_| max_distance),
        normed: norms.contains(&"layer_norm"),
        shared: config.bool("share_att_key")?.unwrap_or(false),
        keys,
        queries,
    };
    let rows = weights.shape(&format!("{prefix}{TABLE}"))?.first().copied().unwrap_or(0);
    if rows != 2 * disentangled.span {
        let field = if buckets.is_some() { "position_buckets" } else { max };
        let problem = format!(
            "is {}, which needs {} rows in {TABLE}, but the file has {rows}",
            disentangled.span,
            2 * disentangled.span
        );
        return Err(config.error(field, problem));
    }
    disentangled.check(config, max)
}

fn embeddings(
    config: &JsonFile,
    weights: &WeightFiles,
    prefix: &str,
    hidden: usize,
) -> Result<Embeddings, Error> {
    let types = positive(config, "type_vocab_size")?.is_some();
    let mut embeddings = if config.bool("position_biased_input")?.unwrap_or(true) {
        Embeddings::read(config, weights, prefix, hidden, types)?
    } else {
        Embeddings::without_positions(weights, prefix, hidden, types)?
    };
    embeddings.width = count_or(config, "embedding_size", hidden, 65536)?;
    if embeddings.width != hidden {
        let (name, bias, normed) = ("embeddings.embed_proj", false, true);
        embeddings.projection = Some(Projection { name, bias, normed });
    }
    Ok(embeddings)
}
