//! Reads `tokenizer.json`, and checks that the tokenizer does not fail on unusual texts.

use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{
    AddedToken, ModelWrapper, NormalizerWrapper, PostProcessor, PostProcessorWrapper,
    PreTokenizerWrapper, TruncationDirection,
};

use super::chat::Chat;
use super::growth::check_growth;
use super::missing::missing;
use super::model2vec::Model2vec;
use super::outline::{Outline, outline};
use super::roles::{roles, special_ids};
use super::transformers::{BesideFiles, TransformersVersion};
use super::{Tokenizer, guard};
use crate::config::{FirstModule, JsonFile, KindConfig, ModelConfig};
use crate::error::Error;
use crate::files::ModelFiles;

/// The maximum size of `tokenizer.json` in bytes. Published files reach 40 MB (a Unigram model of half a million
/// pieces).
const MAX_FILE: u64 = 64_000_000;

/// Texts that exercise unusual code paths of a tokenizer. These texts are tokenized when the model is loaded, so that a
/// tokenizer that fails on one of them is refused.
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
    /// Loads the model's tokenizer and tokenizes probe texts. Checks that the token ids of the empty text have rows in
    /// the embedding table.
    ///
    /// The embedding table may have more rows than the vocabulary has tokens, because many tables are padded.
    /// `position_limit` is the transformer's number of positions; `None` if there is no limit. `version` overrides the
    /// version of transformers with which the model was published.
    pub fn load(
        files: &ModelFiles,
        config: &ModelConfig,
        table_rows: usize,
        position_limit: Option<usize>,
        version: Option<TransformersVersion>,
    ) -> Result<Self, Error> {
        let prefix = &config.weights_prefix;
        let file = format!("{prefix}tokenizer.json");
        let Some(contents) = files.read(&file, MAX_FILE)? else {
            return Err(missing(files, config)?);
        };
        let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&contents);
        let outline = outline(&file, contents)?;
        check_growth(&file, outline.normalizer.as_ref())?;
        let mut inner = parse(&file, contents)?;
        inner.with_padding(None);
        guard(&file, "cannot be used", || inner.with_truncation(None).map(|_| ()))?;
        // Static models use no tokenizer file other than tokenizer.json.
        let beside = match config.input {
            FirstModule::Transformer => {
                Some(BesideFiles::load(files, prefix, &config.transformer, version)?)
            }
            FirstModule::StaticEmbedding | FirstModule::Model2vec => None,
        };
        let mut notes = Vec::new();
        if let Some(beside) = &beside {
            notes.extend(beside.apply(&mut inner, &file, &outline, &PROBES)?);
        }
        let settings = beside.as_ref().map(|beside| &beside.settings);
        let cuts_at_spaces = cuts_at_spaces(&inner);
        if config.do_lower_case {
            guard(&file, "cannot lowercase", || lowercase_first(&mut inner))?;
        }
        let post_processor = match config.input {
            FirstModule::Transformer => inner.get_post_processor().cloned(),
            FirstModule::StaticEmbedding | FirstModule::Model2vec => None,
        };
        // For a static model, sentence-transformers truncates texts to the length that tokenizer.json states.
        let written = outline.truncation.as_ref().and_then(|written| written.max_length);
        let limit = match config.input {
            FirstModule::StaticEmbedding => written,
            FirstModule::Transformer | FirstModule::Model2vec => config.max_seq_length,
        };
        let model2vec = (config.input == FirstModule::Model2vec)
            .then(|| Model2vec::new(&inner, outline.model.as_ref(), limit));
        let side = match config.input {
            FirstModule::Model2vec => TruncationDirection::Right,
            _ => truncation_side(settings, &outline)?,
        };
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let chat = match &config.kind {
            KindConfig::Reranker(scoring) => scoring.chat.as_ref().map(Chat::new).transpose()?,
            _ => None,
        };
        let added = post_processor.as_ref().map_or(0, |processor| processor.added_tokens(false));
        let mut tokenizer = Tokenizer {
            special_ids: special_ids(&inner, settings, &outline),
            side,
            limit: [limit, position_limit].into_iter().flatten().min(),
            positions: position_limit,
            roles: roles(&inner, settings),
            pads_left: pads_left(settings)?,
            model2vec,
            inner,
            post_processor,
            added,
            table_rows,
            cuts_at_spaces,
            gives_types: gives_types(settings)?,
            chat,
            passed_over: None,
            notes,
            file,
        };
        tokenizer.check_vocabulary()?;
        tokenizer.check_limit()?;
        tokenizer.check_probes()?;
        Ok(tokenizer)
    }

    /// Returns an error if the vocabulary is empty. If some token ids have no row in the embedding table, a note is
    /// added, and texts with such a token are refused later.
    fn check_vocabulary(&mut self) -> Result<(), Error> {
        let vocabulary = self.inner.get_vocab(true);
        if vocabulary.is_empty() {
            return Err(Error::tokenizer(&self.file, "its vocabulary is empty"));
        }
        let beyond = vocabulary.iter().filter(|(_, id)| **id as usize >= self.table_rows);
        let Some((token, id)) = beyond.clone().max_by_key(|(_, id)| **id) else { return Ok(()) };
        let token: String = token.chars().take(60).collect();
        self.notes.push(format!(
            "{}: {} of {} tokens, such as {token:?} with id {id}, are beyond the {} rows of the \
             embedding table; a text that contains such a token is refused",
            self.file,
            beyond.count(),
            vocabulary.len(),
            self.table_rows
        ));
        Ok(())
    }

    fn check_limit(&self) -> Result<(), Error> {
        match self.limit {
            Some(limit) if limit <= self.added => {
                let problem = format!(
                    "adds {} special tokens to every text, but texts are truncated to {limit} \
                     tokens, which leaves no room for the text; raise max_seq_length",
                    self.added
                );
                Err(Error::tokenizer(&self.file, problem))
            }
            _ => Ok(()),
        }
    }

    /// Tokenizes the probe texts. The token ids of the empty text must have rows in the embedding table, because every
    /// text contains these special tokens.
    fn check_probes(&self) -> Result<(), Error> {
        for text in PROBES {
            match self.encode_unchecked(text, self.limit) {
                Ok(tokens) if text.is_empty() => self.check_rows(&tokens.ids)?,
                result => drop(result?),
            }
        }
        Ok(())
    }
}

