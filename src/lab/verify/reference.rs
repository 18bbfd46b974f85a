//! Provides the reference vectors of a model, which come from the user's file or are shipped with Vectile.

use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::error::Error;

/// The shipped reference files. Each entry holds the SHA-256 of the model's weights, and then the reference file's
/// content. `scripts/verify_reference.py` makes these files.
const SHIPPED: &[(&str, &[u8])] = &[(
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    include_bytes!("../../../data/all-MiniLM-L6-v2.safetensors"),
)];

/// Texts, with the correct vectors of a model for these texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The source of the texts and vectors, such as a file's name, for reports.
    pub source: String,
    /// The texts that were embedded.
    pub texts: Vec<String>,
    /// The correct vector of each text.
    pub rows: Vec<Vec<f64>>,
    /// True if the vectors were computed in float64.
    pub exact: bool,
    /// True if Vectile ships this reference.
    pub(super) shipped: bool,
}

/// A summary of a reference, for reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReferenceSummary {
    /// The source of the reference, such as a file's name.
    pub source: String,
    /// The number of texts in the reference.
    pub texts: usize,
    /// True if the vectors were computed in float64.
    pub exact: bool,
}

impl Reference {
    /// Reads the texts and their expected vectors from the content of a safetensors file. The file has a tensor `embeddings` of shape `[texts, dimension]`,
    /// in F32 or F64, which sentence-transformers' `encode` computed without options. The texts are a JSON list of
    /// strings in the entry `texts` of the file's metadata. Without this entry, the list is `texts_json`, the content
    /// of the file texts.json.
    ///
    /// The vectors are assumed to be computed in float64 if the tensor is F64, or if the metadata has `arithmetic:
    /// float64`.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use safetensors::tensor::{Dtype, TensorView};
    /// use vectile::lab::verify::Reference;
    ///
    /// # let data: Vec<u8> = [0.6f32, 0.8].iter().flat_map(|v| v.to_le_bytes()).collect();
    /// # let tensor = TensorView::new(Dtype::F32, vec![1, 2], &data).unwrap();
    /// # let about = HashMap::from([("texts".to_string(), r#"["a cat"]"#.to_string())]);
    /// # let bytes = safetensors::serialize([("embeddings", tensor)], Some(about)).unwrap();
    /// let reference = Reference::from_safetensors("reference.safetensors", &bytes, None)?;
    /// assert_eq!(reference.texts, ["a cat"]);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`Error::File`] if the file is not such a file, or if the numbers of texts and vectors differ.
    pub fn from_safetensors(
        name: &str,
        bytes: &[u8],
        texts_json: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let bad = |problem: String| Error::file(name, problem);
        let not_safetensors = |e| bad(format!("is not a safetensors file: {e}"));
        let tensors = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
        let about = header.metadata().clone().unwrap_or_default();
        let Ok(view) = tensors.tensor("embeddings") else {
            let names: Vec<&str> = tensors.names().into_iter().take(5).collect();
            return Err(bad(format!(
                "has no tensor `embeddings` with the vectors; its tensors: {}",
                names.join(", ")
            )));
        };
        let [count, dim] = view.shape()[..] else {
            let shape = view.shape();
            return Err(bad(format!(
                "tensor `embeddings` has shape {shape:?}; expected [texts, dimension]"
            )));
        };
        if count == 0 || dim == 0 {
            return Err(bad("tensor `embeddings` is empty".to_owned()));
        }
        let data = view.data();
        let values: Vec<f64> = match view.dtype() {
            Dtype::F64 => data
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
            Dtype::F32 => data
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            other => {
                return Err(bad(format!(
                    "tensor `embeddings` is {other:?}; expected F32 or F64: call encode on a model \
                     loaded in float32"
                )));
            }
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let row = at / dim;
            return Err(bad(format!("vector {row} has a value that is infinite or not a number")));
        }
        let json = match (about.get("texts"), texts_json) {
            (Some(texts), _) => texts.as_bytes(),
            (None, Some(json)) => json,
            (None, None) => {
                return Err(bad(
                    "has no texts: put a JSON list of them into the file's metadata as `texts`, or \
                     into texts.json beside it"
                        .to_owned(),
                ));
            }
        };
        let texts: Vec<String> = serde_json::from_slice(json)
            .map_err(|e| bad(format!("its texts are not a JSON list of strings: {e}")))?;
        if texts.len() != count {
            return Err(bad(format!(
                "has {} texts and {count} vectors; each text needs exactly one vector",
                texts.len()
            )));
        }
        let exact = view.dtype() == Dtype::F64
            || about.get("arithmetic").is_some_and(|kind| kind == "float64");
        let rows = values.chunks_exact(dim).map(<[f64]>::to_vec).collect();
        Ok(Reference { source: name.to_owned(), texts, rows, exact, shipped: false })
    }

