"""Videos of a bucket: copied to the node and read there, over read in place.

In place, each reader asks the bucket for what it needs: once for the digest, once for the index, and once for each
chunk, which begins at a keyframe. FFmpeg reads through a buffer of 1 MiB, so that it asks no more often than needed.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import av
import pytest

from affectgrid.storage import Storage, staged
from affectgrid.storage.staging import Staged
from benchmarks.films import draw_film
from benchmarks.timing import alternate
from support.bucket import Bucket, s3_server

NUM_FRAMES, CHUNK_FRAMES, BUFFER_BYTES = 3600, 256, 1 << 20


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


def test_cluster_reading(
    say: Callable[..., None], bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digest, index and every chunk of two minutes at 480p; a copy is made anew each time."""
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    film = draw_film(tmp_path / "film.mp4", num_frames=NUM_FRAMES, height=480)
    place = Storage(bucket.uri("videos"))
    place.upload(film, "film.mp4")
    there = Staged.of(place, "film.mp4", "file", [place.stat("film.mp4")])
    read: dict[str, int] = {}

    def copied() -> float:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        started = time.perf_counter()
        with staged(there.path) as local:
            assert _all_passes(lambda: local.open("rb")) == NUM_FRAMES
            read["copied"] = local.stat().st_size
        return time.perf_counter() - started

    def in_place() -> float:
        files: list[_Counted] = []

        def opened() -> IO[bytes]:
            files.append(_Counted(place.open("film.mp4")))
            return io.BufferedReader(files[-1], BUFFER_BYTES)

        started = time.perf_counter()
        assert _all_passes(opened) == NUM_FRAMES
        read["in place"], read["requests"] = sum(f.num_bytes for f in files), sum(f.num_reads for f in files)
        return time.perf_counter() - started

    copied_s, in_place_s = alternate([copied, in_place], 3)
    megabytes = f"{read['copied'] / 1e6:.1f} over {read['in place'] / 1e6:.1f} MB in {read['requests']} requests"
    say("cluster_reading", in_place_s / copied_s, f"in place {in_place_s:.1f} over copied {copied_s:.1f} s", "told")
    say("cluster_reading_bytes", read["in place"] / read["copied"], megabytes, "told")


def _all_passes(opened: Callable[[], IO[bytes]]) -> int:
    """What an encode run reads of a video; returns the number of decoded frames."""
    with opened() as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    with opened() as file, av.open(file) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    stamps.sort()
    return sum(_decode(opened, stamps[start : start + CHUNK_FRAMES]) for start in range(0, len(stamps), CHUNK_FRAMES))


def _decode(opened: Callable[[], IO[bytes]], stamps: list[int]) -> int:
    with opened() as file, av.open(file) as container:
        stream = container.streams.video[0]
        container.seek(stamps[0], stream=stream)
        count = 0
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts > stamps[-1]:
                break
            count += frame.pts is not None and frame.pts >= stamps[0]
        return count


class _Counted(io.RawIOBase):
    """A file of the bucket, and how much is read from it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.num_bytes = self.num_reads = 0

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.num_bytes += len(data)
        self.num_reads += 1
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
