//! [`TextModel`]: the trait of all four kinds of model, and the call that they share.

use std::borrow::Borrow;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use crate::config::ModelKind;
use crate::embedder::model::ModuleSummary;
use crate::embedder::run::{Prepared, Rechecked, RunCounts, Runner};
use crate::error::Error;

/// A loaded model of any kind: [`Embedder`](crate::Embedder), [`Reranker`](crate::Reranker),
/// [`SparseEncoder`](crate::SparseEncoder) or [`MultiVectorEncoder`](crate::MultiVectorEncoder).
///
/// A [`ModelBuilder`](crate::ModelBuilder) makes a model of any kind, and [`stream`](crate::stream::stream) runs it on
/// a stream of inputs. The steps are the same for every kind. [`prepare`](Self::prepare) tokenizes inputs on the host,
/// [`run`](Self::run) computes a row for each input on the device, and [`finish`](Self::finish) turns a row into a
/// result. If an input has an error at any step, the error takes the place of its result. The methods of the four
/// types, such as `embed`, do all steps in one call.
pub trait TextModel: Sized + Send + Sync {
    /// The kind of model that the files must hold.
    const KIND: ModelKind;

    /// One input: a text, or for a reranker a pair of texts.
    type Input<'a>: Copy + Sync;

    /// The options of a call, which apply to all of its inputs.
    type Options: Clone + Default + Send + Sync;

    /// The result of one input.
    type Row: Send;

    /// Returns a value of this type that wraps a loaded model.
    #[doc(hidden)]
    fn from_runner(runner: Runner) -> Result<Self, Error>;

    /// Returns the runner, which holds the loaded model and its device.
    #[doc(hidden)]
    fn runner(&self) -> &Runner;

    /// Returns the input for a text. The input is the text itself, or for a reranker the pair of `query` and the text.
    #[doc(hidden)]
    fn input<'a>(query: &'a str, text: &'a str) -> Self::Input<'a>;

