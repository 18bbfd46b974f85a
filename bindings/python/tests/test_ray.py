"""Ray on three raylets of this machine: every row once after a killed actor, driver or node, and clear errors."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterator

import pytest
from conftest import FIXTURES, require
from ray_run import observed

from vectile import SentenceTransformer

MODEL = str(FIXTURES / "bert_mean_norm")
PROGRAM = str(pathlib.Path(__file__).with_name("ray_run.py"))
ROWS, BATCHES = 600, 12
#: The seconds that a start or a run takes at most. On a busy machine, the start of a process of Ray takes many seconds.
MOST = 90


@contextlib.contextmanager
def deadline(what: str, seconds: float = MOST) -> Iterator[None]:
    """Fails the test if the block does not end in time."""

    def late(*_: Any) -> None:
        # This exception is no `Exception`, so that Ray does not catch it.
        pytest.fail(f"{what} took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + MOST
    while not ready():
        assert time.monotonic() < end, f"{what} did not come within {MOST} s"
        time.sleep(0.02)


class Raylets:
    """The raylets, which belong to another process. This process is one of their drivers."""

    def __init__(self) -> None:
        import ray

        command = [sys.executable, PROGRAM, "cluster"]
        pipe = subprocess.PIPE
        # The raylets and their workers are in one session, which can be killed.
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ray = ray
        try:
            # A cluster that runs on this machine already is not used.
            self.address = self._answer("address").split()[1]
            with deadline("ray.init"):
                ray.init(address=self.address, logging_level="ERROR")
        except BaseException:
            self.stop()
            raise
        # Both actors of a run start before the first batch.
        ray.data.DataContext.get_current().wait_for_min_actors_s = MOST

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def _answer(self, word: str) -> str:
        end = time.monotonic() + MOST
        # Ray prints lines of its own.
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"the process of the cluster did not print `{word}` within {MOST} s") from None
            if not line:
                raise RuntimeError(f"the process of the cluster ended without printing `{word}`")
            if line.startswith(word):
                return line

    def kill_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        self._answer("killed")

    def free(self) -> bool:
        """Returns true as soon as no actor uses the resources of the nodes, or false after some seconds."""
        # Ray ends the actors of a run when Python drops their handles. An error holds them in a cycle of references.
        gc.collect()
        end = time.monotonic() + 20
        while self.ray.available_resources().get("wgpu") != 2:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def stop(self) -> None:
        try:
            with deadline("ray.shutdown", 30):
                self.ray.shutdown()
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(timeout=30)
        finally:
            # This kills what is left of a cluster that does not end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


#: The error of a cluster that did not start. Then all further tests fail at once.
_faulty: list[BaseException] = []


@pytest.fixture(scope="module")
def clusters() -> Iterator[list[Raylets]]:
    running: list[Raylets] = []
    yield running
    for raylets in running:
        raylets.stop()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, clusters: list[Raylets]) -> Iterator[Raylets]:
    """The cluster, which all tests share until one of them fails. A failed test may have left actors that hold the
    resources of the nodes, so the next test gets a new cluster."""
    require("ray", "pyarrow")
    if clusters and not clusters[0].free():
        print("an actor of an earlier test still runs, so a new cluster starts")
        clusters.pop().stop()
    if not clusters:
        assert not _faulty, f"the cluster did not start for an earlier test: {_faulty[0]}"
        try:
            clusters.append(Raylets())
        except BaseException as error:
            _faulty.append(error)
            raise
    failed = request.session.testsfailed
    yield clusters[0]
    if request.session.testsfailed > failed:
        clusters.pop().stop()


def texts(count: int = ROWS) -> list[dict[str, Any]]:
    return [{"id": at, "text": f"text {at} of a cat and a dog"} for at in range(count)]


def files(directory: pathlib.Path) -> int:
    return len(list(directory.glob("*.parquet")))


def written(path: pathlib.Path) -> dict[int, list[float]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    ids = table["id"].to_pylist()
    assert len(ids) == len(set(ids)), "a row was written twice"
    return dict(zip(ids, table["embedding"].to_pylist()))


def whole(path: pathlib.Path) -> None:
    """Every row is there once, bit-identical to the row that this process computes."""
    rows = written(path)
    assert sorted(rows) == list(range(ROWS))
    expected = SentenceTransformer(MODEL).encode([row["text"] for row in texts()])
    assert all(rows[at] == expected[at].tolist() for at in range(ROWS))


def embed_during(cluster: Raylets, directory: pathlib.Path, strike: Callable[[set[int]], None]) -> None:
    """Embeds all rows with two actors. When files are written and both actors have begun another batch, calls `strike`
    with the process ids of the actors. The batches end only afterwards."""
    import vectile.ray

    output, log = directory / "out", directory / "log"
    log.mkdir()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            until(lambda: files(output) >= 2 and len(actors(log, "held")) == 2, "two files and two batches in progress")
            strike(actors(log, "held"))
        except Exception as error:
            failures.append(error)
        finally:
            (log / "go").touch()

    dataset = cluster.ray.data.from_items(texts()).repartition(BATCHES)
    actor = observed(str(log), free=4)
    dataset = vectile.ray.embed_dataset(dataset, MODEL, concurrency=2, batch_size=ROWS // BATCHES, actor=actor)
    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        with deadline("a run during which something was killed", 2 * MOST):
            dataset.write_parquet(str(output))
    finally:
        (log / "go").touch()
        waiting.join()
    assert not failures, failures[0]
    whole(output)
    # The batch of a killed actor waits for the actor that replaces it.
    assert len(actors(log, "begun")) == 3, "Ray did not replace the actor"


def actors(log: pathlib.Path, state: str) -> set[int]:
    """Returns the process ids of the actors that have recorded a batch in this state."""
    return {int(path.name.split("-")[0]) for path in log.glob(f"*.{state}")}


def test_a_killed_actor_loses_no_row(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    embed_during(cluster, tmp_path, lambda actors: os.kill(min(actors), signal.SIGKILL))


def test_a_killed_driver_resumes(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.parquet

    source, output = tmp_path / "texts.parquet", tmp_path / "out"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts()), source)

    def start(log: pathlib.Path) -> subprocess.Popen[str]:
        log.mkdir(exist_ok=True)
        arguments = [cluster.address, MODEL, str(source), str(output), str(tmp_path / "kept"), str(log)]
        command = [sys.executable, PROGRAM, "driver", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    first = start(tmp_path / "first")
    try:
        held = lambda: len(actors(tmp_path / "first", "held")) == 2
        ready = lambda: first.poll() is not None or (files(output) >= 2 and held())
        until(ready, "two files and two batches in progress")
    finally:
        first.kill()
        told, _ = first.communicate()
        (tmp_path / "first" / "go").touch()
    assert first.returncode == -signal.SIGKILL, told
    assert files(output) < BATCHES, "the driver was killed too late"
    kept = len(written(output))
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "go").touch()
    second = start(tmp_path / "second")
    try:
        told, _ = second.communicate(timeout=MOST)
    finally:
        second.kill()
    assert second.returncode == 0, told
    whole(output)
    # The last files of the killed run may have no record yet. Their rows are embedded again.
    embedded = sum(int(path.read_text()) for path in (tmp_path / "second").glob("*.begun"))
    print(f"{kept} rows were written before the kill, {embedded} rows were embedded after it")
    assert ROWS - kept <= embedded < ROWS, f"{embedded} of {ROWS} rows were embedded again"


def pairs(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> int:
    """Returns the number of times that both actors were inside a batch at once. Each batch counts once."""
    found = at = other = 0
    while at < len(first) and other < len(second):
        one, two = first[at], second[other]
        if one["begun"] < two["ended"] and two["begun"] < one["ended"]:
            found, at, other = found + 1, at + 1, other + 1
        elif one["ended"] <= two["begun"]:
            at += 1
        else:
            other += 1
    return found


def test_two_actors_share_the_work(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    import vectile.ray

    sleep, count = 0.6, 24
    dataset = cluster.ray.data.from_items(texts()).repartition(count)
    actor = observed(str(tmp_path), sleep)
    dataset = vectile.ray.embed_dataset(dataset, MODEL, concurrency=2, batch_size=ROWS // count, actor=actor)
    with deadline("a run with two actors"):
        rows = dataset.take_all()
    batches: dict[int, dict[float, dict[str, Any]]] = {}
    for row in rows:
        batches.setdefault(row["actor"], {})[row["begun"]] = row
    assert len(batches) == 2 and sum(map(len, batches.values())) == count
    first, second = ([own[begun] for begun in sorted(own)] for own in batches.values())
    # A batch sleeps as long as any other. One actor would take as many turns as there are batches. With two actors, two
    # batches in progress at once are one turn. The turns do not depend on how busy the machine is.
    ratio = count / (count - pairs(first, second))
    following = [(one, two) for own in (first, second) for one, two in zip(own, own[1:])]
    between = statistics.median(two["begun"] - one["ended"] for one, two in following) / sleep
    # On a busy machine, the time between two batches is mostly that of other processes, but the processor time is not.
    overhead = statistics.median(two["begun_cpu"] - one["ended_cpu"] for one, two in following) / sleep
    print(f"two actors {ratio:.2f} times one; between batches {between:.1%} of a batch, processor {overhead:.1%}")
    assert ratio >= 1.7, f"the actors took turns: {ratio:.2f} times one actor"
    assert overhead <= 0.15, f"Ray took {overhead:.1%} of the time of a batch"


def test_poison_rows_are_null(cluster: Raylets) -> None:
    import vectile.ray

    rows = [{"id": 0, "text": "a cat"}, {"id": 1, "text": None}]
    dataset = vectile.ray.embed_dataset(cluster.ray.data.from_items(rows), MODEL, on_error="null")
    with deadline("a run with a null"):
        found = {row["id"]: row["embedding"] for row in dataset.take_all()}
    assert found[1] is None and len(found[0]) == 48


def test_faults_are_clear(cluster: Raylets) -> None:
    import vectile.ray

    dataset = cluster.ray.data.from_items(texts(4))
    with pytest.raises(RuntimeError, match="--resources"):
        vectile.ray.embed_dataset(dataset, MODEL, resource="absent")
    faults: list[tuple[str, dict[str, Any]]] = [
        ("cannot load /no/such/model", {"model": "/no/such/model"}),
        ("cannot load .*no such adapter.*the adapters are", {"load_kwargs": {"device": "no such adapter"}}),
        ("no column 'words'", {"column": "words"}),
        ("input 0 is null", {"column": "empty"}),
    ]
    dataset = dataset.add_column("empty", lambda batch: [None] * len(batch))
    for message, kwargs in faults:
        with deadline(f"the error {message!r}"), pytest.raises(Exception, match=message):
            vectile.ray.embed_dataset(dataset, **{"model": MODEL, **kwargs}).take_all()


def test_a_killed_node_loses_no_row(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    embed_during(cluster, tmp_path, lambda actors: cluster.kill_node())
