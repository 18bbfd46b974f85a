//! Plausible mistakes in JSON files, chosen by the bytes of the input.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

/// Numbers that are likely to break the reading of sizes, counts and factors.
const NUMBERS: [f64; 8] = [0.5, -0.5, 1e-320, 1e30, 3.5e38, 1e308, -1.0, -0.0];

const WHOLE: [u64; 22] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    32,
    64,
    65,
    128,
    255,
    256,
    1024,
    65_535,
    65_536,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 53,
    u64::MAX,
];

const TEXTS: [&str; 14] = [
    "",
    "12",
    "a",
    "[UNK]",
    "../outside",
    "/etc/passwd",
    "a\0b",
    "\u{1b}[31m",
    "gelu",
    "float16",
    "model.safetensors",
    "1_Pooling",
    "C:\\x",
    "\u{fffd}\u{301}\u{200d}",
];

/// Returns a value that a parser should refuse or limit.
pub fn hostile(u: &mut Unstructured) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0 | 1 => json!(u.choose(&WHOLE)?),
        2 => json!(u.int_in_range(0..=4096u32)?),
        3 => json!(u.choose(&NUMBERS)?),
        4 => json!(u.choose(&TEXTS)?),
        5 => Value::Null,
        6 => json!(u.arbitrary::<bool>()?),
        7 => json!([]),
        8 => json!({}),
        _ => json!(u.arbitrary::<i64>()?),
    })
}

/// Makes up to four edits in a value. `names` are names of fields that the library looks for.
pub fn edit(u: &mut Unstructured, value: &mut Value, names: &[&str]) -> Result<()> {
    for _ in 0..u.int_in_range(0..=4)? {
        edit_once(u, value, names, 0)?;
    }
    Ok(())
}

fn edit_once(u: &mut Unstructured, value: &mut Value, names: &[&str], depth: u8) -> Result<()> {
    let stays = depth > 6 || (depth > 0 && u.ratio(1, 3)?);
    match value {
        Value::Object(map) if !stays => edit_object(u, map, names, depth),
        Value::Array(list) if !stays && !list.is_empty() => {
            let at = u.choose_index(list.len())?;
            match u.int_in_range(0..=7)? {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => list.insert(at, hostile(u)?),
                _ => edit_once(u, &mut list[at], names, depth + 1)?,
            }
            Ok(())
        }
        other => {
            *other = changed(u, other)?;
            Ok(())
        }
    }
}

fn edit_object(
    u: &mut Unstructured,
    map: &mut Map<String, Value>,
    names: &[&str],
    depth: u8,
) -> Result<()> {
    let known: Vec<String> = map.keys().cloned().collect();
    let adds = known.is_empty() || u.ratio(1, 5)?;
    if adds && !names.is_empty() {
        map.insert((*u.choose(names)?).to_owned(), hostile(u)?);
        return Ok(());
    }
    let Some(name) = (!known.is_empty()).then(|| u.choose(&known)).transpose()? else {
        return Ok(());
    };
    match u.int_in_range(0..=7)? {
        0 => drop(map.remove(name)),
        1 => {
            let value = map[name].clone();
            let other = u.choose(&known)?.clone();
            map.insert(other, value);
        }
        _ => edit_once(u, &mut map[name], names, depth + 1)?,
    }
    Ok(())
}

/// Returns a value to replace `value`, often one close to it.
fn changed(u: &mut Unstructured, value: &Value) -> Result<Value> {
    let whole = value.as_u64();
    Ok(match (u.int_in_range(0..=5)?, whole) {
        (0, Some(number)) => json!(number.wrapping_add(1)),
        (1, Some(number)) => json!(number.saturating_sub(1)),
        (2, Some(number)) => json!(number.saturating_mul(2)),
        (0, None) => json!([value]),
        _ => hostile(u)?,
    })
}

/// Returns a value as JSON text. The text sometimes has a mistake that a JSON value cannot have, such as a repeated
/// name.
pub fn text(u: &mut Unstructured, value: &Value) -> Result<Vec<u8>> {
    let mut text = value.to_string();
    match u.int_in_range(0..=31)? {
        0 => {
            let at = u.choose_index(text.len() + 1)?;
            text.truncate(text.floor_char_boundary(at));
        }
        1 => text = text.replacen(':', ":NaN,\"x\":", 1),
        2 => text.insert(0, '\u{feff}'),
        3 => {
            // The first member occurs twice.
            let end = text.find(',').unwrap_or(0);
            if text.starts_with('{') && end > 0 {
                let member = text[1..=end].to_owned();
                text.insert_str(1, &member);
            }
        }
        4 => text.push_str(" x"),
        _ => {}
    }
    Ok(text.into_bytes())
}
