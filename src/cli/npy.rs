//! Reads the header of a NumPy file.

use std::io::Read;

/// The maximum length of a NumPy header in bytes. NumPy writes headers of one short line, so a longer header is
/// refused.
const MAXIMUM_HEADER: usize = 1 << 16;

/// The header of a NumPy array.
#[derive(Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// The type of the values as NumPy names it, such as `<f4`.
    pub dtype: String,
    /// Is true if the file stores the array column by column, and false if it stores the array row by row.
    pub fortran_order: bool,
    /// The size of each dimension.
    pub shape: Vec<u64>,
    /// The number of bytes before the first value.
    pub bytes: u64,
}

impl NpyHeader {
    /// Reads a header, and leaves the reader at the first value.
    ///
    /// # Errors
    /// Returns a description of the problem, without the name of the file.
    pub fn read(file: &mut impl Read) -> Result<Self, String> {
        let cut_off = |_| "ends within its header; is the file complete?".to_owned();
        let mut start = [0; 8];
        match file.read_exact(&mut start) {
            Ok(()) if start.starts_with(b"\x93NUMPY") => {}
            _ => return Err("is not a NumPy file".to_owned()),
        }
        let mut length = [0; 4];
        let bytes = if start[6] == 1 { 2 } else { 4 };
        file.read_exact(&mut length[..bytes]).map_err(cut_off)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAXIMUM_HEADER {
            return Err(format!("has a header of {length} bytes, which is too long"));
        }
        let mut header = vec![0; length];
        file.read_exact(&mut header).map_err(cut_off)?;
        let header = String::from_utf8_lossy(&header).replace(' ', "");
        let bytes = (8 + bytes + length) as u64;
        NpyHeader::parse(&header, bytes).ok_or_else(|| {
            "has a header that Vectile cannot read; write the file again with numpy.save".to_owned()
        })
    }

    /// Parses the text of a header, from which all spaces were removed.
    fn parse(header: &str, bytes: u64) -> Option<Self> {
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
        let fortran_order = after("'fortran_order':")?.starts_with("True");
        let dtype = after("'descr':")?;
        let dtype = match dtype.strip_prefix('\'') {
            Some(dtype) => dtype.split('\'').next()?,
            // The dtype of a record array is a list of fields, not a string.
            None => "record",
        };
        let shape = after("'shape':(")?.split(')').next()?;
        let sizes = shape.split(',').filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(NpyHeader { dtype: dtype.to_owned(), fortran_order, shape, bytes })
    }

    /// Returns the shape as NumPy prints it, without the brackets.
    pub fn shape(&self) -> String {
        self.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_numpy_are_read() {
        let file = |version: u8, text: &str| {
            let mut bytes = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
            let length = text.len() as u32;
            match version {
                1 => bytes.extend((length as u16).to_le_bytes()),
                _ => bytes.extend(length.to_le_bytes()),
            }
            bytes.extend(text.as_bytes());
            bytes
        };
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }\n";
        let header = NpyHeader::read(&mut &file(1, text)[..]).unwrap();
        assert_eq!((&*header.dtype, header.fortran_order), ("<f4", false));
        assert_eq!((header.shape, header.bytes), (vec![3, 5], 10 + text.len() as u64));
        let text = "{'descr': [('a', '<i8')], 'fortran_order': True, 'shape': (7,), }\n";
        let header = NpyHeader::read(&mut &file(3, text)[..]).unwrap();
        assert_eq!((&*header.dtype, header.fortran_order, header.shape), ("record", true, vec![7]));
        for (bytes, words) in [
            (b"PK\x03\x04----".to_vec(), "is not a NumPy file"),
            (Vec::new(), "is not a NumPy file"),
            (file(1, text)[..30].to_vec(), "ends within its header"),
            (file(1, "{}"), "Vectile cannot read"),
        ] {
            let problem = NpyHeader::read(&mut &bytes[..]).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
