"""The ollama client."""

import ollama

from common import address, caught, model, numbers, tell, texts

client = ollama.Client(host=address, headers={"authorization": "Bearer secret"})
answer = client.embed(model=model, input=texts)
tell(
    vectors={"all": numbers(answer.embeddings), "each": numbers(client.embed(model=model, input=text).embeddings[0] for text in texts)},
    tokens=answer.prompt_eval_count,
    duration=answer.total_duration,
    errors={
        "unknown model": caught(lambda: client.embed(model="no-such-model", input=texts)),
        "wrong key": caught(lambda: ollama.Client(host=address, headers={"authorization": "Bearer wrong"}).embed(model=model, input=texts)),
    },
)
