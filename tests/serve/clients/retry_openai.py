"""openai with a busy server: `RateLimitError` without retries, a response with retries."""

import time

import openai

from common import about, address, model, tell, texts

once = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0)
patient = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=100)
error, waits = None, None
end = time.monotonic() + 60
while error is None and time.monotonic() < end:
    try:
        once.embeddings.create(model=model, input=texts)
    except openai.RateLimitError as refused:
        error = about(refused)
        waits = {name: refused.response.headers.get(name) for name in ("retry-after", "retry-after-ms")}
rows = len(patient.embeddings.create(model=model, input=texts).data)
tell(error=error, waits=waits, rows=rows)
