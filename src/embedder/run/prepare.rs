//! Turns a text into a [`Prepared`]: a text that was tokenized and checked on the host, and that a batch can take.

use crate::config::FirstModule;
use crate::embedder::options::{EmbedOptions, EmbedTask, OnTooLong};
use crate::embedder::run::Runner;
use crate::error::Error;
use crate::kernels::MAX_BATCH_TOKENS;
use crate::tokenize::Tokens;

/// A text, or a pair of texts, that was tokenized and checked for a model.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(in crate::embedder) tokens: Tokens,
    /// The index of the text in the caller's list, for error messages.
    pub(in crate::embedder) text: usize,
    /// False if the host computes the text's result from its tokens alone. Such a text is not run on the device, and
    /// its row is empty.
    pub(in crate::embedder) needs_device: bool,
}

impl Prepared {
    /// Returns a text of `count` tokens, for tests that do not run the text on a device.
    #[cfg(test)]
    pub fn of_tokens(count: usize) -> Self {
        let (ids, type_ids) = (vec![0; count], vec![0; count]);
        let tokens = Tokens { ids, type_ids, prompt_len: 0, untruncated: count, seen: count };
        Prepared { tokens, text: 0, needs_device: true }
    }

    /// Returns the number of tokens, special tokens included.
    pub fn tokens(&self) -> usize {
        self.tokens.ids.len()
    }

    /// Returns the same text, marked so that it is not run on the device and its row is empty.
    #[cfg(feature = "server")]
    pub(crate) fn outside_batches(self) -> Self {
        Prepared { needs_device: false, ..self }
    }

    /// Returns true if the text was truncated to the maximum length.
    pub fn truncated(&self) -> bool {
        self.tokens.untruncated > self.tokens()
    }
}

/// The options that select a prompt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PromptChoice<'a> {
    pub prompt: Option<&'a str>,
    pub name: Option<&'a str>,
    pub task: Option<EmbedTask>,
}

impl<'a> From<&'a EmbedOptions> for PromptChoice<'a> {
    fn from(options: &'a EmbedOptions) -> Self {
        PromptChoice {
            prompt: options.prompt.as_deref(),
            name: options.prompt_name.as_deref(),
            task: options.task,
        }
    }
}

impl Runner {
    /// Returns the prompt of a call; `None` if the prompt is missing or empty.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for an unknown prompt name, or if both a prompt and a prompt name are given.
    pub(crate) fn prompt<'a>(&'a self, choice: PromptChoice<'a>) -> Result<Option<&'a str>, Error> {
        let prompts = &self.model.config.prompts;
        let prompt = match (choice.prompt, choice.name) {
            (Some(_), Some(_)) => {
                let problem = "a prompt is given as well; give only one of the two";
                return Err(Error::option("prompt_name", problem));
            }
            (Some(prompt), None) => Some(prompt),
            (None, Some(name)) => Some(prompts.get(name).map(String::as_str).ok_or_else(|| {
                let names: Vec<&str> = prompts.keys().map(String::as_str).collect();
                let problem = format!(
                    "`{name}` is not a prompt of this model; its prompts are {}",
                    names.join(", ")
                );
                Error::option("prompt_name", problem)
            })?),
            (None, None) => {
                let names = choice.task.map_or(&[][..], EmbedTask::prompt_names);
                let of_task = names.iter().find_map(|name| prompts.get(*name));
                let default = self.model.config.default_prompt_name.as_ref();
                of_task.or_else(|| prompts.get(default?)).map(String::as_str)
            }
        };
        Ok(prompt.filter(|prompt| !prompt.is_empty()))
    }

    /// Tokenizes texts with a prompt before each text. `first` is the index of `texts[0]` in the caller's list.
    ///
    /// # Errors
    /// Returns the errors of [`Runner::prompt`]. If a single text has an error, the error takes the place of that
    /// text's result.
    pub(crate) fn prepare_texts(
        &self,
        first: usize,
        texts: &[&str],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let prompt = self.prompt(options.into())?;
        let limit = self.limit_of(options.max_seq_length)?;
        let encoded = self.model.tokenizer.encode_batch_within(prompt, texts, limit);
        Ok(self.check_all(first, encoded, options.on_too_long))
    }

