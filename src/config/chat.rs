//! Reads the chat template of a model whose input is a list of messages, and the variables of the template.

use serde_json::{Map, Value};

use crate::config::JsonFile;
use crate::error::Error;
use crate::files::ModelFiles;

/// The maximum size of a template in bytes. Published templates stay below 20 kB.
const MAX_TEMPLATE: u64 = 1 << 18;

/// The chat template of a model, with its settings. The template renders messages as one text.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    /// The name of the file that holds the template, for error messages.
    pub file: String,
    /// The source of the template, in Jinja.
    pub source: String,
    /// True if a message's content is a list of typed parts. False if the content is plain text.
    pub structured: bool,
    /// The variables of the template other than `messages`: special tokens by role, and variables from the model's
    /// settings.
    pub variables: Map<String, Value>,
    /// True if truncation preserves the ending that the template writes after every pair. The tokens of this ending
    /// then replace the last tokens of the truncated text.
    pub restores_end: bool,
}

/// The arguments of transformers' `apply_chat_template` that Vectile does not support, because they do more than set a
/// variable of the template.
const ARGUMENTS: [&str; 13] = [
    "chat_template",
    "continue_final_message",
    "documents",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "sanitize_control_tokens",
    "tokenize",
    "tokenizer_kwargs",
    "truncation",
];

/// The roles of special tokens, as transformers names them.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Returns the chat template; `None` if the input of the model is plain text. If the model has a settings file, the
/// field `modality_config` of this file decides whether the input is messages. Without a settings file, the input is
/// messages if there is a chat template.
pub(super) fn chat_template(
    files: &ModelFiles,
    prefix: &str,
    settings: Option<&JsonFile>,
) -> Result<Option<ChatTemplate>, Error> {
    let modality = settings.map(|file| file.object("modality_config")).transpose()?.flatten();
    let message = modality.map(|file| file.object("message")).transpose()?.flatten();
    // If the settings' field `modality_config` does not list messages, the model uses no chat template.
    if settings.is_some() && message.is_none() {
        return Ok(None);
    }
    let tokenizer = JsonFile::load(files, &format!("{prefix}tokenizer_config.json"))?;
    let Some((file, source)) = source(files, prefix, tokenizer.as_ref())? else {
        return match message {
            None => Ok(None),
            Some(message) => {
                let problem = format!(
                    "is missing, but {} says that the model takes messages; download the model again",
                    message.name
                );
                Err(Error::file(format!("{prefix}chat_template.jinja"), problem))
            }
        };
    };
    let structured = match &message {
        None => looks_structured(&source),
        Some(message) => match message.str("format")? {
            Some("structured") => true,
            Some("flat") => false,
            None | Some("auto") => looks_structured(&source),
            Some(_) => {
                return Err(message.unsupported("format", "supported: flat, structured, auto"));
            }
        },
    };
    let mut variables = tokenizer.as_ref().map(roles).unwrap_or_default();
    let mut restores_end = true;
    let processing = settings.map(|file| file.object("processing_kwargs")).transpose()?.flatten();
    if let Some(given) = processing.map(|file| file.object("chat_template")).transpose()?.flatten()
    {
        for (name, value) in &given.map {
            match name.as_str() {
                "restore_suffix" => restores_end = given.bool(name)?.unwrap_or(true),
                name if ARGUMENTS.contains(&name) && !value.is_null() => {
                    return Err(
                        given.unsupported(name, "remove the field if the model works without it")
                    );
                }
                _ => {
                    variables.insert(name.clone(), value.clone());
                }
            }
        }
    }
    Ok(Some(ChatTemplate { file, source, structured, variables, restores_end }))
}

/// Returns the name of the file with the template, and the template's source. `chat_template.jinja` takes precedence
/// over `tokenizer_config.json`.
fn source(
    files: &ModelFiles,
    prefix: &str,
    tokenizer: Option<&JsonFile>,
) -> Result<Option<(String, String)>, Error> {
    let name = format!("{prefix}chat_template.jinja");
    if let Some(bytes) = files.read(&name, MAX_TEMPLATE)? {
        let source = String::from_utf8(bytes)
            .map_err(|_| Error::file(&name, "is not UTF-8; download the model again"))?;
        return Ok(Some((name, source)));
    }
    let field = "chat_template";
    let Some(tokenizer) = tokenizer.filter(|file| file.has(field)) else { return Ok(None) };
    let named = |entry: &Value| {
        (entry.get("name")?.as_str()? == "default")
            .then(|| entry.get("template")?.as_str().map(str::to_owned))?
    };
    let source = match tokenizer.raw(field) {
        Some(Value::Array(list)) => list.iter().find_map(named).ok_or_else(|| {
            tokenizer
                .unsupported(field, "a list of templates must have one that is named `default`")
        })?,
        _ => tokenizer.str(field)?.unwrap_or_default().to_owned(),
    };
    if source.len() as u64 > MAX_TEMPLATE {
        let problem = format!("has {} bytes; at most {MAX_TEMPLATE} are allowed", source.len());
        return Err(tokenizer.error(field, problem));
    }
    Ok(Some((tokenizer.name.clone(), source)))
}

/// Returns true if the template seems to expect messages whose content is a list of typed parts. sentence-transformers
/// uses the same heuristic.
fn looks_structured(source: &str) -> bool {
    let looks = ["content[0]", ".type", "'type'", "\"type\"", "message.content["];
    source.is_empty() || looks.iter().any(|looks| source.contains(looks))
}

/// Returns the text of each special token, by the role of the token.
fn roles(tokenizer: &JsonFile) -> Map<String, Value> {
    let content = |value: &Value| {
        let text = value.as_str().or_else(|| value.get("content")?.as_str());
        text.map(|text| Value::String(text.to_owned()))
    };
    let found =
        ROLES.iter().filter_map(|role| Some(((*role).to_owned(), content(tokenizer.raw(role)?)?)));
    found.collect()
}
