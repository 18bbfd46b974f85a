//! Reads texts from Python strings, and from Arrow arrays of any library, without a copy.

use std::ffi::CStr;

use arrow_array::cast::AsArray;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::ffi_stream::{ArrayStreamReader, FFI_ArrowArrayStream};
use arrow_array::{Array, ArrayRef, make_array};
use arrow_schema::{ArrowError, DataType};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyList};

use crate::error::option;

const SCHEMA_NAME: &CStr = c"arrow_schema";
const ARRAY_NAME: &CStr = c"arrow_array";
const STREAM_NAME: &CStr = c"arrow_array_stream";

/// Texts in the memory of Python or Arrow.
pub enum Texts {
    Python(Vec<PyBackedStr>),
    Arrow(Vec<ArrayRef>),
}

impl Texts {
    /// Reads a list of strings, or an object with `__arrow_c_stream__` or `__arrow_c_array__`.
    ///
    /// # Errors
    /// `TypeError`, which names the item that is not a text.
    pub fn read(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(list) = given.cast::<PyList>() {
            let text = |(at, item): (usize, Bound<'_, PyAny>)| {
                item.extract::<PyBackedStr>().map_err(|_| {
                    let kind = item.get_type();
                    let kind = kind.name().map(|name| name.to_string()).unwrap_or_default();
                    let py = item.py();
                    if kind == "str" {
                        return option(
                            py,
                            format!("input {at} holds a lone surrogate, which is not text"),
                        );
                    }
                    PyTypeError::new_err(format!(
                        "input {at} is of type {kind}; a string is expected"
                    ))
                })
            };
            return Ok(Texts::Python(list.iter().enumerate().map(text).collect::<PyResult<_>>()?));
        }
        let py = given.py();
        let wrong =
            |error: ArrowError| option(py, format!("the Arrow data cannot be read: {error}"));
        let arrays = if given.hasattr("__arrow_c_stream__")? {
            let capsule = given.call_method0("__arrow_c_stream__")?;
            let capsule = capsule.cast::<PyCapsule>()?;
            let stream = capsule.pointer_checked(Some(STREAM_NAME))?.as_ptr();
            // SAFETY: a capsule named `STREAM_NAME` holds an Arrow stream. `from_raw` moves the stream out of the
            // capsule.
            let reader =
                unsafe { ArrayStreamReader::from_raw(stream.cast::<FFI_ArrowArrayStream>()) };
            let arrays: Result<Vec<ArrayRef>, ArrowError> = reader.map_err(wrong)?.collect();
            arrays.map_err(wrong)?
        } else {
            let capsules = given.call_method0("__arrow_c_array__")?;
            let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) =
                capsules.extract()?;
            let schema = schema.pointer_checked(Some(SCHEMA_NAME))?.as_ptr();
            let array = array.pointer_checked(Some(ARRAY_NAME))?.as_ptr();
            // SAFETY: capsules with the names `SCHEMA_NAME` and `ARRAY_NAME` hold these structs. `from_raw` moves the
            // structs out of the capsules.
            let data = unsafe {
                let schema = FFI_ArrowSchema::from_raw(schema.cast());
                from_ffi(FFI_ArrowArray::from_raw(array.cast()), &schema)
            };
            vec![make_array(data.map_err(wrong)?)]
        };
        let columns: PyResult<Vec<ArrayRef>> =
            arrays.into_iter().map(|array| column(py, array)).collect();
        Ok(Texts::Arrow(columns?))
    }

    /// Returns the texts. A null of Arrow is returned as `None`.
    pub fn all(&self) -> Vec<Option<&str>> {
        match self {
            Texts::Python(texts) => texts.iter().map(|text| Some(&**text)).collect(),
            Texts::Arrow(arrays) => arrays.iter().flat_map(|array| strings(array)).collect(),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Texts::Python(texts) => texts.len(),
            Texts::Arrow(arrays) => arrays.iter().map(|array| array.len()).sum(),
        }
    }
}

/// Returns the column of texts: the array itself, or the only column of a table.
fn column(py: Python<'_>, array: ArrayRef) -> PyResult<ArrayRef> {
    let array = match array.data_type() {
        DataType::Struct(fields) if fields.len() == 1 => array.as_struct().column(0).clone(),
        DataType::Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            let names = names.join(", ");
            return Err(option(
                py,
                format!("the table has the columns {names}; select the one with the texts"),
            ));
        }
        _ => array,
    };
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(array),
        // A column whose values are all null may have this type.
        DataType::Null => Ok(array),
        other => Err(PyTypeError::new_err(format!(
            "the Arrow array has the type {other}; texts of the type utf8, large_utf8 or utf8_view are expected"
        ))),
    }
}

fn strings(array: &ArrayRef) -> Vec<Option<&str>> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().collect(),
        DataType::Utf8View => array.as_string_view().iter().collect(),
        // `column` refuses arrays of other types, except of nulls.
        _ => vec![None; array.len()],
    }
}
