"""Decoders struck by signals, encoders and drivers killed, disks filled, bytes flipped: encoding loses nothing.

Longer than 300 lines: the faults share one corpus and the driver that encodes it in a process of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from affectgrid.data.catalog import Catalog, Track, read_aff_wild2
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.resident import load_split
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.distributed.encode.sandbox import Limits, guarded
from affectgrid.errors import MediaError, StoreError
from support.processes import REPOSITORY, Family, family, wait_until

CONFIG = EncodeConfig(
    visual=VisualStream(crop="frame"), audio=AudioStream(hop_s=0.5), chunk_frames=16, chunk_hops=3, tries=2, encoders=1
)
# The same settings for jobs/encode.py, but for the crops, which need no decoding.
ARGUMENTS = ["--audio.hop-s", "0.5", "--chunk-frames", "16", "--chunk-hops", "3"]
JOB_CONFIG = EncodeConfig(audio=AudioStream(hop_s=0.5), chunk_frames=16, chunk_hops=3, encoders=1)


OTHERS = ("rendered-001", "rendered-005")  # with sound, and without
FIRST = Path("batch1", "rendered-001.mp4")


def write_noise(
    path: Path, width: int, height: int, frames: int, codec: str = "libx264", pix_fmt: str = "yuv420p"
) -> Path:
    """A video that takes its decoder a while."""
    draw = np.random.default_rng(0)
    tile = draw.integers(0, 255, (256, 256, 3), dtype=np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for number in range(frames):
            rolled = np.roll(tile, 7 * number, axis=0)
            picture = np.tile(rolled, (height // 256 + 1, width // 256 + 1, 1))[:height, :width]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(stream.encode(None))
    return path


def with_victim(rendered: Path, video: Path) -> Catalog:
    """Two tracks of the rendered corpus, one with sound and one without, and one more video."""
    tracks = {track.id: track for track in read_aff_wild2(rendered).tracks}
    return Catalog(rendered, (*(tracks[name] for name in OTHERS), Track(video.stem, "test", video, None, None)))


def contents(root: Path) -> dict[str, str]:
    """What a reader of the store can see; names with a leading dot are temporary and never read."""
    hidden = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith("."))
    files = (path for path in hidden if path.name != "timings.jsonl")  # every run takes its own time
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def everything_once(store: FeatureStore, fingerprints: dict[str, str], ids: list[str]) -> None:
    for stream, fingerprint in fingerprints.items():
        assert list(store.tracks(stream, fingerprint)) == sorted(ids)
        assert store.unfinished(stream, fingerprint) == ()
        for track in ids:
            index = store.read(stream, fingerprint, track).frame_index
            np.testing.assert_array_equal(index, np.arange(1, len(index) + 1))
    assert store.verify() == []


def has_open(pid: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(entry.readlink() == path for entry in Path(f"/proc/{pid}/fd").iterdir())
    return False


def decoders() -> list[int]:
    """Every guarded decoding process on this machine."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if b"affectgrid.media.guard import serve" in Path(entry.path, "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def striking(video: Path, blow: signal.Signals, *, when: Callable[[], bool]) -> Iterator[list[int]]:
    """Send a signal to every decoder that opens `video` from the moment that `when` holds; yields their numbers."""
    struck: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            for pid in decoders():
                if pid not in struck and has_open(pid, video) and when():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, blow)
                        struck.append(pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield struck
    finally:
        stop.set()
        watcher.join()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("blow", "reason"),
    [
        (signal.SIGKILL, "MED-CRASH {video}: the decoder died of SIGKILL"),
        pytest.param(signal.SIGSEGV, "MED-CRASH {video}: the decoder died of SIGSEGV", marks=pytest.mark.long),
        pytest.param(
            signal.SIGSTOP, "MED-TIMEOUT {video}: still decoding; expected an end within 3 s", marks=pytest.mark.long
        ),
    ],
)
def test_a_video_whose_decoder_crashes_or_hangs_goes_to_quarantine(
    rendered: Path, tmp_path: Path, blow: signal.Signals, reason: str
) -> None:
    video = write_noise(tmp_path / "victim.mp4", 1280, 720, 48)
    catalog, root = with_victim(rendered, video), tmp_path / "store"
    config = CONFIG.model_copy(update={"time_limit_s": 3 if blow == signal.SIGSTOP else 60})
    with striking(video, blow, when=lambda: any(root.glob("*/*/sources.jsonl"))) as struck:
        report = encode(catalog, root, config)
    assert {failure.track for failure in report.quarantined} == {"victim"}
    assert "visual" in {failure.stream for failure in report.quarantined}
    assert all(failure.reason.startswith(reason.format(video=video)) for failure in report.quarantined)
    workers, streams = 2, 2  # the driver looks at a few tracks, too
    assert config.tries <= len(struck) <= config.tries * workers * streams
    store = FeatureStore(root)
    for stream, fingerprint in report.fingerprints.items():
        assert set(OTHERS) <= set(store.tracks(stream, fingerprint)) <= {*OTHERS, "victim"}
    rows = store.read_records("quarantine.jsonl")
    assert [(row["track"], row["reason"]) for row in rows] == sorted((f.track, f.reason) for f in report.quarantined)
    if blow == signal.SIGKILL:
        left_alone_until_asked(catalog, root, config, sorted(failure.stream for failure in report.quarantined))


