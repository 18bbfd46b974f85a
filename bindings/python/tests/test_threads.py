"""Threads, Ctrl-C and fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import FIXTURES, TEXTS

from vectile import SentenceTransformer, errors

MODEL = str(FIXTURES / "bert_mean_norm")


def run(code: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout
    )


def test_ten_threads_share_one_model(tiny: SentenceTransformer) -> None:
    rows = tiny.encode(TEXTS)
    seconds = float(os.environ.get("VECTILE_THREAD_SECONDS", "5"))
    end = time.monotonic() + seconds

    def work(thread: int) -> int:
        calls = 0
        while time.monotonic() < end:
            text = (thread + calls) % len(TEXTS)
            assert (tiny.encode([TEXTS[text]])[0] == rows[text]).all()
            calls += 1
        return calls

    with ThreadPoolExecutor(10) as threads:
        assert sum(threads.map(work, range(10))) >= 10


def test_the_gil_is_released(tiny: SentenceTransformer) -> None:
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    begun = time.monotonic()
    tiny.encode(["a cat sat on the roof " * 4] * 400)
    took = time.monotonic() - begun
    done.set()
    counter.join()
    # While the GIL is held, the counter cannot turn at all.
    assert turns > took * 20


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_stops_a_long_call_within_a_second() -> None:
    tries = int(os.environ.get("VECTILE_INTERRUPTS", "6"))
    result = run(
        f"""
        import os, random, signal, threading, time
        import vectile
        model = vectile.SentenceTransformer({MODEL!r})
        texts = ["a cat sat on the roof of the house " * 3] * 200_000
        slowest = 0.0
        for turn in range({tries}):
            at = []
            wait = random.Random(turn).uniform(0.05, 0.4)
            def strike():
                time.sleep(wait)
                at.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)
            threading.Thread(target=strike).start()
            try:
                model.encode(texts)
                raise SystemExit("not interrupted")
            except KeyboardInterrupt:
                slowest = max(slowest, time.monotonic() - at[0])
        again = model.encode("a cat")
        print(slowest, again.shape)
        """,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[0]) < 1.0, result.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_program_that_ctrl_c_ends_exits_soon() -> None:
    code = f"import vectile; m = vectile.SentenceTransformer({MODEL!r}); print('go', flush=True); m.encode(['a cat ' * 40] * 500_000)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors_of_it = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors_of_it and process.returncode in (1, 130, -signal.SIGINT), errors_of_it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_use_after_fork_is_an_error() -> None:
    result = run(
        f"""
        import os, sys
        import vectile
        from vectile import errors
        model = vectile.SentenceTransformer({MODEL!r})
        model.encode("a cat")
        child = os.fork()
        if child == 0:
            told = 0
            for use in (lambda: model.encode("a cat"), lambda: vectile.SentenceTransformer({MODEL!r})):
                try:
                    use()
                except errors.ForkError as error:
                    told += "spawn" in str(error)
            del model
            os._exit(7 if told == 2 else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
        print(model.encode("a cat").shape)
        """
    )
    assert result.returncode == 0, result.stderr
    early = run(
        f"""
        import os
        import vectile
        child = os.fork()
        if child == 0:
            os._exit(int(vectile.SentenceTransformer({MODEL!r}).encode("a cat").ndim))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        """
    )
    assert early.returncode == 0, early.stderr


def test_an_error_of_the_progress_function_ends_the_call(tiny: SentenceTransformer) -> None:
    call = tiny._call(prompt="")

    def fail(done: int) -> None:
        raise RuntimeError(f"stop at {done}")

    with pytest.raises(RuntimeError, match="stop at"):
        tiny._model.encode(["a cat sat on the roof"] * 3000, None, call, fail)


def test_memory_does_not_grow(tiny: SentenceTransformer) -> None:
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("there is no /proc")

    def resident() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def calls(count: int) -> None:
        for _ in range(count):
            tiny.encode(TEXTS * 20)

    calls(20)
    before = resident()
    calls(60)
    # Every call's result has 140 rows; a leak of all of them would be visible beside the allocator's own noise.
    assert resident() - before < 24 << 20


def test_exceptions_keep_their_kinds() -> None:
    kinds: list[Any] = [(errors.OptionError, ValueError), (errors.ModelFileError, OSError), (errors.UnknownArgumentError, TypeError)]
    assert all(issubclass(ours, theirs) and issubclass(ours, errors.VectileError) for ours, theirs in kinds)
