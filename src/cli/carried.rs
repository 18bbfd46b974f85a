//! The columns of an input that go with the vectors into the output.

use std::ops::Range;
use std::sync::Arc;

use super::failure::Failure;

#[cfg(feature = "bulk")]
use arrow_array::RecordBatch;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Text as it is.
    Text(String),
    /// JSON, as it was written.
    Json(String),
}

/// The columns of a row, in their order.
pub type Row = Vec<(Arc<str>, Cell)>;

/// The columns of some rows.
#[derive(Debug, Clone, Default)]
pub enum Carried {
    /// There are none, or none are wanted.
    #[default]
    None,
    /// A list of columns for each row.
    Rows(Vec<Row>),
    /// Columns of typed values.
    #[cfg(feature = "bulk")]
    Batch(RecordBatch),
}

impl Carried {
    /// The columns of some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Carried::None => Carried::None,
            Carried::Rows(all) => Carried::Rows(all[rows].to_vec()),
            #[cfg(feature = "bulk")]
            Carried::Batch(batch) => Carried::Batch(batch.slice(rows.start, rows.len())),
        }
    }

    /// Adds the columns of the rows that follow.
    pub fn append(&mut self, next: Carried) -> Result<(), Failure> {
        match (self, next) {
            (Carried::None, Carried::None) => Ok(()),
            (Carried::Rows(rows), Carried::Rows(more)) => {
                rows.extend(more);
                Ok(())
            }
            #[cfg(feature = "bulk")]
            (Carried::Batch(batch), Carried::Batch(more)) => {
                if more.schema() != batch.schema() {
                    return Err(Failure::user(format!(
                        "the input files have other columns, or of other types: {} and {}; carry those \
                         that they share, with --carry",
                        columns(batch),
                        columns(&more)
                    )));
                }
                *batch = arrow_select::concat::concat_batches(&batch.schema(), [&*batch, &more])
                    .map_err(|e| Failure::Ours(format!("internal error: {e}")))?;
                Ok(())
            }
            _ => Err(Failure::user(
                "the input files have other columns; leave them out with --carry none",
            )),
        }
    }
}

/// The columns of a batch, for messages.
#[cfg(feature = "bulk")]
fn columns(batch: &RecordBatch) -> String {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|f| format!("`{}` ({})", f.name(), f.data_type()));
    names.collect::<Vec<_>>().join(", ")
}

/// Which columns are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carry {
    All,
    None,
    These(Vec<String>),
}

impl std::str::FromStr for Carry {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        match names {
            "all" => Ok(Carry::All),
            "none" => Ok(Carry::None),
            _ => {
                let names: Vec<String> = names.split(',').map(str::to_owned).collect();
                match names.iter().any(String::is_empty) {
                    true => Err("give all, none or names with commas between".to_owned()),
                    false => Ok(Carry::These(names)),
                }
            }
        }
    }
}

impl Carry {
    /// Whether a column of this name is carried.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Carry::All => true,
            Carry::None => false,
            Carry::These(names) => names.iter().any(|wanted| wanted == name),
        }
    }
}

/// What is known of the columns before the first row.
#[derive(Debug, Clone)]
pub enum Shape {
    /// There are none, or none are wanted.
    None,
    /// Columns of text.
    Texts(Vec<Arc<str>>),
    /// Objects, whose fields may differ from row to row.
    Objects,
    /// Columns with types.
    #[cfg(feature = "bulk")]
    Typed(arrow_schema::SchemaRef),
}

/// What the values of a field of JSON objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Float,
    Text,
    /// Anything: kept as JSON.
    Json,
}

impl Kind {
    /// What a value is; `None` for null, which can be any.
    pub fn of(cell: &Cell) -> Option<Kind> {
        let Cell::Json(json) = cell else { return Some(Kind::Text) };
        match json.as_bytes().first() {
            Some(b'n') | None => None,
            Some(b't' | b'f') => Some(Kind::Bool),
            Some(b'"') => Some(Kind::Text),
            Some(b'{' | b'[') => Some(Kind::Json),
            Some(_) if json.parse::<i64>().is_ok() => Some(Kind::Int),
            Some(_) => Some(Kind::Float),
        }
    }

    /// What values of two kinds are together.
    pub fn join(self, other: Kind) -> Kind {
        match (self, other) {
            (a, b) if a == b => a,
            (Kind::Int, Kind::Float) | (Kind::Float, Kind::Int) => Kind::Float,
            _ => Kind::Json,
        }
    }

    /// How messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "true or false",
            Kind::Int => "an integer",
            Kind::Float => "a number",
            Kind::Text => "text",
            Kind::Json => "anything",
        }
    }
}

/// The fields of objects and what their values are, in the order in which they first come.
pub fn survey<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<(Arc<str>, Kind)> {
    let mut fields: Vec<(Arc<str>, Option<Kind>)> = Vec::new();
    for (name, cell) in rows.into_iter().flatten() {
        let at = fields.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            fields.push((name.clone(), None));
            fields.len() - 1
        });
        let known = &mut fields[at].1;
        *known = match (*known, Kind::of(cell)) {
            (Some(known), Some(found)) => Some(known.join(found)),
            (known, found) => known.or(found),
        };
    }
    // A field that is null all along may hold anything later.
    fields.into_iter().map(|(name, kind)| (name, kind.unwrap_or(Kind::Json))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_the_kind_of_all_their_values() {
        let row = |fields: &[(&str, &str)]| -> Row {
            let cell = |json: &str| Cell::Json(json.to_owned());
            fields.iter().map(|(name, json)| (Arc::from(*name), cell(json))).collect()
        };
        let rows = [
            row(&[("id", "1"), ("x", "1"), ("t", "null"), ("tags", "[1]"), ("n", "null")]),
            row(&[("x", "2.5"), ("t", "\"a\""), ("late", "true"), ("mixed", "1")]),
            row(&[("x", "1e400"), ("mixed", "\"a\"")]),
        ];
        let found = survey(&rows);
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["id", "x", "t", "tags", "n", "late", "mixed"]);
        let kinds: Vec<Kind> = found.iter().map(|(_, kind)| *kind).collect();
        use Kind::*;
        assert_eq!(kinds, [Int, Float, Text, Json, Json, Bool, Json]);
    }
}
