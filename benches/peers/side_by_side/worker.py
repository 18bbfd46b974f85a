"""A worker: the process of a peer, asked over its standard input and output (workers/protocol.rs has the other side)."""
import json, os, select, subprocess, time
from dataclasses import dataclass, field


@dataclass
class Program:
    """How a worker is started. Several rows of the table may be measured on one worker."""
    key: str
    command: list
    env: dict = field(default_factory=dict)
    # What its weights take on the device, where `cuda.py` has to fit several onto one.
    device_bytes: int = 0


@dataclass
class Row:
    """A row of the table."""
    name: str
    program: str
    where: str
    precision: str = 'f32'
    # Added to every request.
    request: dict = field(default_factory=dict)
    # How many of the texts it is given, as a fraction, where it is too slow for all of them.
    share: float = 1.0
    # The largest error against sentence-transformers in f32 up to which vectors count as the same.
    tolerance: float = 1e-5


class Failed(Exception):
    pass


class Worker:
    """Started at once; `begun` is when."""
    def __init__(self, program, cache, log):
        # Whatever it keeps for later runs (tuned kernels, compiled shaders) goes into `cache`.
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
        """What it is, and the seconds from its start to the vectors of `texts`."""
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
