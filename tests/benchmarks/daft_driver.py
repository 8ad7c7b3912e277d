"""Daft on a few films as its own pages write it: frames read at the network's size, an encoder as a class.

python daft_driver.py MODEL_DIRECTORY OUT_FOLDER BATCH_SIZE PROCESSES FILM...

Prints the seconds of the query. Every row that it writes has its process and the time when its batch was done.
"""

import os
import sys
import time
from pathlib import Path

import daft
import numpy as np
from daft import DataType, Series, col
from daft.io.av._read_video_frames import _VideoFramesSourceTask

from benchmarks.engine_model import RESIZED, Encoder

directory, out, batch_size, processes, *films = sys.argv[1:]
ROW = {"feature": DataType.list(DataType.float32()), "done_at": DataType.float64(), "process": DataType.int64()}


@daft.cls(max_concurrency=int(processes), use_process=True)
class Embed:
    def __init__(self, directory: str) -> None:
        self.encoder = Encoder(directory)

    @daft.method.batch(return_dtype=DataType.struct(ROW), batch_size=int(batch_size))
    def __call__(self, frames: Series) -> list[dict[str, object]]:
        features = self.encoder(np.stack(frames.to_pylist()))
        known = {"done_at": time.time(), "process": os.getpid()}
        return [{"feature": row} | known for row in features]


if __name__ == "__main__":
    # Daft 0.7.26's own file object waits for ever on two cores, in `File.exists`: the films are opened by Python.
    _VideoFramesSourceTask._open = lambda task: Path(task.path.removeprefix("file://")).open("rb")  # noqa: SIM115
    started = time.time()
    height, width = RESIZED
    frames = daft.read_video_frames(films, image_height=height, image_width=width)
    embed = Embed(directory)
    # One column, taken apart by the reader: to take it apart here would put the encoder into three expressions.
    frames.select(col("path"), col("frame_index"), embed(col("data")).alias("row")).write_parquet(out)
    print(time.time() - started)
