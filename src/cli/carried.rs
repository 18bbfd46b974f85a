//! The input columns that are copied to the output beside the vectors.

use std::ops::Range;
use std::sync::Arc;

use super::failure::Failure;

#[cfg(feature = "bulk")]
use arrow_array::RecordBatch;

/// A value of an input column that is copied to the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarriedValue {
    /// The text itself, not encoded as JSON.
    Text(String),
    /// A JSON value, spelled as in the input.
    Json(String),
}

/// The names and values of the copied columns of a row, in the order of the columns.
pub type CarriedRow = Vec<(Arc<str>, CarriedValue)>;

/// The copied columns of consecutive rows.
#[derive(Debug, Clone, Default)]
pub enum Carried {
    /// No columns are copied.
    #[default]
    None,
    /// The names and values of the columns, row by row.
    Rows(Vec<CarriedRow>),
    /// The columns of the rows as an Arrow batch.
    #[cfg(feature = "bulk")]
    Batch(RecordBatch),
}

impl Carried {
    /// Returns the copied columns of a range of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Carried::None => Carried::None,
            Carried::Rows(all) => Carried::Rows(all[rows].to_vec()),
            #[cfg(feature = "bulk")]
            Carried::Batch(batch) => Carried::Batch(batch.slice(rows.start, rows.len())),
        }
    }

    /// Appends the copied columns of the rows that follow these rows.
    ///
    /// # Errors
    /// Fails if `next` has other columns than `self`. This happens if the next input file has other columns.
    pub fn append(&mut self, next: Carried) -> Result<(), Failure> {
        match (self, next) {
            (Carried::None, Carried::None) => Ok(()),
            (Carried::Rows(rows), Carried::Rows(more)) => {
                rows.extend(more);
                Ok(())
            }
            #[cfg(feature = "bulk")]
            (Carried::Batch(batch), Carried::Batch(more)) => {
                if more.schema().fields() != batch.schema().fields() {
                    return Err(Failure::user(format!(
                        "the input files have different columns or types: {} and {}; use --carry to name \
                         the columns that all files have",
                        list_columns(batch),
                        list_columns(&more)
                    )));
                }
                *batch = arrow_select::concat::concat_batches(&batch.schema(), [&*batch, &more])
                    .map_err(Failure::internal)?;
                Ok(())
            }
            _ => Err(Failure::user(
                "the input files have different columns; leave the columns out with --carry none",
            )),
        }
    }
}

/// Returns the names and types of the columns of an Arrow batch, for messages.
#[cfg(feature = "bulk")]
fn list_columns(batch: &RecordBatch) -> String {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|f| format!("`{}` ({})", f.name(), f.data_type()));
    names.collect::<Vec<_>>().join(", ")
}

/// The value of `--carry`, which selects the input columns that are copied to the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carry {
    All,
    None,
    Only(Vec<String>),
    AllExcept(Vec<String>),
    /// Copy only this column, and no column if the input does not have it.
    IfPresent(String),
}

impl std::str::FromStr for Carry {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        match list {
            "all" => return Ok(Carry::All),
            "none" => return Ok(Carry::None),
            _ => {}
        }
        let mut names: Vec<&str> = list.split(',').collect();
        let excludes = names[0] == "all" || names[0].starts_with('-');
        if excludes {
            names.retain(|name| *name != "all");
        }
        let stripped: Option<Vec<&str>> = match excludes {
            true => names.iter().map(|name| name.strip_prefix('-')).collect(),
            false => Some(names),
        };
        match stripped {
            Some(names) if names.iter().all(|name| !name.is_empty()) => {
                let names = names.into_iter().map(str::to_owned).collect();
                Ok(if excludes { Carry::AllExcept(names) } else { Carry::Only(names) })
            }
            _ => Err("give `all`, `none`, names separated by commas, or `all,-NAME` to leave a column out"
                .to_owned()),
        }
    }
}

impl Carry {
    pub fn none() -> Self {
        Carry::None
    }

    pub fn is_none(&self) -> bool {
        *self == Carry::None
    }

    /// Returns true if a column of this name is copied.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Carry::All => true,
            Carry::None => false,
            Carry::Only(names) => names.iter().any(|carried| carried == name),
            Carry::AllExcept(names) => names.iter().all(|left_out| left_out != name),
            Carry::IfPresent(carried) => carried == name,
        }
    }

    /// Returns the column names that `--carry` lists, either to copy them or to leave them out.
    pub fn names(&self) -> &[String] {
        match self {
            Carry::All | Carry::None | Carry::IfPresent(_) => &[],
            Carry::Only(names) | Carry::AllExcept(names) => names,
        }
    }
}

