#!/usr/bin/env python3
"""Compares Vectile and other runtimes (peers) on the same texts and weights. Each round measures all of them. The script prints a table, and writes
all figures as JSON under benches/results.

benches/peers/run.sh sets the peers up and calls this script.
"""
import argparse, json, os, shutil, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
try:
    import numpy  # noqa: F401
except ImportError:
    sys.exit('run.py needs numpy; run benches/peers/run.sh, which installs it')

from side_by_side import texts
from side_by_side.figures import figures, times_the_better
from side_by_side.machine import machine, slug
from side_by_side.rounds import Session, say
from side_by_side.table import number, table, times
from side_by_side.worker import Failed, Program, Row, Worker

PEERS = os.path.join(ROOT, '.vectile', 'peers')
WORKERS = os.path.join(HERE, 'workers')
SHADERS, NATIVE, REFERENCE = 'Vectile f32', 'Vectile f32, CPU', 'sentence-transformers f32'
LLAMA, BURN = 'llama.cpp f32, Vulkan', 'burn f32, wgpu'
# The tolerance for 16-bit weights and activations, compared with f32, for vectors of length one.
HALF = 2e-3


def vectile(model):
    """Yields the program and the row of each precision of Vectile. On an adapter without f16, the worker refuses f16."""
    peer = os.environ.get('VECTILE_PEER') or os.path.join(ROOT, 'target', 'release', 'examples', 'peer')
    kinds = {
        'f32': ('Vectile f32', 'f32', ['--dtype', 'float32'], 1e-5),
        'f16': ('Vectile f16', 'f16', ['--dtype', 'float16', '--half-fallback', 'error'], HALF),
        'packed-f16': ('Vectile packed f16', 'f16', ['--dtype', 'float16', '--disable', 'shader-f16', '--half-fallback', 'packed'], HALF),
    }
    for key, (name, precision, options, tolerance) in kinds.items():
        yield Program(f'vectile-{key}', [peer, model, '--adapter', 'gpu', *options]), Row(name, f'vectile-{key}', 'adapter', precision, tolerance=tolerance)
    yield Program('vectile-cpu', [peer, model, '--adapter', 'cpu', '--dtype', 'float32']), Row(NATIVE, 'vectile-cpu', 'CPU', 'f32', tolerance=1e-5)


def sentence_transformers(model):
    yield python('sentence-transformers', 'sentence_transformers_peer.py', model), Row(REFERENCE, 'sentence-transformers', 'CPU')


def onnxruntime(model):
    yield python('onnxruntime', 'onnxruntime_peer.py', model, os.path.join(PEERS, 'onnx', 'model', 'onnx', 'model.onnx')), Row('onnxruntime f32', 'onnxruntime', 'CPU')


def rten(model):
    yield Program('rten', [os.path.join(PEERS, 'target', 'rten', 'release', 'rten-peer'), model, os.path.join(PEERS, 'onnx', 'model', 'onnx', 'model.onnx')]), Row('rten f32', 'rten', 'CPU')


def candle(model):
    yield Program('candle', [os.path.join(PEERS, 'target', 'candle', 'release', 'candle-peer'), model]), Row('candle f32', 'candle', 'CPU')


def burn(model):
    yield Program('burn', [os.path.join(PEERS, 'target', 'burn', 'release', 'burn-peer'), model]), Row(BURN, 'burn', 'adapter')


def llama_cpp(software):
    # An empty value hides all devices from llama.cpp. `0` names the first device, since llama.cpp ignores software devices that are not named.
    vulkan = {'GGML_VK_VISIBLE_DEVICES': '0'} if software else {}
    kinds = (('cpu', 'f32', 'llama.cpp f32, CPU', ['cpu', '--flash-attn'], {'GGML_VK_VISIBLE_DEVICES': ''}, 1e-5),
             ('vulkan', 'f32', LLAMA, ['vulkan'], vulkan, 1e-5),
             ('vulkan-f16', 'f16', 'llama.cpp f16, Vulkan', ['vulkan'], vulkan, HALF))
    for key, weights, name, options, env, tolerance in kinds:
        program = python(f'llama.cpp-{key}', 'llama_cpp_peer.py', os.path.join(PEERS, 'gguf', f'model-{weights}.gguf'), *options)
        program.env = env
        yield program, Row(name, program.key, 'CPU' if key == 'cpu' else 'adapter', weights, tolerance=tolerance)


def transformers_js(software):
    chromium = next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), 'chromium')
    for device in ('wasm', 'webgpu'):
        command = ['node', os.path.join(WORKERS, 'transformers_js_peer.mjs'), os.path.join(PEERS, 'web', 'node_modules'), os.path.join(PEERS, 'onnx'), chromium, device]
        # Without a GPU, the browser's software adapter takes 1.5 s for one sentence.
        share = 1 / 16 if device == 'webgpu' and software else 1
        name = f'transformers.js f32, {"WebGPU" if device == "webgpu" else "WebAssembly"}'
        yield Program(f'transformers.js-{device}', command), Row(name, f'transformers.js-{device}', 'browser', share=share)


def python(key, file, *arguments):
    return Program(key, [os.path.join(PEERS, 'venv', 'bin', 'python'), os.path.join(WORKERS, file), *arguments])


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default=os.path.join(ROOT, '.vectile', 'models', 'all-MiniLM-L6-v2'))
    parser.add_argument('--only', help='measure only these peers, separated by commas; Vectile in f32 is always measured')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--sentences', type=int, help='the number of sentences (default: 128 on a software adapter, 1000 on others)')
    parser.add_argument('--passages', type=int, help='the number of passages (default: 16 on a software adapter, 200 on others)')
    parser.add_argument('--skip', default='', help='leave out rows whose names contain one of these strings, separated by commas')
    parser.add_argument('--json', help='the file for the JSON (default: benches/results/DATE-MACHINE.json)')
    return parser.parse_args()


