//! Tests that compiled pipelines are cached, and that damaged cache files do no harm.

use std::path::{Path, PathBuf};

use vectile::{DtypeRequest, EmbedderBuilder, block_on};

use crate::support::{build, lacks};

fn builder() -> EmbedderBuilder {
    crate::builder("bert_mean_norm").dtype(DtypeRequest::Float32)
}

fn vectors(builder: EmbedderBuilder) -> Option<Vec<f32>> {
    let embedder = build(builder)?;
    Some(block_on(embedder.embed(&["A text.", "Another, of some more words."])).unwrap().values)
}

/// Returns the files of cached pipelines in a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let files =
        std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "bin")).collect()
}

#[test]
fn pipelines_are_cached_and_damaged_files_are_replaced() {
    let Some(expected) = vectors(builder()) else { return };
    let cache = tempfile::tempdir().unwrap();
    let cached = || builder().cache_dir(cache.path().join("vectile"));
    let directory = cache.path().join("vectile");
    assert_eq!(vectors(cached()).unwrap(), expected);
    let found = files(&directory);
    let [path] = &found[..] else {
        assert!(found.is_empty(), "{found:?}");
        lacks("the driver does not return compiled pipelines");
        return;
    };
    let kept = std::fs::read(path).unwrap();
    assert!(kept.len() > 64, "{} bytes", kept.len());
    assert_eq!(vectors(cached()).unwrap(), expected);

    let mut flipped = kept.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut moved = kept.clone();
    moved.drain(32..48);
    for broken in
        [vec![], b"no pipelines".to_vec(), kept[..kept.len() / 2].to_vec(), flipped, moved]
    {
        std::fs::write(path, &broken).unwrap();
        assert_eq!(vectors(cached()).unwrap(), expected);
        let again = std::fs::read(path).unwrap();
        assert_ne!(again, broken);
        assert!(again.len() > 64, "{} bytes", again.len());
    }
    assert_eq!(files(&directory).len(), 1, "a temporary file was left behind");
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
    assert_eq!(vectors(cached()).unwrap(), expected);
}

#[test]
fn pipelines_of_edited_shaders_are_not_cached() {
    let cache = tempfile::tempdir().unwrap();
    let wrong = |wgsl: String| wgsl.replace("let scale = 1.0 /", "let scale = 1.003 /");
    let builder = builder().cache_dir(cache.path().to_owned()).edit_shader(("layer_norm", wrong));
    if vectors(builder).is_some() {
        assert_eq!(files(cache.path()), Vec::<PathBuf>::new());
    }
}
