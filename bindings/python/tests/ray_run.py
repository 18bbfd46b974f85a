"""A process of the tests of Ray: `ray_run.py cluster`, or
`ray_run.py driver ADDRESS MODEL INPUT OUTPUT CHECKPOINT LOG`.

`cluster` runs three raylets, prints the address, and ends when its standard input ends. For each line of its input, it
kills a raylet and starts another one. `driver` embeds a Parquet file, with a checkpoint.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from typing import Any, Optional

import vectile.ray

#: The seconds that a batch waits at most for the file `go`.
PATIENCE = 100


def observed(log: str, sleep: float = 0.0, free: Optional[int] = None) -> type[vectile.ray.EmbedActor]:
    """Returns a class of actors that record each batch in the directory `log`, as a file PID-TIME.begun that contains
    the number of rows. After about `free` batches, each batch waits for the file `go` in `log`, and is recorded as
    PID-TIME.held. A run therefore cannot end before something is killed.

    Each row gets the process id of its actor, and the times and processor times at which its batch began and ended. The
    monotonic clock is the same in all processes of a machine."""
    patience = PATIENCE

    class ObservedActor(vectile.ray.EmbedActor):
        def __call__(self, batch: Any) -> Any:
            import pyarrow

            begun: dict[str, Any] = {"begun": time.monotonic(), "begun_cpu": time.process_time()}
            directory = pathlib.Path(log)
            name = f"{os.getpid()}-{time.monotonic_ns()}"
            (directory / f"{name}.begun").write_text(str(len(batch)))
            end = time.monotonic() + patience
            while free is not None and not (directory / "go").exists() and len(list(directory.glob("*.begun"))) > free:
                (directory / f"{name}.held").touch()
                if time.monotonic() > end:
                    raise TimeoutError(f"a batch waited {patience} s for the file `go`")
                time.sleep(0.02)
            time.sleep(sleep)
            batch = super().__call__(batch)
            ended = {"ended": time.monotonic(), "ended_cpu": time.process_time()}
            for column, value in {"actor": os.getpid(), **begun, **ended}.items():
                batch = batch.append_column(column, pyarrow.array([value] * len(batch)))
            return batch

    return ObservedActor


def cluster() -> None:
    # By default, Ray starts a process for each logical CPU before there is work, which takes long on few cores.
    os.environ["RAY_prestart_worker_first_driver"] = os.environ["RAY_enable_worker_prestart"] = "0"
    from ray.cluster_utils import Cluster

    # The checkpoint's filter needs logical CPUs beyond those of the actors.
    raylets = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    nodes = [raylets.add_node(num_cpus=2, resources={"wgpu": 1}, wait=False) for _ in range(2)]
    raylets.wait_for_nodes(timeout=90)
    print("address", raylets.address, flush=True)
    for _ in sys.stdin:
        raylets.remove_node(nodes.pop(0), allow_graceful=False)
        nodes.append(raylets.add_node(num_cpus=2, resources={"wgpu": 1}, wait=False))
        print("killed", flush=True)
    raylets.shutdown()
    # Ray's handler at exit fails for a node that was removed, and the exit code would be 1.
    os._exit(0)


def driver(address: str, model: str, source: str, output: str, kept: str, log: str) -> None:
    import ray

    ray.init(address=address, logging_level="ERROR")
    vectile.ray.checkpoint("id", kept)
    # Ray would read a file as small as this into one block, and one actor would embed all of it.
    dataset = ray.data.read_parquet(source).repartition(12)
    actor = observed(log, free=4)
    vectile.ray.embed_dataset(dataset, model, concurrency=2, batch_size=50, actor=actor).write_parquet(output)


if __name__ == "__main__":
    {"cluster": cluster, "driver": driver}[sys.argv[1]](*sys.argv[2:])