def left_alone_until_asked(catalog: Catalog, root: Path, config: EncodeConfig, streams: list[str]) -> None:
    store = FeatureStore(root)
    again = encode(catalog, root, config)
    assert (again.encoded, again.frames) == (0, 0)
    assert sorted(failure.stream for failure in again.quarantined) == streams
    retried = encode(catalog, root, config.model_copy(update={"retry_quarantined": True}))
    assert retried.quarantined == ()
    assert retried.encoded == len(streams)
    assert store.read_records("quarantine.jsonl") == []
    everything_once(store, retried.fingerprints, [track.id for track in catalog.tracks])


@pytest.mark.usefixtures("ray_cluster")
def test_a_picture_beyond_the_memory_limit_costs_only_its_track(rendered: Path, tmp_path: Path) -> None:
    video = write_noise(tmp_path / "huge.avi", 8192, 8192, 1, "mjpeg", pix_fmt="yuvj444p")  # 192 MiB decoded
    catalog, root = with_victim(rendered, video), tmp_path / "store"
    report = encode(catalog, root, CONFIG.model_copy(update={"memory_limit_gb": 0.15}))
    assert {failure.track for failure in report.quarantined} == {"huge"}
    assert all(failure.reason.startswith(f"MED-MEMORY {video}") for failure in report.quarantined)
    store = FeatureStore(root)
    assert all(set(OTHERS) <= set(store.tracks(*pair)) for pair in report.fingerprints.items())


def test_a_film_that_was_given_up_costs_no_more_time(tmp_path: Path) -> None:
    fifo = tmp_path / "film.mp4"
    os.mkfifo(fifo)  # opening it to read hangs
    limits = Limits(time_s=1, memory_bytes=256 << 20, tries=2, run="one")
    taken = []
    for run in ("one", "one", "two"):
        started = time.monotonic()
        with pytest.raises(MediaError, match="MED-TIMEOUT"):
            guarded(dataclasses.replace(limits, run=run), tokenize.open, str(fifo))
        taken.append(time.monotonic() - started)
    assert taken[0] >= 2
    assert taken[1] < 0.1
    assert taken[2] >= 2


@pytest.mark.usefixtures("ray_cluster")
def test_an_encoder_that_is_killed_costs_its_chunks_a_second_try(rendered: Path, tmp_path: Path) -> None:
    catalog, root = read_aff_wild2(rendered), tmp_path / "store"
    killed: list[int] = []
    stop = threading.Event()

    def kill_once() -> None:
        while not stop.wait(0.01):
            if any(root.rglob("*.parquet")):
                for process in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if "MapWorker" in " ".join(process.cmdline()):
                            process.kill()
                            killed.append(process.pid)
                            return

    killer = threading.Thread(target=kill_once)
    killer.start()
    report = encode(catalog, root, JOB_CONFIG)
    stop.set()
    killer.join()
    assert killed
    assert report.quarantined == ()
    everything_once(FeatureStore(root), report.fingerprints, [track.id for track in catalog.tracks])


