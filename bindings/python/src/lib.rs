//! The compiled part of the Python package `vectile`. The Python modules of the package check arguments and call this
//! crate.
//!
//! | module | contents |
//! |---|---|
//! | `error` | converts the library's errors to Python exceptions |
//! | `fork` | refuses calls after `fork` |
//! | `work` | runs a call on another thread, so that Ctrl-C is noticed and the GIL is released |
//! | `array` | numbers that numpy and Arrow read without a copy |
//! | `texts` | texts from Python strings and from Arrow arrays, without a copy |
//! | `options` | settings of a load and of a call, from keyword arguments |
//! | `model` | a loaded model of any kind |
//! | `rows` | similarities, searches and quantization of rows that Python holds |
//! | `lab` | `verify` and `bench` |

mod array;
mod error;
mod fork;
mod lab;
mod model;
mod options;
mod rows;
mod texts;
mod work;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::array::Array;
    #[pymodule_export]
    use super::lab::{bench, verify};
    #[pymodule_export]
    use super::model::{Encoded, Model, adapters, kind_of};
    #[pymodule_export]
    use super::rows::{quantize, semantic_search, similarity};
    #[pymodule_export]
    use super::work::wait_for_workers;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