    /// Returns the reference that Vectile ships for the model whose weights have this SHA-256; `None` if Vectile ships
    /// no such reference.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if a shipped file cannot be read.
    pub fn shipped(weights_sha256: &str) -> Result<Option<Self>, Error> {
        let found = SHIPPED.iter().find(|(sha256, _)| *sha256 == weights_sha256);
        let Some((_, bytes)) = found else { return Ok(None) };
        let mut reference = Reference::from_safetensors("the shipped reference", bytes, None)
            .map_err(|e| Error::Internal(e.to_string()))?;
        reference.source = "shipped with Vectile for these weights".to_owned();
        reference.shipped = true;
        Ok(Some(reference))
    }

    /// Returns the number of values in a vector.
    pub(super) fn dim(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    pub(super) fn summary(&self) -> ReferenceSummary {
        let (source, texts, exact) = (self.source.clone(), self.texts.len(), self.exact);
        ReferenceSummary { source, texts, exact }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    fn file(shape: &[usize], dtype: Dtype, data: &[u8], about: &[(&str, &str)]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape.to_vec(), data).unwrap();
        let about: HashMap<String, String> =
            about.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        safetensors::serialize([("embeddings", view)], Some(about)).unwrap()
    }

    #[test]
    fn other_files_are_refused_with_the_expected_content() {
        let f32s =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let (four, texts) = (f32s(&[1.0, 2.0, 3.0, 4.0]), [("texts", r#"["a", "b"]"#)]);
        let good = file(&[2, 2], Dtype::F32, &four, &texts);
        let read = |bytes: &[u8], json: Option<&[u8]>| {
            Reference::from_safetensors("r.safetensors", bytes, json)
        };
        let reference = read(&good, None).unwrap();
        assert_eq!(reference.rows, [[1.0, 2.0], [3.0, 4.0]]);
        assert!(!reference.exact);
        let bare = file(&[2, 2], Dtype::F32, &four, &[]);
        assert_eq!(read(&bare, Some(br#"["a", "b"]"#)).unwrap().texts, ["a", "b"]);
        let marked = file(&[2, 2], Dtype::F32, &four, &[texts[0], ("arithmetic", "float64")]);
        assert!(read(&marked, None).unwrap().exact);
        let wide = file(&[1, 1], Dtype::F64, &2.5f64.to_le_bytes(), &[("texts", r#"["a"]"#)]);
        let wide = read(&wide, None).unwrap();
        assert_eq!((wide.rows, wide.exact), (vec![vec![2.5]], true));

        let nan = f32s(&[1.0, 2.0, f32::NAN, 4.0]);
        for (bytes, json, words) in [
            (b"PK not safetensors".to_vec(), None, "not a safetensors file"),
            (bare.clone(), None, "has no texts"),
            (bare.clone(), Some(&b"{\"a\": 1}"[..]), "not a JSON list of strings"),
            (bare.clone(), Some(b"[\"a\"]"), "1 texts and 2 vectors"),
            (file(&[4], Dtype::F32, &four, &texts), None, "[texts, dimension]"),
            (file(&[0, 2], Dtype::F32, &[], &texts), None, "is empty"),
            (file(&[2, 2], Dtype::F16, &four[..8], &texts), None, "F32 or F64"),
            (file(&[2, 2], Dtype::F32, &nan, &texts), None, "vector 1"),
        ] {
            let error = read(&bytes, json).unwrap_err().to_string();
            assert!(error.starts_with("r.safetensors: ") && error.contains(words), "{error}");
        }
        let view = TensorView::new(Dtype::F32, vec![1, 4], &four).unwrap();
        let other = safetensors::serialize([("vectors", view)], None).unwrap();
        let error = read(&other, None).unwrap_err().to_string();
        assert!(error.contains("no tensor `embeddings`") && error.contains("vectors"), "{error}");
    }

    #[test]
    fn shipped_references_are_complete() {
        for (sha256, _) in SHIPPED {
            let reference = Reference::shipped(sha256).unwrap().unwrap();
            assert!(reference.exact && reference.texts.len() >= 32);
            for row in &reference.rows {
                let length = row.iter().map(|v| v * v).sum::<f64>();
                assert!((length - 1.0).abs() < 1e-6, "{length}");
            }
        }
        assert_eq!(Reference::shipped("00").unwrap(), None);
    }
}
