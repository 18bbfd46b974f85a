//! The field `input` of requests: a text, a list of texts, or token ids instead of texts.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::server::models::Texts;

/// Maximum number of items that are read from a list. A body can hold very many empty texts, because each takes only
/// three bytes. This maximum therefore limits their memory until `max_texts` is checked.
const MOST_ITEMS: usize = 1 << 20;

/// A text, a list of texts, the token ids of one text, or the token ids of several texts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    pub texts: Texts,
    /// Is true if the client sent one text instead of a list.
    pub single: bool,
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
        Ok(Input { texts: Texts::Text(vec![text.to_owned()]), single: true })
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Input, E> {
        Ok(Input { texts: Texts::Text(vec![text]), single: true })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Input, A::Error> {
        let Some(first) = list.next_element::<Item>()? else {
            return Err(A::Error::custom("is an empty list; give at least one text"));
        };
        match first {
            Item::Text(first) => {
                let rest = rest(list, first, |item| match item {
                    Item::Text(text) => Some(text),
                    _ => None,
                });
                rest.map(|texts| Input { texts: Texts::Text(texts), single: false })
            }
            Item::Id(first) => {
                let rest = rest(list, first, |item| match item {
                    Item::Id(id) => Some(id),
                    _ => None,
                });
                rest.map(|ids| Input { texts: Texts::Ids(vec![ids]), single: true })
            }
            Item::Ids(first) => {
                let rest = rest(list, first, |item| match item {
                    Item::Ids(ids) => Some(ids),
                    _ => None,
                });
                rest.map(|texts| Input { texts: Texts::Ids(texts), single: false })
            }
        }
    }
}

/// Reads the items of a list that follow the first item. All items must be of the same kind as the first item.
fn rest<'de, A: SeqAccess<'de>, T>(
    mut list: A,
    first: T,
    of_kind: impl Fn(Item) -> Option<T>,
) -> Result<Vec<T>, A::Error> {
    let mut items = vec![first];
    while let Some(item) = list.next_element::<Item>()? {
        if items.len() == MOST_ITEMS {
            return Err(A::Error::custom(format!(
                "has more than {MOST_ITEMS} items; send fewer at a time"
            )));
        }
        let other =
            || A::Error::custom("mixes texts and token ids; send only texts or only token ids");
        items.push(of_kind(item).ok_or_else(other)?);
    }
    Ok(items)
}

/// An item of a list.
enum Item {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a token id (an integer from 0 to 4294967295), or a list of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Item, E> {
        Ok(Item::Text(text))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Item, E> {
        u32::try_from(id)
            .map(Item::Id)
            .map_err(|_| E::custom(format!("{id} is not a token id; the maximum is 4294967295")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = list.next_element::<u32>()? {
            ids.push(id);
        }
        Ok(Item::Ids(ids))
    }
}

impl ToSchema for Input {
    fn name() -> Cow<'static, str> {
        "Input".into()
    }
}

impl PartialSchema for Input {
    fn schema() -> RefOr<Schema> {
        let of = |kind: Type| ObjectBuilder::new().schema_type(SchemaType::Type(kind));
        let list = |items: RefOr<Schema>| {
            RefOr::T(Schema::Array(ArrayBuilder::new().items(items).build()))
        };
        let text = || RefOr::T(Schema::Object(of(Type::String).build()));
        let ids = || list(RefOr::T(Schema::Object(of(Type::Integer).minimum(Some(0)).build())));
        let one_of = OneOfBuilder::new()
            .item(text())
            .item(list(text()))
            .item(ids())
            .item(list(ids()))
            .description(Some(
                "A text, a list of texts, or, if the server accepts them, the token ids of one text or \
                 of several",
            ));
        RefOr::T(Schema::OneOf(one_of.build()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Input, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_and_lists_are_read() {
        let text = |texts: &[&str], single| {
            let texts = Texts::Text(texts.iter().map(|text| (*text).to_owned()).collect());
            Ok(Input { texts, single })
        };
        assert_eq!(read(r#""a""#), text(&["a"], true));
        assert_eq!(read(r#"["a", "b\n"]"#), text(&["a", "b\n"], false));
        assert_eq!(read("[1, 2]"), Ok(Input { texts: Texts::Ids(vec![vec![1, 2]]), single: true }));
        let ids = Texts::Ids(vec![vec![1], vec![]]);
        assert_eq!(read("[[1], []]"), Ok(Input { texts: ids, single: false }));
    }

    #[test]
    fn other_values_are_refused_with_a_reason() {
        for (json, words) in [
            ("null", "expected a text or a list of texts"),
            ("{}", "expected a text or a list of texts"),
            ("5", "expected a text or a list of texts"),
            ("[]", "empty list"),
            ("[null]", "expected a text, a token id"),
            (r#"[1, "a"]"#, "mixes"),
            (r#"["a", [1]]"#, "mixes"),
            ("[-1]", "expected a text, a token id"),
            ("[1.5]", "expected a text, a token id"),
            ("[4294967296]", "is not a token id"),
            ("[[1.5]]", "expected u32"),
            ("[[[1]]]", "expected u32"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
