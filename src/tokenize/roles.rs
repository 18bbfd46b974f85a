//! Finds the tokens with a role in the tokenizer, such as the mask token or the padding token.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::Tokenizer;
use super::outline::Outline;
use crate::config::JsonFile;

/// For each role, the tokens that transformers' tokenizer classes use by default. A default applies if
/// `tokenizer_config.json` names no token for the role.
const USUAL: [(&str, &[&str]); 5] = [
    ("cls_token", &["[CLS]", "<s>"]),
    ("eos_token", &["</s>"]),
    ("mask_token", &["[MASK]", "<mask>"]),
    ("pad_token", &["[PAD]", "<pad>"]),
    ("unk_token", &["[UNK]", "<unk>"]),
];

impl Tokenizer {
    /// Returns the id of the token with a role. `field` is the name of the role's field, such as `mask_token`.
    pub fn role(&self, field: &str) -> Option<u32> {
        self.roles.get(field).copied()
    }
}

/// Returns the ids of the tokens with a role. The tokens are those that `tokenizer_config.json` names, or else the
/// default tokens.
pub(super) fn roles(
    tokenizer: &tokenizers::Tokenizer,
    settings: Option<&JsonFile>,
) -> BTreeMap<String, u32> {
    let mut roles = BTreeMap::new();
    for (field, names) in USUAL {
        let known = names.iter().find_map(|name| tokenizer.token_to_id(name));
        roles.extend(known.map(|id| (field.to_owned(), id)));
    }
    for (field, value) in settings.iter().flat_map(|file| &file.map) {
        let Some(name) = content(value).filter(|_| field.ends_with("_token")) else { continue };
        roles.extend(tokenizer.token_to_id(name).map(|id| (field.clone(), id)));
    }
    roles
}

/// Returns the ids of the special tokens, like transformers' `all_special_ids`. These are the tokens to which
/// `tokenizer_config.json` gives a role. If there are none, they are the tokens with the flag `special` in
/// `tokenizer.json`.
pub(super) fn special_ids(
    tokenizer: &tokenizers::Tokenizer,
    settings: Option<&JsonFile>,
    outline: &Outline,
) -> HashSet<u32> {
    let mut names: Vec<&str> = Vec::new();
    if let Some(settings) = settings {
        for (field, value) in &settings.map {
            match value {
                _ if field.ends_with("special_tokens") => {
                    names.extend(value.as_array().into_iter().flatten().filter_map(content));
                }
                _ if field.ends_with("_token") => names.extend(content(value)),
                _ => {}
            }
        }
    }
    if names.is_empty() {
        let special = outline.added_tokens.iter().filter(|token| token.special);
        names.extend(special.map(|token| token.content.as_str()));
    }
    names.into_iter().filter_map(|name| tokenizer.token_to_id(name)).collect()
}

/// Returns the text of a token, which is a string or the field `content` of an object.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}
