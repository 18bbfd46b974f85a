//! The target `weights`: reads the header, the list of tensors and the values of a safetensors file.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::convert;
use crate::dtype::Storage;
use crate::files::{ModelFiles, ReadAt};
use crate::gpu::adapter::AdapterSummary;
use crate::weights::{Destination, Loader, WeightFiles};

/// Names that the library looks for, and names that are close to them.
const NAMES: [&str; 16] = [
    "embeddings.word_embeddings.weight",
    "bert.embeddings.word_embeddings.weight",
    "embeddings.LayerNorm.weight",
    "embeddings.LayerNorm.gamma",
    "embeddings.LayerNorm.bias",
    "embedding.weight",
    "embeddings",
    "linear.weight",
    "linear.bias",
    "linear.parametrizations.weight.original",
    "layer.0.weight_scale",
    "layer.0.qweight",
    "__metadata__",
    "",
    "../../x\0",
    "a",
];

const DTYPES: [&str; 14] = [
    "F32", "F32", "F32", "F16", "BF16", "F64", "I8", "I32", "I64", "BOOL", "F8_E4M3", "F4", "U64",
    "F7",
];

/// Returns the number of bits of a value. The table does not come from the safetensors crate, so it checks that crate.
fn bits(dtype: &str) -> Option<u128> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// The target `weights`. If the first byte is odd, the other bytes choose a header with plausible mistakes. Otherwise
/// they are the file.
pub fn weights(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let file = match mode % 2 {
        0 => data.to_vec(),
        _ => file(&mut Unstructured::new(data)).unwrap_or_default(),
    };
    let file = Arc::new(file);
    let source: Arc<dyn ReadAt> = file.clone();
    let files =
        ModelFiles::from_sources("fuzz", [("model.safetensors".to_owned(), source)]).unwrap();
    if let Ok(weights) = WeightFiles::open(&files, "") {
        check_places(&weights, &[("model.safetensors", &file)]);
        check_values(&weights, &file);
    }
}

/// Returns a file whose header has up to six tensors and some mistakes.
fn file(u: &mut Unstructured) -> Result<Vec<u8>> {
    let mut header = String::from("{");
    let mut at = 0u64;
    for tensor in 0..u.int_in_range(0..=6)? {
        if tensor > 0 {
            header.push(',');
        }
        let name = serde_json::Value::from(*u.choose(&NAMES)?);
        let dtype = *u.choose(&DTYPES)?;
        let mut shape = Vec::new();
        for _ in 0..u.int_in_range(0..=5)? {
            shape.push(dimension(u)?);
        }
        let count = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        let size = bits(dtype).unwrap_or(32) as u64;
        let bytes = count.and_then(|count| count.checked_mul(size)).unwrap_or(64) / 8;
        let (begin, end) = (at, at.saturating_add(bytes));
        at = end;
        let (begin, end) = match u.int_in_range(0..=31)? {
            0 => (begin + 1, end),
            1 => (begin, end.wrapping_add(1)),
            2 => (begin, end.wrapping_sub(1)),
            3 => (end, begin),
            4 => (0, end),
            5 => (begin, u64::MAX),
            6 => (u64::MAX - 1, u64::MAX),
            _ => (begin, end),
        };
        let more = if u.ratio(1, 16)? { ",\"more\":[{}]" } else { "" };
        header.push_str(&format!(
            "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]{more}}}"
        ));
    }
    header.push('}');
    header.push_str(&" ".repeat(u.int_in_range(0..=8)?));
    let length = match u.int_in_range(0..=31)? {
        0 => header.len() as u64 + 1,
        1 => header.len() as u64 - 1,
        2 => u.arbitrary()?,
        _ => header.len() as u64,
    };
    let mut file = length.to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    let values = match u.int_in_range(0..=15)? {
        0 => at.saturating_add(1),
        1 => at.saturating_sub(1),
        _ => at,
    };
    let fill = *u.choose(&[0u8, 1, 0x3c, 0x7f, 0xff])?;
    file.resize(file.len() + values.min(1 << 16) as usize, fill);
    let own = u.bytes(u.len())?;
    let end = file.len();
    let start = end - own.len().min(values as usize).min(1 << 16);
    file[start..].copy_from_slice(&own[..end - start]);
    Ok(file)
}

