"""Haystack: embedders and the ranker of text-embeddings-inference, and the embedder of OpenAI's API."""

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack import Document  # noqa: E402
from haystack.components.embedders import OpenAIDocumentEmbedder  # noqa: E402
from haystack.utils import Secret  # noqa: E402
from haystack_integrations.components.embedders.huggingface_api import (  # noqa: E402
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker  # noqa: E402

from common import address, model, numbers, tell, texts  # noqa: E402

key = Secret.from_token("secret")
tei = {"api_type": "text_embeddings_inference", "api_params": {"url": address}, "token": key}
documents = [Document(id=f"{i}", content=text) for i, text in enumerate(texts)]


def embedded(embedder):
    return numbers(one.embedding for one in embedder.run(documents=documents)["documents"])


text_embedder = HuggingFaceAPITextEmbedder(**tei)
openai = OpenAIDocumentEmbedder(api_key=key, model=model, api_base_url=f"{address}/v1", progress_bar=False)
ranker = HuggingFaceTEIRanker(url=address, token=key)
ranked = ranker.run(query=texts[0], documents=documents[1:])["documents"]
tell(
    vectors={
        "documents": embedded(HuggingFaceAPIDocumentEmbedder(**tei, progress_bar=False)),
        "text": numbers(text_embedder.run(text=text)["embedding"] for text in texts),
        "openai": embedded(openai),
    },
    ranked=[[int(one.id) - 1, one.score] for one in ranked],
)
