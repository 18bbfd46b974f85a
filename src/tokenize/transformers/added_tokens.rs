//! Finds the tokens that files other than `tokenizer.json` add to a tokenizer.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::BesideFiles;
use crate::error::Error;

/// The roles of special tokens, in the order in which transformers adds their tokens.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The fields that list further special tokens. If both fields exist, only the second is used.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// Merges the fields of `special_tokens_map.json` into the fields of `tokenizer_config.json`.
///
/// transformers reads `special_tokens_map.json` only if `tokenizer_config.json` has no field `added_tokens_decoder`.
/// The values of `special_tokens_map.json` replace values of `tokenizer_config.json`.
pub(super) fn merge_special_tokens(
    settings: &mut Map<String, Value>,
    special_tokens_map: Option<Map<String, Value>>,
) {
    if settings.contains_key("added_tokens_decoder") {
        return;
    }
    for (field, value) in special_tokens_map.into_iter().flatten() {
        match (value, settings.get_mut(&field)) {
            (Value::Array(more), Some(Value::Array(list))) => {
                list.extend(
                    more.into_iter().filter(|token| !list.contains(token)).collect::<Vec<_>>(),
                );
            }
            (value, _) => {
                settings.insert(field, value);
            }
        }
    }
}

impl BesideFiles {
    /// Returns the tokens to add, in the order in which transformers adds them. A new token gets the next free id,
    /// whatever id the file states.
    ///
    /// # Errors
    /// Returns [`Error::Config`] if a token has no text, or if an id is not a number.
    pub(super) fn added_tokens(&self, of_file: &HashSet<String>) -> Result<Vec<AddedToken>, Error> {
        let special = self.special_tokens();
        let mut by_id = BTreeMap::new();
        match self.settings.map.get("added_tokens_decoder") {
            Some(Value::Object(decoder)) => {
                for (id, value) in decoder {
                    let token = token(value, false).zip(id.parse::<u64>().ok());
                    let (token, id) = token.ok_or_else(|| self.wrong_token(id))?;
                    by_id.insert(id, token);
                }
            }
            Some(_) => {
                let problem = "is not an object of ids and tokens; download the model again";
                return Err(self.settings.error("added_tokens_decoder", problem));
            }
            None => {
                for (text, id) in self.added_tokens.iter().flat_map(|file| &file.map) {
                    let special = special.iter().any(|token| token.content == *text);
                    let id = id.as_u64().ok_or_else(|| {
                        Error::config(
                            "added_tokens.json",
                            text,
                            "has an id that is not a whole number; download the model again",
                        )
                    })?;
                    by_id.insert(id, AddedToken::from(text.clone(), special).normalized(!special));
                }
            }
        }
        let mut known: HashSet<String> = of_file.clone();
        let mut tokens = Vec::new();
        for mut token in by_id.into_values() {
            token.special |= special.iter().any(|special| special.content == token.content);
            known.insert(token.content.clone());
            tokens.push(token);
        }
        tokens.extend(special.into_iter().filter(|token| known.insert(token.content.clone())));
        Ok(tokens)
    }

    fn wrong_token(&self, id: &str) -> Error {
        let problem =
            format!("the entry {id:?} is not an id with a token; download the model again");
        self.settings.error("added_tokens_decoder", problem)
    }

    /// Returns the special tokens that the settings name.
    fn special_tokens(&self) -> Vec<AddedToken> {
        let map = &self.settings.map;
        let default = |role: &str| {
            let known = self.defaults4().iter().find(|(name, _)| *name == role);
            known.filter(|_| !map.contains_key(role)).map(|(_, text)| AddedToken::from(*text, true))
        };
        let of_role = |role: &&str| match map.get(*role) {
            Some(value) => token(value, true),
            None => default(role),
        };
        let mut tokens: Vec<AddedToken> = ROLES.iter().filter_map(of_role).collect();
        let list = LISTS.iter().rev().find_map(|field| map.get(*field).filter(|v| !v.is_null()));
        match list {
            Some(Value::Array(list)) => {
                tokens.extend(list.iter().filter_map(|value| token(value, true)));
            }
            Some(Value::Object(named)) => {
                tokens.extend(named.values().filter_map(|value| token(value, true)));
            }
            _ => {}
        }
        tokens
    }
}

/// Returns a token that is stored as a string or as an object. For a string, `special` is the token's flag `special`.
fn token(value: &Value, special: bool) -> Option<AddedToken> {
    if let Some(text) = value.as_str() {
        return Some(AddedToken::from(text, special).normalized(!special));
    }
    let text = value.get("content")?.as_str()?;
    let flag = |field: &str| value.get(field).and_then(Value::as_bool);
    let special = special || flag("special").unwrap_or(false);
    Some(
        AddedToken::from(text, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}
