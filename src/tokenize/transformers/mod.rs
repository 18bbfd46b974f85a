//! Applies the changes that transformers' `AutoTokenizer` makes to a tokenizer after reading `tokenizer.json`.
//!
//! transformers also reads `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`. The fields of
//! these files add tokens and replace parts of the tokenizer. The rules depend on the tokenizer class and on the major
//! version of transformers. `docs/tokenizers.md` lists the fields. `tests/fixtures/tokenizer_fields.json` holds the
//! results of both versions for each field.

mod added_tokens;
mod classes;
#[cfg(test)]
mod tests;
mod version;

use std::collections::HashSet;

use serde_json::{Map, Value};
use tokenizers::{
    NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer as Inner,
};

use super::guard;
use super::outline::Outline;
use crate::config::{JsonFile, tokenizer_arguments};
use crate::error::Error;
use crate::files::ModelFiles;
pub use version::TransformersVersion;

/// The maximum size of a settings file in bytes. Settings that list a hundred thousand added tokens reach 20 MB.
const MAX_SETTINGS: u64 = 64_000_000;

/// The contents of the tokenizer files, other than `tokenizer.json`, that transformers reads.
#[derive(Debug)]
pub(super) struct BesideFiles {
    /// The fields of `tokenizer_config.json`, merged with the fields of `special_tokens_map.json`. If neither file
    /// exists, there are no fields.
    pub settings: JsonFile,
    added_tokens: Option<JsonFile>,
    /// The name of the tokenizer class in `tokenizer_config.json` or `config.json`, without the suffix `Fast`; `None`
    /// if neither file names a class.
    class: Option<String>,
    /// True if `sentence_bert_config.json` passes `add_bos_token` or `add_eos_token` to the tokenizer.
    passes_ends: bool,
    /// The version of transformers whose rules are applied.
    pub version: TransformersVersion,
    /// The source of the version, in words, such as the name of a file.
    source: String,
}

/// The parts of a tokenizer that a tokenizer class can replace.
#[derive(Debug, Clone)]
struct Components {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
}

impl Components {
    fn of(tokenizer: &Inner) -> Self {
        Components {
            normalizer: tokenizer.get_normalizer().cloned(),
            pre_tokenizer: tokenizer.get_pre_tokenizer().cloned(),
            post_processor: tokenizer.get_post_processor().cloned(),
        }
    }

    fn apply(self, tokenizer: &mut Inner) -> tokenizers::Result<()> {
        tokenizer.with_normalizer(self.normalizer)?;
        tokenizer.with_pre_tokenizer(self.pre_tokenizer);
        tokenizer.with_post_processor(self.post_processor);
        Ok(())
    }
}

impl BesideFiles {
    /// Reads the files. `chosen` overrides the version of transformers with which the model was published.
    pub fn load(
        files: &ModelFiles,
        prefix: &str,
        config: &JsonFile,
        chosen: Option<TransformersVersion>,
    ) -> Result<Self, Error> {
        let name = format!("{prefix}tokenizer_config.json");
        let settings = JsonFile::load_large(files, &name, MAX_SETTINGS)?;
        let special = JsonFile::load(files, &format!("{prefix}special_tokens_map.json"))?;
        let added_tokens =
            JsonFile::load_large(files, &format!("{prefix}added_tokens.json"), MAX_SETTINGS)?;
        let mut settings = settings.unwrap_or_else(|| JsonFile::new(name, Map::new()));
        added_tokens::merge_special_tokens(&mut settings.map, special.map(|file| file.map));
        let arguments =
            tokenizer_arguments(files, prefix)?.map(|file| file.map).unwrap_or_default();
        let passes_ends =
            ["add_bos_token", "add_eos_token"].iter().any(|field| arguments.contains_key(*field));
        settings.map.extend(arguments.into_iter().filter(|(field, _)| field != "model_max_length"));
        let class = match settings.str("tokenizer_class")? {
            Some(class) => Some(class),
            None => config.str("tokenizer_class")?,
        };
        let class = class.map(|class| class.strip_suffix("Fast").unwrap_or(class).to_owned());
        let (published, source) = TransformersVersion::of_model(files, config)?;
        let version = chosen.unwrap_or(published);
        let source = match chosen {
            Some(_) => "as chosen by `transformers_version`".to_owned(),
            None => source,
        };
        Ok(BesideFiles { settings, passes_ends, added_tokens, class, version, source })
    }

    /// Changes the tokenizer by the rules of its version of transformers. If the rules of the other version give
    /// different tokens for a text in `probes`, returns a note about this difference.
    pub fn apply(
        &self,
        tokenizer: &mut Inner,
        file: &str,
        outline: &Outline,
        probes: &[&str],
    ) -> Result<Option<String>, Error> {
        let of_file: HashSet<String> =
            outline.added_tokens.iter().map(|token| token.content.clone()).collect();
        let tokens = self.added_tokens(&of_file)?;
        let before = Components::of(tokenizer);
        guard(&self.settings.name, "its added tokens cannot be used", || {
            tokenizer.add_tokens(tokens.iter().cloned()).map(|_| ())
        })?;
        if let Some(split) = self.settings.bool("split_special_tokens")? {
            tokenizer.set_encode_special_tokens(split);
        }
        let own = self.parts(self.version, before.clone(), tokenizer, outline)?;
        // The tokenizer of the other version is used for comparison only, so its errors are ignored.
        let other = self.parts(self.version.other(), before, tokenizer, outline).ok();
        let mut encode = |parts: Components| {
            guard(file, "could not tokenize a text with the settings beside it", || {
                parts.apply(tokenizer)?;
                let ids = |text: &&str| Ok(tokenizer.encode_fast(*text, true)?.get_ids().to_vec());
                probes.iter().map(ids).collect::<tokenizers::Result<Vec<_>>>()
            })
        };
        let other = other.and_then(|parts| encode(parts).ok());
        let own = encode(own)?;
        let differs = other.is_some_and(|other| other != own);
        Ok(differs.then(|| {
            format!(
                "tokens follow the rules of transformers {} ({}); transformers {} gives other tokens for some texts",
                self.version,
                self.source,
                self.version.other()
            )
        }))
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool, Error> {
        Ok(self.settings.bool(field)?.unwrap_or(default))
    }

    /// Returns the text of the token that the settings name for this role, or else `default`.
    fn role<'a>(&'a self, role: &str, default: &'a str) -> &'a str {
        let value = self.settings.raw(role);
        let text =
            value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
        text.unwrap_or(default)
    }

    fn wrong_part(&self, error: &serde_json::Error) -> Error {
        Error::Internal(format!("a tokenizer's part cannot be made: {error}"))
    }

    fn part<T: serde::de::DeserializeOwned>(&self, value: Value) -> Result<T, Error> {
        serde_json::from_value(value).map_err(|error| self.wrong_part(&error))
    }
}
