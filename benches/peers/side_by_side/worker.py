"""A worker: the process of a peer. The script sends requests to its standard input and reads answers from its standard output (see workers/protocol.rs)."""
import json, os, select, subprocess, time
from dataclasses import dataclass, field


@dataclass
class Program:
    """The command that starts a worker. One worker may measure several rows of the table."""
    key: str
    command: list
    env: dict = field(default_factory=dict)
    # The bytes of the worker's weights on the device. `cuda.py` uses it to decide which workers fit on the device together.
    device_bytes: int = 0


@dataclass
class Row:
    """A row of the table."""
    name: str
    program: str
    where: str
    precision: str = 'f32'
    # Fields that are added to every request.
    request: dict = field(default_factory=dict)
    # The fraction of the texts that the row gets, if it is too slow for all texts.
    share: float = 1.0
    # The largest difference from sentence-transformers in f32 up to which vectors count as equal.
    tolerance: float = 1e-5


class Failed(Exception):
    pass


class Worker:
    """The process starts at once, at the time `begun`."""
    def __init__(self, program, cache, log):
        # The worker stores its caches (tuned kernels, compiled shaders) in the directory `cache`.
        os.makedirs(cache, exist_ok=True)
        env = {**os.environ, 'XDG_CACHE_HOME': cache, 'MESA_SHADER_CACHE_DIR': cache, 'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'true', **program.env}
        self.program, self.log = program, log
        self.buffer = b''
        with open(log, 'ab') as stderr:
            self.begun = time.perf_counter()
            self.process = subprocess.Popen(program.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env, cwd=cache)

    def read(self, seconds):
        until = time.perf_counter() + seconds
        while b'\n' not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.perf_counter()))
            if not ready:
                raise Failed(f'no answer within {seconds:.0f} s')
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                self.process.wait()
                raise Failed(f'it ended with {self.process.returncode}: {self.last_words()}')
            self.buffer += more
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def last_words(self):
        with open(self.log, encoding='utf-8', errors='replace') as f:
            lines = [line.strip() for line in f.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else 'without a word'

    def ask(self, request, seconds=1200):
        self.process.stdin.write(json.dumps(request).encode() + b'\n')
        self.process.stdin.flush()
        return self.read(seconds)

    def checked(self, request, seconds=1200):
        try:
            answer = self.ask(request, seconds)
        except BrokenPipeError:
            answer = self.read(10)
        if 'error' in answer:
            raise Failed(answer['error'])
        return answer

    def first_vector(self, texts):
        """Returns the worker's description of itself, and the seconds from its start to the vectors of `texts`."""
        try:
            self.process.stdin.write(json.dumps({'texts': texts}).encode() + b'\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        about = self.read(1200)
        answer = self.read(1200)
        if 'error' in answer:
            raise Failed(answer['error'])
        return about, time.perf_counter() - self.begun

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
