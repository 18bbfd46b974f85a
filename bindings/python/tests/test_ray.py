"""Ray on three raylets of this machine: every row once after a killed actor, driver or node, and clear errors."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterator

import pytest
from conftest import FIXTURES, require
from ray_run import slow

from vectile import SentenceTransformer

MODEL = str(FIXTURES / "bert_mean_norm")
PROGRAM = str(pathlib.Path(__file__).with_name("ray_run.py"))
ROWS, BATCHES = 600, 12


class Raylets:
    """The raylets, which belong to another process. This process is one of their drivers."""

    def __init__(self) -> None:
        import ray

        command = [sys.executable, PROGRAM, "cluster"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # A cluster that runs on this machine already is not used.
        self.address = self._answer("address").split()[1]
        self.ray = ray
        ray.init(address=self.address, logging_level="ERROR")
        # Both actors of a run start before the first batch, so that measured times do not contain a start.
        ray.data.DataContext.get_current().wait_for_min_actors_s = 60

    def _answer(self, word: str) -> str:
        assert self.process.stdout is not None
        # Ray prints lines of its own.
        for line in self.process.stdout:
            if line.startswith(word):
                return line
        raise RuntimeError(f"the process of the cluster ended without printing `{word}`")

    def kill_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()
        self._answer("killed")

    def stop(self) -> None:
        self.ray.shutdown()
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    require("ray", "pyarrow")
    raylets = Raylets()
    try:
        yield raylets
    finally:
        raylets.stop()


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


def embed_during(cluster: Raylets, directory: pathlib.Path, strike: Callable[[], None]) -> None:
    """Embeds all rows with two actors, and calls `strike` when the first files are written."""
    import vectile.ray

    struck: list[bool] = []
    output = directory / "out"

    def wait() -> None:
        end = time.monotonic() + 90
        while files(output) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        unfinished = files(output) < BATCHES
        strike()
        struck.append(unfinished)

    dataset = cluster.ray.data.from_items(texts()).repartition(BATCHES)
    actor = slow(0.5, str(directory / "log"))
    dataset = vectile.ray.embed_dataset(dataset, MODEL, concurrency=2, batch_size=ROWS // BATCHES, actor=actor)
    waiting = threading.Thread(target=wait)
    waiting.start()
    dataset.write_parquet(str(output))
    waiting.join()
    assert struck == [True], "the run ended before anything was killed"
    whole(output)


def test_a_killed_actor_loses_no_row(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    embed_during(cluster, tmp_path, lambda: os.kill(int(next(log.iterdir()).name), signal.SIGKILL))
    assert len(list(log.iterdir())) == 3, "Ray did not replace the actor"


def test_a_killed_driver_resumes(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.parquet

    source, output = tmp_path / "texts.parquet", tmp_path / "out"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts()), source)

    def start() -> subprocess.Popen[str]:
        arguments = [cluster.address, MODEL, str(source), str(output), str(tmp_path / "kept")]
        command = [sys.executable, PROGRAM, "driver", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = start()
    end = time.monotonic() + 90
    while files(output) < 2:
        assert first.poll() is None and time.monotonic() < end, first.communicate()
        time.sleep(0.02)
    first.kill()
    first.communicate()
    assert files(output) < BATCHES, "the driver was killed too late"
    second = start()
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    whole(output)


def test_two_actors_share_the_work(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    import vectile.ray

    sleep = 0.6

    def seconds(actors: int) -> float:
        dataset = cluster.ray.data.from_items(texts()).repartition(BATCHES)
        actor = slow(sleep, str(tmp_path / "log"))
        dataset = vectile.ray.embed_dataset(
            dataset, MODEL, concurrency=actors, batch_size=ROWS // BATCHES, actor=actor
        )
        rows = dataset.take_all()
        return float(max(row["ended"] for row in rows) - min(row["begun"] for row in rows))

    one, two = seconds(1), seconds(2)
    # Direct calls would take as long as they sleep, and the small model almost no time.
    slept = BATCHES * sleep
    print(f"one actor {one:.2f} s, two actors {two:.2f} s, asleep {slept:.2f} s")
    assert one / two >= 1.7, f"one actor {one} s, two actors {two} s"
    assert one <= 1.15 * slept, f"one actor took {one} s, of which it slept {slept} s"


def test_poison_rows_are_null(cluster: Raylets) -> None:
    import vectile.ray

    rows = [{"id": 0, "text": "a cat"}, {"id": 1, "text": None}]
    dataset = vectile.ray.embed_dataset(cluster.ray.data.from_items(rows), MODEL, on_error="null")
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
        with pytest.raises(Exception, match=message):
            vectile.ray.embed_dataset(dataset, **{"model": MODEL, **kwargs}).take_all()


def test_a_killed_node_loses_no_row(cluster: Raylets, tmp_path: pathlib.Path) -> None:
    embed_during(cluster, tmp_path, cluster.kill_node)
