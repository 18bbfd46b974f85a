//! A model that is none: what a stream promises of windows, order and ends.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use super::*;
use crate::embedder::Prepared;

/// A row is the length of its text, told from the tokens. `x` cannot be tokenized, `nan` cannot be run.
struct Lengths {
    runs: Mutex<Vec<Vec<usize>>>,
}

impl Lengths {
    fn new() -> Self {
        Lengths { runs: Mutex::default() }
    }
}

fn bad(text: &str) -> Error {
    Error::option(text, "is bad")
}

impl Encode for Lengths {
    type Row = usize;

    fn prepare(&self, texts: &[&str]) -> Result<Vec<Result<Ready, Error>>, Error> {
        let ready = |text: &&str| match *text {
            "x" => Err(bad("x")),
            text => Ok(Ready::of(Prepared::of_tokens(text.len()))),
        };
        Ok(texts.iter().map(ready).collect())
    }

    fn run(&self, texts: &[&Ready]) -> Result<Ran<usize>, Error> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.tokens()).collect();
        self.runs.lock().unwrap().push(lengths.clone());
        let row = |length: usize| if length == 3 { Err(bad("nan")) } else { Ok(length) };
        Ok(Ran { rows: lengths.into_iter().map(row).collect(), retried: 1 })
    }

    fn batch_tokens(&self) -> usize {
        10
    }

    fn row_bytes(&self) -> usize {
        8
    }
}

/// Texts of many lengths in windows as they are wanted, each with the number of its first text.
fn texts(count: usize) -> impl FnMut(usize) -> Result<Option<Window<usize>>, Error> {
    let mut done = 0;
    move |most| {
        let first = done;
        done = (done + most).min(count);
        let text = |i: usize| (i % 11 != 5).then(|| "a".repeat(4 + i * 7 % 9));
        let window = Window { texts: (first..done).map(text).collect(), about: first };
        Ok((first < done).then_some(window))
    }
}

#[test]
fn rows_come_in_order_and_texts_are_run_by_length() {
    let model = Lengths::new();
    let mut rows: Vec<Option<usize>> = Vec::new();
    let take = |window: Rows<usize, usize>| -> Result<(), Error> {
        assert_eq!(window.window.about, rows.len());
        assert_eq!(window.window.texts.len(), window.rows.len());
        rows.extend(window.rows.into_iter().map(|row| row.map(Result::unwrap)));
        Ok(())
    };
    let mut seen = 0;
    let watch = |event: Event<'_, usize>| {
        if let Event::Ran { texts, .. } = event {
            seen += texts;
        }
        true
    };
    assert_eq!(stream(&model, texts(1000), take, watch).unwrap(), End::Whole);
    let expected: Vec<Option<usize>> =
        (0..1000).map(|i| (i % 11 != 5).then_some(4 + i * 7 % 9)).collect();
    assert_eq!(rows, expected);
    let runs = model.runs.into_inner().unwrap();
    assert_eq!(runs.iter().map(Vec::len).sum::<usize>(), seen);
    for run in &runs {
        assert!(run.is_sorted_by(|a, b| a >= b), "{run:?}");
    }
    // The first run is a batch, and a longer text goes alone.
    assert_eq!(runs[0], [12]);
}

#[test]
fn what_is_wrong_with_a_text_is_its_own() {
    let model = Lengths::new();
    let words = ["aaaa", "x", "nan", "bb"];
    let mut windows = vec![words.map(|word| Some(word.to_owned())).to_vec()];
    let source = move |_| -> Result<Option<Window<()>>, Error> {
        Ok(windows.pop().map(|texts| Window { texts, about: () }))
    };
    let mut found = Vec::new();
    let take = |rows: Rows<(), usize>| -> Result<(), Error> {
        found.extend(rows.rows.into_iter().flatten());
        Ok(())
    };
    assert_eq!(stream(&model, source, take, |_| true).unwrap(), End::Whole);
    assert_eq!(found, [Ok(4), Err(bad("x")), Err(bad("nan")), Ok(2)]);
}

#[test]
fn the_first_to_fail_ends_it() {
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
        let take = move |_: Rows<usize, usize>| match counted.fetch_add(1, Ordering::Relaxed) {
            before if before == takes => Err(bad("taker")),
            _ => Ok(()),
        };
        stream(&Lengths::new(), read, take, |_| true).unwrap_err()
    };
    // What was read before is taken before.
    assert_eq!(run(4, usize::MAX), bad("source"));
    assert_eq!(taken.load(Ordering::Relaxed), 3);
    assert_eq!(run(usize::MAX, 2), bad("taker"));
}

#[test]
fn it_stops_when_it_is_told_to_though_its_source_waits_for_ever() {
    let (never, wait) = std::sync::mpsc::channel::<()>();
    let mut given = false;
    let read = move |_| -> Result<Option<Window<()>>, Error> {
        if given {
            let _ = wait.recv();
        }
        given = true;
        Ok(Some(Window { texts: vec![Some("aaaa".to_owned())], about: () }))
    };
    let taken = AtomicUsize::new(0);
    let take = |_: Rows<(), usize>| -> Result<(), Error> {
        taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let watch = |event: Event<'_, ()>| {
        !(matches!(event, Event::Waiting) && taken.load(Ordering::Relaxed) == 1)
    };
    assert_eq!(stream(&Lengths::new(), read, take, watch).unwrap(), End::Stopped);
    drop(never);
}

#[test]
fn a_reader_that_panics_panics_for_all() {
    let read = |_| -> Result<Option<Window<()>>, Error> { panic!("in the reader") };
    let take = |_: Rows<(), usize>| Ok(());
    let ended = catch_unwind(AssertUnwindSafe(|| stream(&Lengths::new(), read, take, |_| true)));
    assert!(ended.is_err());
}
