"""langchain-cohere: `CohereRerank`, which uses `/v2/rerank`."""

from langchain_cohere import CohereRerank
from langchain_core.documents import Document

from common import address, caught, reranker, tell, texts

documents = [Document(page_content=text) for text in texts[1:]]
compressor = CohereRerank(model=reranker, base_url=address, cohere_api_key="secret")
found = compressor.compress_documents(documents, texts[0])
stranger = CohereRerank(model=reranker, base_url=address, cohere_api_key="wrong")
tell(
    ranked=[[texts.index(one.page_content) - 1, one.metadata["relevance_score"]] for one in found],
    direct=[[one["index"], one["relevance_score"]] for one in compressor.rerank(documents, texts[0], top_n=None)],
    errors={"wrong key": caught(lambda: stranger.rerank(documents, texts[0]))},
)
