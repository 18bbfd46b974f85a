//! Tests weights in other formats than safetensors, and shards with their index.

use serde_json::{Value, json};

use crate::Kind::{Config, File, Tensor};
use crate::Model;
use crate::tensors::{FILE, Tensors, WORDS, raw};

const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

#[test]
fn weights_missing() {
    Model::good().without(FILE).refused(File, &[FILE, "is missing", "safetensors"]);
}

#[test]
fn only_pickled_weights() {
    Model::good()
        .without(FILE)
        .file("pytorch_model.bin", b"PK\x03\x04")
        .refused(File, &[FILE, "pytorch_model.bin", "pickle", "safe_serialization=True"]);
}

#[test]
fn pickled_weights_beside_safetensors_load() {
    Model::good().file("pytorch_model.bin", b"junk").loads();
}

#[test]
fn weights_empty() {
    raw("").refused(File, &[FILE, "0 bytes"]);
}

#[test]
fn weights_a_git_lfs_pointer() {
    raw("version https://git-lfs.github.com/spec/v1\noid sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db\nsize 90868376\n")
        .refused(File, &[FILE, "git-lfs pointer", "git lfs pull"]);
}

#[test]
fn weights_an_html_page() {
    raw("<!DOCTYPE html>\n<html><body>Not found</body></html>")
        .refused(File, &[FILE, "HTML", "download the file again"]);
}

#[test]
fn weights_gzipped() {
    raw([&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[7; 5000]].concat())
        .refused(File, &[FILE, "gzip", "gunzip"]);
}

#[test]
fn weights_a_zip_archive() {
    raw([&b"PK\x03\x04\0\0\x08\x08\0\0"[..], &[7; 5000]].concat())
        .refused(File, &[FILE, "zip", "safe_serialization=True"]);
}

#[test]
fn weights_a_pickle() {
    raw([&b"\x80\x02}q\0X\x05\0\0\0"[..], &[7; 500]].concat())
        .refused(File, &[FILE, "pickle", "safe_serialization=True"]);
}

#[test]
fn weights_a_gguf_file() {
    raw([&b"GGUF\x03\0\0\0"[..], &[0; 500]].concat()).refused(File, &[FILE, "GGUF"]);
}

#[test]
fn weights_a_json_error() {
    raw(r#"{"error":"Repository not found"}"#).refused(File, &[FILE, "not safetensors"]);
}

#[test]
fn weights_random_bytes() {
    raw((0..5000u32)
        .map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 31) as u8)
        .collect::<Vec<u8>>())
    .refused(File, &[FILE, "not safetensors"]);
}

fn sharded() -> Model {
    Model::fixture("bert_sharded")
}

/// Returns the sharded model with a changed index.
fn index(edit: impl FnOnce(&mut Value)) -> Model {
    sharded().edit(INDEX, edit)
}

fn shard(name: &str, edit: impl FnOnce(&mut Tensors)) -> Model {
    sharded().bytes(name, |bytes| {
        let mut tensors = Tensors::read(bytes);
        edit(&mut tensors);
        *bytes = tensors.write();
    })
}

#[test]
fn shards_load() {
    sharded().loads();
}

#[test]
fn shard_absent() {
    sharded().without(SECOND).refused(File, &[SECOND, "is missing", INDEX]);
}

#[test]
fn shard_above_the_directory() {
    index(|i| i["weight_map"][WORDS] = json!("../secret.safetensors"))
        .refused(Config, &[INDEX, WORDS, "../secret.safetensors", "beside the index"]);
}

#[test]
fn shard_absolute() {
    index(|i| i["weight_map"][WORDS] = json!("/etc/secret.safetensors"))
        .refused(Config, &[INDEX, WORDS, "beside the index"]);
}

#[test]
fn shard_not_safetensors() {
    index(|i| i["weight_map"][WORDS] = json!("pytorch_model.bin"))
        .refused(Config, &[INDEX, WORDS, "pytorch_model.bin"]);
}

#[test]
fn shard_a_number() {
    index(|i| i["weight_map"][WORDS] = json!(1)).refused(Config, &[INDEX, WORDS, "1"]);
}

#[test]
fn shard_the_index_itself() {
    index(|i| i["weight_map"][WORDS] = json!(INDEX)).refused(Config, &[INDEX, WORDS]);
}

#[test]
fn shard_name_with_control_characters() {
    index(|i| i["weight_map"][WORDS] = json!("a\u{1b}[2J\n.safetensors")).refused(File, &["a"]);
}

#[test]
fn tensor_in_two_shards() {
    let words = Tensors::read(&sharded().files[FIRST]).get(WORDS).clone();
    shard(SECOND, |t| t.0.push(words)).refused(Tensor, &[SECOND, WORDS, "another shard"]);
}

#[test]
fn tensor_listed_but_absent() {
    shard(FIRST, |t| t.0.retain(|e| e.name != WORDS))
        .refused(Tensor, &[FIRST, WORDS, "is not in this file", INDEX]);
}

#[test]
fn tensor_listed_in_the_wrong_shard() {
    index(|i| i["weight_map"][WORDS] = json!(SECOND))
        .refused(Tensor, &[SECOND, WORDS, "is not in this file", INDEX]);
}

#[test]
fn tensor_not_listed() {
    index(|i| drop(i["weight_map"].as_object_mut().unwrap().remove(WORDS)))
        .refused(Tensor, &[FIRST, WORDS, "does not list it", INDEX]);
}

#[test]
fn weight_map_empty() {
    index(|i| i["weight_map"] = json!({})).refused(Config, &[INDEX, "weight_map", "empty"]);
}

#[test]
fn weight_map_missing() {
    index(|i| *i = json!({})).refused(Config, &[INDEX, "weight_map", "missing"]);
}

#[test]
fn weight_map_a_list() {
    index(|i| i["weight_map"] = json!([1])).refused(Config, &[INDEX, "weight_map", "object"]);
}

#[test]
fn weight_map_of_many_shards() {
    let model = index(|i| {
        let map = i["weight_map"].as_object_mut().unwrap();
        for n in 0..100_000 {
            map.insert(format!("t{n}"), json!(format!("{n}.safetensors")));
        }
    });
    model.refused(File, &["0.safetensors", "is missing"]);
}

#[test]
fn index_empty() {
    sharded().file(INDEX, "").refused(File, &[INDEX, "is empty"]);
}

#[test]
fn total_size_wrong_loads() {
    index(|i| i["metadata"]["total_size"] = json!(-1)).loads();
}

#[test]
fn a_single_file_takes_precedence_over_an_index() {
    // If there is a model.safetensors, transformers ignores the index too.
    Model::good().file(INDEX, "junk").loads();
}
