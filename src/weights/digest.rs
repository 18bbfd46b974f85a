//! Computes SHA-256 digests of a model's weight files, piece by piece.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::files::ModelFile;
use crate::weights::WeightFiles;

/// The number of bytes that are read at a time.
const PIECE: u64 = 1 << 20;

impl WeightFiles {
    /// Adds all bytes of the files to a digest, in the order of the files.
    ///
    /// # Errors
    /// Returns [`Error::File`] if a file cannot be read.
    pub fn digest_whole(&self, digest: &mut Sha256) -> Result<(), Error> {
        self.sources.iter().try_for_each(|source| digest_source(source, u64::MAX, digest))
    }

    /// Adds the names, lengths and headers of the files to a digest. These few kilobytes distinguish most models, but
    /// they do not distinguish models that differ only in the values of weights.
    ///
    /// # Errors
    /// Returns [`Error::File`] if a file cannot be read.
    pub fn digest_headers(&self, digest: &mut Sha256) -> Result<(), Error> {
        for source in &self.sources {
            let mut length = [0; 8];
            source.read_at(0, &mut length)?;
            digest.update(format!("{} {}\n", source.name(), source.len()));
            digest_source(source, u64::from_le_bytes(length).saturating_add(8), digest)?;
        }
        Ok(())
    }
}

/// Adds the first `limit` bytes of a file to a digest.
///
/// # Errors
/// Returns [`Error::File`] if the file cannot be read.
pub(crate) fn digest_source(
    source: &ModelFile,
    limit: u64,
    digest: &mut Sha256,
) -> Result<(), Error> {
    let end = source.len().min(limit);
    let mut piece = vec![0; PIECE.min(end) as usize];
    let mut at = 0;
    while at < end {
        let count = PIECE.min(end - at) as usize;
        source.read_at(at, &mut piece[..count])?;
        digest.update(&piece[..count]);
        at += count as u64;
    }
    Ok(())
}

/// Returns a digest in hexadecimal.
pub(crate) fn hex(digest: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing to a string cannot fail, so the result is ignored.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::ModelFiles;

    #[test]
    fn whole_and_partial_digests_match_sha256() {
        let bytes: Vec<u8> = (0..(PIECE as usize + 700)).map(|i| (i % 251) as u8).collect();
        let files = ModelFiles::from_bytes([("f".to_owned(), bytes.clone())]).unwrap();
        let source = files.open("f").unwrap().unwrap();
        for most in [0, 1, PIECE, PIECE + 3, u64::MAX] {
            let mut digest = Sha256::new();
            digest_source(&source, most, &mut digest).unwrap();
            let end = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
            assert_eq!(hex(digest), hex(Sha256::new_with_prefix(&bytes[..end])), "{most}");
        }
        // The expected digest is an example from the standard FIPS 180-4.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(Sha256::new_with_prefix("abc")), abc);
    }
}
