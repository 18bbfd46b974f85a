//! Reads `tokenizer.json` and checks that it is safe to use with any text.

use serde_json::Value;
use tokenizers::normalizers::{BertNormalizer, Lowercase, Sequence};
use tokenizers::{
    ModelWrapper, NormalizerWrapper, PostProcessor, PostProcessorWrapper, PreTokenizerWrapper,
    TruncationDirection,
};

use super::chat::Chat;
use super::model2vec::Model2vec;
use super::outline::{AddedToken, Outline, outline};
use super::roles::{roles, special_ids};
use super::{Tokenizer, guard};
use crate::config::{Input, JsonFile, KindConfig, ModelConfig};
use crate::error::Error;
use crate::files::ModelFiles;

/// In bytes. Published files reach 40 MB (a Unigram model of half a million pieces).
const MAX_FILE: u64 = 64_000_000;

/// The maximum factor by which a normalizer may lengthen a text. Published ones at most double it.
const MAX_GROWTH: f64 = 1000.0;

/// Texts that exercise unusual paths of a tokenizer. All are tokenized at load, so that a file that fails
/// on one of them is refused before it is used.
const PROBES: [&str; 22] = [
    "",
    " ",
    "\n\n\t ",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "WORDS in Mixed cAsE, and 1,234.56 numbers: 50%!",
    "don't we'll it's",
    "https://example.org/a?b=c&d=%20#e",
    "naïve café ÅNGSTRÖM ﬁ ½",
    "e\u{301}\u{323}\u{301}",
    "Привет, мир",
    "你好,世界。こんにちは 안녕하세요",
    "مرحبا שלום नमस्ते",
    "👩‍👩‍👧 🇫🇷 👍🏽",
    "\u{0}\u{1}\u{7f}\u{200b}\u{feff}\u{fffd}",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "<s> </s> <unk> <pad> <mask> <|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
    "𝕬𝖇𝖈 ⅷ ㊙ \u{10ffff}",
    "fn main() { println!(\"{:?}\", 0x1F); }",
    "\u{e000} \u{378} \u{1f9ff}",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
];

