//! The models that a stream can run.

use crate::embedder::{
    EmbedOptions, EmbedTask, Embedder, MultiVector, MultiVectorEncoder, Prepared, RerankOptions,
    Reranker, SparseEncoder, SparseVector,
};
use crate::error::Error;
use crate::stream::{Encode, Ran};
use crate::tokenize::Tokens;

/// A text, or a pair, that is tokenized and checked for its model.
#[derive(Debug)]
pub struct Ready(Text);

#[derive(Debug)]
enum Text {
    Prepared(Prepared),
    /// There is nothing to run: its vector, its tokens, and whether it was cut.
    LookedUp(SparseVector, usize, bool),
}

impl Ready {
    #[cfg(test)]
    pub(super) fn of(prepared: Prepared) -> Self {
        Ready(Text::Prepared(prepared))
    }

    fn prepared(&self) -> Option<&Prepared> {
        match &self.0 {
            Text::Prepared(text) => Some(text),
            Text::LookedUp(..) => None,
        }
    }

    /// Its tokens, special ones included.
    pub fn tokens(&self) -> usize {
        match &self.0 {
            Text::Prepared(text) => text.tokens(),
            Text::LookedUp(_, tokens, _) => *tokens,
        }
    }

    /// True where it was cut to the model's length.
    pub fn truncated(&self) -> bool {
        match &self.0 {
            Text::Prepared(text) => text.truncated(),
            Text::LookedUp(_, _, truncated) => *truncated,
        }
    }
}

/// An embedder: a row is a vector, cut and normalised as the options say.
#[derive(Debug, Clone)]
pub struct Dense<'a> {
    /// The model.
    pub embedder: &'a Embedder,
    /// Its options.
    pub options: EmbedOptions,
}

/// A sparse encoder.
#[derive(Debug, Clone)]
pub struct Sparse<'a> {
    /// The model.
    pub encoder: &'a SparseEncoder,
    /// Its options.
    pub options: EmbedOptions,
}

/// A multi-vector encoder: a row is the vectors of a text's tokens.
#[derive(Debug, Clone)]
pub struct TokenVectors<'a> {
    /// The model.
    pub encoder: &'a MultiVectorEncoder,
    /// Its options, which say the side of a search.
    pub options: EmbedOptions,
}

/// A reranker and a query: a row is the scores of the query and a text.
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    /// The model.
    pub reranker: &'a Reranker,
    /// What the texts are scored against.
    pub query: &'a str,
    /// Its options.
    pub options: RerankOptions,
}

fn ready(prepared: Vec<Result<Prepared, Error>>) -> Vec<Result<Ready, Error>> {
    prepared.into_iter().map(|text| text.map(|text| Ready(Text::Prepared(text)))).collect()
}

fn run<R>(
    embedder: &Embedder,
    texts: &[&Ready],
    finish: impl Fn(&Prepared, Vec<f32>) -> Result<R, Error>,
) -> Result<Ran<R>, Error> {
    let texts: Vec<&Prepared> = texts.iter().filter_map(|text| text.prepared()).collect();
    let ran = pollster::block_on(embedder.run(&texts))?;
    let rows = texts.iter().zip(ran.rows).map(|(text, row)| finish(text, row?)).collect();
    Ok(Ran { rows, retried: ran.met.retried })
}

impl Encode for Dense<'_> {
    type Row = Vec<f32>;

    fn prepare(&self, texts: &[&str]) -> Result<Vec<Result<Ready, Error>>, Error> {
        self.embedder.prepare(texts, &self.options).map(ready)
    }

    fn run(&self, texts: &[&Ready]) -> Result<Ran<Vec<f32>>, Error> {
        run(self.embedder, texts, |_, row| self.embedder.finish(row, &self.options))
    }

    fn batch_tokens(&self) -> usize {
        self.embedder.batch_tokens()
    }

    fn row_bytes(&self) -> usize {
        self.embedder.dimension() * 4
    }
}

impl Encode for Sparse<'_> {
    type Row = SparseVector;

    fn prepare(&self, texts: &[&str]) -> Result<Vec<Result<Ready, Error>>, Error> {
        let Some(found) = self.encoder.look_up(texts, &self.options)? else {
            return self.encoder.prepare(texts, &self.options).map(ready);
        };
        let looked_up = |(vector, tokens): (SparseVector, Tokens)| {
            let count = tokens.ids.len();
            Ready(Text::LookedUp(vector, count, tokens.untruncated > count))
        };
        Ok(found.into_iter().map(|found| found.map(looked_up)).collect())
    }

    fn run(&self, texts: &[&Ready]) -> Result<Ran<SparseVector>, Error> {
        // All texts of a stream are on one side.
        let vector = |text: &&Ready| match &text.0 {
            Text::LookedUp(vector, ..) => Some(Ok(vector.clone())),
            Text::Prepared(_) => None,
        };
        if let Some(rows) = texts.iter().map(vector).collect::<Option<Vec<_>>>() {
            return Ok(Ran { rows, retried: 0 });
        }
        run(self.encoder.runs(), texts, |text, row| Ok(self.encoder.finish(text, &row)))
    }

    fn batch_tokens(&self) -> usize {
        self.encoder.runs().batch_tokens()
    }

    fn row_bytes(&self) -> usize {
        self.encoder.dimension() * 4
    }
}

impl Encode for TokenVectors<'_> {
    type Row = MultiVector;

    fn prepare(&self, texts: &[&str]) -> Result<Vec<Result<Ready, Error>>, Error> {
        self.encoder.prepare(texts, &self.options).map(ready)
    }

    fn run(&self, texts: &[&Ready]) -> Result<Ran<MultiVector>, Error> {
        let finish =
            |text: &Prepared, row: Vec<f32>| self.encoder.finish(text, &row, &self.options);
        run(self.encoder.runs(), texts, finish)
    }

    fn batch_tokens(&self) -> usize {
        self.encoder.runs().batch_tokens()
    }

    fn row_bytes(&self) -> usize {
        let side = self.options.task.unwrap_or(EmbedTask::Document);
        let tokens = self.encoder.max_seq_length(side).unwrap_or(self.batch_tokens());
        self.encoder.dimension() * tokens * 4
    }
}

impl Encode for Pairs<'_> {
    type Row = Vec<f32>;

    fn prepare(&self, texts: &[&str]) -> Result<Vec<Result<Ready, Error>>, Error> {
        let pairs: Vec<(&str, &str)> = texts.iter().map(|text| (self.query, *text)).collect();
        self.reranker.prepare(&pairs, &self.options).map(ready)
    }

    fn run(&self, texts: &[&Ready]) -> Result<Ran<Vec<f32>>, Error> {
        run(self.reranker.runs(), texts, |_, row| Ok(self.reranker.finish(row)))
    }

    fn batch_tokens(&self) -> usize {
        self.reranker.runs().batch_tokens()
    }

    fn row_bytes(&self) -> usize {
        self.reranker.labels() * 4
    }
}
