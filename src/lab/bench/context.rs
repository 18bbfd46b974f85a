//! Holds the state that all measurements on one adapter share.

use super::options::{BenchOptions, Progress};
use super::texts;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterChoice;

pub(super) struct Context<'a> {
    pub files: &'a ModelFiles,
    pub options: &'a BenchOptions,
    pub choice: AdapterChoice,
    pub corpus: Vec<String>,
    progress: Progress<'a>,
    /// The number of finished steps.
    done: usize,
    /// The number of all steps. The number is an estimate until the adapter is open.
    all: usize,
}

impl<'a> Context<'a> {
    pub fn new(
        files: &'a ModelFiles,
        options: &'a BenchOptions,
        choice: &'a AdapterChoice,
        progress: Progress<'a>,
    ) -> Self {
        let corpus = options.texts.as_ref().map_or_else(texts::built_in, |(_, t)| t.clone());
        let choice = choice.clone();
        Context { files, options, choice, corpus, progress, done: 0, all: 1 }
    }

    /// Reports to the caller that a step has begun.
    pub fn step(&mut self, what: &str) {
        self.describe(what);
        self.done += 1;
    }

    /// Reports a description of a part of the current step.
    pub fn describe(&mut self, what: &str) {
        (self.progress)(what, self.done, self.all);
    }

    /// Sets the number of steps that remain.
    pub fn expect(&mut self, steps: usize) {
        self.all = self.done + steps;
    }

    /// Reports that all steps are finished.
    pub fn finish(&mut self) {
        (self.progress)("done", self.all, self.all);
    }
}
