"""Find every problem of a data set at once, before any expensive work."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from affectgrid.data.annotations import Annotation, read_labels
from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.decoding import MediaReader
from affectgrid.data.leakage import Look, copies, leaks_by_content, leaks_by_name
from affectgrid.data.survey import TrackFacts, looks_of
from affectgrid.errors import AnnotationError, MediaError, Problem
from affectgrid.media.chunks import Crop
from affectgrid.media.faces.crops import list_crops
from affectgrid.media.video import VideoInfo
from affectgrid.storage import show_places, staged

Probe = Callable[[Path], VideoInfo]

_DRIFT_SHARE = 0.02  # of the mean interval: below this a rate is called constant
_MAX_NAMED = 10


def validate(
    catalog: Catalog,
    *,
    tolerance_frames: int = 10,
    crop: Crop | None = None,
    deep: bool = False,
    probe: Probe | None = None,
    progress: Callable[[int], None] = lambda count: None,
    survey: Callable[[TrackFacts], None] = lambda facts: None,
) -> list[Problem]:
    """Check labels, videos and crops, and that they match; an empty list means that encoding and training can start.

    Args:
        tolerance_frames: how far the numbers of labels, frames and crops may differ; frames join by index anyway.
        crop: what is to be encoded, as ``VisualStream.crop``; default: crops where there are any, else whole frames.
        deep: decode everything; else a sample of each track, the same every time.
        probe: indexes a video, and nothing is decoded; default: ``MediaReader``, in guarded processes, one a core.
        progress: called with 1 after every track.
        survey: called with what is in every track.

    Errors come first. Codes beside those of the annotation reader and of what an encode run calls to decode: VAL-LEAK
    (one video in two splits, by name or by what is seen in it), VAL-COUNT, VAL-NO-VIDEO; and the warnings CAT-OVERLAP,
    VAL-NO-LABEL, VAL-NO-SOUND, VAL-SOUND-SHORT, VAL-LATE, VAL-RATE, VAL-CONSTANT, VAL-MASKED, VAL-ODD-LABEL (masked),
    VAL-NO-CROPS.
    """
    problems = [*catalog.notes, *leaks_by_name(catalog.tracks), *_orphans(catalog)]
    seen: list[TrackFacts] = []
    masked: dict[str, list[tuple[int, int]]] = defaultdict(list)
    if crop is None:
        crop = "crops" if any(track.crops for track in catalog.tracks) else "frame"
        if crop == "frame" and probe is None:
            hint = "encode with --visual.crop detect, or frame for whole pictures"
            problems.append(_warning("VAL-NO-CROPS", catalog.root, "no face crops", "face crops", hint))
    with contextlib.ExitStack() as stack:
        check = _Check(tolerance_frames, probe)
        if probe is None:
            check.readers = [stack.enter_context(MediaReader(crop, deep=deep)) for _ in range(os.cpu_count() or 1)]
        pool = stack.enter_context(ThreadPoolExecutor(max(1, len(check.readers))))
        for findings in pool.map(check.video, _by_video(catalog.tracks)):
            for facts, own in findings:
                problems.extend(own)
                if (labels := facts.labels) is not None:
                    masked[facts.track.split].append((int((~labels.valid).sum()), labels.num_frames))
                seen.append(facts)
                survey(facts)
                progress(1)
    problems.extend(leaks_by_content(catalog.tracks, copies(looks_of(seen))))
    problems.extend(_masked(masked))
    problems = [dataclasses.replace(problem, where=show_places(problem.where)) for problem in problems]
    return sorted(problems, key=lambda problem: problem.severity != "error")  # stable: tracks stay in order


def _by_video(tracks: Iterable[Track]) -> list[list[Track]]:
    """Tracks of one video together: it is looked at once."""
    groups: dict[Path | str, list[Track]] = defaultdict(list)
    for track in tracks:
        groups[track.video or track.id].append(track)
    return list(groups.values())


Finding = tuple[TrackFacts, list[Problem]]


class _Check:
    """What is done for the tracks of one video, in several threads; each takes one of the readers meanwhile."""

    def __init__(self, tolerance: int, probe: Probe | None) -> None:
        self._tolerance, self._probe = tolerance, probe
        self.readers: list[MediaReader] = []

    def video(self, tracks: Sequence[Track]) -> list[Finding]:
        reader = self.readers.pop() if self.readers else None
        try:
            return self._video(tracks, reader)
        finally:
            if reader:
                self.readers.append(reader)

    def _video(self, tracks: Sequence[Track], reader: MediaReader | None) -> list[Finding]:
        found: list[Problem] = []
        video, probe = tracks[0].video, reader.probe if reader else self._probe
        info = _video(video, probe, found) if video and probe else None
        findings: list[Finding] = []
        look: Look | None = None
        for track in tracks:
            labels = _labels(track, info, found)
            if labels is not None:
                found.extend(_constant(track, labels))
            crops = _crops(track, found)
            found.extend(_counts(track, labels, info, crops, self._tolerance))
            if reader and (info or not video) and (crops or not track.crops) and (info or crops):
                found.extend(reader.decode(track, info, crops))
                look = look or reader.look(track, info)
            findings.append((dataclasses.replace(_facts(track, labels, info, crops), look=look), found))
            found = []
        return findings


def _facts(
    track: Track, labels: Annotation | None, info: VideoInfo | None, crops: Sequence[tuple[int, int]]
) -> TrackFacts:
    if info is None:
        return TrackFacts(track, labels, 0, 0.0, 0.0, len(crops))
    duration_s = float(info.frame_times_s[-1] - info.frame_times_s[0])
    return TrackFacts(track, labels, info.num_frames, info.average_rate_hz, duration_s, len(crops))


def _labels(track: Track, info: VideoInfo | None, problems: list[Problem]) -> Annotation | None:
    if track.labels is None:
        return None
    try:
        labels = read_labels(track.labels, (lambda: info.frame_times_s) if info else None)
    except AnnotationError as error:
        problems.extend(error.problems)
        return None
    if labels.odd:
        found = f"{len(labels.odd)} of {labels.num_frames} lines are odd, first {labels.odd[0]}"
        problems.append(_warning("VAL-ODD-LABEL", track.labels, found, "lines that can be read", "they are masked"))
    return labels


def _video(path: Path, probe: Probe, problems: list[Problem]) -> VideoInfo | None:
    try:
        info = probe(path)
    except MediaError as error:
        problems.extend(error.problems)
        return None
    last_s, times = float(info.frame_times_s[-1]), info.frame_times_s
    if info.audio is None:
        problems.append(_warning("VAL-NO-SOUND", path, info.why_no_sound, "a sound track", "its sound is masked"))
    elif info.audio.stop_s < last_s - 1:
        found, expected = f"sound ends at {info.audio.stop_s:.1f} s", f"sound until {last_s:.1f} s"
        problems.append(_warning("VAL-SOUND-SHORT", path, found, expected, "the rest of its sound is masked"))
    if info.lost_frames:
        found = f"{info.lost_frames} pictures at the beginning whose keyframe is missing"
        problems.append(_warning("VAL-LATE", path, found, "a keyframe first", "frame 1 is the first that decodes"))
    if len(times) > 2:
        even = np.linspace(times[0], times[-1], len(times))
        drift, interval = float(np.abs(times - even).max()), float(times[-1] - times[0]) / (len(times) - 1)
        if drift > _DRIFT_SHARE * interval + 0.002:  # 2 ms: Matroska and others round to 1 ms
            found = f"frames up to {drift:.3f} s from an even rate of {info.average_rate_hz:.2f} Hz"
            problems.append(_warning("VAL-RATE", path, found, "a constant rate", "sound is aligned by timestamp"))
    return info


def _crops(track: Track, problems: list[Problem]) -> list[tuple[int, int]]:
    """Frame indices and bytes of a track's crops, ascending."""
    if track.crops is None:
        return []
    try:
        with staged(track.crops) as folder:
            crops = [(index, path.stat().st_size) for index, path in list_crops(folder).items()]
    except (MediaError, OSError) as error:
        fault = Problem(
            "MED-MISSING", where=str(track.crops), found=str(error), expected="readable crops", hint="check them"
        )
        problems.extend(error.problems if isinstance(error, MediaError) else [fault])
        return []
    if not crops:
        hint = "extract the crops or remove it"
        where = str(track.crops)
        problems.append(Problem("VAL-COUNT", where=where, found="no crop", expected="00001.jpg ...", hint=hint))
    return crops


