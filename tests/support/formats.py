"""Writers of data sets in the formats that are read: each lays out a rendered corpus as that data set is shipped."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from affectgrid.data.annotations import Annotation, read_annotation
from affectgrid.data.catalog import read_aff_wild2
from affectgrid.media.video import probe_video

AVEC_SPLITS = {"train": "train", "validation": "dev"}
MUSE_SPLITS = {"train": "train", "validation": "devel"}
STEP_S = {"muse-car": 0.25, "recola": 0.04}


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One labelled track of the corpus: its labels by frame, and the times of its video's frames."""

    id: str
    split: str
    video: Path
    crops: Path
    labels: Annotation
    time_s: np.ndarray

    @property
    def va(self) -> np.ndarray:
        """Labels [frame, 2], NaN where there is none."""
        return np.where(self.labels.valid[:, None], self.labels.va.astype(float), np.nan)

    def sampled(self, step_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Times, and labels at them [point, 2], as a rater with a clock of his own would give them."""
        last = min(len(self.time_s), len(self.va))
        at = np.arange(0, self.time_s[last - 1], step_s)
        return at, np.stack([np.interp(at, self.time_s[:last], self.va[:last, axis]) for axis in (0, 1)], axis=1)


def samples(rendered: Path) -> list[Sample]:
    """The labelled tracks of a corpus in Aff-Wild2's layout."""
    return [
        Sample(t.id, t.split, t.video, t.crops, read_annotation(t.annotation), probe_video(t.video).frame_times_s)
        for t in read_aff_wild2(rendered).tracks
        if t.annotation and t.video and t.crops
    ]


def write(root: Path, name: str, tracks: Sequence[Sample]) -> Path:
    """Lay the tracks out under `root` in the named format, with their videos, and their crops where it has a place."""
    WRITERS[name](root, tracks)
    return root


def text(path: Path, lines: Iterable[str]) -> None:
    """A text file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def cell(value: float) -> str:
    """A number as such files have it; empty for none."""
    return "" if np.isnan(value) else f"{value:.9g}"


def _videos(root: Path, tracks: Iterable[Sample], folder: str) -> None:
    for track in tracks:
        target = root / folder / track.video.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(track.video, target)


def _aff_wild2(root: Path, tracks: Sequence[Sample]) -> None:
    _videos(root, tracks, "videos")
    for track in tracks:
        rows = [f"{v:.9g},{a:.9g}" if np.isfinite(v) else "-5,-5" for v, a in track.va]
        folder = {"train": "Train_Set", "validation": "Validation_Set"}[track.split]
        text(root / "VA_Estimation_Challenge" / folder / f"{track.id}.txt", ["valence,arousal", *rows])


def _afew_va(root: Path, tracks: Sequence[Sample]) -> None:
    for number, track in enumerate(tracks, 1):
        folder = root / f"{number:03}"
        frames = {
            f"{place:05}": {"landmarks": [], "valence": 10 * v, "arousal": 10 * a}
            for place, (v, a) in enumerate(track.va)
            if np.isfinite(v)
        }
        content = {"video_id": folder.name, "actor": f"actor of {track.video.stem}", "frames": frames}
        text(folder / f"{folder.name}.json", [json.dumps(content)])
        for picture in track.crops.iterdir():
            shutil.copy(picture, folder / f"{int(picture.stem) - 1:05}{picture.suffix}")


def _veatic(root: Path, tracks: Sequence[Sample]) -> None:
    _videos(root, tracks, "videos")
    for track in tracks:
        for axis, name in enumerate(("valence", "arousal")):
            rows = [cell(value) or "nan" for value in track.va[:, axis]]
            text(root / "rating_averaged" / f"{track.id}_{name}.csv", rows)


def _muse_car(root: Path, tracks: Sequence[Sample]) -> None:
    _videos(root, tracks, "raw_videos")
    top = root / "c1_muse_wilder"
    text(top / "metadata/partition.csv", ["Id,Proposal", *(f"{t.id},{MUSE_SPLITS[t.split]}" for t in tracks)])
    for track in tracks:
        at, va = track.sampled(STEP_S["muse-car"])
        for axis, name in enumerate(("valence", "arousal")):
            rows = [f"{1000 * time:.0f},{cell(value)},1" for time, value in zip(at, va[:, axis], strict=True)]
            text(top / "label_segments" / name / f"{track.id}.csv", ["timestamp,value,segment_id", *rows])


def recola_name(track: Sample) -> str:
    """AVEC's name of a track."""
    return f"{AVEC_SPLITS[track.split]}_{track.id}"


def _recola(root: Path, tracks: Sequence[Sample]) -> None:
    for track in tracks:
        _video(track, root / "recordings_video" / f"{recola_name(track)}.mp4")
        at, va = track.sampled(STEP_S["recola"])
        for axis, name in enumerate(("valence", "arousal")):
            head = ["% gold standard", f"@relation {name}", "", "@attribute Instance_name string"]
            head += ["@attribute frameTime numeric", "@attribute GoldStandard numeric", "", "@data"]
            rows = [f"'{recola_name(track)}',{t:.2f},{cell(v) or '?'}" for t, v in zip(at, va[:, axis], strict=True)]
            text(root / "ratings_gold_standard" / name / f"{recola_name(track)}.arff", [*head, *rows])


def _recola_raters(root: Path, tracks: Sequence[Sample]) -> None:
    for number, track in enumerate(tracks, 16):
        _video(track, root / "RECOLA-Video-recordings" / f"P{number}.mp4")
        at, va = track.sampled(STEP_S["recola"])
        for axis, name in enumerate(("valence", "arousal")):
            off = np.minimum(0.1, 1 - np.abs(va[:, axis]))  # two raters about the labels
            pairs = zip(at, va[:, axis] - off, va[:, axis] + off, strict=True)
            rows = [f"{time:.2f};{cell(low)};{cell(high)}" for time, low, high in pairs]
            folder = root / "RECOLA-Annotation/emotional_behaviour" / name
            text(folder / f"P{number}.csv", ["time;FM1 ;FF1", *rows])


def _omg(root: Path, tracks: Sequence[Sample]) -> None:
    header = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"
    files = {"train": "omg_TrainVideos", "validation": "omg_ValidationVideos"}
    for split, name in files.items():
        rows = []
        for number, track in enumerate((t for t in tracks if t.split == split), 1):
            v, a = np.nanmean(track.va, axis=0)
            clip = f"utterance_{number}.mp4"
            video = track.video.stem
            _video(track, root / "clips" / video / clip)
            rows.append(f"https://x.invalid/a?b=1,0.0,3.0,{video},{clip},{(a + 1) / 2:.9g},{v:.9g},4")
        text(root / f"{name}.csv", [header, *rows])


def _video(track: Sample, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(track.video, target)


def table_rows(tracks: Iterable[Sample]) -> list[dict[str, object]]:
    """A row per frame."""
    return [
        {"track": track.id, "frame": number, "valence": v, "arousal": a, "split": track.split}
        for track in tracks
        for number, (v, a) in enumerate(track.va, 1)
    ]


def _table(root: Path, tracks: Sequence[Sample]) -> None:
    _videos(root, tracks, "videos")
    rows = [[cell(v) if isinstance(v, float) else str(v) for v in row.values()] for row in table_rows(tracks)]
    text(root / "labels.csv", ["track,frame,valence,arousal,split", *(",".join(row) for row in rows)])


def _parquet(root: Path, tracks: Sequence[Sample]) -> None:
    _videos(root, tracks, "videos")
    pq.write_table(pa.Table.from_pylist(table_rows(tracks)), root / "labels.parquet")


WRITERS: dict[str, Callable[[Path, Sequence[Sample]], None]] = {
    "aff-wild2": _aff_wild2,
    "afew-va": _afew_va,
    "veatic": _veatic,
    "muse-car": _muse_car,
    "recola": _recola,
    "recola of its authors": _recola_raters,
    "omg": _omg,
    "table": _table,
    "table in Parquet": _parquet,
}
