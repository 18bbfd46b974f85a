"""A process of the tests of Ray: `ray_run.py cluster`, or `ray_run.py driver ADDRESS MODEL INPUT OUTPUT CHECKPOINT`.

`cluster` runs three raylets, prints the address, and ends when its standard input ends. For each line of its input, it
kills a raylet and starts another one. `driver` embeds a Parquet file, with a checkpoint.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from typing import Any

import vectile.ray


def slow(seconds: float, log: str) -> type[vectile.ray.EmbedActor]:
    """Returns a class of actors that sleep at each batch, so that a run lasts long enough to be killed. Each actor writes
    its process id into the directory `log`. Each row gets the times at which its batch began and ended."""

    class SlowActor(vectile.ray.EmbedActor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            pathlib.Path(log).mkdir(exist_ok=True)
            pathlib.Path(log, str(os.getpid())).touch()

        def __call__(self, batch: Any) -> Any:
            import pyarrow

            begun = time.time()
            time.sleep(seconds)
            batch = super().__call__(batch)
            for name, at in (("begun", begun), ("ended", time.time())):
                batch = batch.append_column(name, pyarrow.array([at] * len(batch)))
            return batch

    return SlowActor


def cluster() -> None:
    # By default, Ray starts a process for each logical CPU before there is work, which takes long on few cores.
    os.environ["RAY_prestart_worker_first_driver"] = os.environ["RAY_enable_worker_prestart"] = "0"
    from ray.cluster_utils import Cluster

    # The checkpoint's filter needs logical CPUs beyond those of the actors.
    raylets = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    nodes = [raylets.add_node(num_cpus=2, resources={"wgpu": 1}, wait=False) for _ in range(2)]
    raylets.wait_for_nodes()
    print("address", raylets.address, flush=True)
    for _ in sys.stdin:
        raylets.remove_node(nodes.pop(0), allow_graceful=False)
        nodes.append(raylets.add_node(num_cpus=2, resources={"wgpu": 1}, wait=False))
        print("killed", flush=True)
    raylets.shutdown()
    # Ray's handler at exit fails for a node that was removed, and the exit code would be 1.
    os._exit(0)


def driver(address: str, model: str, source: str, output: str, kept: str) -> None:
    import ray

    ray.init(address=address, logging_level="ERROR")
    vectile.ray.checkpoint("id", kept)
    # Ray would read a file as small as this into one block, and one actor would embed all of it.
    dataset = ray.data.read_parquet(source).repartition(12)
    actor = slow(0.5, kept + ".log")
    vectile.ray.embed_dataset(dataset, model, concurrency=2, batch_size=50, actor=actor).write_parquet(output)


if __name__ == "__main__":
    {"cluster": cluster, "driver": driver}[sys.argv[1]](*sys.argv[2:])
