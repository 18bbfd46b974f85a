//! Tests reranking in the shape of Cohere's and Jina's APIs.

use serde_json::json;
use vectile::block_on;

use super::support::{Running, bits, have_adapter, reranker, texts};

#[test]
fn documents_are_ranked_as_in_the_library() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let (query, texts) = ("Where is the cat?", texts(5));
    let ranked = block_on(reranker("rerankers/bert_bare").rank(query, &texts)).unwrap();
    let mut documents: Vec<_> = texts.iter().map(|text| json!(text)).collect();
    documents[1] = json!({ "text": texts[1] });
    let mut request = json!({ "model": "rank", "query": query, "documents": documents });
    let all = server.post("/v1/rerank", &request).ok();
    assert_eq!(all["results"].as_array().unwrap().len(), 5);
    for (got, expected) in all["results"].as_array().unwrap().iter().zip(&ranked) {
        assert_eq!((&got["index"], got.get("document")), (&json!(expected.index), None));
        assert_eq!(bits(&json!([got["relevance_score"]])), [expected.score.to_bits()]);
    }
    assert!(all["usage"]["total_tokens"].as_u64().unwrap() > 5);
    request["top_n"] = json!(2);
    request["return_documents"] = json!(true);
    let best = server.post("/v1/rerank", &request).ok();
    assert_eq!(best["results"].as_array().unwrap().len(), 2);
    assert_eq!(best["results"][0]["document"]["text"], texts[ranked[0].index]);
    for (field, value) in [("top_n", json!(0)), ("documents", json!([])), ("documents", json!([5]))]
    {
        let mut wrong = request.clone();
        wrong[field] = value;
        server.post("/v1/rerank", &wrong).error(400);
    }
}