/// The columns that will be copied. Before the first row is read, the columns of some inputs are known only in part.
#[derive(Debug, Clone)]
pub enum CarriedSchema {
    /// No columns are copied.
    None,
    /// Columns that hold text.
    Texts(Vec<Arc<str>>),
    /// Fields of JSON objects, which may differ from row to row.
    Objects,
    /// Columns whose types this Arrow schema states.
    #[cfg(feature = "bulk")]
    Typed(arrow_schema::SchemaRef),
}

/// The type of an output column that can hold all values of one field of JSON objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    Bool,
    Int,
    Float,
    Text,
    /// Values of any type, stored as JSON text.
    Json,
}

impl FieldType {
    /// Returns the type of a value, or `None` for null, which fits any type.
    pub fn of(value: &CarriedValue) -> Option<FieldType> {
        let CarriedValue::Json(json) = value else { return Some(FieldType::Text) };
        match json.as_bytes().first() {
            Some(b'n') | None => None,
            Some(b't' | b'f') => Some(FieldType::Bool),
            Some(b'"') => Some(FieldType::Text),
            Some(b'{' | b'[') => Some(FieldType::Json),
            Some(_) if json.parse::<i64>().is_ok() => Some(FieldType::Int),
            Some(_) => Some(FieldType::Float),
        }
    }

    /// Returns the type that can hold the values of both types.
    pub fn join(self, other: FieldType) -> FieldType {
        match (self, other) {
            (a, b) if a == b => a,
            (FieldType::Int, FieldType::Float) | (FieldType::Float, FieldType::Int) => {
                FieldType::Float
            }
            _ => FieldType::Json,
        }
    }

    /// Returns the name of the type for messages.
    pub fn name(self) -> &'static str {
        match self {
            FieldType::Bool => "true or false",
            FieldType::Int => "an integer",
            FieldType::Float => "a number",
            FieldType::Text => "text",
            FieldType::Json => "any value",
        }
    }
}

/// Returns the fields of JSON objects with their types, in the order of their first occurrence.
pub fn infer_fields<'a>(
    rows: impl IntoIterator<Item = &'a CarriedRow>,
) -> Vec<(Arc<str>, FieldType)> {
    let mut fields: Vec<(Arc<str>, Option<FieldType>)> = Vec::new();
    for (name, value) in rows.into_iter().flatten() {
        let at = fields.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            fields.push((name.clone(), None));
            fields.len() - 1
        });
        let known = &mut fields[at].1;
        *known = match (*known, FieldType::of(value)) {
            (Some(known), Some(found)) => Some(known.join(found)),
            (known, found) => known.or(found),
        };
    }
    // A field that is null in every inspected row may have any type in later rows, so its column stores JSON.
    let known_or_json = |(name, known): (_, Option<_>)| (name, known.unwrap_or(FieldType::Json));
    fields.into_iter().map(known_or_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_the_type_that_holds_all_its_values() {
        let row = |fields: &[(&str, &str)]| -> CarriedRow {
            let value = |json: &str| CarriedValue::Json(json.to_owned());
            fields.iter().map(|(name, json)| (Arc::from(*name), value(json))).collect()
        };
        let rows = [
            row(&[("id", "1"), ("x", "1"), ("t", "null"), ("tags", "[1]"), ("n", "null")]),
            row(&[("x", "2.5"), ("t", "\"a\""), ("late", "true"), ("mixed", "1")]),
            row(&[("x", "1e400"), ("mixed", "\"a\"")]),
        ];
        let found = infer_fields(&rows);
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["id", "x", "t", "tags", "n", "late", "mixed"]);
        let types: Vec<FieldType> = found.iter().map(|(_, field_type)| *field_type).collect();
        use FieldType::*;
        assert_eq!(types, [Int, Float, Text, Json, Json, Bool, Json]);
    }

    #[test]
    fn carry_names_columns_or_leaves_them_out() {
        let carry = |list: &str| list.parse::<Carry>();
        assert_eq!(carry("all"), Ok(Carry::All));
        assert_eq!(carry("none"), Ok(Carry::None));
        assert_eq!(carry("a,b-c"), Ok(Carry::Only(vec!["a".into(), "b-c".into()])));
        let except = Ok(Carry::AllExcept(vec!["a".into(), "b".into()]));
        assert_eq!(carry("all,-a,-b"), except);
        assert_eq!(carry("-a,-b"), except);
        for wrong in ["", "a,,b", "all,a", "-a,b", "all,-", "-"] {
            assert!(carry(wrong).is_err(), "{wrong}");
        }
        let carry = carry("all,-secret").unwrap();
        assert!(carry.takes("id") && !carry.takes("secret"));
    }
}