    /// Returns the number of bytes of an input. The number of tokens is estimated from it.
    #[doc(hidden)]
    fn bytes(input: Self::Input<'_>) -> usize;

    /// Encodes inputs and passes each result to `take` as soon as it is computed, with the index of its input. If
    /// `take` returns [`ControlFlow::Break`], no further batch is started, and the call returns `None`. Results come in
    /// the order of the inputs. If an input has an error, the error takes the place of its result, and other inputs are
    /// not affected. Such an error may come before the results of earlier inputs.
    ///
    /// Inputs are tokenized in groups, each about as large as a batch, while the device runs earlier batches.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use vectile::{EmbedOptions, Embedder, ModelFiles, TextModel, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/bert_mean_norm";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let embedder = block_on(Embedder::builder(files).build())?;
    /// let texts = ["A cat sat on the roof.", "The dog ran."];
    /// let mut rows = 0;
    /// let counts = block_on(embedder.encode_each(&texts, &EmbedOptions::default(), |_index, row| {
    ///     rows += usize::from(row.is_ok());
    ///     ControlFlow::Continue(())
    /// }))?;
    /// assert_eq!((rows, counts.is_some()), (2, true));
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns errors about the options, and errors of the device.
    fn encode_each(
        &self,
        inputs: &[Self::Input<'_>],
        options: &Self::Options,
        take: impl FnMut(usize, Result<Self::Row, Error>) -> ControlFlow<()>,
    ) -> impl Future<Output = Result<Option<EncodeCounts>, Error>> {
        encode_each(self, inputs, options, take)
    }

    /// Tokenizes inputs on the host, without the device. Any thread may call this method. `first` is the index of
    /// `inputs[0]` in the caller's list, for error messages.
    ///
    /// # Errors
    /// Returns errors about the options.
    #[doc(hidden)]
    fn prepare(
        &self,
        first: usize,
        inputs: &[Self::Input<'_>],
        options: &Self::Options,
    ) -> Result<Vec<Result<Prepared, Error>>, Error>;

    /// Calls `more` for further texts until it returns `None`, runs these texts in batches, and passes the row of each
    /// text to `take`, in order. The host prepares a batch while the device has up to two earlier batches.
    ///
    /// # Errors
    /// Returns errors of the device, and the first error of `more` or `take`.
    #[doc(hidden)]
    fn run<P: Borrow<Prepared>>(
        &self,
        more: impl FnMut() -> Result<Option<Vec<P>>, Error>,
        take: impl FnMut(&Prepared, Result<&[f32], Error>) -> Result<(), Error>,
    ) -> impl Future<Output = Result<RunCounts, Error>> {
        self.runner().run(more, take)
    }

    /// Returns the result of a prepared input, computed from the row of the input.
    ///
    /// # Errors
    /// Returns errors about the options.
    #[doc(hidden)]
    fn finish(
        &self,
        input: &Prepared,
        row: &[f32],
        options: &Self::Options,
    ) -> Result<Self::Row, Error>;

    /// Returns the width of a result. Depending on the kind of model, the width is the number of values in a vector, of
    /// scores for a pair, of tokens in the vocabulary, or of values in one token's vector.
    fn dimension(&self) -> usize;

    /// Returns the maximum number of tokens of an input under these options. Longer inputs are truncated. Returns
    /// `None` if there is no limit.
    fn max_tokens(&self, options: &Self::Options) -> Option<usize>;

    /// Returns the maximum size, in bytes, of the row that the device computes for one input. The host may truncate the
    /// row later, or convert it to fewer bits.
    #[doc(hidden)]
    fn row_bytes(&self, options: &Self::Options) -> usize;

    /// Returns the name of the function that compares results; `None` if results are scores already.
    #[doc(hidden)]
    fn similarity_name(&self) -> Option<&'static str> {
        None
    }

    /// Returns counts of the rows that were computed a second time since the model was loaded. Returns `None` unless
    /// [`ModelBuilder::paranoid`](crate::ModelBuilder::paranoid) was set.
    fn rechecked(&self) -> Option<Rechecked> {
        self.runner().rechecked()
    }

    /// Returns descriptions of the steps that run on the host after the device, for `vectile inspect`.
    #[doc(hidden)]
    fn describe(&self) -> Vec<ModuleSummary>;
}

/// Counts of the inputs, tokens and unusual events of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodeCounts {
    /// The indices of the inputs that were truncated to the maximum length.
    pub truncated: Vec<usize>,
    /// The number of tokens of all inputs, special tokens included.
    pub tokens: usize,
    /// The number of inputs that were run again with f32 activations.
    pub retried: usize,
    /// The number of batches that ran out of GPU memory, and were run again as smaller batches.
    pub halved: usize,
}

/// Encodes any number of inputs and passes each result to `take`, in the order of the inputs.
///
/// # Errors
/// Returns the first error of an input, of the options, or of the device.
pub(super) async fn encode_all<M: TextModel>(
    model: &M,
    inputs: &[M::Input<'_>],
    options: &M::Options,
    mut take: impl FnMut(M::Row),
) -> Result<EncodeCounts, Error> {
    let mut failed = None;
    let counts = encode_each(model, inputs, options, |_, row| match row {
        Ok(row) => {
            take(row);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })
    .await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(counts.unwrap_or_default()),
    }
}

/// Implements [`TextModel::encode_each`].
async fn encode_each<M: TextModel>(
    model: &M,
    inputs: &[M::Input<'_>],
    options: &M::Options,
    take: impl FnMut(usize, Result<M::Row, Error>) -> ControlFlow<()>,
) -> Result<Option<EncodeCounts>, Error> {
    let mut counts = EncodeCounts::default();
    let mut portions = Portions::new(inputs, model.runner().batch_tokens());
    // If `take` requests a stop, an error ends the run. `stopped` distinguishes this error from errors of the device.
    // The mutex makes the future `Send`; no other function locks it.
    let receiver = Mutex::new(Receiver { take, stopped: false });
    let pass = |index: usize, row: Result<M::Row, Error>| {
        let mut receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
        match (receiver.take)(index, row) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                receiver.stopped = true;
                Err(Error::Internal(
                    "the caller stopped the call before all texts had vectors".to_owned(),
                ))
            }
        }
    };
    let more = || {
        let Some((first, inputs)) = portions.next(|input| M::bytes(*input)) else {
            return Ok(None);
        };
        let mut usable = Vec::with_capacity(inputs.len());
        for (at, prepared) in model.prepare(first, inputs, options)?.into_iter().enumerate() {
            match prepared {
                Ok(prepared) => usable.push(prepared),
                Err(error) => pass(first + at, Err(error))?,
            }
        }
        counts.tokens += usable.iter().map(Prepared::tokens).sum::<usize>();
        let cut = usable.iter().filter(|input| input.truncated());
        counts.truncated.extend(cut.map(|input| input.text));
        Ok(Some(usable))
    };
    let take = |input: &Prepared, row: Result<&[f32], Error>| {
        pass(input.text, row.and_then(|row| model.finish(input, row, options)))
    };
    let run = model.run(more, take).await;
    if receiver.into_inner().unwrap_or_else(PoisonError::into_inner).stopped {
        return Ok(None);
    }
    let RunCounts { retried, halved, .. } = run?;
    Ok(Some(EncodeCounts { retried, halved, ..counts }))
}

/// The caller's function that takes results. `stopped` is true once the function has requested a stop.
struct Receiver<F> {
    take: F,
    stopped: bool,
}

/// Splits inputs into portions of about a batch each, so that one portion is tokenized while another runs.
struct Portions<'a, T> {
    inputs: &'a [T],
    done: usize,
    bytes: usize,
}

impl<'a, T> Portions<'a, T> {
    /// Returns portions of about `batch_tokens` tokens each. The number of tokens is estimated: four bytes of an input
    /// count as one token.
    fn new(inputs: &'a [T], batch_tokens: usize) -> Self {
        Portions { inputs, done: 0, bytes: batch_tokens.saturating_mul(4) }
    }

    /// Returns the next portion and the index of its first input.
    fn next(&mut self, bytes: impl Fn(&T) -> usize) -> Option<(usize, &'a [T])> {
        let first = self.done;
        let mut taken = 0;
        while let Some(input) = self.inputs.get(self.done) {
            taken += bytes(input).max(1);
            self.done += 1;
            if taken >= self.bytes {
                break;
            }
        }
        (self.done > first).then(|| (first, &self.inputs[first..self.done]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_hold_about_a_batch_and_every_text_once() {
        let texts = ["a".repeat(100), String::new(), "b".repeat(5), "c".repeat(9), "d".into()];
        let lengths = |batch_tokens: usize| {
            let mut portions = Portions::new(&texts, batch_tokens);
            let mut firsts = Vec::new();
            while let Some((first, texts)) = portions.next(String::len) {
                firsts.push((first, texts.len()));
            }
            firsts
        };
        assert_eq!(lengths(1), [(0, 1), (1, 2), (3, 1), (4, 1)]);
        assert_eq!(lengths(3), [(0, 1), (1, 3), (4, 1)]);
        assert_eq!(lengths(1000), [(0, 5)]);
        assert_eq!(Portions::new(&[] as &[String], 1).next(String::len), None);
    }
}
