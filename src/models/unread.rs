//! Parts of a model that the code of its architecture does not read: fields of `config.json` and tensors of the
//! checkpoint.
//!
//! If Vectile ignored a field that changes the vectors, it would return wrong vectors without a message. So each field
//! must be read, be listed as harmless ([`HARMLESS_FIELDS`]), or be switched off. Any other field is an error. A tensor
//! that nothing uses is reported at load, unless its name is listed as that of a head, a pooler or a buffer.

use serde_json::Value;

use crate::config::{JsonFile, brief};
use crate::error::Error;
use crate::weights::WeightFiles;

/// Fields that do not affect the hidden states of an architecture, unless the architecture reads them.
///
/// These fields come from transformers' configuration classes (versions 4.35, 4.57 and 5.24) and from the published
/// models' own code. The fields affect training, text generation, heads, tokenization, the choice of an implementation,
/// or nothing at all.
const HARMLESS_FIELDS: &[&str] = &[
    // These fields name the checkpoint and its origin.
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "auto_map",
    "base_model",
    "custom_pipelines",
    "dtype",
    "finetuning_task",
    "id2label",
    "label2id",
    "language",
    "license",
    "model_name",
    "model_type",
    "name",
    "num_labels",
    "problem_type",
    "sbert_ce_default_activation_function",
    "sentence_transformers",
    "task_specific_params",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    // These fields describe tokens and lengths. The shapes of the tensors give the numbers of rows in the tables, so
    // these fields are not needed.
    "bos_token",
    "bos_token_id",
    "cls_token",
    "cls_token_id",
    "eos_token",
    "eos_token_id",
    "mask_token",
    "mask_token_id",
    "max_length",
    "max_position_embeddings",
    "max_seq_length",
    "max_trained_positions",
    "model_max_length",
    "n_positions",
    "pad_token",
    "pad_token_id",
    "prefix",
    "sep_token",
    "sep_token_id",
    "tokenizer_class",
    "type_vocab_size",
    "unk_token",
    "unk_token_id",
    "vocab_size",
    // These fields affect only training.
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "classifier_dropout_prob",
    "dropout",
    "dropout_rate",
    "embd_pdrop",
    "embedding_dropout",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "init_std",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "load_trained_adapters",
    "lora_alpha",
    "lora_dropout_p",
    "lora_main_params_trainable",
    "lora_rank",
    "matryoshka_dimensions",
    "mlp_dropout",
    "moe_resid_pdrop",
    "num_loras",
    "pooler_dropout",
    "qa_dropout",
    "resid_pdrop",
    "router_aux_loss_coef",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "summary_first_dropout",
    "summary_last_dropout",
    "task_instructions",
    "tf_legacy_loss",
    "tie_weights_",
    // These fields choose an implementation, or the format of the results in Python.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "_flash_attn_2_enabled",
    "_output_attentions",
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "dense_seq_output",
    "deterministic_flash_attn",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "moe_impl",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_vocab_size_multiple",
    "pretraining_tp",
    "reference_compile",
    "repad_logits_with_grad",
    "return_dict",
    "scale_attn_weights",
    "torchscript",
    "unpad_inputs",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_memory_efficient_attention",
    "use_return_dict",
    "use_xentropy",
    // These fields affect poolers, heads and decoders.
    "add_pooling_layer",
    "classifier_activation",
    "classifier_bias",
    "classifier_pooling",
    "clf_pooling",
    "cross_attention_hidden_size",
    "decoder_bias",
    "decoder_start_token_id",
    "directionality",
    "emb_pooler",
    "final_logit_softcapping",
    "is_encoder_decoder",
    "legacy",
    "num_decoder_layers",
    "pooler_fc_size",
    "pooler_hidden_act",
    "pooler_hidden_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "scale_decoder_outputs",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    // These fields affect only text generation.
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    // transformers does not read these fields, which are left over from the first releases of ALBERT and Gemma.
    "_sliding_window_pattern",
    "down_scale_factor",
    "gap_size",
    "net_structure_type",
    "num_memory_blocks",
];

/// Fields within `rope_scaling` and `rope_parameters` that do not affect angles, unless the architecture reads them.
/// `rope_type` and `type` both name the kind of scaling, and only one of them is read. `finetuned` is a remark of the
/// authors.
const HARMLESS_ROPE_FIELDS: &[&str] = &["finetuned", "rope_type", "type"];

/// Returns an error for a field that may change vectors, was not read, and is not switched off. Call this function
/// after the config has been read.
///
/// # Errors
/// Returns [`Error::Unsupported`] for a field that may change vectors and was not read.
pub(super) fn check_fields(config: &JsonFile) -> Result<(), Error> {
    for (path, value) in config.unread() {
        let (outer, inner) = path.split_once('.').unwrap_or((&path, ""));
        let field = inner.rsplit('.').next().unwrap_or_default();
        let harmless = HARMLESS_FIELDS.contains(&outer) || HARMLESS_ROPE_FIELDS.contains(&field);
        if !harmless && !is_off(value) {
            let supported = "the field is unknown for this model_type and could change the vectors; if the model \
                             does not need it, remove it from the file";
            return Err(Error::unsupported(&config.name, path, brief(value), supported));
        }
    }
    Ok(())
}

