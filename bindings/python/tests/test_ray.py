"""Ray on a local cluster: every row once, also after an actor was killed, and clear errors."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, Iterator

import pytest
from conftest import FIXTURES, require

from vectile import SentenceTransformer

MODEL = str(FIXTURES / "bert_mean_norm")
ROWS = 600


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    require("ray", "pyarrow")
    import ray

    # The checkpoint's filter needs logical CPUs beyond those of the actors.
    # A cluster that runs on this machine already is not used.
    ray.init(address="local", num_cpus=8, resources={"wgpu": 2}, include_dashboard=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def texts(count: int = ROWS) -> list[dict[str, Any]]:
    return [{"id": at, "text": f"text {at} of a cat and a dog"} for at in range(count)]


def written(path: pathlib.Path) -> dict[int, list[float]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    ids = table["id"].to_pylist()
    assert len(ids) == len(set(ids)), "a row was written twice"
    return dict(zip(ids, table["embedding"].to_pylist()))


def test_a_killed_actor_loses_no_row(cluster: Any, tmp_path: pathlib.Path) -> None:
    import threading

    import vectile.ray

    dataset = cluster.data.from_items(texts()).repartition(24)
    dataset = vectile.ray.embed_dataset(dataset, MODEL, concurrency=2, batch_size=25)
    killed = []

    def kill() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not killed:
            lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()
            for line in lines:
                pid, _, args = line.strip().partition(" ")
                if "EmbedActor" in args or "MapWorker" in args:
                    time.sleep(1.0)
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(pid)
                    return
            time.sleep(0.2)

    killer = threading.Thread(target=kill)
    killer.start()
    dataset.write_parquet(str(tmp_path / "out"))
    killer.join()
    assert killed, "no actor was seen"
    whole(tmp_path)


@pytest.fixture()
def run(tmp_path: pathlib.Path) -> Any:
    """Starts `ray_run.py` on a directory of 24 files of 25 rows."""
    require("ray", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    source = tmp_path / "source"
    source.mkdir()
    rows = texts()
    for at in range(24):
        part = pyarrow.Table.from_pylist(rows[at * 25 : at * 25 + 25])
        pyarrow.parquet.write_table(part, source / f"{at:02}.parquet")
    arguments = [MODEL, str(source), str(tmp_path / "out"), str(tmp_path / "kept")]

    def start(kind: str) -> subprocess.Popen[str]:
        program = str(pathlib.Path(__file__).with_name("ray_run.py"))
        return subprocess.Popen(
            [sys.executable, program, kind, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def whole(tmp_path: pathlib.Path) -> None:
    """Every row is there once, with the bits that this process computes."""
    rows = written(tmp_path / "out")
    assert sorted(rows) == list(range(ROWS))
    expected = SentenceTransformer(MODEL).encode([row["text"] for row in texts()])
    assert all(rows[at] == expected[at].tolist() for at in range(ROWS))


def test_a_killed_driver_resumes(run: Any, tmp_path: pathlib.Path) -> None:
    first = run("driver")
    end = time.monotonic() + 90
    while len(list((tmp_path / "out").glob("*.parquet"))) < 3:
        assert first.poll() is None and time.monotonic() < end, first.communicate()
        time.sleep(0.05)
    first.kill()
    first.communicate()
    before = len(written(tmp_path / "out"))
    assert 0 < before < ROWS, "the driver was killed too late"
    second = run("driver")
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    whole(tmp_path)


def test_a_killed_node_loses_no_row(run: Any, tmp_path: pathlib.Path) -> None:
    process = run("node")
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0 and "killed a node" in output, errors
    whole(tmp_path)


def test_two_actors_share_the_work(run: Any) -> None:
    process = run("speed")
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    one, two = (float(line.split()[1]) for line in output.splitlines() if line[:2] in ("1 ", "2 "))
    # Each of the 12 batches sleeps a second. Direct calls would take that long, and the small model almost nothing.
    slept = 12.0
    print(f"one actor {one:.2f} s, two actors {two:.2f} s, asleep {slept:.2f} s")
    assert one / two >= 1.7, f"one actor {one} s, two actors {two} s"
    assert one <= 1.15 * slept, f"one actor took {one} s, of which it slept {slept} s"


def test_poison_rows_are_null(cluster: Any) -> None:
    import vectile.ray

    rows = [{"id": 0, "text": "a cat"}, {"id": 1, "text": None}]
    dataset = vectile.ray.embed_dataset(cluster.data.from_items(rows), MODEL, on_error="null")
    found = {row["id"]: row["embedding"] for row in dataset.take_all()}
    assert found[1] is None and len(found[0]) == 48


def test_faults_are_clear(cluster: Any, tmp_path: pathlib.Path) -> None:
    import vectile.ray

    dataset = cluster.data.from_items(texts(4))
    with pytest.raises(RuntimeError, match="--resources"):
        vectile.ray.embed_dataset(dataset, MODEL, resource="absent")
    with pytest.raises(Exception, match="cannot load /no/such/model"):
        vectile.ray.embed_dataset(dataset, "/no/such/model").take_all()
    with pytest.raises(Exception, match="no column 'words'"):
        vectile.ray.embed_dataset(dataset, MODEL, column="words").take_all()
