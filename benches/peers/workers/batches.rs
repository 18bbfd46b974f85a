//! Batches like those of sentence-transformers, for peers that are tensor libraries. Texts are truncated at the limit
//! in the model's files. They run in order of length, in batches of 32 that are padded to the longest text.

use std::error::Error;
use std::path::Path;

use serde_json::Value;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use crate::protocol::Vectors;

const TEXTS_OF_A_BATCH: usize = 32;

/// The token ids of a batch, row by row. Each row has `length` ids and is padded with 0.
pub struct Batch {
    pub texts: usize,
    pub length: usize,
    pub ids: Vec<u32>,
    /// The number of tokens of each text.
    pub lengths: Vec<usize>,
}

impl Batch {
    /// Returns 1 for each token and 0 for padding.
    pub fn mask<T: From<u8>>(&self) -> Vec<T> {
        let row = |length: &usize| {
            let length = *length;
            (0..self.length).map(move |i| T::from(u8::from(i < length)))
        };
        self.lengths.iter().flat_map(row).collect()
    }
}

/// The tokenizer of a sentence-transformers directory. The limit comes from `sentence_bert_config.json`. Truncation and
/// padding in `tokenizer.json` are ignored.
pub fn tokenizer(model: &Path) -> Result<Tokenizer, Box<dyn Error + Send + Sync>> {
    let mut tokenizer = Tokenizer::from_file(model.join("tokenizer.json"))?;
    let config: Value =
        serde_json::from_slice(&std::fs::read(model.join("sentence_bert_config.json"))?)?;
    let limit = config["max_seq_length"].as_u64().ok_or("no max_seq_length")?;
    let truncation = TruncationParams { max_length: usize::try_from(limit)?, ..Default::default() };
    tokenizer.with_truncation(Some(truncation))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Embeds `texts` with `run`, which returns the vectors of a batch. The length of a batch is a multiple of `multiple`.
pub fn embed(
    tokenizer: &Tokenizer,
    texts: &[String],
    multiple: usize,
    mut run: impl FnMut(&Batch) -> Result<Vec<f32>, Box<dyn Error>>,
) -> Result<Vectors, Box<dyn Error>> {
    let inputs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let encodings = tokenizer.encode_batch(inputs, true).map_err(|error| error.to_string())?;
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&text| std::cmp::Reverse(encodings[text].len()));
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
    for chunk in order.chunks(TEXTS_OF_A_BATCH) {
        let batch: Vec<&Encoding> = chunk.iter().map(|&text| &encodings[text]).collect();
        let values = run(&padded(&batch, multiple))?;
        let dim = values.len() / chunk.len();
        for (&text, row) in chunk.iter().zip(values.chunks_exact(dim)) {
            rows[text] = row.to_vec();
        }
    }
    Ok(Vectors {
        dim: rows.first().map_or(0, Vec::len),
        values: rows.concat(),
        tokens: encodings.iter().map(Encoding::len).sum(),
    })
}

fn padded(encodings: &[&Encoding], multiple: usize) -> Batch {
    let lengths: Vec<usize> = encodings.iter().map(|encoding| encoding.len()).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let length = longest.next_multiple_of(multiple);
    let row = |encoding: &&Encoding| {
        let mut ids = encoding.get_ids().to_vec();
        ids.resize(length, 0);
        ids
    };
    Batch { texts: encodings.len(), length, ids: encodings.iter().flat_map(row).collect(), lengths }
}
