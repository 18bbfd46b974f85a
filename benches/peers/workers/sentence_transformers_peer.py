"""sentence-transformers as a peer: `sentence_transformers_peer.py MODEL [--device cuda] [--dtype float16]`. A request may name
the number of texts in a `batch` (default: 32). Attention is torch's scaled_dot_product_attention (SDPA)."""
import protocol

OUT = protocol.own_output()

import argparse
import torch, transformers, sentence_transformers
from sentence_transformers import SentenceTransformer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('model')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', default='float32')
    args = parser.parse_args()
    model = SentenceTransformer(args.model, device=args.device, local_files_only=True,
                                model_kwargs={'dtype': getattr(torch, args.dtype), 'attn_implementation': 'sdpa'})

    def embed(texts, request):
        # encode() returns vectors on the host, so the device has finished when encode() returns.
        return model.encode(texts, batch_size=request.get('batch', 32), show_progress_bar=False, convert_to_numpy=True)

    def count(texts):
        return sum(len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)['input_ids'])

    device = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'CPU, {torch.get_num_threads()} threads'
    versions = {'sentence-transformers': sentence_transformers.__version__, 'torch': torch.__version__, 'transformers': transformers.__version__}
    if args.device.startswith('cuda'):
        versions['CUDA'] = torch.version.cuda
    protocol.serve(OUT, {'versions': versions, 'device': device}, embed, count)


main()
