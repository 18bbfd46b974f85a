"""langchain-openai, told not to send token ids, which only OpenAI's own server can read."""

from langchain_openai import OpenAIEmbeddings

from common import address, caught, model, numbers, tell, texts


def embeddings(name):
    return OpenAIEmbeddings(
        model=name, base_url=f"{address}/v1", api_key="secret", check_embedding_ctx_length=False, max_retries=0
    )


ours = embeddings(model)
tell(
    vectors={"documents": numbers(ours.embed_documents(texts)), "query": numbers(ours.embed_query(text) for text in texts)},
    errors={"unknown model": caught(lambda: embeddings("no-such-model").embed_documents(texts))},
)
