//! Errors of the library as errors of JavaScript.

use js_sys::{Error as JsError, Reflect};
use vectile::Error;
use wasm_bindgen::JsValue;

/// The word of an error's kind, on which a program can branch.
fn code(error: &Error) -> &'static str {
    match error {
        Error::File { .. } => "file",
        Error::Config { .. } => "config",
        Error::Unsupported { .. } => "unsupported",
        Error::Tensor { .. } => "tensor",
        Error::Tokenizer { .. } => "tokenizer",
        Error::Option { .. } => "option",
        Error::TooLong { .. } => "too-long",
        Error::NonFinite { .. } => "non-finite",
        Error::Adapter { .. } => "adapter",
        Error::OutOfMemory { .. } => "out-of-memory",
        Error::TooLarge { .. } => "too-large",
        Error::DeviceLost { .. } => "device-lost",
        Error::DeviceFault { .. } | Error::WrongRow { .. } => "device-fault",
        _ => "internal",
    }
}

/// Returns an `Error` with the library's sentence, its `code`, and for an error of one text its index `text`.
pub fn of(error: Error) -> JsValue {
    let made = with_code(&error.to_string(), code(&error));
    if let Error::TooLong { text, .. } | Error::NonFinite { text, .. } = error {
        set(&made, "text", JsValue::from(text as u32));
    }
    made
}

/// Returns an `Error` about an option that is not the library's.
pub fn option(problem: &str) -> JsValue {
    with_code(problem, "option")
}

/// Returns the `Error` of a call that its caller stopped.
pub fn aborted() -> JsValue {
    let error = with_code("the call was stopped", "aborted");
    set(&error, "name", JsValue::from("AbortError"));
    error
}

fn with_code(message: &str, code: &str) -> JsValue {
    let error = JsValue::from(JsError::new(message));
    set(&error, "code", JsValue::from(code));
    error
}

fn set(error: &JsValue, name: &str, value: JsValue) {
    // Setting a field fails only on objects that are frozen, and the error was just made.
    let _ = Reflect::set(error, &JsValue::from(name), &value);
}
