#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

fn fails_with<T: std::fmt::Debug>(result: Result<T, Error>, words: &[&str]) {
    let message = message(result);
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

fn directory() -> (tempfile::TempDir, ModelFiles) {
    let place = tempfile::tempdir().unwrap();
    let files = ModelFiles::from_directory(place.path()).unwrap();
    (place, files)
}

#[test]
fn names_that_leave_the_model_are_refused() {
    let table = [
        ("../secret", "leaves the model"),
        ("a/../../secret", "leaves the model"),
        ("a/..", "leaves the model"),
        ("/etc/passwd", "absolute"),
        ("C:/windows", "absolute"),
        ("c:config.json", "absolute"),
        ("\\\\server\\share", "backslash"),
        ("1_Pooling\\config.json", "backslash"),
        ("config.json\0.txt", "control character"),
        ("a\u{1b}[31m", "control character"),
        ("", "empty"),
        ("./", "empty"),
    ];
    let (_place, on_disk) = directory();
    let in_memory = ModelFiles::from_bytes([]).unwrap();
    for (name, words) in table {
        fails_with(on_disk.read(name, 10), &[words]);
        fails_with(on_disk.exists(name), &[words]);
        fails_with(in_memory.open(name), &[words]);
        fails_with(ModelFiles::from_bytes([(name.to_string(), vec![])]), &[words]);
    }
    fails_with(in_memory.read(&"a".repeat(5000), 10), &["too long"]);
}

#[test]
fn names_have_one_spelling() {
    for name in ["a/b", "./a/b", "a//b", "a/./b", "a/b/"] {
        assert_eq!(normalise(name).unwrap(), "a/b");
    }
}

#[test]
fn bytes_given_twice_are_refused() {
    let twice = [("a".to_string(), vec![1]), ("./a".to_string(), vec![2])];
    fails_with(ModelFiles::from_bytes(twice), &["a", "given twice"]);
}

#[test]
fn directories_and_memory_read_the_same() {
    let (place, on_disk) = directory();
    fs::create_dir(place.path().join("d")).unwrap();
    fs::write(place.path().join("d/f"), b"0123456789").unwrap();
    let in_memory = ModelFiles::from_bytes([("d/f".to_string(), b"0123456789".to_vec())]).unwrap();
    for files in [on_disk, in_memory] {
        assert!(files.exists("d/f").unwrap());
        assert!(!files.exists("d/g").unwrap());
        assert!(!files.exists("d/f/g").unwrap());
        assert!(files.read("g", 10).unwrap().is_none());
        assert_eq!(files.read("d/f", 10).unwrap().unwrap(), b"0123456789");
        fails_with(files.read("d/f", 9), &["d/f", "10 bytes", "at most 9"]);
        let source = files.open("./d/f").unwrap().unwrap();
        assert_eq!((source.len(), source.name()), (10, "d/f"));
        let mut part = [0; 3];
        source.read_at(7, &mut part).unwrap();
        assert_eq!(&part, b"789");
        fails_with(source.read_at(8, &mut part), &["d/f", "offset 8", "has 10"]);
        fails_with(source.read_at(u64::MAX, &mut part), &["d/f"]);
    }
}

#[test]
fn paths_that_are_not_directories_are_refused() {
    let place = tempfile::tempdir().unwrap();
    fails_with(ModelFiles::from_directory(place.path().join("absent")), &["no such directory"]);
    fs::write(place.path().join("file"), b"").unwrap();
    fails_with(ModelFiles::from_directory(place.path().join("file")), &["not a directory"]);
}

#[test]
fn a_linked_directory_and_a_name_that_is_not_utf8_load() {
    use std::os::unix::ffi::OsStrExt;
    let place = tempfile::tempdir().unwrap();
    let odd = place.path().join(std::ffi::OsStr::from_bytes(b"m \xff odel"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("config.json"), b"{}").unwrap();
    symlink(&odd, place.path().join("link")).unwrap();
    for path in [odd, place.path().join("link")] {
        let files = ModelFiles::from_directory(path).unwrap();
        assert_eq!(files.read("config.json", 10).unwrap().unwrap(), b"{}");
    }
}

#[test]
fn links_out_of_the_model_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    let (place, files) = directory();
    symlink(outside.path().join("secret"), place.path().join("file")).unwrap();
    symlink(outside.path(), place.path().join("dir")).unwrap();
    symlink(place.path().join("absent"), place.path().join("dangling")).unwrap();
    symlink(place.path().join("loop"), place.path().join("loop")).unwrap();
    fs::write(place.path().join("real"), b"1").unwrap();
    symlink("real", place.path().join("inside")).unwrap();
    fails_with(files.read("file", 10), &["file", "outside the model"]);
    fails_with(files.open("dir/secret"), &["dir/secret", "outside the model"]);
    fails_with(files.exists("file"), &["outside the model"]);
    fails_with(files.read("dangling", 10), &["dangling", "link to a file that does not exist"]);
    fails_with(files.read("loop", 10), &["loop", "cannot be read"]);
    assert_eq!(files.read("inside", 10).unwrap().unwrap(), b"1");
}

fn hub_cache(root: &Path) -> std::path::PathBuf {
    let repository = root.join("models--owner--name");
    let snapshot = repository.join("snapshots/0123abcd");
    fs::create_dir_all(snapshot.join("1_Pooling")).unwrap();
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::write(repository.join("blobs/aa"), b"{}").unwrap();
    symlink("../../blobs/aa", snapshot.join("config.json")).unwrap();
    symlink("../../../blobs/aa", snapshot.join("1_Pooling/config.json")).unwrap();
    snapshot
}

#[test]
fn the_hub_cache_loads_and_its_links_stay_in_the_repository() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = hub_cache(cache.path());
    fs::create_dir_all(cache.path().join("models--other--one/blobs")).unwrap();
    fs::write(cache.path().join("models--other--one/blobs/bb"), b"other").unwrap();
    symlink("../../../models--other--one/blobs/bb", snapshot.join("stolen.json")).unwrap();
    let files = ModelFiles::from_directory(&snapshot).unwrap();
    assert_eq!(files.read("config.json", 10).unwrap().unwrap(), b"{}");
    assert_eq!(files.read("1_Pooling/config.json", 10).unwrap().unwrap(), b"{}");
    fails_with(files.read("stolen.json", 10), &["stolen.json", "outside the model"]);
}

