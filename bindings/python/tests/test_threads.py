"""Threads, Ctrl-C and fork.

VECTILE_THREAD_SECONDS is the duration of the test of ten threads (5 by default), and VECTILE_INTERRUPTS the number of
times that each test of Ctrl-C interrupts (6 by default).
"""

from __future__ import annotations

import os
import random
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


INTERRUPTS = int(os.environ.get("VECTILE_INTERRUPTS", "6"))

#: The growth of memory that is no leak: the noise of the allocator.
NOISE = 24 << 20


def resident() -> int:
    """Returns the bytes of this process in memory, or skips the test."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("there is no /proc")
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(code: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout
    )


def test_ten_threads_share_one_model(tiny: SentenceTransformer) -> None:
    rows = tiny.encode(TEXTS)
    seconds = float(os.environ.get("VECTILE_THREAD_SECONDS", "5"))

    def work(thread: int, end: float) -> int:
        calls = 0
        while time.monotonic() < end:
            text = (thread + calls) % len(TEXTS)
            assert (tiny.encode([TEXTS[text]])[0] == rows[text]).all()
            calls += 1
        return calls

    def calls(seconds: float) -> int:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(10) as threads:
            return sum(threads.map(lambda thread: work(thread, end), range(10)))

    calls(seconds / 5)
    before = resident()
    made = calls(seconds)
    grown = resident() - before
    print(f"{made} calls in {seconds:.0f} s; memory grew by {grown >> 10} KiB")
    assert made >= 10 and grown < NOISE


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
    result = run(
        f"""
        import os, random, signal, threading, time
        import vectile
        model = vectile.SentenceTransformer({MODEL!r})
        texts = ["a cat sat on the roof of the house " * 3] * 200_000
        slowest, before = 0.0, 0
        def resident():
            if not os.path.exists("/proc/self/statm"):
                return 0
            return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for turn in range({INTERRUPTS} + 1):
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
            # The calls that were stopped end within their batch.
            vectile._core.wait_for_workers(30.0)
            before = before or resident()
        assert model.encode("a cat").shape == (48,)
        print(slowest, resident() - before)
        """,
        timeout=120 + 4 * INTERRUPTS,
    )
    assert result.returncode == 0, result.stderr
    slowest, grown = map(float, result.stdout.split())
    print(f"{INTERRUPTS} interrupts, the slowest after {slowest:.2f} s; memory grew by {grown / 1024:.0f} KiB")
    # The rows of one call have 38 MB, so a leak of the stopped calls' rows exceeds this limit.
    assert slowest < 1.0 and grown < 64 << 20, result.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_a_program_that_ctrl_c_ends_exits_soon() -> None:
    code = f"import vectile; m = vectile.SentenceTransformer({MODEL!r}); print('go', flush=True); m.encode(['a cat ' * 40] * 500_000)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors_of_it = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors_of_it and process.returncode in (1, 130, -signal.SIGINT), errors_of_it


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_at_any_moment_ends_a_program() -> None:
    code = f"""
import vectile
model = vectile.SentenceTransformer({MODEL!r})
for _ in range(3):
    model.encode(["a cat sat on the roof"] * 500)
"""
    begun = time.monotonic()
    assert run(code).returncode == 0
    lasts = time.monotonic() - begun
    for turn in range(INTERRUPTS):
        # Some interrupts strike while Python starts, some while the model loads, and some at the exit.
        wait = random.Random(turn).uniform(0.0, lasts)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, errors_of_it = process.communicate(timeout=60)
        assert process.returncode in (0, 1, 130, -signal.SIGINT), (wait, process.returncode, errors_of_it)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_threads_encode_is_an_error() -> None:
    result = run(
        f"""
        import os, threading, time
        import vectile
        from vectile import errors
        model = vectile.SentenceTransformer({MODEL!r})
        rows = model.encode(["a cat", "the dog"])
        done = threading.Event()
        def work():
            while not done.is_set():
                assert (model.encode(["a cat", "the dog"]) == rows).all()
        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            time.sleep(0.05)
            child = os.fork()
            if child == 0:
                try:
                    model.encode("a cat")
                except errors.ForkError:
                    os._exit(7)
                os._exit(1)
            end = time.monotonic() + 30
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < end, "the child hangs"
                time.sleep(0.01)
            assert os.waitstatus_to_exitcode(ended[1]) == 7, ended
        done.set()
        for thread in threads:
            thread.join()
        """
    )
    assert result.returncode == 0, result.stderr


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
    def calls(count: int) -> int:
        return sum(tiny.encode(["a cat"] * 2000).nbytes for _ in range(count))

    calls(20)
    before = resident()
    results = calls(80)
    # A leak of every result, or of everything of that size, exceeds this limit.
    assert resident() - before < results // 2


def test_exceptions_keep_their_kinds() -> None:
    kinds: list[Any] = [(errors.OptionError, ValueError), (errors.ModelFileError, OSError), (errors.UnknownArgumentError, TypeError)]
    assert all(issubclass(ours, theirs) and issubclass(ours, errors.VectileError) for ours, theirs in kinds)
