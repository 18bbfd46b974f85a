//! Tests the container of `model.safetensors`: its header, its offsets and its shapes.

use serde_json::{Value, json};

use crate::Kind::{File, Tensor};
use crate::tensors::{
    FILE, NORM, QUERY, Tensors, WORDS, container, header, original, raw, tensors,
};
use crate::{Model, embeds};

/// Returns a pseudo-random generator with this seed, so that a failure can be repeated.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

#[test]
fn rewritten_unchanged_loads() {
    tensors(|_| {}).loads();
}

#[test]
fn truncated_at_every_boundary_of_the_header() {
    let bytes = original();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let start = 8 + size;
    let mut cuts = vec![0, 1, 7, 8, 9, 8 + size / 2, start - 1, start, start + 1, bytes.len() - 1];
    let mut at = start;
    for entry in &Tensors::read(&bytes).0[..] {
        at += entry.data.len();
        cuts.push(at);
    }
    cuts.retain(|cut| *cut < bytes.len());
    for cut in cuts {
        raw(&bytes[..cut]).refused(File, &[FILE]);
    }
}

#[test]
fn truncated_anywhere() {
    let bytes = original();
    let mut number = numbers(7);
    for _ in 0..100 {
        raw(&bytes[..number(bytes.len())]).refused(File, &[FILE, "incomplete"]);
    }
}

#[test]
fn a_byte_changed_anywhere_in_the_header() {
    let bytes = original();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut number = numbers(11);
    for _ in 0..200 {
        let mut changed = bytes.clone();
        changed[number(8 + size)] = number(256) as u8;
        // Some changes do no harm, for example in the name of an unused tensor.
        if let Ok(embedder) = raw(changed).build() {
            embeds(embedder);
        }
    }
}

#[test]
fn header_length_absurd() {
    for length in [u64::MAX, 1 << 63, 1 << 40, 100_000_001] {
        let model = Model::good().bytes(FILE, |b| b[..8].copy_from_slice(&length.to_le_bytes()));
        model.refused(File, &[FILE, &length.to_string()]);
    }
}

#[test]
fn header_length_zero() {
    Model::good().bytes(FILE, |b| b[..8].fill(0)).refused(File, &[FILE]);
}

#[test]
fn header_of_twenty_megabytes() {
    let bytes = original();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..8 + size]).unwrap();
    let padded = format!("{text}{}", " ".repeat(20_000_000));
    raw(container(&padded, &bytes[8 + size..])).refused(File, &[FILE, "the maximum is"]);
}

#[test]
fn header_padded_with_spaces_loads() {
    let bytes = original();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..8 + size]).unwrap();
    raw(container(&format!(" {text}  "), &bytes[8 + size..])).loads();
}

#[test]
fn header_is_an_array() {
    raw(container("[]", b"")).refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn header_nested_deep() {
    raw(container(&"[".repeat(1_000_000), b"")).refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn header_with_a_byte_order_mark() {
    raw(container("\u{feff}{}", b"")).refused(File, &[FILE]);
}

#[test]
fn tensors_overlap() {
    header(|h| h[WORDS]["data_offsets"] = h[QUERY]["data_offsets"].clone())
        .refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn hole_between_tensors() {
    let bytes = original();
    let all = Tensors::read(&bytes);
    let last = all.0.last().unwrap().name.clone();
    let model = header(|h| {
        for i in 0..2 {
            let offset = h[&last]["data_offsets"][i].as_u64().unwrap() + 16;
            h[&last]["data_offsets"][i] = offset.into();
        }
    });
    model.bytes(FILE, |b| b.extend([0; 16])).refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn offsets_reversed() {
    header(|h| h[WORDS]["data_offsets"].as_array_mut().unwrap().reverse())
        .refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn offsets_negative() {
    header(|h| h[WORDS]["data_offsets"][0] = (-4).into()).refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn offsets_beyond_the_address_space() {
    header(|h| h[WORDS]["data_offsets"][1] = u64::MAX.into()).refused(File, &[FILE]);
}

#[test]
fn trailing_bytes() {
    Model::good().bytes(FILE, |b| b.extend(b"PK\x03\x04")).refused(File, &[FILE, "extra bytes"]);
}

#[test]
fn key_twice() {
    let bytes = original();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..8 + size]).unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    let twice = text.trim_end().replacen('{', &format!("{{\"{QUERY}\":{},", value[QUERY]), 1);
    raw(container(&twice, &bytes[8 + size..])).refused(Tensor, &[FILE, QUERY, "twice"]);
}

#[test]
fn rank_five() {
    tensors(|t| t.get(WORDS).shape = vec![1, 1, 1, 512, 48])
        .refused(Tensor, &[FILE, WORDS, "5 dimensions"]);
}

#[test]
fn rank_ten_thousand() {
    tensors(|t| t.get(WORDS).shape.splice(0..0, [1; 10_000]).for_each(drop))
        .refused(Tensor, &[FILE, WORDS, "10002 dimensions"]);
}

#[test]
fn shape_that_overflows() {
    header(|h| h[WORDS]["shape"] = json!([u64::MAX, u64::MAX])).refused(File, &[FILE]);
}

#[test]
fn shape_that_is_not_the_data() {
    header(|h| h[WORDS]["shape"] = json!([511, 48])).refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn shape_of_fractions() {
    header(|h| h[WORDS]["shape"] = json!([512.0, 48.5])).refused(File, &[FILE, "header is wrong"]);
}

#[test]
fn tensor_without_rows() {
    tensors(|t| {
        let words = t.get(WORDS);
        (words.shape, words.data) = (vec![0, 48], vec![]);
    })
    .refused(Tensor, &[FILE, WORDS, "[0, 48]"]);
}

#[test]
fn scalar_instead_of_a_vector() {
    tensors(|t| {
        let bias = t.get(&format!("{NORM}.bias"));
        (bias.shape, bias.data) = (vec![], vec![0; 4]);
    })
    .refused(Tensor, &[FILE, NORM, "[]", "[48]"]);
}

#[test]
fn a_million_tensors() {
    let many: Vec<String> = (0..150_000)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    raw(container(&format!("{{{}}}", many.join(",")), b""))
        .refused(File, &[FILE, "150000 tensors"]);
}
