"""huggingface_hub's InferenceClient with the API of text-embeddings-inference, at its routes and at the base address."""

from huggingface_hub import InferenceClient

from common import address, caught, numbers, tell, texts

client = InferenceClient(model=f"{address}/embed", api_key="secret")
base = InferenceClient(model=address, api_key="secret")
stranger = InferenceClient(model=f"{address}/embed", api_key="wrong")
similar = InferenceClient(model=f"{address}/similarity", api_key="secret")
others = {"other_sentences": texts[1:]}
tell(
    vectors={
        "each": numbers(client.feature_extraction(text)[0] for text in texts),
        "all": numbers(client.feature_extraction(texts)),
        "base": numbers(base.feature_extraction(text)[0] for text in texts),
    },
    similarity=similar.sentence_similarity(texts[0], **others),
    base_similarity=base.sentence_similarity(texts[0], **others),
    errors={
        "unknown prompt": caught(lambda: client.feature_extraction(texts[0], prompt_name="no-such-prompt")),
        "wrong key": caught(lambda: stranger.feature_extraction(texts[0])),
    },
)
