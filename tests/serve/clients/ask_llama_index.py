"""LlamaIndex: its client of text-embeddings-inference, and its client of servers like OpenAI's."""

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from common import address, caught, model, numbers, tell, texts

tei = TextEmbeddingsInference(model_name=model, base_url=address, auth_token="secret")
like = OpenAILikeEmbedding(model_name=model, api_base=f"{address}/v1", api_key="secret", max_retries=0)
unknown = OpenAILikeEmbedding(model_name="no-such-model", api_base=f"{address}/v1", api_key="secret", max_retries=0)
tell(
    vectors={
        "tei": numbers(tei.get_text_embedding_batch(texts)),
        "openai_like": numbers(like.get_text_embedding_batch(texts)),
        "query": numbers(like.get_query_embedding(text) for text in texts),
    },
    errors={"unknown model": caught(lambda: unknown.get_text_embedding(texts[0]))},
)
