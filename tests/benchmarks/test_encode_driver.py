"""What the driver of an encode run does by itself: the numbers of docs/planning.md that `jobs/plan.py` takes."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.catalog import read_folder
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.features.table import FeatureTable
from affectgrid.distributed.encode import executor
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.plan import cut_chunks
from affectgrid.distributed.encode.run import encode
from affectgrid.media.chunks import read_sound_chunk
from benchmarks.films import draw_film
from support.small_corpus import film

FILMS, FRAMES = 40, 256


@pytest.mark.usefixtures("ray_cluster")
def test_encode_driver_chunk(say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time of the driver's process for a chunk: films cut into chunks of 8 frames, and not cut."""
    folder = tmp_path / "films"
    folder.mkdir()
    drawn = draw_film(tmp_path / "film.mp4", num_frames=FRAMES, height=96)
    for number in range(FILMS):
        shutil.copy(drawn, folder / f"film{number:03d}.mp4")
    run, spent = executor.Executor.run, []

    def timed(self: executor.Executor) -> tuple[int, int]:
        before = time.process_time()
        done = run(self)
        spent.append(time.process_time() - before)
        return done

    monkeypatch.setattr(executor.Executor, "run", timed)
    for size in (8, FRAMES):
        config = EncodeConfig(visual=VisualStream(crop="frame"), audio=AudioStream(hop_s=1.0), chunk_frames=size)
        assert encode(read_folder(folder), tmp_path / f"store{size}", config).quarantined == ()
    more = FILMS * (FRAMES // 8 - 1)
    ms = 1000 * (spent[0] - spent[1]) / more
    say("encode_driver_chunk_ms", ms, f"{spent[0]:.2f} and {spent[1]:.2f} s for {more} chunks more", "told")


def test_encode_driver_join(say, tmp_path: Path) -> None:
    """MB of features a second that `finalize` joins: 5,120 rows of 512 numbers in 20 parts."""
    store, rows, parts = FeatureStore(tmp_path), 5120, 20
    rng = np.random.default_rng(0)
    for part in range(parts):
        index = np.arange(part * rows // parts, (part + 1) * rows // parts)
        feature = rng.normal(size=(len(index), 512)).astype(np.float16)
        table = FeatureTable(index.astype(np.int32) + 1, index / 30, np.ones(len(index), bool), feature)
        store.write_part("visual", "f", "t", part, table)
    before = time.thread_time()
    store.finalize("visual", "f", "t", parts)
    spent_s = time.thread_time() - before
    size = Path(store.track_path("visual", "f", "t")).stat().st_size
    say("encode_driver_join_mb_s", size / 1e6 / spent_s, f"{size / 1e6:.1f} MB in {spent_s:.2f} s", "told")


def test_encode_driver_memory(say) -> None:
    """Bytes of a chunk in the driver's list, and of its row."""
    tracemalloc.start()
    chunks = [chunk for k in range(200) for chunk in cut_chunks("visual", f"t{k}", 25_600, 256, video="/staged/t.mp4")]
    rows = [dataclasses.asdict(chunk) for chunk in chunks]
    size = tracemalloc.get_traced_memory()[0] / len(rows)
    tracemalloc.stop()
    say(
        "encode_driver_chunk_bytes",
        size,
        f"{len(rows):,} chunks, Python {sys.version_info[0]}.{sys.version_info[1]}",
        "told",
    )


def test_encode_sound_decoding(say, tmp_path: Path) -> None:
    """ms to decode the sound of a hop: two minutes of AAC, hops of 0.2 s; the second of two passes."""
    path = film(tmp_path / "film.mp4", sound_s=130, num_frames=3250)
    for _ in range(2):
        before = time.process_time()
        read_sound_chunk(str(path), 0, 600, hop_s=0.2, window_s=10.0, sample_rate_hz=16_000)
        spent_s = time.process_time() - before
    say("encode_sound_decode_ms", 1000 * spent_s / 600, f"{spent_s:.3f} s for 600 hops", "told")
