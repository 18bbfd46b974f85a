//! jina-reranker-v2-base-multilingual: XLM-RoBERTa with a position table, and with the tensor names of Jina's flash
//! attention implementation.
//!
//! Jina's implementation computes the same attention as XLM-RoBERTa. Like Jina's implementation, this module requires
//! that the activation is a variant of GELU.

use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{AbsoluteEncoder, LayerNames};
use crate::models::blocks::embeddings::Embeddings;
use crate::models::roberta;
use crate::weights::WeightFiles;

/// The class names of the encoder's Python code.
pub(super) const CODE: &[&str] = &[
    "jinaai/jina-reranker-v2-base-multilingual--configuration_xlm_roberta.XLMRobertaFlashConfig",
    "jinaai/jina-reranker-v2-base-multilingual--modeling_xlm_roberta.XLMRobertaModel",
    "configuration_xlm_roberta.XLMRobertaFlashConfig",
    "modeling_xlm_roberta.XLMRobertaModel",
];

/// The class names of the Python code of the head, which is equivalent to XLM-RoBERTa's head.
pub(super) const HEAD: &[&str] = &[
    "jinaai/jina-reranker-v2-base-multilingual--modeling_xlm_roberta.XLMRobertaForSequenceClassification",
    "modeling_xlm_roberta.XLMRobertaForSequenceClassification",
];

const LAYER: LayerNames = LayerNames {
    qkv: &["mixer.Wqkv"],
    output: "mixer.out_proj",
    attention_norm: "norm1",
    up: "mlp.fc1",
    down: "mlp.fc2",
    norm: "norm2",
};

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let typed = config.usize("type_vocab_size")? != Some(0);
    let encoder = roberta::encoder(config, weights, typed)?;
    if !matches!(encoder.sizes.activation, Activation::Gelu | Activation::GeluTanh) {
        let supported = "supported: gelu, gelu_new, gelu_fast and gelu_pytorch_tanh";
        return Err(config.unsupported("hidden_act", supported));
    }
    Ok(Box::new(AbsoluteEncoder {
        layers: (0..encoder.sizes.layers).map(|i| format!("encoder.layers.{i}")).collect(),
        names: LAYER,
        embeddings: Embeddings { norm: "emb_ln", ..encoder.embeddings },
        ..encoder
    }))
}