@pytest.fixture(scope="module")
def unbroken(ray_cluster: None, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the store holds after a run that nobody disturbed."""
    root = tmp_path_factory.mktemp("unbroken")
    encode(read_aff_wild2(rendered), root, JOB_CONFIG)
    return contents(root)


def finish(group: Family, arguments: list[str], *, expected: int = 0) -> str:
    process = group.start_job("encode", arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == expected, (out + err)[-4000:]
    return out + err


def break_and_go_on(rendered: Path, tmp: Path, out: Path, unbroken: dict[str, str], draw: random.Random) -> None:
    arguments, features = ["--data", str(rendered), "--out", str(out), *ARGUMENTS], out / "features"
    wanted = draw.randint(1, 14)  # files that are there when the kill falls
    with family(tmp) as group:
        process = group.start_job("encode", arguments)
        wait_until(lambda: len(list(features.rglob("*.parquet"))) >= wanted, alive=process)
        time.sleep(draw.random() * 0.3)  # spreads the kills over the steps; nothing waits for it
        process.kill()
        process.wait()
        finished = {path: path.stat().st_mtime_ns for path in features.glob("*/*/*.parquet")}
        finish(group, arguments)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # not encoded again
    assert contents(features) == unbroken


def test_a_killed_driver_goes_on_with_the_same_command(
    rendered: Path, short_tmp: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    break_and_go_on(rendered, short_tmp, tmp_path, unbroken, random.Random())


@pytest.mark.long
def test_drivers_killed_at_many_moments_lose_nothing(
    rendered: Path, short_tmp: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    for seed in range(6):
        break_and_go_on(rendered, short_tmp, tmp_path / str(seed), unbroken, random.Random(seed))


FULL = """
set -eu
mount -t tmpfs -o size=2m tmpfs "$1"
shift 1
"$@" --data "$FIRST" || exit 10
cp -r "$STORE/visual" "$STORE/audio" "$KEEP"
head -c 20m /dev/zero > "$STORE/filler" 2>/dev/null || true
set +e
"$@" --data "$SECOND"
echo "full: $?"
rm "$STORE/filler"
diff -r --exclude=_parts --exclude=sources.jsonl "$KEEP/visual" "$STORE/visual" > "$KEEP/diff"
grep -v "^Only in $STORE" "$KEEP/diff" && exit 11
"$@" --data "$SECOND"
echo "again: $?"
"""


@pytest.mark.long
def test_a_full_disk_stops_encoding_and_what_was_stored_stays(rendered: Path, short_tmp: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", str(store)], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own: unshare --user --mount")
    first = tmp_path / "first" / "videos"
    first.mkdir(parents=True)
    shutil.copy2(rendered / FIRST, first)
    job = [sys.executable, str(REPOSITORY / "jobs" / "encode.py"), "--store", str(store), "--out", str(tmp_path / "o")]
    environment = os.environ | {
        "FIRST": str(first.parent), "SECOND": str(rendered), "STORE": str(store), "KEEP": str(tmp_path / "keep"),
        "RAY_TMPDIR": str(short_tmp),
    }  # fmt: skip
    (tmp_path / "keep").mkdir()
    done = subprocess.run(
        [*namespace, "bash", "-c", FULL, "full", str(store), *job, "--visual.crop", "frame", "--audio.hop-s", "0.5"],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "full: 2" in done.stdout
    assert "STO-FULL" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert "again: 0" in done.stdout


def test_storage_that_cannot_be_written_fails_before_any_work(tmp_path: Path, short_tmp: Path) -> None:
    (tmp_path / "file").touch()
    bad = str(tmp_path / "file" / "folder")
    with family(short_tmp) as group:
        assert "CFG-STORAGE" in finish(group, ["--out", bad], expected=2)
        assert "STO-WRITE" in finish(group, ["--out", str(tmp_path / "out"), "--store", bad], expected=2)
    assert not any(short_tmp.iterdir())  # Ray was not even started
    assert not (tmp_path / "out").exists()  # and nothing was rendered


@pytest.mark.usefixtures("ray_cluster")
def test_flipped_bytes_are_named_and_one_track_is_encoded_again(rendered: Path, tmp_path: Path) -> None:
    catalog = Catalog(rendered, read_aff_wild2(rendered).split("train")[:2])
    report = encode(catalog, tmp_path, JOB_CONFIG)
    store, fingerprints = FeatureStore(tmp_path), report.fingerprints
    good = contents(tmp_path)
    path = Path(store.track_path("visual", fingerprints["visual"], catalog.tracks[0].id))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=f"STO-DAMAGED {path}"):
        load_split(store, catalog.tracks, fingerprints=fingerprints, name="train")
    path.unlink()  # what the message says
    repaired = encode(catalog, tmp_path, JOB_CONFIG)
    assert (repaired.encoded, repaired.skipped) == (1, 3)
    assert contents(tmp_path) == good


@pytest.mark.usefixtures("ray_cluster")
def test_encoding_twice_opens_no_video(rendered: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(rendered, corpus)
    catalog, root = read_aff_wild2(corpus), tmp_path / "store"
    encode(catalog, root, JOB_CONFIG)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    for track in catalog.tracks:
        assert track.video is not None
        with track.video.open("r+b") as file:  # damage that leaves size and date alone: only a reader would notice
            status = track.video.stat()
            file.write(b"\0" * 64)
        os.utime(track.video, ns=(status.st_atime_ns, status.st_mtime_ns))
    started = time.monotonic()
    again = encode(catalog, root, JOB_CONFIG)
    assert time.monotonic() - started < 30  # seconds, not minutes, on a busy machine, too
    assert (again.encoded, again.frames, again.quarantined) == (0, 0, ())
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before


def test_a_quarantine_is_told_at_the_end_and_in_the_exit_status(
    rendered: Path, short_tmp: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "data" / "videos"
    videos.mkdir(parents=True)
    shutil.copy2(rendered / FIRST, videos)
    (videos / "cut.mp4").write_bytes((rendered / FIRST).read_bytes()[:5000])
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--visual.crop", "frame"]
    with family(short_tmp) as group:
        told = finish(group, arguments, expected=1)
    assert "In quarantine" in told
    assert "cut" in told
    (row,) = [json.loads(line) for line in (tmp_path / "out/features/quarantine.jsonl").read_text().splitlines()]
    assert (row["track"], row["stream"]) == ("cut", "all")
    assert row["reason"].startswith("MED-")
    assert row["source_sha256"] == hashlib.sha256((videos / "cut.mp4").read_bytes()).hexdigest()