impl Tokenizer {
    /// Loads the model's tokenizer and tries it on probe texts. Every id is checked to be a row of the table.
    ///
    /// The table may have more rows than the vocabulary has tokens, because many tables are padded.
    /// `position_limit` is the transformer's number of positions, if that is bounded.
    pub fn load(
        files: &ModelFiles,
        config: &ModelConfig,
        table_rows: usize,
        position_limit: Option<usize>,
    ) -> Result<Self, Error> {
        let prefix = &config.weights_prefix;
        let file = format!("{prefix}tokenizer.json");
        let Some(contents) = files.read(&file, MAX_FILE)? else {
            return Err(missing(files, prefix)?);
        };
        let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&contents);
        let outline = outline(&file, contents)?;
        check_growth(&file, &outline)?;
        let mut inner = parse(&file, contents)?;
        // Static models read only tokenizer.json.
        let settings = match config.input {
            Input::Transformer => JsonFile::load(files, &format!("{prefix}tokenizer_config.json"))?,
            Input::StaticEmbedding | Input::Model2vec => None,
        };
        if let Some(settings) = &settings {
            follow_bert_settings(&mut inner, settings)?;
        }
        let cuts_at_spaces = cuts_at_spaces(&inner, &outline);
        if config.do_lower_case {
            guard(&file, "cannot lowercase", || lowercase_first(&mut inner))?;
        }
        let post_processor = match config.input {
            Input::Transformer => inner.get_post_processor().cloned(),
            Input::StaticEmbedding | Input::Model2vec => None,
        };
        // For a static model, sentence-transformers keeps the truncation written in its tokenizer.json.
        let written = outline.truncation.as_ref().and_then(|written| written.max_length);
        let limit = match config.input {
            Input::StaticEmbedding => written,
            Input::Transformer | Input::Model2vec => config.max_seq_length,
        };
        let model2vec = (config.input == Input::Model2vec)
            .then(|| Model2vec::new(&inner, outline.model.as_ref(), limit));
        let side = match config.input {
            Input::Model2vec => TruncationDirection::Right,
            _ => truncation_side(settings.as_ref(), &outline)?,
        };
        inner.with_post_processor(None::<PostProcessorWrapper>);
        inner.with_padding(None);
        guard(&file, "cannot be used", || inner.with_truncation(None).map(|_| ()))?;
        let chat = match &config.kind {
            KindConfig::Reranker(scoring) => scoring.chat.as_ref().map(Chat::new).transpose()?,
            _ => None,
        };
        let added = post_processor.as_ref().map_or(0, |processor| processor.added_tokens(false));
        let tokenizer = Tokenizer {
            special_ids: special_ids(&inner, settings.as_ref(), &outline),
            side,
            limit: [limit, position_limit].into_iter().flatten().min(),
            positions: position_limit,
            roles: roles(&inner, settings.as_ref()),
            pads_left: pads_left(settings.as_ref())?,
            model2vec,
            inner,
            post_processor,
            added,
            table_rows,
            cuts_at_spaces,
            gives_types: gives_types(settings.as_ref())?,
            chat,
            passed_over: None,
            file,
        };
        tokenizer.check_vocabulary()?;
        tokenizer.check_limit()?;
        tokenizer.check_probes()?;
        Ok(tokenizer)
    }

    fn check_vocabulary(&self) -> Result<(), Error> {
        let vocabulary = self.inner.get_vocab(true);
        let largest = vocabulary.iter().max_by_key(|(_, id)| **id);
        let Some((token, &id)) = largest else {
            return Err(Error::tokenizer(&self.file, "its vocabulary is empty"));
        };
        if (id as usize) < self.table_rows {
            return Ok(());
        }
        let token: String = token.chars().take(60).collect();
        let beyond = vocabulary.values().filter(|id| **id as usize >= self.table_rows).count();
        let problem = format!(
            "token {token:?} has id {id}, and the embedding table has {} rows ({beyond} of {} tokens are beyond it); tokenizer and weights are of different models",
            self.table_rows,
            vocabulary.len()
        );
        Err(Error::tokenizer(&self.file, problem))
    }

    fn check_limit(&self) -> Result<(), Error> {
        match self.limit {
            Some(limit) if limit <= self.added => {
                let problem = format!(
                    "adds {} special tokens to every text, but texts are cut to {limit} tokens, which leaves no room for the text; raise max_seq_length",
                    self.added
                );
                Err(Error::tokenizer(&self.file, problem))
            }
            _ => Ok(()),
        }
    }

    fn check_probes(&self) -> Result<(), Error> {
        PROBES.iter().try_for_each(|text| self.encode(None, text).map(|_| ()))
    }
}

fn missing(files: &ModelFiles, prefix: &str) -> Result<Error, Error> {
    let others =
        ["vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"];
    let file = format!("{prefix}tokenizer.json");
    for other in others {
        if files.exists(&format!("{prefix}{other}"))? {
            let problem = format!(
                "is missing, and {other} alone does not say how texts are split; create it with Python: `AutoTokenizer.from_pretrained(dir).save_pretrained(dir)`"
            );
            return Ok(Error::tokenizer(file, problem));
        }
    }
    Ok(Error::tokenizer(file, "is missing; download the model again"))
}

/// Refuses a normalizer whose replacements lengthen a text too much: eight steps can turn a word into a
/// gigabyte.
fn check_growth(file: &str, outline: &Outline) -> Result<(), Error> {
    let grows = outline.normalizer.as_ref().map_or(1.0, growth);
    if grows <= MAX_GROWTH {
        return Ok(());
    }
    let problem = format!(
        "its normalizer's replacements make a text up to {grows:.0} times as long; at most {MAX_GROWTH} times is taken"
    );
    Err(Error::tokenizer(file, problem))
}

/// Returns the maximum factor by which a normalizer's replacements lengthen a text.
fn growth(normalizer: &Value) -> f64 {
    if let Some(steps) = normalizer.get("normalizers").and_then(Value::as_array) {
        return steps.iter().map(growth).product();
    }
    let content = normalizer.get("content").and_then(Value::as_str).unwrap_or_default();
    // A pattern may match the empty string between any two characters.
    let between = normalizer.pointer("/pattern/Regex").is_some();
    (content.chars().count() as f64).max(1.0) + f64::from(u8::from(between))
}

fn parse(file: &str, contents: &[u8]) -> Result<tokenizers::Tokenizer, Error> {
    guard(file, "cannot be loaded", || tokenizers::Tokenizer::from_bytes(contents))
}

