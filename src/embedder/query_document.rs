//! Reads how a multi-vector encoder treats queries and documents: their maximum lengths, their padding, and the tokens
//! whose vectors it leaves out.

use std::collections::HashSet;

use crate::config::KindConfig;
use crate::embedder::model::Model;
use crate::embedder::options::EmbedTask;
use crate::error::Error;
use crate::kernels::MAX_BATCH_TOKENS;
use crate::tokenize::QueryPadding;

/// The treatment of queries and the treatment of documents.
#[derive(Debug, Clone)]
pub(super) struct QueryDocument {
    pub query: Role,
    pub document: Role,
}

/// The treatment of texts of one role.
#[derive(Debug, Clone, Default)]
pub(super) struct Role {
    /// The maximum number of tokens of a text; `None` if there is no limit.
    pub limit: Option<usize>,
    /// The padding of short texts; `None` if short texts are not padded.
    pub padding: Option<QueryPadding>,
    /// The ids of the tokens whose vectors are left out.
    pub left_out: HashSet<u32>,
}

/// Checks the treatment of queries and documents. Returns an error if these settings let no query run, or let no
/// document run.
pub(super) fn check(model: &Model) -> Result<(), Error> {
    match model.config.kind {
        KindConfig::MultiVector(_) => QueryDocument::read(model).map(|_| ()),
        _ => Ok(()),
    }
}

impl QueryDocument {
    /// Reads both roles from the model's configuration.
    pub fn read(model: &Model) -> Result<Self, Error> {
        let KindConfig::MultiVector(multi) = &model.config.kind else {
            return Err(Error::Internal(
                "only multi-vector encoders distinguish queries from documents".into(),
            ));
        };
        let tokenizer = &model.tokenizer;
        let words = |skips: bool| -> HashSet<u32> {
            let words = multi.skiplist.iter().filter(|_| skips);
            words.filter_map(|word| tokenizer.id(word)).collect()
        };
        let limit = |length: &Option<(usize, String)>| {
            tokenizer.limit_of(length.as_ref().map(|(length, place)| (*length, place.as_str())))
        };
        let query = Role {
            limit: limit(&multi.query_length)?,
            padding: query_padding(model)?,
            left_out: words(multi.skips_in_queries),
        };
        let document = Role {
            limit: limit(&multi.document_length)?,
            padding: None,
            left_out: words(multi.skips_in_documents),
        };
        Ok(QueryDocument { query, document })
    }

    /// Returns the treatment of texts under the given task.
    pub fn of(&self, task: EmbedTask) -> &Role {
        match task {
            EmbedTask::Query => &self.query,
            EmbedTask::Document => &self.document,
        }
    }
}

/// Returns the padding of queries. Returns an error if the model cannot use the padding, for example if padded queries
/// exceed the model's maximum length.
fn query_padding(model: &Model) -> Result<Option<QueryPadding>, Error> {
    let KindConfig::MultiVector(multi) = &model.config.kind else { return Ok(None) };
    let Some(expansion) = &multi.expansion else { return Ok(None) };
    let (file, field) = &expansion.field;
    let length = expansion.length;
    let wrong = |problem: String| Error::config(file, field, format!("is {length}, but {problem}"));
    let most = model.tokenizer.positions().unwrap_or(MAX_BATCH_TOKENS).min(MAX_BATCH_TOKENS);
    if length > most {
        return Err(wrong(format!("the model takes at most {most} tokens")));
    }
    if !expansion.seen
        && let Some(reach) = model.transformer.reach().filter(|reach| *reach + 1 < length)
    {
        let problem = format!(
            "the padding tokens of a query could not attend to its text, because a layer \
             attends only to tokens at most {reach} positions away"
        );
        return Err(wrong(problem));
    }
    if model.tokenizer.pads_left() {
        let name = format!("{}tokenizer_config.json", model.config.weights_prefix);
        let supported = "queries are padded at the end, so only `right` is supported";
        return Err(Error::unsupported(name, "padding_side", "left", supported));
    }
    let token = match &expansion.token {
        Some(name) => model.tokenizer.id(name).ok_or_else(|| {
            let problem = format!("pads queries with {name:?}, which is not a token of the model");
            Error::config(file, field, problem)
        }),
        None => {
            let roles = ["mask_token", "eos_token"];
            roles.iter().find_map(|role| model.tokenizer.role(role)).ok_or_else(|| {
                wrong(
                    "the tokenizer has neither a mask_token nor an eos_token, and one of them must \
                     pad queries"
                        .into(),
                )
            })
        }
    }?;
    Ok(Some(QueryPadding { token, length, seen: expansion.seen }))
}