def _counts(
    track: Track,
    labels: Annotation | None,
    info: VideoInfo | None,
    crops: Sequence[tuple[int, int]],
    tolerance: int,
) -> Iterator[Problem]:
    """Labels against frames, and crops beyond either; a frame without a crop is a frame without a face."""
    known = {}
    if labels is not None:
        known["labels"] = labels.num_frames
    if info is not None:
        known["video frames"] = info.num_frames
    limit = min(known.values(), default=None)
    if crops and limit is not None and crops[-1][0] > limit + tolerance:
        found, expected = f"crop of frame {crops[-1][0]}", f"at most {limit} + {tolerance}"
        yield Problem("VAL-COUNT", where=str(track.crops), found=found, expected=expected, hint=_COUNT_HINT)
    if len(known) == 2 and abs(known["labels"] - known["video frames"]) > tolerance:
        found = f"{known['labels']} labels, {known['video frames']} frames in the video"
        yield Problem(
            "VAL-COUNT",
            where=str(track.annotation),
            found=found,
            expected=f"a difference of at most {tolerance}",
            hint=_COUNT_HINT,
        )


_COUNT_HINT = "check that they belong together, or raise tolerance_frames"


def _constant(track: Track, labels: Annotation) -> Iterator[Problem]:
    valid = labels.va[labels.valid]
    for axis, name in enumerate(("valence", "arousal")):
        if np.ptp(valid[:, axis]) == 0:
            found = f"{name} is {valid[0, axis]:g} in every frame"
            yield _warning("VAL-CONSTANT", track.annotation, found, "labels that vary", "its own CCC would be 0")