#[test]
fn pipes_devices_and_directories_are_not_files() {
    let (place, files) = directory();
    let made = std::process::Command::new("mkfifo").arg(place.path().join("pipe")).status();
    if made.is_ok_and(|status| status.success()) {
        fails_with(files.read("pipe", 10), &["pipe", "not a regular file"]);
    }
    let socket = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
    fails_with(files.open("socket"), &["socket", "not a regular file"]);
    drop(socket);
    fs::create_dir(place.path().join("config.json")).unwrap();
    fails_with(files.read("config.json", 10), &["config.json", "is a directory"]);
}

#[test]
fn a_file_without_permission_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let (place, files) = directory();
    let path = place.path().join("config.json");
    fs::write(&path, b"{}").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser can read every file, so the test cannot make a file unreadable.
    if fs::File::open(&path).is_err() {
        fails_with(files.read("config.json", 10), &["config.json", "permission denied"]);
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_says_so() {
    let (place, files) = directory();
    fs::write(place.path().join("w"), [7; 100]).unwrap();
    let source = files.open("w").unwrap().unwrap();
    fs::write(place.path().join("w"), [7; 10]).unwrap();
    fails_with(source.read_at(0, &mut [0; 100]), &["w", "became shorter"]);
}

#[test]
fn formats_are_recognised_by_their_first_bytes() {
    let table: [(&[u8], Option<&str>); 12] = [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", Some("git lfs pull")),
        (b"<!DOCTYPE html><html>", Some("HTML")),
        (b"\n <HTML>", Some("HTML")),
        (b"PK\x03\x04\0\0\x08\x08\0\0", Some("zip")),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", Some("gzip")),
        (b"\x80\x02}q\0X\x05\0\0\0", Some("pickle")),
        (b"GGUF\x03\0\0\0", Some("GGUF")),
        (b"\x89HDF\r\n\x1a\n", Some("HDF5")),
        (b"{\"a\": 1}", None),
        (b"", None),
        // Safetensors headers of 640 and 35,615 bytes start with the magic numbers of pickle and gzip.
        (b"\x80\x02\0\0\0\0\0\0{\"", None),
        (b"\x1f\x8b\0\0\0\0\0\0{\"", None),
    ];
    for (head, words) in table {
        match words {
            None => assert_eq!(sniff(head), None, "{head:?}"),
            Some(words) => assert!(sniff(head).unwrap().contains(words), "{head:?}"),
        }
    }
}
