//! Chooses the files of a repository that a model needs.

use crate::config::{COLBERT_LINEAR, SPARSE_LINEAR};
use crate::files::normalise;

/// The configuration and tokenizer files that are downloaded from each module's directory.
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

/// Small vocabulary files that are downloaded only if `tokenizer.json` is missing. The error can then name
/// the format that the model has instead.
const VOCABULARIES: [&str; 2] = ["vocab.txt", "vocab.json"];

/// A file of the repository.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub name: String,
    pub size: u64,
}

/// Returns true if a name belongs in a model, and matches only itself when it is used as a pattern.
pub(super) fn is_plain(path: &str) -> bool {
    normalise(path).ok().as_deref() == Some(path) && !path.contains(['*', '?', '[', ']', '{', '}'])
}

/// Returns the settings in a module's directory. The empty name is the model's own directory.
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

/// Returns the weights in a module's directory. They are one file or else all shards, and the files of heads
/// beside them.
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
