//! [`ReadAt`]: a file that the caller reads.

/// A file of a model that is read by offset, for [`ModelFiles::from_sources`](crate::ModelFiles::from_sources). The
/// file may be in a browser's storage, in an archive, or in memory: `Vec<u8>` implements this trait.
pub trait ReadAt: Send + Sync {
    /// The length of the file in bytes. The length must not change while a model is loaded.
    fn size(&self) -> u64;

    /// Fills all of `into` with the bytes that start at `offset`. The range is within the file.
    ///
    /// # Errors
    /// The error is a sentence that contains a remedy but not the file's name, such as `the connection was closed; load
    /// the model again`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), String>;
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let range =
            usize::try_from(offset).ok().map(|start| start..start.saturating_add(into.len()));
        let bytes = range.and_then(|range| self.get(range));
        into.copy_from_slice(bytes.ok_or("has fewer bytes than the read needs")?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::ReadAt;
    use crate::ModelFiles;

    /// A file of 8 bytes that can be read up to byte 4.
    struct Broken;

    impl ReadAt for Broken {
        fn size(&self) -> u64 {
            8
        }

        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), String> {
            if offset + into.len() as u64 > 4 {
                return Err("the connection was closed; load the model again".to_owned());
            }
            into.fill(7);
            Ok(())
        }
    }

    #[test]
    fn a_source_is_read_by_offset_and_its_faults_name_the_file() {
        let source: Arc<dyn ReadAt> = Arc::new(Broken);
        let files = ModelFiles::from_sources("s", [("a/b".to_owned(), source)]).unwrap();
        assert_eq!(files.names("a/"), ["b"]);
        let file = files.open("a/b").unwrap().unwrap();
        let mut bytes = [0; 2];
        assert_eq!(file.read_at(1, &mut bytes), Ok(()));
        assert_eq!(bytes, [7; 2]);
        let error = file.read_at(3, &mut bytes).unwrap_err().to_string();
        assert_eq!(error, "a/b: the connection was closed; load the model again");
        // A range beyond the end of the file is refused before the source is called, so the error names the file's
        // size.
        let error = file.read_at(7, &mut bytes).unwrap_err().to_string();
        assert!(error.contains("the file has 8 bytes"), "{error}");
    }

    #[test]
    fn a_vec_is_a_source() {
        let (bytes, mut into) = (vec![1u8, 2, 3], [0; 2]);
        assert_eq!(bytes.read_at(1, &mut into), Ok(()));
        assert_eq!(into, [2, 3]);
        for offset in [2, 3, u64::MAX] {
            assert!(bytes.read_at(offset, &mut into).is_err(), "{offset}");
        }
    }
}