/// Returns true if the value of a config field switches an option off.
///
/// Each option of a model's code adds something to a plain transformer. An option whose value is false, zero, an empty
/// list or an empty text adds nothing. `null` counts as a missing field. If false or zero means something else for a
/// field, the code of the architecture must read that field.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

/// The beginnings of tensor names that belong to heads, poolers and decoders. Each is compared with the whole name of a
/// tensor, and with the part of the name after the transformer's prefix.
const HARMLESS_TENSORS: &[&str] = &[
    "classifier.",
    "cls.",
    "decoder.",
    "discriminator_predictions.",
    "generator_lm_head.",
    "generator_predictions.",
    "head.",
    "lm_head.",
    "lm_predictions.",
    "mask_predictions.",
    "pooler.",
    "pre_classifier.",
    "predictions.",
    "qa_outputs.",
    "score.",
    "sop_classifier.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
];

/// The ends of the names of harmless tensors: buffers that transformers computes itself, and LoRA tensors of tasks.
const HARMLESS_ENDS: &[&str] = &[
    "attn.bias",
    "inv_freq",
    "lora_A",
    "lora_B",
    "masked_bias",
    "num_batches_tracked",
    "position_ids",
    "token_type_ids",
];

/// The names of projections that a model's own code applies to its hidden states.
const PROJECTIONS: &[&str] =
    &["linear.weight", "linear.bias", "projection.weight", "projection.bias"];

/// Returns a note about tensors that nothing uses, except tensors that are listed as harmless. Call this function after
/// the weights have been loaded or counted.
///
/// # Errors
/// Returns [`Error::Tensor`] for a projection of the hidden states that nothing uses, since vectors would be wrong
/// without the projection.
pub(crate) fn unused_tensors(weights: &WeightFiles) -> Result<Option<String>, Error> {
    let unused: Vec<String> =
        weights.unused().filter(|name| !is_harmless(name)).map(str::to_owned).collect();
    if let Some(name) = unused.iter().find(|name| PROJECTIONS.contains(&name.as_str())) {
        let problem = "is a projection of the hidden states that is not supported for this model_type; use the \
                       model as sentence-transformers saves it, with the projection as a Dense module";
        return Err(Error::tensor(weights.first_file(), name, problem));
    }
    Ok(match &unused[..] {
        [] => None,
        [name] => Some(format!("tensor `{name}` is not used; the vectors do not depend on it")),
        [name, ..] => Some(format!(
            "{} tensors are not used, for example `{name}`; the vectors do not depend on them",
            unused.len()
        )),
    })
}

fn is_harmless(name: &str) -> bool {
    // The prefix of the transformer's tensors has one or two parts, as in `bert.` and `0.auto_model.`.
    let rests = name.match_indices('.').take(2).map(|(dot, _)| &name[dot + 1..]);
    std::iter::once(name)
        .chain(rests)
        .any(|rest| HARMLESS_TENSORS.iter().any(|start| rest.starts_with(start)))
        || HARMLESS_ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: Value) -> JsonFile {
        let Value::Object(map) = value else { panic!("{value}") };
        JsonFile::new("config.json", map)
    }

    fn refusal(value: Value) -> Option<String> {
        check_fields(&config(value)).err().map(|error| error.to_string())
    }

    #[test]
    fn unknown_fields_are_refused_unless_they_are_off() {
        for off in
            [json!(null), json!(false), json!(0), json!(0.0), json!(""), json!([]), json!({})]
        {
            assert_eq!(refusal(json!({ "new_option": off })), None, "{off}");
        }
        for on in [json!(true), json!(1), json!(0.5), json!("relu"), json!([1]), json!({"a": 1})] {
            let message = refusal(json!({ "new_option": on })).unwrap();
            for part in ["config.json", "`new_option`", "remove it"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn fields_that_were_read_are_not_refused() {
        let config = config(json!({"new_option": 3, "rope_scaling": {"factor": 2, "beta": 1}}));
        config.usize("new_option").unwrap();
        config.object("rope_scaling").unwrap().unwrap().f64("factor").unwrap();
        let message = check_fields(&config).unwrap_err().to_string();
        assert!(message.contains("`rope_scaling.beta`"), "{message}");
        config.object("rope_scaling").unwrap().unwrap().f64("beta").unwrap();
        check_fields(&config).unwrap();
    }

    #[test]
    fn harmless_fields_are_listed_once() {
        let mut fields = HARMLESS_FIELDS.to_vec();
        fields.sort_unstable();
        fields.dedup();
        assert_eq!(fields.len(), HARMLESS_FIELDS.len());
    }

    #[test]
    fn heads_poolers_and_buffers_are_harmless() {
        for name in [
            "pooler.dense.weight",
            "bert.pooler.dense.bias",
            "0.auto_model.pooler.dense.weight",
            "cls.predictions.bias",
            "lm_head.weight",
            "embeddings.position_ids",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "decoder.block.0.layer.0.SelfAttention.q.weight",
        ] {
            assert!(is_harmless(name), "{name}");
        }
        for name in ["linear.weight", "encoder.layer.9.adapter.down.weight", "model.mtp.weight"] {
            assert!(!is_harmless(name), "{name}");
        }
    }
}
