//! Makes the error for a model without `tokenizer.json`, which tells the user what to do.

use crate::config::{JsonFile, ModelConfig};
use crate::error::Error;
use crate::files::ModelFiles;

/// The tokenizer classes of transformers that exist only as Python code, each with the reason why no `tokenizer.json`
/// can replace the code.
const PYTHON_ONLY: [(&str, &str); 14] = [
    ("BertJapaneseTokenizer", "this tokenizer class splits words with MeCab, Sudachi or Juman++"),
    ("BertweetTokenizer", "this tokenizer class normalises tweets in Python"),
    ("BartphoTokenizer", "this tokenizer class renumbers the ids of sentencepiece in Python"),
    ("PhobertTokenizer", "this tokenizer class applies its BPE merges in Python"),
    ("BioGptTokenizer", "this tokenizer class splits words with sacremoses"),
    ("ByT5Tokenizer", "this tokenizer class turns bytes into ids without a vocabulary"),
    ("CanineTokenizer", "this tokenizer class turns characters into ids without a vocabulary"),
    ("CTRLTokenizer", "this tokenizer class applies its BPE merges in Python"),
    ("EsmTokenizer", "this tokenizer class splits protein sequences in Python"),
    ("FlaubertTokenizer", "this tokenizer class splits words with sacremoses"),
    ("FSMTTokenizer", "this tokenizer class splits words with sacremoses"),
    ("ProphetNetTokenizer", "this tokenizer class splits words in Python"),
    ("TapasTokenizer", "this tokenizer class reads tables in Python"),
    ("XLMTokenizer", "this tokenizer class splits words with sacremoses"),
];

/// The names of files that hold a vocabulary in another format.
const OTHERS: [&str; 6] = [
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "tekken.json",
];

/// Returns the error for a model without `tokenizer.json`.
pub(super) fn missing(files: &ModelFiles, config: &ModelConfig) -> Result<Error, Error> {
    let prefix = &config.weights_prefix;
    let file = format!("{prefix}tokenizer.json");
    let settings = JsonFile::load(files, &format!("{prefix}tokenizer_config.json"))?;
    let class = match &settings {
        Some(settings) if settings.has("tokenizer_class") => settings.str("tokenizer_class")?,
        _ => config.transformer.str("tokenizer_class")?,
    };
    if let Some(custom) = settings.as_ref().and_then(|settings| settings.raw("auto_map")) {
        let problem = format!(
            "is missing, and the tokenizer is Python code that comes with the model ({}), which Vectile does not run; use a model with a tokenizer.json",
            custom.to_string().chars().take(80).collect::<String>()
        );
        return Ok(Error::tokenizer(file, problem));
    }
    let class = class.map(|class| class.strip_suffix("Fast").unwrap_or(class));
    if let Some((class, why)) = PYTHON_ONLY.iter().find(|(name, _)| Some(*name) == class) {
        let problem = format!(
            "is missing, and {class} has no fast version, so Python cannot create the file either: {why}. Use a model with a tokenizer.json, or split and encode the texts with Python"
        );
        return Ok(Error::tokenizer(file, problem));
    }
    for other in OTHERS {
        if files.exists(&format!("{prefix}{other}"))? {
            let problem = format!(
                "is missing, and {other} alone does not say how texts are split; create it with Python: `AutoTokenizer.from_pretrained(dir).save_pretrained(dir)`. If that writes no tokenizer.json, the tokenizer has no fast version; use another model"
            );
            return Ok(Error::tokenizer(file, problem));
        }
    }
    Ok(Error::tokenizer(file, "is missing; download the model again"))
}
