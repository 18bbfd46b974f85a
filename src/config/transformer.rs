//! Reads the transformer's `config.json`, and the `sentence_*_config.json` in the same directory.

use crate::config::modules::MODULES;
use crate::config::{JsonFile, PoolingMode};
use crate::error::Error;
use crate::files::ModelFiles;

/// The possible names of the settings file. The first of these files that exists and is not empty is read.
const SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// The two possible names of the field that holds the tokenizer's arguments.
const TOKENIZER_ARGUMENTS: [&str; 2] = ["processor_kwargs", "tokenizer_args"];

/// The tokenizer's arguments that Vectile supports. All arguments after the first two replace fields of
/// `tokenizer_config.json`.
const TOKENIZER_FIELDS: [&str; 10] = [
    "model_max_length",
    "use_fast",
    "padding_side",
    "truncation_side",
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
];

/// Returns the arguments that `sentence_bert_config.json` passes to the tokenizer. As in sentence-transformers,
/// `sentence_bert_config.json` is ignored if there is no `modules.json`.
pub(crate) fn tokenizer_arguments(
    files: &ModelFiles,
    prefix: &str,
) -> Result<Option<JsonFile>, Error> {
    if !files.exists(MODULES)? {
        return Ok(None);
    }
    for name in SETTINGS {
        let file = JsonFile::load(files, &format!("{prefix}{name}"))?;
        let Some(file) = file.filter(|file| !file.map.is_empty()) else { continue };
        for field in TOKENIZER_ARGUMENTS {
            if let Some(arguments) = file.object(field)? {
                return Ok(Some(arguments));
            }
        }
        return Ok(None);
    }
    Ok(None)
}

pub(super) fn load(files: &ModelFiles, prefix: &str) -> Result<JsonFile, Error> {
    let name = format!("{prefix}config.json");
    if let Some(config) = JsonFile::load(files, &name)? {
        return Ok(config);
    }
    let adapter = format!("{prefix}adapter_config.json");
    if files.exists(&adapter)? {
        let problem = "is a PEFT adapter without its base model; merge the adapter into the base model \
                       first (`model.merge_and_unload().save_pretrained(dir)`)";
        return Err(Error::file(adapter, problem));
    }
    let problem = match files.other_weights(prefix) {
        Some(other) => format!("is missing, and {other}"),
        None => "is missing; give the directory of a sentence-transformers model, which holds config.json, tokenizer.json and model.safetensors. A static model of model2vec needs a config.json with {\"model_type\": \"model2vec\"}".to_owned(),
    };
    Err(Error::file(name, problem))
}

/// The output that a transformer must compute for a kind of model, and the settings that this kind allows.
pub(super) struct Gives {
    task: &'static str,
    output: &'static str,
    /// The name of the field in which transformers returns this output.
    returned: &'static str,
    /// True if settings may give queries and documents separate maximum lengths.
    sides: bool,
    /// True if a chat template may render texts as messages.
    messages: bool,
}

/// The transformer computes hidden states, for dense vectors.
pub(super) const TOKEN_EMBEDDINGS: Gives = Gives {
    task: "feature-extraction",
    output: "token_embeddings",
    returned: "last_hidden_state",
    sides: false,
    messages: false,
};

/// The transformer computes hidden states, for multi-vector encoders.
pub(super) const TOKEN_VECTORS: Gives = Gives { sides: true, ..TOKEN_EMBEDDINGS };

/// The model computes scores of a classification head, for rerankers.
pub(super) const SCORES: Gives = Gives {
    task: "sequence-classification",
    output: "scores",
    returned: "logits",
    sides: false,
    messages: true,
};

/// The model computes logits of the next token over the vocabulary, for rerankers that are language models.
pub(super) const NEXT_TOKEN: Gives =
    Gives { task: "text-generation", output: "causal_logits", ..SCORES };

