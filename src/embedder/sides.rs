//! What becomes of the queries and of the documents of a multi-vector encoder.

use std::collections::HashSet;

use crate::config::KindConfig;
use crate::embedder::run::Model;
use crate::error::Error;
use crate::kernels::MAX_BATCH_TOKENS;
use crate::tokenize::QueryPadding;

/// What becomes of the texts of one side.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// Tokens of a text, at most.
    pub limit: Option<usize>,
    pub filling: Option<QueryPadding>,
    /// Tokens without a vector.
    pub left_out: HashSet<u32>,
}

/// Refuses what no query or document of the model could be.
pub(super) fn check(model: &Model) -> Result<(), Error> {
    match model.config.kind {
        KindConfig::MultiVector(_) => sides(model).map(|_| ()),
        _ => Ok(()),
    }
}

/// Queries and documents.
pub(super) fn sides(model: &Model) -> Result<[Side; 2], Error> {
    let KindConfig::MultiVector(multi) = &model.config.kind else {
        return Err(Error::Internal("the sides of a model without any".into()));
    };
    let tokenizer = &model.tokenizer;
    let words = |skips: bool| -> HashSet<u32> {
        let words = multi.skiplist.iter().filter(|_| skips);
        words.filter_map(|word| tokenizer.id(word)).collect()
    };
    let limit = |length: &Option<(usize, String)>| {
        tokenizer.limit_of(length.as_ref().map(|(length, place)| (*length, place.as_str())))
    };
    let query = Side {
        limit: limit(&multi.query_length)?,
        filling: filling(model)?,
        left_out: words(multi.skips_in_queries),
    };
    let document = Side {
        limit: limit(&multi.document_length)?,
        filling: None,
        left_out: words(multi.skips_in_documents),
    };
    Ok([query, document])
}

/// What fills queries up, checked to be tokens that the transformer can take there.
fn filling(model: &Model) -> Result<Option<QueryPadding>, Error> {
    let KindConfig::MultiVector(multi) = &model.config.kind else { return Ok(None) };
    let Some(expansion) = &multi.expansion else { return Ok(None) };
    let (file, field) = &expansion.field;
    let length = expansion.length;
    let wrong = |problem: String| Error::config(file, field, format!("is {length}, and {problem}"));
    let most = model.tokenizer.positions().unwrap_or(MAX_BATCH_TOKENS).min(MAX_BATCH_TOKENS);
    if length > most {
        return Err(wrong(format!("at most {most} tokens are taken")));
    }
    if !expansion.seen
        && let Some(reach) = model.transformer.reach().filter(|reach| *reach + 1 < length)
    {
        let problem = format!(
            "tokens that fill a query up would see none of it: a layer sees {reach} tokens to a side"
        );
        return Err(wrong(problem));
    }
    if model.tokenizer.pads_left() {
        let name = format!("{}tokenizer_config.json", model.config.weights_prefix);
        let supported = "queries that are filled up are, at the right";
        return Err(Error::unsupported(name, "padding_side", "left", supported));
    }
    let token = match &expansion.token {
        Some(name) => model.tokenizer.id(name).ok_or_else(|| {
            let problem = format!("fills queries up with {name:?}, which is no token of the model");
            Error::config(file, field, problem)
        }),
        None => {
            let roles = ["mask_token", "eos_token"];
            roles.iter().find_map(|role| model.tokenizer.role(role)).ok_or_else(|| {
                wrong(
                    "the tokenizer has no mask_token and no eos_token to fill queries with".into(),
                )
            })
        }
    }?;
    Ok(Some(QueryPadding { token, length, seen: expansion.seen }))
}
