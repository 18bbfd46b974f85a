"""A run of Ray in a process of its own: `ray_run.py KIND MODEL INPUT OUTPUT CHECKPOINT`.

`driver` runs on a cluster of this process; the test kills the process. `node` runs on three raylets, of which it kills
one. `speed` embeds with one actor and with two, and prints the seconds of each.
"""

from __future__ import annotations

import os
import pathlib
import sys
import threading
import time
from typing import Any

import ray
from ray.cluster_utils import Cluster

import vectile.ray


class SlowActor(vectile.ray.EmbedActor):
    """An actor that sleeps at each batch, so that a run lasts long enough to be killed, whatever the machine."""

    def __call__(self, batch: Any) -> Any:
        time.sleep(0.4)
        return super().__call__(batch)


class TimedActor(vectile.ray.EmbedActor):
    """An actor that sleeps a second at each batch, and adds the times at which the batch began and ended."""

    def __call__(self, batch: Any) -> Any:
        import pyarrow

        begun = time.time()
        time.sleep(1.0)
        batch = super().__call__(batch)
        for name, at in (("begun", begun), ("ended", time.time())):
            batch = batch.append_column(name, pyarrow.array([at] * len(batch)))
        return batch


def files(directory: str) -> int:
    return len(list(pathlib.Path(directory).glob("*.parquet")))


def blocks(source: str, count: int = 24) -> Any:
    """The rows in this many blocks. Ray would read files as small as these into one block, and one actor would do all."""
    return ray.data.read_parquet(source).repartition(count)


def embed(model: str, source: str, output: str) -> None:
    dataset = blocks(source)
    dataset = vectile.ray.embed_dataset(dataset, model, concurrency=2, batch_size=25, actor=SlowActor)
    dataset.write_parquet(output)


def driver(model: str, source: str, output: str, kept: str) -> None:
    ray.init(address="local", num_cpus=8, resources={"wgpu": 2}, include_dashboard=False, logging_level="ERROR")
    vectile.ray.checkpoint("id", kept)
    embed(model, source, output)


def node(model: str, source: str, output: str, kept: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2, resources={"wgpu": 1}) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="ERROR")

    def kill() -> None:
        while files(output) < 3:
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("killed a node", flush=True)
        cluster.add_node(num_cpus=2, resources={"wgpu": 1})

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    embed(model, source, output)
    killer.join()
    ray.shutdown()
    cluster.shutdown()
    # Ray's handler at exit fails for a node that was removed, and the exit code would be 1.
    os._exit(0)


def speed(model: str, source: str, output: str, kept: str) -> None:
    ray.init(address="local", num_cpus=8, resources={"wgpu": 2}, include_dashboard=False, logging_level="ERROR")
    for actors in (1, 2):
        dataset = blocks(source, 12)
        dataset = vectile.ray.embed_dataset(dataset, model, concurrency=actors, batch_size=50, actor=TimedActor)
        rows = dataset.take_all()
        # The start of the actors is not part of their work.
        print(actors, max(row["ended"] for row in rows) - min(row["begun"] for row in rows), flush=True)


if __name__ == "__main__":
    {"driver": driver, "node": node, "speed": speed}[sys.argv[1]](*sys.argv[2:])
