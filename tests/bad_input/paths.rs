//! Tests model directories with links, pipes, unusual names and permissions, and the layout of the Hugging Face
//! cache.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use vectile::{DtypeRequest, Embedder, Error, ModelFiles};

use crate::Kind::{self, File};
use crate::support::lacks;
use crate::{Model, build, check_error, embeds, within};

const WEIGHTS: &str = "model.safetensors";

/// Makes a directory that holds the valid model.
fn directory() -> (TempDir, PathBuf) {
    let place = tempdir().unwrap();
    let model = place.path().join("model");
    Model::good().write(&model);
    (place, model)
}

fn open(path: &Path) -> Result<Embedder, Error> {
    let path = path.to_owned();
    within(20, move || build(ModelFiles::from_directory(path)?, DtypeRequest::Auto))
}

fn refused(path: &Path, kind: Kind, words: &[&str]) {
    match open(path) {
        Ok(_) => panic!("loaded, and should say {words:?}"),
        Err(error) => check_error(&error, kind, words),
    }
}

fn loads(path: &Path) {
    embeds(open(path).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn a_directory_loads() {
    loads(&directory().1);
}

#[test]
fn path_missing() {
    refused(Path::new("/no/such/model"), File, &["/no/such/model", "no such directory"]);
}

#[test]
fn path_empty() {
    refused(Path::new(""), File, &["no such directory"]);
}

#[test]
fn path_is_a_file() {
    let (_place, model) = directory();
    refused(&model.join(WEIGHTS), File, &[WEIGHTS, "not a directory", "give the directory"]);
}

#[test]
fn path_is_an_empty_directory() {
    let place = tempdir().unwrap();
    refused(place.path(), File, &["config.json", "is missing"]);
}

#[test]
fn path_is_a_link_to_itself() {
    let place = tempdir().unwrap();
    let path = place.path().join("loop");
    symlink(&path, &path).unwrap();
    refused(&path, File, &["loop", "cannot be read"]);
}

#[test]
fn path_of_thousands_of_characters() {
    let error = open(&PathBuf::from(format!("/{}", "a".repeat(5000)))).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn path_with_a_nul() {
    let error = open(Path::new(OsStr::from_bytes(b"/tmp/a\0b"))).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn linked_directory_loads() {
    let (place, model) = directory();
    symlink(&model, place.path().join("link")).unwrap();
    loads(&place.path().join("link"));
}

#[test]
fn directory_name_with_spaces_loads() {
    let place = tempdir().unwrap();
    let model = place.path().join("my model (2)  ü 模型");
    Model::good().write(&model);
    loads(&model);
}

#[test]
fn directory_name_that_is_not_utf8_loads() {
    let place = tempdir().unwrap();
    let model = place.path().join(OsStr::from_bytes(b"m\xff\xfedel"));
    Model::good().write(&model);
    loads(&model);
}

#[test]
fn weights_link_to_themselves() {
    let (_place, model) = directory();
    fs::remove_file(model.join(WEIGHTS)).unwrap();
    symlink(model.join(WEIGHTS), model.join(WEIGHTS)).unwrap();
    refused(&model, File, &[WEIGHTS, "cannot be read"]);
}

#[test]
fn weights_link_to_nothing() {
    let (_place, model) = directory();
    fs::remove_file(model.join(WEIGHTS)).unwrap();
    symlink("blobs/none", model.join(WEIGHTS)).unwrap();
    refused(&model, File, &[WEIGHTS, "does not exist", "download the model again"]);
}

#[test]
fn weights_link_out_of_the_directory() {
    let (place, model) = directory();
    fs::rename(model.join(WEIGHTS), place.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", model.join(WEIGHTS)).unwrap();
    refused(&model, File, &[WEIGHTS, "outside the model's directory", "copy"]);
}

/// Moves the weights of the valid model to a path beside its directory, and puts a link in their place.
fn weights_linked_to(store: &str) -> (TempDir, PathBuf) {
    let (place, model) = directory();
    let target = place.path().join(store);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::rename(model.join(WEIGHTS), &target).unwrap();
    symlink(&target, model.join(WEIGHTS)).unwrap();
    (place, model)
}

#[test]
fn weights_in_a_store_of_links_load() {
    for store in [
        // `local_dir` links into the Hub's cache: see huggingface/huggingface_hub#2284.
        "hub/models--owner--name/blobs/0123abcd",
        // `git annex get` and `dvc pull` can make links too.
        ".git/annex/objects/xX/yY/key/key",
        ".dvc/cache/files/md5/01/23abcd",
    ] {
        let (_place, model) = weights_linked_to(store);
        loads(&model);
    }
}

#[test]
fn weights_in_a_directory_named_like_a_store_are_refused() {
    for store in ["blobs/0123abcd", "hub/datasets--owner--name/blobs/01", ".git/objects/01/23"] {
        let (_place, model) = weights_linked_to(store);
        refused(&model, File, &[WEIGHTS, "outside the model's directory"]);
    }
}

#[test]
fn tokenizer_links_to_a_device() {
    let (_place, model) = directory();
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    symlink("/dev/zero", model.join("tokenizer.json")).unwrap();
    refused(&model, File, &["tokenizer.json", "outside the model's directory"]);
}

#[test]
fn module_directory_links_out() {
    let (place, model) = directory();
    fs::rename(model.join("1_Pooling"), place.path().join("pooling")).unwrap();
    symlink("../pooling", model.join("1_Pooling")).unwrap();
    refused(&model, File, &["1_Pooling/config.json", "outside"]);
}

#[test]
fn link_within_the_directory_loads() {
    let (_place, model) = directory();
    fs::create_dir(model.join("blobs")).unwrap();
    fs::rename(model.join(WEIGHTS), model.join("blobs/w")).unwrap();
    symlink("blobs/w", model.join(WEIGHTS)).unwrap();
    loads(&model);
}

/// Replaces a file of the valid model by a pipe to which nobody writes. Returns `None` if there is no `mkfifo`.
fn pipe(name: &str) -> Option<(TempDir, PathBuf)> {
    let (place, model) = directory();
    fs::remove_file(model.join(name)).unwrap();
    let made = std::process::Command::new("mkfifo").arg(model.join(name)).status();
    if !made.is_ok_and(|status| status.success()) {
        lacks("no mkfifo here");
        return None;
    }
    Some((place, model))
}

#[test]
fn config_is_a_pipe() {
    if let Some((_place, model)) = pipe("config.json") {
        refused(&model, File, &["config.json", "not a regular file"]);
    }
}

#[test]
fn weights_are_a_pipe() {
    if let Some((_place, model)) = pipe(WEIGHTS) {
        refused(&model, File, &[WEIGHTS, "not a regular file"]);
    }
}

#[test]
fn pooling_is_a_pipe() {
    if let Some((_place, model)) = pipe("1_Pooling/config.json") {
        refused(&model, File, &["1_Pooling/config.json", "not a regular file"]);
    }
}

#[test]
fn config_is_a_directory() {
    let (_place, model) = directory();
    fs::remove_file(model.join("config.json")).unwrap();
    fs::create_dir(model.join("config.json")).unwrap();
    refused(&model, File, &["config.json", "is a directory"]);
}

#[test]
fn tokenizer_is_a_socket() {
    let (_place, model) = directory();
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let path = model.join("tokenizer.json");
    let _socket = std::os::unix::net::UnixListener::bind(path).unwrap();
    refused(&model, File, &["tokenizer.json", "not a regular file"]);
}

#[test]
fn module_directory_is_a_file() {
    let (_place, model) = directory();
    fs::remove_dir_all(model.join("1_Pooling")).unwrap();
    fs::write(model.join("1_Pooling"), b"").unwrap();
    refused(&model, File, &["1_Pooling/config.json", "missing"]);
}

#[test]
fn weights_of_a_hundred_empty_gigabytes() {
    let (_place, model) = directory();
    let file = fs::File::create(model.join(WEIGHTS)).unwrap();
    if file.set_len(100 << 30).is_err() {
        lacks("the file system has no sparse files");
        return;
    }
    refused(&model, File, &[WEIGHTS]);
}

#[test]
fn config_of_a_hundred_empty_gigabytes() {
    let (_place, model) = directory();
    let file = fs::File::create(model.join("config.json")).unwrap();
    if file.set_len(100 << 30).is_err() {
        lacks("the file system has no sparse files");
        return;
    }
    refused(&model, File, &["config.json", "at most"]);
}

#[test]
fn weights_without_permission() {
    let (_place, model) = directory();
    fs::set_permissions(model.join(WEIGHTS), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(model.join(WEIGHTS)).is_ok() {
        lacks("this user reads every file");
        return;
    }
    refused(&model, File, &[WEIGHTS, "permission denied", "allow this user"]);
}

#[test]
fn read_only_directory_loads() {
    let (_place, model) = directory();
    fs::set_permissions(&model, fs::Permissions::from_mode(0o555)).unwrap();
    loads(&model);
    fs::set_permissions(&model, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes the valid model in the layout of the Hugging Face cache. Returns the snapshot's directory.
fn hub_cache(root: &Path, repository: &str) -> PathBuf {
    let repository = root.join(repository);
    let snapshot = repository.join("snapshots/0123abcd");
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "0123abcd").unwrap();
    for (i, (name, contents)) in Model::good().files.iter().enumerate() {
        fs::write(repository.join(format!("blobs/{i}")), contents).unwrap();
        let link = snapshot.join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + name.matches('/').count());
        symlink(format!("{up}blobs/{i}"), link).unwrap();
    }
    snapshot
}

#[test]
fn hub_cache_loads() {
    let cache = tempdir().unwrap();
    loads(&hub_cache(cache.path(), "models--sentence-transformers--tiny"));
}

#[test]
fn hub_cache_behind_a_link_loads() {
    let cache = tempdir().unwrap();
    let snapshot = hub_cache(cache.path(), "models--sentence-transformers--tiny");
    symlink(snapshot, cache.path().join("tiny")).unwrap();
    loads(&cache.path().join("tiny"));
}

#[test]
fn hub_cache_stolen_from_another_repository() {
    let cache = tempdir().unwrap();
    let snapshot = hub_cache(cache.path(), "models--a--one");
    hub_cache(cache.path(), "models--b--two");
    fs::remove_file(snapshot.join("config.json")).unwrap();
    symlink("../../../models--b--two/blobs/0", snapshot.join("config.json")).unwrap();
    refused(&snapshot, File, &["config.json", "outside the model's directory"]);
}

#[test]
fn hub_cache_with_a_blob_gone() {
    let cache = tempdir().unwrap();
    let snapshot = hub_cache(cache.path(), "models--a--one");
    let blob = fs::canonicalize(snapshot.join(WEIGHTS)).unwrap();
    fs::remove_file(blob).unwrap();
    refused(&snapshot, File, &[WEIGHTS, "download the model again"]);
}

#[test]
fn hub_cache_without_its_snapshot() {
    let cache = tempdir().unwrap();
    hub_cache(cache.path(), "models--a--one");
    refused(&cache.path().join("models--a--one"), File, &["config.json", "is missing"]);
}

#[test]
fn bytes_with_a_name_twice() {
    let files = ["config.json", "./config.json"].map(|name| (name.to_owned(), b"{}".to_vec()));
    check_error(&ModelFiles::from_bytes(files).unwrap_err(), File, &["config.json", "twice"]);
}

#[test]
fn bytes_with_a_name_that_leaves_the_model() {
    let files = [("../config.json".to_owned(), b"{}".to_vec())];
    check_error(&ModelFiles::from_bytes(files).unwrap_err(), File, &["leaves the model"]);
}