fn parse(file: &str, contents: &[u8]) -> Result<tokenizers::Tokenizer, Error> {
    guard(file, "cannot be loaded", || tokenizers::Tokenizer::from_bytes(contents))
}

/// Applies sentence-transformers' `do_lower_case`: adds a lowercase step before all other steps of the normalizer,
/// unless the normalizer already has such a step.
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

/// Returns true if a text may be split at a space, because no token depends on text on both sides of a space.
///
/// The result is true for the combination of BERT's normalizer, BERT's pre-tokenizer and WordPiece, if no added token
/// contains a space. The normalizer works on single characters, the pre-tokenizer splits at every space, and WordPiece
/// tokenizes one word at a time.
fn cuts_at_spaces(tokenizer: &tokenizers::Tokenizer) -> bool {
    let normalizer =
        matches!(tokenizer.get_normalizer(), None | Some(NormalizerWrapper::BertNormalizer(_)));
    let pre_tokenizer =
        matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
    let model = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_));
    let holds_space = |token: &AddedToken| token.content.contains(char::is_whitespace);
    let added = tokenizer.get_added_tokens_decoder();
    normalizer && pre_tokenizer && model && !added.values().any(holds_space)
}

/// The tokenizer classes of transformers that return token types, unless `model_input_names` says otherwise. With all
/// other classes, the token types of the second text of a pair are 0, whatever `tokenizer.json` says.
const GIVE_TYPES: [&str; 6] = [
    "BertTokenizer",
    "ConvBertTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    // In transformers, ElectraTokenizer is an alias of BertTokenizer, which returns token types.
    "ElectraTokenizer",
    "MobileBertTokenizer",
];

/// Returns true if token types come from `tokenizer.json`. This is the case if the tokenizer class returns token types,
/// or if no file names a class.
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

/// Returns the truncation side from `tokenizer_config.json`, or else from `tokenizer.json`, as transformers does.
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
