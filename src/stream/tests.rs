//! Tests the promises of a stream about windows, order and ends, with a fake model that needs no device.

use std::borrow::Borrow;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use super::*;
use crate::ModelKind;
use crate::embedder::{ModuleSummary, RunCounts, Runner};

/// A fake model. The row of a text is the text's length, which is read from its tokens. The text `x` cannot
/// be tokenized, and the text `nan` cannot be run.
struct Lengths {
    run: Mutex<Vec<usize>>,
}

impl Lengths {
    fn new() -> Self {
        Lengths { run: Mutex::default() }
    }
}

fn bad(text: &str) -> Error {
    Error::option(text, "is bad")
}

impl TextModel for Lengths {
    const KIND: ModelKind = ModelKind::Dense;
    type Input<'a> = &'a str;
    type Options = ();
    type Row = usize;

    fn from_runner(_runner: Runner) -> Result<Self, Error> {
        Ok(Lengths::new())
    }

    fn runner(&self) -> &Runner {
        unreachable!("this model has no device")
    }

    fn input<'a>(_query: &'a str, text: &'a str) -> &'a str {
        text
    }

    fn bytes(input: &str) -> usize {
        input.len()
    }

    fn prepare(
        &self,
        _first: usize,
        texts: &[&str],
        _options: &(),
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let prepare = |text: &&str| match *text {
            "x" => Err(bad("x")),
            text => Ok(Prepared::of_tokens(text.len())),
        };
        Ok(texts.iter().map(prepare).collect())
    }

    async fn run<P: Borrow<Prepared>>(
        &self,
        mut more: impl FnMut() -> Result<Option<Vec<P>>, Error>,
        mut take: impl FnMut(&Prepared, Result<&[f32], Error>) -> Result<(), Error>,
    ) -> Result<RunCounts, Error> {
        let mut counts = RunCounts::default();
        while let Some(texts) = more()? {
            counts.retried += 1;
            for text in &texts {
                let text = text.borrow();
                let length = text.tokens();
                self.run.lock().unwrap().push(length);
                match length {
                    3 => take(text, Err(bad("nan")))?,
                    _ => take(text, Ok(&[length as f32]))?,
                }
            }
        }
        Ok(counts)
    }

    fn finish(&self, _text: &Prepared, row: &[f32], _options: &()) -> Result<usize, Error> {
        Ok(row[0] as usize)
    }

    fn dimension(&self) -> usize {
        1
    }

    fn max_tokens(&self, _options: &()) -> Option<usize> {
        None
    }

    fn row_bytes(&self, _options: &()) -> usize {
        8
    }

    fn describe(&self) -> Vec<ModuleSummary> {
        Vec::new()
    }
}

/// A window of texts, with the number of its first text.
struct Numbered {
    texts: Vec<Option<String>>,
    first: usize,
}

impl Window for Numbered {
    fn texts(&self) -> &[Option<String>] {
        &self.texts
    }
}

/// Returns a source of texts with many lengths, in windows of the size that the stream requests.
fn texts(count: usize) -> impl FnMut(usize) -> Result<Option<Numbered>, Error> {
    let mut done = 0;
    move |most| {
        let first = done;
        done = (done + most).min(count);
        let text = |i: usize| (i % 11 != 5).then(|| "a".repeat(4 + i * 7 % 9));
        let window = Numbered { texts: (first..done).map(text).collect(), first };
        Ok((first < done).then_some(window))
    }
}

