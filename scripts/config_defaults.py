"""Prints the fields of transformers' configuration classes with their defaults, for tests/fixtures/config_defaults.json.

    python scripts/config_defaults.py [EARLIER.json] > NEW.json

The output also has the fields of EARLIER.json, which another version of transformers gave. The file in tests/fixtures was
made with the versions 4.35, 4.57 and 5.24, one after the other.
"""

import json
import sys

from transformers import AutoConfig

TYPES = """albert bert camembert deberta-v2 distilbert electra eurobert gemma3_text gte jina_embeddings_v3 llama mistral
modernbert mpnet mt5 nomic_bert qwen2 qwen3 roberta t5 umt5 xlm-roberta""".split()

fields = json.load(open(sys.argv[1])) if len(sys.argv) > 1 else {}
for model_type in TYPES:
    try:
        config = AutoConfig.for_model(model_type).to_dict()
    except ValueError:
        print(f'skipped {model_type}: this version of transformers does not support it', file=sys.stderr)
        continue
    known = fields.setdefault(model_type, {})
    for name, value in json.loads(json.dumps(config, default=str)).items():
        if known.get(name) is None:
            known[name] = value
json.dump({kind: dict(sorted(known.items())) for kind, known in sorted(fields.items())}, sys.stdout, indent=0)
print()
