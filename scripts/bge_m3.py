"""Computes bge-m3 with its sparse and multi-vector heads, for the fixtures of bge-m3. It needs only transformers. The formulas are those of the paper
(Chen et al. 2024, section 3.2, https://arxiv.org/abs/2402.03216) and of BGEM3FlagModel, whose library is not among the pinned packages."""
import os
import torch, transformers
from safetensors.torch import load_file, save_file
from torch import nn

import family_fixtures as families


def convert_heads(folder, width, seed):
    """Writes random heads in the layout of the converted .pt files: a weight and a bias for each head."""
    hidden = transformers.AutoConfig.from_pretrained(folder).hidden_size
    for i, (name, columns) in enumerate([('colbert_linear', width), ('sparse_linear', 1)]):
        linear = nn.Linear(hidden, columns)
        families.randomise(linear, seed + 11 + i)
        save_file({k: v.contiguous() for k, v in linear.state_dict().items()}, os.path.join(folder, f'{name}.safetensors'))


class BgeM3(nn.Module):
    prompts = {}

    def __init__(self, folder, dtype):
        super().__init__()
        self.model = transformers.AutoModel.from_pretrained(folder, dtype=dtype, add_pooling_layer=False).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        for name in ('colbert_linear', 'sparse_linear'):
            state = load_file(os.path.join(folder, f'{name}.safetensors'))
            linear = nn.Linear(*reversed(state['weight'].shape))
            linear.load_state_dict(state)
            self.add_module(name, linear.to(dtype))

    def preprocess(self, texts, **_):
        return self.tokenizer(texts, padding=True, truncation=True, return_tensors='pt')

    def hidden(self, texts):
        batch = self.preprocess(texts)
        with torch.inference_mode():
            return batch, self.model(input_ids=batch['input_ids'], attention_mask=batch['attention_mask']).last_hidden_state

    def encode_query(self, texts, **_):
        """Returns a vector of length one for every token after the first."""
        batch, hidden = self.hidden(texts)
        vectors = nn.functional.normalize(self.colbert_linear(hidden[:, 1:]), dim=-1)
        return [v[:int(m.sum()) - 1] for v, m in zip(vectors, batch['attention_mask'])]

    encode_document = encode_query

    def similarity(self, queries, documents):
        """Returns the mean, over the tokens of the query, of the largest product with a token of the document."""
        return torch.stack([torch.stack([(q @ d.T).amax(1).sum() / len(q) for d in documents]) for q in queries])

    def lexical(self, text, width):
        """Returns a weight for each token id: the largest relu of the sparse head over the tokens with this id. Special tokens have no weight."""
        batch, hidden = self.hidden([text])
        weights, row = torch.relu(self.sparse_linear(hidden))[0, :, 0], torch.zeros(width, dtype=hidden.dtype)
        t = self.tokenizer
        unused = {t.cls_token_id, t.eos_token_id, t.pad_token_id, t.unk_token_id}
        for token, weight in zip(batch['input_ids'][0].tolist(), weights):
            if token not in unused:
                row[token] = torch.maximum(row[token], weight)
        return row
