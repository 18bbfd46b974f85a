//! Reads the files of `tests/fixtures`: models, their texts and their reference tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use vectile::ModelFiles;

/// Returns the directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of a file or directory in `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// Returns the names of the directories in a directory of `tests/fixtures` that begin with `prefix`, sorted. Fails if
/// there are fewer than `least`, so that a test over all directories cannot run over none.
pub fn directories(of: &str, prefix: &str, least: usize) -> Vec<String> {
    let entries = std::fs::read_dir(fixture(of)).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(
        names.len() >= least,
        "{of:?} has {} directories, expected at least {least}",
        names.len()
    );
    names
}

/// Returns the files of a fixture model.
pub fn model_files(name: &str) -> ModelFiles {
    ModelFiles::from_directory(fixture(name)).unwrap()
}

/// Returns the content of each file of a fixture, by the file's path in the fixture's directory.
pub fn contents(name: &str) -> BTreeMap<String, Vec<u8>> {
    let root = fixture(name);
    let mut files = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Returns the texts of a fixture.
pub fn texts(name: &str) -> Vec<String> {
    read_json(&fixture(name).join("texts.json"))
}

/// Reads and parses a JSON file.
#[track_caller]
pub fn read_json<T: DeserializeOwned>(path: &Path) -> T {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads a tensor of a safetensors file. Returns its shape, and its values as f64.
#[track_caller]
pub fn tensor(file: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name} in {}", file.display()));
    let eight = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).unwrap();
    let data = view.data();
    let values = match view.dtype() {
        Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(eight(b))).collect(),
        Dtype::F32 => data
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        Dtype::I64 => data.chunks_exact(8).map(|b| i64::from_le_bytes(eight(b)) as f64).collect(),
        other => panic!("{name} is {other:?}"),
    };
    (view.shape().to_vec(), values)
}

/// Returns the directory that `VECTILE_TEST_MODEL` names. It contains all-MiniLM-L6-v2 or another model.
pub fn test_model() -> Option<PathBuf> {
    std::env::var_os("VECTILE_TEST_MODEL").map(PathBuf::from)
}
