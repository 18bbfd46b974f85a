//! Selects the files of a repository that a model needs.

use crate::config::{COLBERT_LINEAR, SPARSE_LINEAR};
use crate::files::normalise;

/// The names of the configuration and tokenizer files that are downloaded from each module's directory.
const SETTINGS: [&str; 12] = [
    "router_config.json",
    "artifact.metadata",
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "adapter_config.json",
    "model.safetensors.index.json",
];

/// Small vocabulary files that are downloaded only if `tokenizer.json` is missing. Vectile cannot use these files, but
/// with them the error about the missing file can name the model's tokenizer format.
const VOCABULARIES: [&str; 2] = ["vocab.txt", "vocab.json"];

/// A file that the Hub lists in the repository.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub name: String,
    pub size: u64,
}

/// Returns true if the path is normalised and contains no glob characters, so that a glob pattern made of it matches
/// this path only.
pub(super) fn is_plain(path: &str) -> bool {
    normalise(path).ok().as_deref() == Some(path) && !path.contains(['*', '?', '[', ']', '{', '}'])
}

/// Returns the configuration and tokenizer files in a module's directory. The empty name stands for the model's own
/// directory.
pub(super) fn settings_of(listing: &[Listed], directory: &str) -> Vec<Listed> {
    let has_tokenizer =
        listing.iter().any(|file| in_directory(&file.name, directory) == Some("tokenizer.json"));
    let wanted = |file: &&Listed| {
        in_directory(&file.name, directory).is_some_and(|file| {
            SETTINGS.contains(&file)
                || (!has_tokenizer && VOCABULARIES.contains(&file))
                || (file.starts_with("sentence_") && file.ends_with("_config.json"))
        })
    };
    listing.iter().filter(wanted).cloned().collect()
}

/// Returns the weight files in a module's directory: a single file or all shards, and the separate files of the layers
/// that follow the transformer.
pub(super) fn weights_of(listing: &[Listed], directory: &str) -> Vec<Listed> {
    let of = |test: &dyn Fn(&str) -> bool| -> Vec<Listed> {
        let wanted = |file: &&Listed| in_directory(&file.name, directory).is_some_and(test);
        listing.iter().filter(wanted).cloned().collect()
    };
    let mut wanted = of(&|file| file == "model.safetensors");
    if wanted.is_empty() {
        wanted = of(&|file| file.starts_with("model-") && file.ends_with(".safetensors"));
    }
    wanted.extend(of(&|file| {
        let name = file.strip_suffix(".safetensors");
        name.is_some_and(|name| [COLBERT_LINEAR, SPARSE_LINEAR].contains(&name))
    }));
    wanted
}

fn in_directory<'a>(name: &'a str, directory: &str) -> Option<&'a str> {
    let file = match directory {
        "" => name,
        directory => name.strip_prefix(directory)?.strip_prefix('/')?,
    };
    (!file.contains('/')).then_some(file)
}
