//! Converts the library's errors to exceptions of `vectile.errors`.

use pyo3::prelude::*;
use vectile::Error;

/// Returns the name of the class in `vectile.errors` for an error.
fn class(error: &Error) -> &'static str {
    match error {
        Error::File { .. } => "ModelFileError",
        Error::Config { .. } | Error::Tensor { .. } | Error::Tokenizer { .. } => "ModelError",
        Error::Unsupported { .. } => "UnsupportedModelError",
        Error::Option { .. } => "OptionError",
        Error::TooLong { .. } => "TooLongError",
        Error::NonFinite { .. } => "NonFiniteError",
        Error::Adapter { .. } => "AdapterError",
        Error::OutOfMemory { .. } | Error::TooLarge { .. } => "GpuMemoryError",
        Error::DeviceLost { .. } | Error::DeviceFault { .. } | Error::WrongRow { .. } => {
            "DeviceError"
        }
        Error::Hub { .. } => "HubError",
        _ => "InternalError",
    }
}

/// Returns the exception for an error of the library.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    named(py, class(error), error.to_string())
}

/// Returns an exception of the named class in `vectile.errors`.
pub fn named(py: Python<'_>, class: &str, message: String) -> PyErr {
    let made = py
        .import("vectile.errors")
        .and_then(|errors| errors.getattr(class))
        .and_then(|class| class.call1((message,)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Returns the exception for an invalid option.
pub fn option(py: Python<'_>, message: impl Into<String>) -> PyErr {
    named(py, "OptionError", message.into())
}

/// Converts the error of a result to an exception.
pub trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
