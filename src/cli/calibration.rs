//! `--calibration`: reads the ranges for int8 and uint8 from the embeddings in a NumPy file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use vectile::Ranges;

use super::failure::Failure;

/// The maximum length of a NumPy header in bytes. A longer one is refused; real headers have one line.
const MAXIMUM_HEADER: usize = 1 << 16;

/// Returns the minimum and maximum of each column of a NumPy file. Each row of the file must have `dim` values, as
/// the model's vectors have.
pub fn ranges(path: &Path, dim: usize) -> Result<Ranges, Failure> {
    let failed = |e: std::io::Error| Failure::file(path, "read", &e);
    let unusable = |problem: String| {
        let advice = "give a file written by `vectile embed --output FILE.npy`";
        Failure::user(format!("--calibration: {}: {problem}; {advice}", path.display()))
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut start = [0; 8];
    let length = match file.read_exact(&mut start) {
        Ok(()) if start.starts_with(b"\x93NUMPY") => {
            let mut length = [0; 4];
            let bytes = if start[6] == 1 { 2 } else { 4 };
            file.read_exact(&mut length[..bytes]).map_err(failed)?;
            u32::from_le_bytes(length) as usize
        }
        _ => return Err(unusable("is not a NumPy file".to_owned())),
    };
    if length > MAXIMUM_HEADER {
        return Err(unusable(format!("has a header of {length} bytes, which is too long")));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(failed)?;
    let header = String::from_utf8_lossy(&header).replace(' ', "");
    if !header.contains("'descr':'<f4'") || !header.contains("'fortran_order':False") {
        return Err(unusable("does not hold rows of float32 values".to_owned()));
    }
    let expected = format!(",{dim})");
    let shape = header.split("'shape':(").nth(1).and_then(|rest| rest.split_inclusive(')').next());
    let rows = shape.and_then(|shape| shape.strip_suffix(&expected)).map(str::parse::<usize>);
    let Some(Ok(rows)) = rows else {
        let shape = shape.unwrap_or_default().trim_end_matches(')');
        return Err(unusable(format!(
            "has the shape ({shape}), but the model's vectors have {dim} values"
        )));
    };
    let mut ranges = Ranges::new(dim);
    let mut row = vec![0; dim * 4];
    for _ in 0..rows {
        file.read_exact(&mut row).map_err(failed)?;
        let value = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        let values: Vec<f32> = row.chunks_exact(4).map(value).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(unusable("holds values that are NaN or infinite".to_owned()));
        }
        ranges.update(&values);
    }
    if rows < 2 {
        return Err(unusable(format!("has {rows} rows, but ranges need at least two")));
    }
    Ok(ranges)
}