    /// Returns the maximum number of tokens of a text: `length`, or the model's own maximum if `length` is `None`.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for a length that allows special tokens only, or that exceeds the number of positions
    /// that the model has.
    pub(in crate::embedder) fn limit_of(
        &self,
        length: Option<usize>,
    ) -> Result<Option<usize>, Error> {
        let tokenizer = &self.model.tokenizer;
        let Some(length) = length else { return Ok(tokenizer.limit()) };
        let least = tokenizer.added_tokens() + 1;
        let most = tokenizer.positions().unwrap_or(MAX_BATCH_TOKENS);
        if !(least..=most).contains(&length) {
            let problem = format!("is {length}; between {least} and {most} tokens are expected");
            return Err(Error::option("max_seq_length", problem));
        }
        Ok(Some(length))
    }

    /// Checks the tokens of each text. An error of one text does not affect the other texts.
    pub(in crate::embedder) fn check_all(
        &self,
        first: usize,
        encoded: Vec<Result<Tokens, Error>>,
        on_too_long: OnTooLong,
    ) -> Vec<Result<Prepared, Error>> {
        let texts = encoded.into_iter().enumerate();
        let check = |(i, tokens): (usize, Result<Tokens, Error>)| {
            let tokens = tokens.map_err(|error| error.of_text(first + i))?;
            self.check(first + i, tokens, on_too_long)
        };
        texts.map(check).collect()
    }

    fn check(
        &self,
        text: usize,
        tokens: Tokens,
        on_too_long: OnTooLong,
    ) -> Result<Prepared, Error> {
        // A static model gives a row of zeros for a text without tokens. A transformer has no result for a text without
        // tokens, so such a text is refused.
        if tokens.ids.is_empty() && self.model.config.input == FirstModule::Transformer {
            let problem = "has no tokens: it is empty, and this tokenizer adds no special tokens";
            return Err(Error::option(format!("text {text}"), problem));
        }
        self.model.check_types(&tokens)?;
        let too_long = |limit| Error::TooLong { text, tokens: tokens.untruncated, limit };
        if tokens.ids.len() > MAX_BATCH_TOKENS {
            return Err(too_long(MAX_BATCH_TOKENS));
        }
        if tokens.untruncated > tokens.ids.len() && on_too_long == OnTooLong::Error {
            return Err(too_long(tokens.ids.len()));
        }
        Ok(Prepared { tokens, text, needs_device: true })
    }
}

#[cfg(feature = "server")]
impl Runner {
    /// Prepares texts that the caller gives as token ids of the model's own tokenizer, special tokens and prompt
    /// included.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for options that select a prompt. If a single text has an error, the error takes the
    /// place of that text's result. This error is [`Error::Option`] for an id that the model does not have, and
    /// [`Error::TooLong`] for too many ids.
    pub(crate) fn prepare_ids(
        &self,
        texts: Vec<Vec<u32>>,
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        if options.prompt.is_some() || options.prompt_name.is_some() || options.task.is_some() {
            let problem =
                "a prompt goes before a text, and token ids are not text; leave the prompt out";
            return Err(Error::option("prompt", problem));
        }
        let cuts = options.on_too_long == OnTooLong::Truncate;
        let tokens = texts.into_iter().enumerate().map(|(text, mut ids)| {
            let untruncated = ids.len();
            let rows = self.model.tokenizer.rows();
            if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
                let problem =
                    format!("token id {id} does not exist in this model, which has {rows} tokens");
                return Err(Error::option(format!("text {text}"), problem));
            }
            if let Some(limit) = self.max_seq_length().filter(|limit| *limit < ids.len()) {
                if !cuts {
                    return Err(Error::TooLong { text, tokens: untruncated, limit });
                }
                ids.truncate(limit);
            }
            let (type_ids, seen) = (vec![0; ids.len()], ids.len());
            Ok(Tokens { ids, type_ids, prompt_len: 0, untruncated, seen })
        });
        let tokens = tokens.collect();
        Ok(self.check_all(0, tokens, options.on_too_long))
    }

    /// Returns the prompt and a text as one joined text, and the tokens of the joined text.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for an unknown prompt, and [`Error::Tokenizer`] if tokenizing fails.
    pub(crate) fn token_pieces(
        &self,
        text: &str,
        options: &EmbedOptions,
        special: bool,
    ) -> Result<(String, Vec<crate::tokenize::Piece>), Error> {
        let prompt = self.prompt(options.into())?.unwrap_or_default();
        let joined = format!("{prompt}{text}");
        let pieces = self.model.tokenizer.describe(&joined, special)?;
        Ok((joined, pieces))
    }

    /// Returns true if truncation removes the first tokens of a text, instead of its last tokens.
    pub(crate) fn truncates_left(&self) -> bool {
        self.model.tokenizer.truncates_left()
    }
}
