//! `--calibration`: reads the ranges for int8 and uint8 from the embeddings in a NumPy file.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use vectile::Ranges;

use super::failure::Failure;
use super::npy::NpyHeader;

/// Returns the minimum and maximum of each column of a NumPy file. Each row of the file must have `dim` values, like
/// the model's vectors.
pub fn ranges(path: &Path, dim: usize) -> Result<Ranges, Failure> {
    let failed = |e: std::io::Error| Failure::file(path, "read", &e);
    let unusable = |problem: String| {
        let advice = "give a file written by `vectile embed --output FILE.npy`";
        Failure::user(format!("--calibration: {}: {problem}; {advice}", path.display()))
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let header = NpyHeader::read(&mut file).map_err(unusable)?;
    if header.dtype != "<f4" || header.fortran_order {
        return Err(unusable("does not hold rows of float32 values".to_owned()));
    }
    let rows = match header.shape[..] {
        [rows, columns] if columns == dim as u64 => rows,
        _ => {
            let shape = header.shape();
            return Err(unusable(format!(
                "has the shape ({shape}), but the model's vectors have {dim} values"
            )));
        }
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
        return Err(unusable(format!(
            "has {rows} rows; the ranges of the values need at least two rows"
        )));
    }
    Ok(ranges)
}