#[test]
fn rows_come_in_order_and_texts_are_run_by_length() {
    let model = Lengths::new();
    let mut rows: Vec<Option<usize>> = Vec::new();
    let take = |window: WindowRows<Numbered, usize>| -> Result<(), Error> {
        assert_eq!(window.window.first, rows.len());
        assert_eq!(window.window.texts.len(), window.rows.len());
        rows.extend(window.rows.into_iter().map(|row| row.map(Result::unwrap)));
        Ok(())
    };
    let mut seen = 0;
    let watch = |event: Event<'_, Numbered>| {
        if let Event::Ran { texts, .. } = event {
            seen += texts;
        }
        true
    };
    assert_eq!(stream(&Job::new(&model, ()), texts(1000), take, watch).unwrap(), End::Whole);
    let expected: Vec<Option<usize>> =
        (0..1000).map(|i| (i % 11 != 5).then_some(4 + i * 7 % 9)).collect();
    assert_eq!(rows, expected);
    let run = model.run.into_inner().unwrap();
    assert_eq!(run.len(), seen);
    let first = (0..pace::FIRST_TEXTS).filter(|i| i % 11 != 5).count();
    assert!(run[..first].is_sorted_by(|a, b| a >= b), "{:?}", &run[..first]);
    assert_eq!(run[0], 12);
}

#[test]
fn an_error_of_one_text_stands_in_its_place() {
    let model = Lengths::new();
    let words = ["aaaa", "x", "nan", "bb"];
    let mut windows = vec![words.map(|word| Some(word.to_owned())).to_vec()];
    let source = move |_| -> Result<Option<Vec<Option<String>>>, Error> { Ok(windows.pop()) };
    let mut found = Vec::new();
    let take = |rows: WindowRows<Vec<Option<String>>, usize>| -> Result<(), Error> {
        found.extend(rows.rows.into_iter().flatten());
        Ok(())
    };
    assert_eq!(stream(&Job::new(&model, ()), source, take, |_| true).unwrap(), End::Whole);
    assert_eq!(found, [Ok(4), Err(bad("x")), Err(bad("nan")), Ok(2)]);
}

#[test]
fn the_first_error_ends_the_stream() {
    let taken = Arc::new(AtomicUsize::new(0));
    let run = |fails_at: usize, takes: usize| {
        let mut source = texts(1_000_000);
        let mut windows = 0;
        let read = move |most| {
            windows += 1;
            if windows == fails_at { Err(bad("source")) } else { source(most) }
        };
        let counted = taken.clone();
        counted.store(0, Ordering::Relaxed);
        let take =
            move |_: WindowRows<Numbered, usize>| match counted.fetch_add(1, Ordering::Relaxed) {
                before if before == takes => Err(bad("taker")),
                _ => Ok(()),
            };
        stream(&Job::new(&Lengths::new(), ()), read, take, |_| true).unwrap_err()
    };
    // The receiver gets all windows that were read before the error. Only then does it get the error.
    assert_eq!(run(4, usize::MAX), bad("source"));
    assert_eq!(taken.load(Ordering::Relaxed), 3);
    assert_eq!(run(usize::MAX, 2), bad("taker"));
}

#[test]
fn a_stream_stops_though_its_source_waits_for_ever() {
    let (never, wait) = std::sync::mpsc::channel::<()>();
    let mut given = false;
    let read = move |_| -> Result<Option<Vec<Option<String>>>, Error> {
        if given {
            let _ = wait.recv();
        }
        given = true;
        Ok(Some(vec![Some("aaaa".to_owned())]))
    };
    let taken = AtomicUsize::new(0);
    let take = |_: WindowRows<Vec<Option<String>>, usize>| -> Result<(), Error> {
        taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let watch = |event: Event<'_, Vec<Option<String>>>| {
        !(matches!(event, Event::Waiting) && taken.load(Ordering::Relaxed) == 1)
    };
    assert_eq!(stream(&Job::new(&Lengths::new(), ()), read, take, watch).unwrap(), End::Stopped);
    drop(never);
}

#[test]
fn a_panic_of_the_source_reaches_the_caller() {
    let read = |_| -> Result<Option<Vec<Option<String>>>, Error> { panic!("in the reader") };
    let take = |_: WindowRows<Vec<Option<String>>, usize>| Ok(());
    let ended = catch_unwind(AssertUnwindSafe(|| {
        stream(&Job::new(&Lengths::new(), ()), read, take, |_| true)
    }));
    assert!(ended.is_err());
}