/// The model computes logits of each token over the vocabulary, for sparse encoders.
pub(super) const TOKEN_LOGITS: Gives = Gives {
    task: "fill-mask",
    output: "token_embeddings",
    returned: "logits",
    sides: false,
    messages: false,
};

pub(super) fn settings(
    files: &ModelFiles,
    prefix: &str,
    gives: &Gives,
) -> Result<Option<JsonFile>, Error> {
    for name in SETTINGS {
        let file = JsonFile::load(files, &format!("{prefix}{name}"))?;
        if let Some(file) = file.filter(|file| !file.map.is_empty()) {
            check_settings(&file, gives)?;
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Returns an error for a setting that Vectile does not support and that would change the vectors.
fn check_settings(file: &JsonFile, gives: &Gives) -> Result<(), Error> {
    let expected = [("transformer_task", gives.task), ("module_output_name", gives.output)];
    for (field, only) in expected {
        if file.str(field)?.is_some_and(|value| value != only) {
            return Err(file.unsupported(field, format!("supported: {only}")));
        }
    }
    for field in ["query_length", "document_length", "query_expansion"] {
        if !gives.sides && file.has(field) {
            return Err(file.unsupported(
                field,
                "this field belongs to multi-vector models, and this model gives one vector per \
                 text; remove the field",
            ));
        }
    }
    if file.has("tokenizer_name_or_path") {
        return Err(file.unsupported(
            "tokenizer_name_or_path",
            "only a tokenizer.json beside config.json is supported",
        ));
    }
    let harmless: [(&str, &[&str]); 7] = [
        ("processor_kwargs", &TOKENIZER_FIELDS),
        ("tokenizer_args", &TOKENIZER_FIELDS),
        // The arguments in the next list do not change the result. The caller chooses the dtype and the device. stella
        // and gte request other attention implementations and unpadding, which compute the same vectors.
        (
            "model_kwargs",
            &[
                "torch_dtype",
                "dtype",
                "attn_implementation",
                "use_safetensors",
                "add_pooling_layer",
                "device_map",
                "low_cpu_mem_usage",
            ],
        ),
        (
            "model_args",
            &[
                "torch_dtype",
                "dtype",
                "attn_implementation",
                "use_safetensors",
                "add_pooling_layer",
                "device_map",
                "low_cpu_mem_usage",
            ],
        ),
        ("config_kwargs", &["use_cache", "use_memory_efficient_attention", "unpad_inputs"]),
        ("config_args", &["use_cache", "use_memory_efficient_attention", "unpad_inputs"]),
        ("processing_kwargs", &["image", "audio", "video", "chat_template"]),
    ];
    for (field, known) in harmless {
        let Some(arguments) = file.object(field)? else { continue };
        let always = ["trust_remote_code", "revision"];
        let unknown =
            |key: &&String| !known.contains(&key.as_str()) && !always.contains(&key.as_str());
        if let Some(key) = arguments.map.keys().find(unknown) {
            return Err(
                arguments.unsupported(key, "remove the field if the model works without it")
            );
        }
    }
    check_modality(file, gives)
}

/// Checks that the model computes the expected output, and that its input is plain text, or messages if `gives` allows
/// messages. [`chat_template`](super::chat::chat_template) reads the template that renders messages.
fn check_modality(file: &JsonFile, gives: &Gives) -> Result<(), Error> {
    let Some(modality) = file.object("modality_config")? else { return Ok(()) };
    if modality.has("message") && !gives.messages {
        return Err(
            modality.unsupported("message", "only plain text without a chat template is supported")
        );
    }
    let taken = match modality.object("message")? {
        Some(message) => message,
        None => modality.object("text")?.ok_or_else(|| {
            file.unsupported(
                "modality_config",
                "only a model that takes the modality `text` is supported",
            )
        })?,
    };
    for (field, only) in [("method", "forward"), ("method_output_name", gives.returned)] {
        if taken.str(field)?.is_some_and(|value| value != only) {
            return Err(taken.unsupported(field, format!("supported: {only}")));
        }
    }
    Ok(())
}

pub(super) fn do_lower_case(settings: Option<&JsonFile>) -> Result<bool, Error> {
    Ok(settings.map(|file| file.bool("do_lower_case")).transpose()?.flatten().unwrap_or(false))
}

/// Returns the maximum number of tokens of a text. The maximum is the number in the settings, or else the smaller of
/// the tokenizer's limit and the model's number of positions.
pub(super) fn max_seq_length(
    files: &ModelFiles,
    prefix: &str,
    transformer: &JsonFile,
    settings: Option<&JsonFile>,
) -> Result<Option<usize>, Error> {
    if let Some(settings) = settings {
        for field in TOKENIZER_ARGUMENTS {
            let arguments = settings.object(field)?;
            if let Some(arguments) = arguments.filter(|file| file.has("model_max_length")) {
                return tokenizer_limit(&arguments);
            }
        }
        if settings.has("max_seq_length") {
            return settings.required_size("max_seq_length").map(Some);
        }
    }
    let tokenizer = JsonFile::load(files, &format!("{prefix}tokenizer_config.json"))?;
    let tokenizer = tokenizer.map(|file| tokenizer_limit(&file)).transpose()?.flatten();
    let limits = [tokenizer, positions(transformer)?];
    Ok(limits.into_iter().flatten().min())
}

/// Returns the field `model_max_length`. A value of 1e9 or more means no limit, for which transformers writes 1e30.
fn tokenizer_limit(file: &JsonFile) -> Result<Option<usize>, Error> {
    match file.f64("model_max_length")? {
        None => Ok(None),
        Some(length) if length >= 1e9 => Ok(None),
        Some(length) if length >= 1.0 && length.fract() == 0.0 => Ok(Some(length as usize)),
        Some(_) => Err(file
            .error("model_max_length", "is not a length; expected a whole number of at least 1")),
    }
}

/// Returns the field `max_position_embeddings`. The value -1, which XLNet has, means no limit.
fn positions(transformer: &JsonFile) -> Result<Option<usize>, Error> {
    let field = "max_position_embeddings";
    match transformer.raw(field) {
        Some(value) if value.as_i64() == Some(-1) => Ok(None),
        Some(_) => transformer.required_size(field).map(Some),
        None => Ok(None),
    }
}

/// Returns the width of a token vector. Architectures store the width under different names, and the first of these
/// fields that exists is used.
pub(super) fn hidden_size(transformer: &JsonFile) -> Result<Option<usize>, Error> {
    for field in ["hidden_size", "d_model", "n_embd", "dim"] {
        if transformer.has(field) {
            return transformer.required_size(field).map(Some);
        }
    }
    Ok(None)
}

/// Returns the pooling that sentence-transformers adds to a transformer without `modules.json`, and the pooling's name
/// in words.
pub(super) fn bare_pooling(transformer: &JsonFile) -> Result<(PoolingMode, &'static str), Error> {
    let architectures = transformer.strings("architectures")?.unwrap_or_default();
    let causal = architectures.first().is_some_and(|name| name.ends_with("ForCausalLM"))
        && transformer.bool("is_causal")?.unwrap_or(true);
    Ok(if causal {
        (PoolingMode::LastToken, "last-token pooling")
    } else {
        (PoolingMode::Mean, "mean pooling over all tokens")
    })
}

/// Returns an error if a model without `modules.json` has a chat template, because sentence-transformers would render
/// every text through the template.
pub(super) fn refuse_chat_template(files: &ModelFiles) -> Result<(), Error> {
    let supported = "without modules.json, only plain text is supported; add a modules.json that \
                     says how the model embeds texts";
    let template = "chat_template.jinja";
    if files.exists(template)? {
        return Err(Error::unsupported(template, "chat_template", "a template", supported));
    }
    match JsonFile::load(files, "tokenizer_config.json")? {
        Some(file) if file.has("chat_template") => {
            Err(file.unsupported("chat_template", supported))
        }
        _ => Ok(()),
    }
}
