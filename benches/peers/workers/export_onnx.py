"""Exports the transformer of a sentence-transformers directory. `export_onnx.py MODEL OUT` makes OUT/onnx/model.onnx, and copies the tokenizer's files
to OUT, where transformers.js expects them. The truncation and padding of tokenizer.json are removed, because sentence_bert_config.json has the limit."""
import json, os, shutil, sys
import torch
from transformers import AutoModel


class LastHidden(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state


def main():
    directory, out = sys.argv[1:]
    os.makedirs(os.path.join(out, 'onnx'), exist_ok=True)
    model = LastHidden(AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation='eager')).eval()
    ids = torch.ones(2, 8, dtype=torch.int64)
    names = ['input_ids', 'attention_mask', 'token_type_ids']
    torch.onnx.export(model, (ids, ids, 0 * ids), os.path.join(out, 'onnx', 'model.onnx'), dynamo=False, opset_version=14, input_names=names, output_names=['last_hidden_state'],
                      dynamic_axes={name: {0: 'texts', 1: 'tokens'} for name in names + ['last_hidden_state']})
    for name in ('config.json', 'tokenizer_config.json'):
        shutil.copy(os.path.join(directory, name), out)
    with open(os.path.join(directory, 'tokenizer.json'), encoding='utf-8') as f:
        tokenizer = json.load(f)
    with open(os.path.join(out, 'tokenizer.json'), 'w', encoding='utf-8') as f:
        json.dump({**tokenizer, 'truncation': None, 'padding': None}, f)


main()
