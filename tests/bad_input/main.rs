//! Tests damaged, unusual and hostile models and texts. Each must give a clear error or a correct result, and never a
//! panic or a hang. Each test breaks one thing, and uses only the public API.

#![allow(clippy::unwrap_used)]

mod checkpoints;
mod config;
mod families;
mod modules;
mod multi_vector;
#[cfg(unix)]
mod paths;
mod reports;
mod rerankers;
mod settings;
mod sparse;
mod statics;
#[path = "../support/mod.rs"]
mod support;
mod tensors;
mod texts;
mod tokenizer;
mod values;
mod weights;
mod weights_files;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use vectile::gpu::adapter::NoopAdapter;
use vectile::{
    AdapterChoice, DtypeRequest, Embedder, Error, ModelBuilder, ModelFiles, TextModel, block_on,
};

/// The variants of [`Error`], without their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Config,
    Unsupported,
    Tensor,
    Tokenizer,
    Option,
    Other,
}

pub(crate) fn kind(error: &Error) -> Kind {
    match error {
        Error::File { .. } => Kind::File,
        Error::Config { .. } => Kind::Config,
        Error::Unsupported { .. } => Kind::Unsupported,
        Error::Tensor { .. } => Kind::Tensor,
        Error::Tokenizer { .. } => Kind::Tokenizer,
        Error::Option { .. } => Kind::Option,
        _ => Kind::Other,
    }
}

/// Runs a function on its own thread. The test fails if it panics or takes longer than `seconds`.
pub(crate) fn within<T: Send + 'static>(
    seconds: u64,
    run: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(catch_unwind(AssertUnwindSafe(run)));
    });
    match receiver.recv_timeout(Duration::from_secs(seconds)) {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            panic!("it panicked: {}", text.unwrap_or("no message"))
        }
        Err(_) => panic!("no answer in {seconds} s"),
    }
}

/// Chooses an adapter that computes nothing but enforces the limits of a device.
pub(crate) fn noop() -> AdapterChoice {
    AdapterChoice::Noop(Box::new(NoopAdapter {
        shader_f16: true,
        subgroup_size: None,
        webgpu_default_limits: true,
        max_binding_bytes: None,
        software: false,
    }))
}

/// Checks that an error has the expected kind, contains the words, and is short and printable.
pub(crate) fn check_error(error: &Error, expected: Kind, words: &[&str]) {
    let message = error.to_string();
    assert_eq!(kind(error), expected, "{message}");
    assert!(error.is_user_error(), "{message}");
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
    assert!(message.len() < 1500, "{} bytes: {message:.300}", message.len());
    assert!(!message.contains(char::is_control), "control characters: {message:?}");
}

/// The files of a model, by name.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) dtype: DtypeRequest,
}

impl Model {
    /// Returns a valid model, which has a transformer, mean pooling and normalisation.
    pub(crate) fn good() -> Self {
        Self::fixture("bert_mean_norm")
    }

    pub(crate) fn fixture(name: &str) -> Self {
        let mut files = support::contents(name);
        for other in ["reference.safetensors", "fixture.json", "texts.json", "pairs.json"] {
            files.remove(other);
        }
        Model { files, dtype: DtypeRequest::Auto }
    }

    pub(crate) fn file(mut self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        self.files.insert(name.to_owned(), contents.as_ref().to_vec());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        assert!(self.files.remove(name).is_some(), "no {name}");
        self
    }

    pub(crate) fn dtype(mut self, dtype: DtypeRequest) -> Self {
        self.dtype = dtype;
        self
    }

    /// Changes a JSON file.
    pub(crate) fn edit(mut self, name: &str, edit: impl FnOnce(&mut Value)) -> Self {
        let mut value = serde_json::from_slice(&self.files[name]).unwrap();
        edit(&mut value);
        self.files.insert(name.to_owned(), serde_json::to_vec(&value).unwrap());
        self
    }

    /// Sets a field of a JSON file.
    pub(crate) fn set(self, name: &str, field: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.edit(name, |file| file[field] = value)
    }

    /// Sets a field of `config.json`.
    pub(crate) fn config(self, field: &str, value: impl Into<Value>) -> Self {
        self.set("config.json", field, value)
    }

    /// Removes a field of a JSON file.
    pub(crate) fn unset(self, name: &str, field: &str) -> Self {
        self.edit(name, |file| {
            assert!(file.as_object_mut().unwrap().remove(field).is_some(), "no {field}");
        })
    }

    /// Changes the bytes of a file.
    pub(crate) fn bytes(mut self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Self {
        edit(self.files.get_mut(name).unwrap());
        self
    }

    pub(crate) fn build(&self) -> Result<Embedder, Error> {
        let (files, dtype) = (self.files.clone(), self.dtype);
        within(20, move || build(ModelFiles::from_bytes(files)?, dtype))
    }

    /// Checks that the model is refused with an error of this kind, and that the error contains these words.
    pub(crate) fn refused(&self, expected: Kind, words: &[&str]) {
        match self.build() {
            Ok(_) => panic!("loaded, and should say {words:?}"),
            Err(error) => check_error(&error, expected, words),
        }
    }

    /// Checks that the model loads and embeds texts.
    pub(crate) fn loads(&self) -> Embedder {
        let embedder = self.build().unwrap_or_else(|error| panic!("{error}"));
        embeds(embedder)
    }

    /// Writes the model's files into a directory.
    pub(crate) fn write(&self, directory: &Path) {
        for (name, contents) in &self.files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
    }
}

/// Like [`Model::refused`], for a model that is not loaded as an embedder.
pub(crate) fn refused_as<M: TextModel + Send + 'static>(
    builder: fn(ModelFiles) -> ModelBuilder<M>,
    model: Model,
    expected: Kind,
    words: &[&str],
) {
    let built = within(20, move || {
        block_on(builder(ModelFiles::from_bytes(model.files)?).adapter(noop()).build())
    });
    match built {
        Ok(_) => panic!("loaded, and should say {words:?}"),
        Err(error) => check_error(&error, expected, words),
    }
}

/// Checks that each text gives a row of the right width.
pub(crate) fn embeds(embedder: Embedder) -> Embedder {
    within(20, move || {
        let got = block_on(embedder.embed(&["One text.", "", "And another one!"])).unwrap();
        assert_eq!((got.len(), got.dim), (3, embedder.dimension()));
        assert!(got.values.iter().all(|value| value.is_finite()));
        embedder
    })
}

pub(crate) fn build(files: ModelFiles, dtype: DtypeRequest) -> Result<Embedder, Error> {
    block_on(Embedder::builder(files).adapter(noop()).dtype(dtype).build())
}

#[test]
fn the_good_model_loads() {
    let embedder = Model::good().loads();
    assert!(embedder.notes().is_empty(), "{:?}", embedder.notes());
}
