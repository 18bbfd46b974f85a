"""LiteLLM: rerank through Cohere's API and through text-embeddings-inference's, embeddings through OpenAI's."""

import os

# LiteLLM uses the list of prices in its package, so that importing it opens no connection.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402

from common import address, caught, model, numbers, reranker, tell, texts  # noqa: E402

litellm.telemetry = False
# LiteLLM prints advice on stdout after an error.
litellm.suppress_debug_info = True


def rerank(name, key="secret", **options):
    answer = litellm.rerank(model=name, query=texts[0], documents=texts[1:], api_base=address, api_key=key, **options)
    return [[one["index"], one["relevance_score"]] for one in answer.results]


def embed(name):
    answer = litellm.embedding(model=name, input=texts, api_base=f"{address}/v1", api_key="secret")
    return numbers(one["embedding"] for one in answer.data)


tell(
    vectors={"openai": embed(f"openai/{model}"), "hosted_vllm": embed(f"hosted_vllm/{model}")},
    cohere=rerank(f"cohere/{reranker}"),
    best=rerank(f"cohere/{reranker}", top_n=2),
    huggingface=rerank("huggingface/bert"),
    errors={
        "unknown model": caught(lambda: rerank("cohere/no-such-model")),
        "wrong key": caught(lambda: rerank(f"cohere/{reranker}", key="wrong")),
    },
)
