"""openai for Python: base64, its default, and float; its own exceptions."""

import openai

from common import address, caught, model, numbers, tell, texts

client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0)
create = client.embeddings.create


def vectors(**options):
    answer = create(model=model, input=texts, **options)
    assert [one.index for one in answer.data] == list(range(len(texts)))
    return numbers(one.embedding for one in answer.data)


answer = create(model=model, input=texts[0])
stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
tell(
    vectors={"base64": vectors(), "float": vectors(encoding_format="float")},
    one=numbers([answer.data[0].embedding]),
    short=len(create(model=model, input=texts[0], dimensions=8).data[0].embedding),
    usage=answer.usage.prompt_tokens,
    models=[one.id for one in client.models.list()],
    retrieved=client.models.retrieve(model).id,
    errors={
        "unknown model": caught(lambda: create(model="no-such-model", input=texts)),
        "empty list": caught(lambda: create(model=model, input=[])),
        "token ids": caught(lambda: create(model=model, input=[[101, 102]])),
        "too many dimensions": caught(lambda: create(model=model, input=texts[0], dimensions=100_000)),
        "wrong key": caught(lambda: stranger.embeddings.create(model=model, input=texts)),
        "no such route": caught(lambda: client.chat.completions.create(model=model, messages=[])),
    },
)
