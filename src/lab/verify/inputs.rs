//! Collects the texts that a verification runs, and the reference vectors.

use super::reference::Reference;
use super::texts;
use crate::embedder::{EmbedOptions, Embedder};
use crate::error::Error;

/// Options of [`verify`](super::verify()): the texts, the reference vectors, and the places where the verdict is
/// stored.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The name of the texts' source, for reports, and the texts to measure on. `None` means the built-in texts, two of
    /// which are as long as the model allows.
    pub texts: Option<(String, Vec<String>)>,
    /// The reference vectors. `None` means the vectors that Vectile ships for the model, if any.
    pub reference: Option<Reference>,
    /// If true, the verdict is also written into the model's directory, so that a copy of the model contains it.
    pub write_beside: bool,
}

/// The texts to run: first the texts to measure on, then the texts of the reference.
pub(super) struct Inputs {
    /// The source of the texts to measure on: a file's name, or `built-in`.
    pub source: String,
    pub texts: Vec<String>,
    pub first_of_reference: usize,
    pub reference: Option<Reference>,
}

impl Inputs {
    /// Returns the texts and the reference of the options, or else the texts and the reference that Vectile ships.
    pub fn new(
        model: &Embedder,
        options: &VerifyOptions,
        weights_sha256: &str,
    ) -> Result<Self, Error> {
        let reference = match &options.reference {
            Some(reference) => Some(reference.clone()),
            None => Reference::shipped(weights_sha256)?,
        };
        let (source, mut texts) = match &options.texts {
            Some((source, texts)) => (source.clone(), texts.clone()),
            None => ("built-in".to_owned(), built_in(model)?),
        };
        if texts.is_empty() {
            return Err(Error::option("texts", "no text is given; give at least one"));
        }
        let first_of_reference = texts.len();
        texts.extend(reference.iter().flat_map(|reference| reference.texts.iter().cloned()));
        Ok(Inputs { source, texts, first_of_reference, reference })
    }
}

/// Returns the built-in texts that have at least one token. The longest texts have as many words as the model's maximum
/// number of tokens. This number of words is limited to 512 on a software adapter, so that a run takes only seconds,
/// and to 8192 on a GPU.
fn built_in(model: &Embedder) -> Result<Vec<String>, Error> {
    let most = if model.adapter().is_software() { 512 } else { 8192 };
    let texts = texts::built_in(model.max_seq_length().unwrap_or(512).min(most));
    let tokens = model.tokenize(&texts, &EmbedOptions::default())?;
    let with_tokens = texts.into_iter().zip(tokens).filter(|(_, tokens)| !tokens.is_empty());
    Ok(with_tokens.map(|(text, _)| text).collect())
}