def adapter(model):
    """Returns Vectile's description of the adapter, on which the number of texts and the settings of llama.cpp depend."""
    program, _ = next(vectile(model))
    folder = os.path.join(PEERS, 'session')
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if not os.path.exists(program.command[0]):
        sys.exit(f'{program.command[0]} does not exist; run benches/peers/run.sh --setup-only, or set VECTILE_PEER to a built worker')
    worker = Worker(program, os.path.join(folder, 'cache'), os.path.join(folder, 'vectile.log'))
    try:
        return worker.read(300)
    except Failed as error:
        sys.exit(f'Vectile did not start: {error}')
    finally:
        worker.stop()


def chosen(args, software):
    known = {'vectile': lambda: vectile(args.model), 'sentence-transformers': lambda: sentence_transformers(args.model), 'onnxruntime': lambda: onnxruntime(args.model),
             'rten': lambda: rten(args.model), 'candle': lambda: candle(args.model), 'llama.cpp': lambda: llama_cpp(software), 'burn': lambda: burn(args.model), 'transformers.js': lambda: transformers_js(software)}
    names = args.only.split(',') if args.only else list(known)
    if unknown := [name for name in names if name not in known]:
        sys.exit(f'--only: `{unknown[0]}` is not a peer; the peers are {", ".join(known)}')
    pairs, left_out = [], {}
    for name in ['vectile', *(name for name in names if name != 'vectile')]:
        missing = os.path.join(PEERS, 'missing', name)
        if os.path.exists(missing):
            with open(missing, encoding='utf-8') as f:
                left_out[name] = f.read().strip()
            continue
        pairs += known[name]()
    skipped = [part for part in args.skip.split(',') if part]
    pairs = [(program, row) for program, row in pairs if not any(part in row.name for part in skipped)]
    for program, row in list(pairs):
        if not (os.path.exists(program.command[0]) or shutil.which(program.command[0])):
            left_out[row.name] = f'{os.path.relpath(program.command[0], ROOT)} is not there: benches/peers/run.sh sets it up'
            pairs.remove((program, row))
    return pairs, left_out


def report(session, base, about, left_out, settings, path):
    rows = figures(session, base, REFERENCE)
    result = {'schema': 1, 'machine': about, 'settings': settings, 'workers': session.about, 'rows': rows, 'left_out': {**left_out, **session.left_out}}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(json.dumps(result, indent=1) + '\n')
    print(f'{about["adapter"]["name"]}, {about["adapter"]["backend"]}, {about["adapter"]["driver_info"]}; {about["cores"]} cores of {about["cpu"]}; {about["date"][:10]}; rounds: {settings["rounds"]}\n')
    print(table(rows, base, REFERENCE))
    for name, reason in result['left_out'].items():
        print(f'\nLeft out: {name}: {reason}')
    return rows


def verdict(rows):
    """Compares Vectile with the other two runtimes that run compute shaders on the same adapter."""
    for name, (ratio, best) in times_the_better(rows, SHADERS, [LLAMA, BURN]).items():
        print(f'\n{name}: {SHADERS} runs at {times(ratio)} times the rate of {best}, the faster peer on the same adapter')
    by_name = {row['name']: row for row in rows}
    if SHADERS in by_name and BURN in by_name:
        first = by_name[SHADERS]['first_vector_first_run_s']
        burn = by_name[BURN]
        tuning = burn['first_vector_first_run_s']
        print(f'\nfirst vector of a first run: {SHADERS} {number(first)} s, {BURN} {number(tuning)} s: 1/{number(tuning / first)}', end='')
        name, told = next(iter(burn['sets'].items()))
        # burn tunes its kernels for the first text, and tunes them again for batches, which have other shapes.
        whole = tuning + told['first_pass_s']
        print(f"; {BURN} until all {name} had a vector once {number(whole)} s: 1/{number(whole / first)}")


def main():
    args = options()
    args.model = os.path.abspath(args.model)
    found = adapter(args.model)
    software = found['software']
    # On a machine without a GPU, users run Vectile on the CPU.
    base = NATIVE if software else SHADERS
    pairs, left_out = chosen(args, software)
    sentences = texts.sentences(args.sentences or (128 if software else 1000))
    passages = texts.passages(args.passages or (16 if software else 200))
    # One text alone shows the time of a query, and the mixed set shows the cost of padding.
    sets = {'sentences': sentences, 'passages': passages, 'mixed': texts.shuffled(sentences + passages), 'query': texts.sentences(1, seed=3)}
    about = {**machine(ROOT), 'adapter': found['adapter']}
    session = Session([program for program, _ in pairs], [row for _, row in pairs], sets, os.path.join(PEERS, 'session'))
    session.begin()
    session.run(args.rounds)
    session.end()
    settings = {'model': os.path.basename(args.model), 'rounds': args.rounds, 'base': base, 'reference': REFERENCE, 'texts': {name: len(kept) for name, kept in sets.items()}}
    path = args.json or os.path.join(ROOT, 'benches', 'results', f'{about["date"][:10]}-{slug(found["adapter"]["name"].split("(")[0], about["cores"], "cores", about["cpu"])}.json')
    rows = report(session, base, about, left_out, settings, path)
    verdict(rows)
    say(f'\n==> {os.path.relpath(path, ROOT)}')


if __name__ == '__main__':
    main()