fn dimension(u: &mut Unstructured) -> Result<u64> {
    Ok(match u.int_in_range(0..=31)? {
        0 => 0,
        1 => u64::from(u32::MAX),
        2 => 1 << 32,
        3 => u64::MAX,
        4..=9 => u.int_in_range(0..=300)?,
        _ => u.int_in_range(1..=8)?,
    })
}

/// Checks that the tensors of each file cover it exactly, that each has as many bytes as its shape and dtype need, and
/// that no name occurs twice in a header. `files` are the contents by name.
pub fn check_places(weights: &WeightFiles, files: &[(&str, &[u8])]) {
    let mut places = weights.places();
    // A tensor without values begins at the same byte as the next tensor.
    places.sort_by_key(|p| (p.file.clone(), p.start, !p.shape.contains(&0)));
    let mut ends: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (name, content) in files {
        let size = u64::from_le_bytes(content[..8].try_into().unwrap());
        ends.insert(name, (8 + size, 0));
    }
    for place in &places {
        let (end, tensors) = ends.get_mut(&*place.file).expect("the tensor's file was given");
        assert!(place.shape.len() <= 4, "{place:?} has too many dimensions");
        assert_eq!(place.start, *end, "{place:?} does not follow the tensor before it");
        let count: u128 = place.shape.iter().map(|size| *size as u128).product();
        let size = bits(&place.dtype).unwrap_or_else(|| panic!("{place:?} has no known dtype"));
        assert_eq!(count * size % 8, 0, "{place:?} ends within a byte");
        *end += u64::try_from(count * size / 8).expect("the tensor is smaller than its file");
        *tensors += 1;
    }
    for (name, content) in files {
        let (end, tensors) = ends[name];
        assert_eq!(end, content.len() as u64, "{name} has bytes that no tensor has");
        let size = u64::from_le_bytes(content[..8].try_into().unwrap());
        let header = std::str::from_utf8(&content[8..8 + size as usize]).unwrap();
        let Members(members) = serde_json::from_str(header).expect("the header is an object");
        let listed = members.iter().filter(|name| *name != "__metadata__").count();
        assert_eq!(listed, tensors, "{name} lists other tensors than the library found");
    }
}

/// The names of all members of a JSON object. A name that occurs twice is in the list twice.
struct Members(Vec<String>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Members, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Members(names))
            }
        }
        json.deserialize_map(Names)
    }
}

/// Reads every tensor in every way in which a model's loader does.
fn check_values(weights: &WeightFiles, file: &[u8]) {
    let _ = weights.prefix_of("embeddings.word_embeddings.weight");
    let _ = weights.first_floating();
    for place in weights.places() {
        let Ok((name, entry)) = weights.find(&place.name) else { continue };
        assert_eq!(name, place.name);
        let count: usize = place.shape.iter().product();
        assert!(count > 0, "{place:?} was found, but has no values");
        let bytes = &file[place.start as usize..];
        if let Ok(values) = weights.values(&name, entry, 0, count) {
            assert_eq!(values.len(), count, "{place:?}");
            for storage in [Storage::F32, Storage::F16, Storage::PackedBf16] {
                let mut encoded = Vec::new();
                let _ = convert::encode(storage, &values, &mut encoded);
                assert_eq!(encoded.len(), count * storage.bytes() as usize);
            }
            if entry.dtype == Dtype::F32 {
                let same = weights.stored_as(Storage::F32, &name, entry, 0, count).unwrap();
                assert_eq!(same.expect("the file has F32"), bytes[..count * 4], "{place:?}");
            }
            let last = weights.values(&name, entry, count - 1, 1).expect("the tensor was read");
            assert_eq!(last[0].to_bits(), values[count - 1].to_bits(), "{place:?}");
        }
        if let Ok(values) = weights.integers(&name, entry) {
            assert_eq!(values.len(), count, "{place:?}");
        }
        let mut to = Destination::counting(&AdapterSummary::webgpu());
        let mut loader = Loader::new(weights, &mut to, Storage::F32);
        if let [rows, width] = place.shape[..] {
            assert!(loader.table(&name, width + 1).is_err(), "{place:?} is not so wide");
            let _ = loader.table(&name, width);
            let bytes = to.finish().unwrap().all();
            assert!(bytes <= (rows * width.next_multiple_of(4) * 4) as u64, "{place:?}: {bytes}");
        }
    }
}