/// Applies sentence-transformers' `do_lower_case`: a lowercase step before all others, unless there is one.
fn lowercase_first(tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
    let present = match tokenizer.get_normalizer() {
        None => Vec::new(),
        Some(NormalizerWrapper::Sequence(steps)) => steps.as_ref().to_vec(),
        Some(step) => vec![step.clone()],
    };
    if present.iter().any(|step| matches!(step, NormalizerWrapper::Lowercase(_))) {
        return Ok(());
    }
    let mut steps = vec![NormalizerWrapper::Lowercase(Lowercase)];
    steps.extend(present);
    tokenizer.with_normalizer(Some(Sequence::new(steps))).map(|_| ())
}

/// transformers builds a `BertTokenizer`, and what derives from it, from its settings, whatever
/// normalizer `tokenizer.json` has; a cased model saved beside an uncased `tokenizer.json` is cased.
fn follow_bert_settings(
    tokenizer: &mut tokenizers::Tokenizer,
    settings: &JsonFile,
) -> Result<(), Error> {
    let bert = ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"];
    let class = settings.str("tokenizer_class")?;
    let class = class.map(|class| class.strip_suffix("Fast").unwrap_or(class));
    let word_piece = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_));
    // Without a class it takes the architecture's, and WordPiece is BERT's.
    if !word_piece || class.is_some_and(|class| !bert.contains(&class)) {
        return Ok(());
    }
    let normalizer = BertNormalizer::new(
        true,
        settings.bool("tokenize_chinese_chars")?.unwrap_or(true),
        settings.bool("strip_accents")?,
        settings.bool("do_lower_case")?.unwrap_or(true),
    );
    guard(&settings.name, "cannot be followed", || {
        tokenizer.with_normalizer(Some(normalizer)).map(|_| ())
    })
}

/// Returns true if no token depends on the text beyond a space.
///
/// That holds for BERT's normalizer, which works on single characters, with its pre-tokenizer, which splits
/// at every space, and WordPiece, which sees one word at a time. Added tokens must contain no space.
fn cuts_at_spaces(tokenizer: &tokenizers::Tokenizer, outline: &Outline) -> bool {
    let normalizer =
        matches!(tokenizer.get_normalizer(), None | Some(NormalizerWrapper::BertNormalizer(_)));
    let pre_tokenizer =
        matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
    let model = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_));
    let holds_space = |token: &AddedToken| token.content.contains(char::is_whitespace);
    normalizer && pre_tokenizer && model && !outline.added_tokens.iter().any(holds_space)
}

/// transformers' tokenizers that return token types unless `model_input_names` says otherwise. With any
/// other tokenizer, the second text of a pair has type 0, whatever `tokenizer.json` says.
const GIVE_TYPES: [&str; 6] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    // transformers makes it an alias of BertTokenizer.
    "ElectraTokenizer",
    "MobileBertTokenizer",
];

/// Without a class, the architecture's class is used, and the types of `tokenizer.json` count.
fn gives_types(settings: Option<&JsonFile>) -> Result<bool, Error> {
    let Some(settings) = settings else { return Ok(true) };
    if let Some(names) = settings.strings("model_input_names")? {
        return Ok(names.contains(&"token_type_ids"));
    }
    let class = settings.str("tokenizer_class")?.unwrap_or("BertTokenizer");
    Ok(GIVE_TYPES.contains(&class.strip_suffix("Fast").unwrap_or(class)))
}

fn pads_left(settings: Option<&JsonFile>) -> Result<bool, Error> {
    let side = settings.map(|file| file.str("padding_side")).transpose()?.flatten();
    Ok(side == Some("left"))
}

/// Reads the truncation side from `tokenizer_config.json`, or else from `tokenizer.json`, as transformers does.
fn truncation_side(
    settings: Option<&JsonFile>,
    outline: &Outline,
) -> Result<TruncationDirection, Error> {
    let field = "truncation_side";
    if let Some((settings, side)) = settings.map(|file| Ok((file, file.str(field)?))).transpose()? {
        match side {
            Some("right") => return Ok(TruncationDirection::Right),
            Some("left") => return Ok(TruncationDirection::Left),
            Some(_) => return Err(settings.unsupported(field, "supported: left and right")),
            None => {}
        }
    }
    Ok(outline
        .truncation
        .as_ref()
        .map_or(TruncationDirection::Right, |truncation| truncation.direction))
}
