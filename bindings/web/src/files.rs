//! A model's files, which JavaScript reads.

use std::sync::Arc;

use js_sys::{Function, Uint8Array};
use sha2::{Digest, Sha256};
use vectile::{ModelFiles, ReadAt};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::error;

/// The files of a model, added one after another.
#[wasm_bindgen]
pub struct Files {
    label: String,
    files: Vec<(String, Arc<dyn ReadAt>)>,
}

#[wasm_bindgen]
impl Files {
    /// No files yet. `label` is the model's name in messages.
    #[wasm_bindgen(constructor)]
    pub fn new(label: String) -> Files {
        Files { label, files: Vec::new() }
    }

    /// Adds a file of `size` bytes. `read(offset, length)` returns its bytes as an `Uint8Array`, at once.
    pub fn add(&mut self, name: String, size: f64, read: Function) {
        self.files.push((name, Arc::new(JsFile { size: size as u64, read })));
    }
}

impl Files {
    /// The files as the library takes them.
    pub fn into_model(self) -> Result<ModelFiles, JsValue> {
        ModelFiles::from_sources(self.label, self.files).map_err(error::of)
    }
}

/// A SHA-256 of bytes that arrive in pieces. Browsers compute one only of bytes that are in memory as a whole.
#[wasm_bindgen]
#[derive(Default)]
pub struct Hash(Sha256);

#[wasm_bindgen]
impl Hash {
    /// A digest of no bytes.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Hash {
        Hash::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest in hexadecimal digits, and starts again.
    pub fn finish(&mut self) -> String {
        self.0.finalize_reset().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

struct JsFile {
    size: u64,
    read: Function,
}

// SAFETY: without the target feature `atomics`, wasm32 has one thread, so no other thread can use the function.
unsafe impl Send for JsFile {}
// SAFETY: as above.
unsafe impl Sync for JsFile {}

impl ReadAt for JsFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let (offset, length) = (JsValue::from(offset as f64), JsValue::from(into.len() as f64));
        let read = self.read.call2(&JsValue::NULL, &offset, &length).map_err(|thrown| {
            let thrown =
                thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
            format!("cannot be read: {}", thrown.unwrap_or_else(|| "the read failed".to_owned()))
        })?;
        match read.dyn_into::<Uint8Array>() {
            Ok(bytes) if bytes.length() as usize == into.len() => {
                bytes.copy_to(into);
                Ok(())
            }
            _ => Err("became shorter while it was read; load the model again".to_owned()),
        }
    }
}
