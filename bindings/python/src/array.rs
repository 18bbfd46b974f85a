//! [`Array`]: numbers that numpy and Arrow read without a copy.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, to_ffi};
use arrow_array::types::{Float16Type, Float32Type, Int8Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array as _, ArrayRef, ArrowPrimitiveType, FixedSizeListArray, PrimitiveArray};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow_schema::Field;
use half::f16;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyTuple};

use crate::error::named;

const SCHEMA_NAME: &CStr = c"arrow_schema";
const ARRAY_NAME: &CStr = c"arrow_array";

/// Contiguous numbers of one type.
#[derive(Debug)]
pub enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    U32(Vec<u32>),
    I64(Vec<i64>),
}

impl Values {
    /// Returns the address of the first value, and numpy's name of the type.
    fn address(&self) -> (usize, &'static str) {
        match self {
            Values::F32(values) => (values.as_ptr() as usize, "<f4"),
            Values::F16(values) => (values.as_ptr() as usize, "<f2"),
            Values::I8(values) => (values.as_ptr() as usize, "|i1"),
            Values::U8(values) => (values.as_ptr() as usize, "|u1"),
            Values::U32(values) => (values.as_ptr() as usize, "<u4"),
            Values::I64(values) => (values.as_ptr() as usize, "<i8"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F16(values) => values.len(),
            Values::I8(values) => values.len(),
            Values::U8(values) => values.len(),
            Values::U32(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }
}

/// Numbers with a shape. numpy reads the numbers through `__array_interface__`, and Arrow libraries read them through
/// `__arrow_c_array__`. Both keep this object alive.
#[pyclass(frozen, module = "vectile._core")]
pub struct Array {
    values: Arc<Values>,
    #[pyo3(get)]
    shape: Vec<usize>,
    /// For Arrow: whether each row is valid. `None` if all rows are valid.
    valid: Option<Vec<bool>>,
}

impl Array {
    pub fn new(values: Values, shape: Vec<usize>) -> Self {
        Array { values: Arc::new(values), shape, valid: None }
    }

    /// Returns an array of rows, some of which are null.
    pub fn with_nulls(values: Values, shape: Vec<usize>, valid: Option<Vec<bool>>) -> Self {
        Array { values: Arc::new(values), shape, valid }
    }

    fn primitive<T: ArrowPrimitiveType>(&self, bytes: usize) -> ArrayRef {
        let (address, _) = self.values.address();
        let buffer = match NonNull::new(address as *mut u8) {
            // SAFETY: the memory at `address` holds all values, and the buffer keeps the values alive.
            Some(address) => unsafe {
                Buffer::from_custom_allocation(
                    address,
                    self.values.len() * bytes,
                    Arc::new(self.values.clone()),
                )
            },
            None => Buffer::from_vec(Vec::<u8>::new()),
        };
        let values = ScalarBuffer::new(buffer, 0, self.values.len());
        Arc::new(PrimitiveArray::<T>::new(values, None))
    }

    /// Returns the array for Arrow: a list of fixed size for each row, or plain numbers if the array has one dimension.
    fn arrow(&self) -> Result<ArrayRef, String> {
        let flat = match &*self.values {
            Values::F32(_) => self.primitive::<Float32Type>(4),
            Values::F16(_) => self.primitive::<Float16Type>(2),
            Values::I8(_) => self.primitive::<Int8Type>(1),
            Values::U8(_) => self.primitive::<UInt8Type>(1),
            Values::U32(_) => self.primitive::<UInt32Type>(4),
            Values::I64(_) => self.primitive::<Int64Type>(8),
        };
        let &[_, width] = self.shape.as_slice() else { return Ok(flat) };
        let field = Arc::new(Field::new("item", flat.data_type().clone(), false));
        let width = i32::try_from(width).map_err(|_| "rows are too wide for Arrow".to_owned())?;
        let nulls = self.valid.clone().map(NullBuffer::from);
        let list = FixedSizeListArray::try_new(field, width, flat, nulls);
        list.map(|list| Arc::new(list) as ArrayRef).map_err(|error| error.to_string())
    }
}

#[pymethods]
impl Array {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (address, kind) = self.values.address();
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", kind)?;
        interface.set_item("data", (address, false))?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        Ok(interface)
    }

    fn __len__(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Returns the Arrow type of the array, as a capsule.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let array = self.arrow().map_err(|problem| named(py, "InternalError", problem))?;
        let schema = FFI_ArrowSchema::try_from(array.data_type());
        let schema = schema.map_err(|error| named(py, "InternalError", error.to_string()))?;
        PyCapsule::new_with_value(py, schema, SCHEMA_NAME)
    }

    /// Returns the array for Arrow libraries, as two capsules: its type and its data.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // The Arrow protocol allows a producer to ignore `requested_schema`.
        drop(requested_schema);
        let array = self.arrow().map_err(|problem| named(py, "InternalError", problem))?;
        let exported = to_ffi(&array.to_data());
        let (array, schema): (FFI_ArrowArray, FFI_ArrowSchema) =
            exported.map_err(|error| named(py, "InternalError", error.to_string()))?;
        let schema = PyCapsule::new_with_value(py, schema, SCHEMA_NAME)?;
        Ok((schema, PyCapsule::new_with_value(py, array, ARRAY_NAME)?))
    }
}
