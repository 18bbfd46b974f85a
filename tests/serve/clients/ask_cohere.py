"""cohere 5 with `ClientV2`: rerank, and embed in every encoding."""

import cohere

from common import address, caught, model, numbers, reranker, tell, texts

client = cohere.ClientV2(api_key="secret", base_url=address)
stranger = cohere.ClientV2(api_key="wrong", base_url=address)
ranked = client.rerank(model=reranker, query=texts[0], documents=texts[1:])
best = client.rerank(model=reranker, query=texts[0], documents=texts[1:], top_n=2, max_tokens_per_doc=4096)
kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
every = client.embed(model=model, texts=texts, input_type="search_document", embedding_types=kinds)
plain = client.embed(model=model, texts=texts, input_type="search_query", truncate="END")
tell(
    vectors={"every": numbers(every.embeddings.float_), "plain": numbers(plain.embeddings.float_)},
    encodings={kind: getattr(every.embeddings, kind) for kind in kinds[1:]},
    ranked=[[one.index, one.relevance_score] for one in ranked.results],
    best=[one.index for one in best.results],
    tokens=every.meta.billed_units.input_tokens,
    errors={
        "unknown model": caught(lambda: client.rerank(model="no-such-model", query="a", documents=["b"])),
        "not a reranker": caught(lambda: client.rerank(model=model, query="a", documents=["b"])),
        "unknown input type": caught(lambda: client.embed(model=model, texts=texts, input_type="no-such-type")),
        "wrong key": caught(lambda: stranger.rerank(model=reranker, query="a", documents=["b"])),
    },
)