def _masked(masked: dict[str, list[tuple[int, int]]]) -> Iterator[Problem]:
    for split, counts in sorted(masked.items()):
        without, total = (sum(column) for column in zip(*counts, strict=True))
        if without:
            tracks = sum(count > 0 for count, _ in counts)
            found = f"{without} of {total} frames ({without / total:.1%}) in {tracks} tracks have no label"
            yield _warning("VAL-MASKED", f"split {split}", found, "labels", "these frames are left out")


def _orphans(catalog: Catalog) -> Iterator[Problem]:
    unseen = [t.id for t in catalog.tracks if t.annotation is not None and t.video is None and t.crops is None]
    silent = [t.id for t in catalog.tracks if t.annotation is not None and t.video is None and t.crops is not None]
    root = catalog.root
    if unseen:
        yield Problem(
            "VAL-NO-VIDEO",
            where=str(root),
            found=f"labels without video or crops: {_named(unseen)}",
            expected="both",
            hint="add the videos",
        )
    if silent:
        found = f"crops without their video: {_named(silent)}"
        yield _warning("VAL-NO-SOUND", root, found, "videos, for their sound", "sound is masked")
    if catalog.unlabelled:
        found = f"without labels: {_named(catalog.unlabelled)}"
        yield _warning("VAL-NO-LABEL", root, found, "labels", "they are the test split; --tracks names what is wanted")


def _named(ids: Iterable[str]) -> str:
    ids = list(ids)
    more = f" ... {len(ids)} in all" if len(ids) > _MAX_NAMED else ""
    return ", ".join(ids[:_MAX_NAMED]) + more


def _warning(code: str, where: Any, found: str, expected: str, hint: str) -> Problem:
    return Problem(code, where=str(where), found=found, expected=expected, hint=hint, severity="warning")
