"""Ray Data on a few films as its own pages write it: `read_videos`, and an encoder as a class in `map_batches`.

python ray_plain_driver.py MODEL_DIRECTORY OUT_FOLDER BATCH_SIZE PROCESSES FILM...

Prints the seconds from reading to writing, with Ray up. Every row that it writes has its process and the time when its
batch was done.
"""

import os
import sys
import time

import numpy as np
import ray

from benchmarks.engine_model import RESIZED, Encoder

directory, out, batch_size, processes, *films = sys.argv[1:]


class Embed:
    def __init__(self, directory: str) -> None:
        self.encoder = Encoder(directory)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, object]:
        features = self.encoder(batch["frame"])
        number = len(features)
        rows = {"path": batch["path"], "frame_index": batch["frame_index"], "feature": list(features)}
        return rows | {"done_at": np.full(number, time.time()), "process": np.full(number, os.getpid())}


if __name__ == "__main__":
    ray.init("local", num_cpus=int(processes), include_dashboard=False, log_to_driver=False)
    started = time.time()
    frames = ray.data.read_videos(films, resize=RESIZED, include_paths=True)
    pool = ray.data.ActorPoolStrategy(size=int(processes))
    embed = {"fn_constructor_args": (directory,), "compute": pool, "batch_size": int(batch_size)}
    # Half a core each: whole ones would leave no core to the tasks that read, and nothing would start.
    frames.map_batches(Embed, num_cpus=0.5, **embed).write_parquet(out)
    print(time.time() - started)
    ray.shutdown()
