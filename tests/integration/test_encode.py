"""Encoding a corpus: what lies in the store afterwards, and what a second run does."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.data.annotations import read_annotation, write_annotation
from affectgrid.data.catalog import Catalog, read_aff_wild2
from affectgrid.data.features.report import EncodeReport
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.resident import load_split
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.in_process import LocalEncoder
from affectgrid.distributed.encode.run import encode
from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.visual import load_visual
from affectgrid.errors import MediaError
from affectgrid.media.audio import read_audio
from affectgrid.media.faces.crops import list_crops, read_crop
from affectgrid.media.video import probe_video

pytestmark = pytest.mark.usefixtures("ray_cluster")
AUDIO = AudioStream(hop_s=0.5)
CONFIG = EncodeConfig(audio=AUDIO, chunk_frames=16, chunk_hops=3)


@dataclasses.dataclass(frozen=True)
class EncodedCorpus:
    catalog: Catalog
    store: FeatureStore
    report: EncodeReport


@pytest.fixture(scope="module")
def encoded(ray_cluster: None, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    catalog, root = read_aff_wild2(rendered), tmp_path_factory.mktemp("store")
    return EncodedCorpus(catalog, FeatureStore(root), encode(catalog, root, CONFIG))


def contents(root: Path) -> dict[str, str]:
    """Of every file but how long the run took."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "timings.jsonl")
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_track_has_one_file_per_stream_and_nothing_else_is_left(encoded: EncodedCorpus) -> None:
    ids = [track.id for track in encoded.catalog.tracks]
    for stream, fingerprint in encoded.report.fingerprints.items():
        assert list(encoded.store.tracks(stream, fingerprint)) == sorted(ids)
    names = {path.name for path in Path(encoded.store.root).rglob("*") if path.is_file()}
    assert names == {f"{track}.parquet" for track in ids} | {"fingerprint.json", "sources.jsonl", "timings.jsonl"}
    assert encoded.report.quarantined == ()
    assert encoded.report.encoded == 2 * len(ids)
    assert encoded.store.verify() == []


def test_one_process_without_ray_encodes_the_same(encoded: EncodedCorpus, tmp_path: Path) -> None:
    some = dataclasses.replace(encoded.catalog, tracks=encoded.catalog.tracks[:3])
    report = LocalEncoder(FeatureStore(tmp_path)).encode(some, CONFIG)
    assert (report.fingerprints, report.encoded, report.quarantined) == (encoded.report.fingerprints, 6, ())
    ours, theirs = contents(tmp_path), contents(Path(encoded.store.root))
    assert len(ours) == 8
    assert ours.items() <= theirs.items()


def test_visual_features_are_those_of_each_crop_encoded_alone(encoded: EncodedCorpus) -> None:
    encoder = load_visual("tiny")
    track = next(track for track in encoded.catalog.tracks if track.id.endswith("_left"))
    assert track.crops is not None
    assert track.video is not None
    table = encoded.store.read("visual", encoded.report.fingerprints["visual"], track.id)
    crops = list_crops(track.crops)
    info = probe_video(track.video)
    assert table.frame_index.tolist() == list(range(1, info.num_frames + 1))
    np.testing.assert_allclose(table.time_s, info.frame_times_s)
    assert [int(i) for i, there in zip(table.frame_index, table.present, strict=True) if there] == sorted(crops)
    for index in (min(crops), max(crops), 17):
        alone = encoder.encode_images(encoder.preprocess(read_crop(crops[index]))[None])[0]
        stored = torch.from_numpy(table.feature[index - 1].astype(np.float32))
        torch.testing.assert_close(stored, alone, atol=2e-3, rtol=2e-3)


def test_audio_features_are_those_of_a_window_around_each_hop(encoded: EncodedCorpus) -> None:
    encoder = load_audio("tiny", window_s=AUDIO.window_s)
    track = encoded.catalog.tracks[0]
    assert track.video is not None
    table = encoded.store.read("audio", encoded.report.fingerprints["audio"], track.id)
    np.testing.assert_allclose(table.time_s, np.arange(len(table.time_s)) * 0.5)
    assert table.present[:-1].all()  # the last one is centred past the end
    for hop in (0, 1, 4):
        sound, _ = read_audio(track.video, hop * 0.5 - 0.5, hop * 0.5 + 0.5)
        alone = encoder.encode_windows(sound[None])[0]
        stored = torch.from_numpy(table.feature[hop].astype(np.float32))
        assert torch.cosine_similarity(stored, alone, dim=0) > 0.9999


def test_a_video_without_sound_is_masked(encoded: EncodedCorpus) -> None:
    silent = next(t for t in encoded.catalog.tracks if t.video and probe_video(t.video).audio is None)
    table = encoded.store.read("audio", encoded.report.fingerprints["audio"], silent.id)
    assert not table.present.any()
    assert not table.feature.any()


def test_labels_join_by_frame_index_whatever_the_counts(encoded: EncodedCorpus) -> None:
    prints = encoded.report.fingerprints
    tracks = encoded.catalog.split("train")
    split = load_split(encoded.store, tracks, fingerprints=prints, name="train")
    assert split.num_tracks == len(tracks)
    for number, track in enumerate(tracks):
        assert track.annotation is not None
        lines = track.annotation.read_text().splitlines()[1:]
        rows = split.track(number)
        assert split.frame_index[rows].tolist() == list(range(1, len(lines) + 1))
        assert split.labelled[rows].tolist() == [not line.startswith("-5") for line in lines]


def test_a_second_run_encodes_nothing_and_changes_nothing(encoded: EncodedCorpus) -> None:
    root = Path(encoded.store.root)
    before = contents(root)
    again = encode(encoded.catalog, root, CONFIG)
    assert (again.encoded, again.frames) == (0, 0)
    assert again.skipped == 2 * len(encoded.catalog.tracks)
    assert contents(root) == before


def test_the_size_of_chunks_changes_no_number(encoded: EncodedCorpus, tmp_path: Path) -> None:
    some = Catalog(encoded.catalog.root, encoded.catalog.tracks[:2])
    encode(some, tmp_path, EncodeConfig(audio=AUDIO, chunk_frames=1000, chunk_hops=1000, batch_size=7))
    for stream, fingerprint in encoded.report.fingerprints.items():
        for track in some.tracks:
            ours = encoded.store.read(stream, fingerprint, track.id)
            whole = FeatureStore(tmp_path).read(stream, fingerprint, track.id)
            np.testing.assert_array_equal(ours.present, whole.present)
            a, b = (torch.from_numpy(table.feature[table.present].astype(np.float32)) for table in (ours, whole))
            # Visual features are equal but for rounding. AAC's noise substitution draws random numbers whose state
            # depends on where decoding began, so sound is equal only to the ear.
            assert torch.cosine_similarity(a, b).min() > (0.99999 if stream == "visual" else 0.999)


def test_split_and_fused_placement_give_equal_stores(encoded: EncodedCorpus, tmp_path: Path) -> None:
    some = Catalog(encoded.catalog.root, encoded.catalog.tracks[:2])
    stores = []
    for placement in ("fused", "split"):
        encode(some, tmp_path / placement, CONFIG.model_copy(update={"placement": placement, "encoders": 1}))
        stores.append(contents(tmp_path / placement))
    assert len([name for name in stores[0] if name.endswith(".parquet")]) == 4
    assert stores[0] == stores[1]


def test_another_setting_is_another_fingerprint_and_the_old_one_stays(encoded: EncodedCorpus) -> None:
    root = Path(encoded.store.root)
    before = contents(root)
    one = Catalog(encoded.catalog.root, encoded.catalog.tracks[:1])
    other = encode(one, root, CONFIG.model_copy(update={"visual": VisualStream(crop="frame")}))
    assert other.fingerprints["audio"] == encoded.report.fingerprints["audio"]
    assert other.fingerprints["visual"] != encoded.report.fingerprints["visual"]
    assert other.encoded == 1
    assert before.items() <= contents(root).items()
    shutil.rmtree(root / "visual" / other.fingerprints["visual"])


def test_a_damaged_video_is_reported_and_the_rest_arrives(rendered: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(rendered, corpus)
    catalog = read_aff_wild2(corpus)
    victim = next(track for track in catalog.tracks if track.video and track.video.suffix == ".mp4")
    assert victim.video is not None
    victim.video.write_bytes(victim.video.read_bytes()[: victim.video.stat().st_size // 2])
    few = Catalog(corpus, (victim, *[track for track in catalog.tracks if track.video != victim.video][:2]))
    report = encode(few, tmp_path / "store", CONFIG)
    assert [failure.track for failure in report.quarantined] == [victim.id]
    assert str(victim.video) in report.quarantined[0].reason
    assert report.encoded == 4
    with pytest.raises(MediaError, match="ENC-STOP"):
        encode(few, tmp_path / "store", CONFIG.model_copy(update={"on_error": "stop"}))


def test_frames_without_a_label_are_left_out_where_that_is_asked_for(rendered: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(rendered, corpus)
    catalog = read_aff_wild2(corpus)
    track = next(t for t in catalog.tracks if t.annotation and not read_annotation(t.annotation).valid.all())
    assert track.annotation is not None
    one = Catalog(corpus, (track,))
    config = CONFIG.model_copy(update={"visual": VisualStream(crop="frame", frames="labelled")})
    report = encode(one, tmp_path / "store", config)
    fingerprint = report.fingerprints["visual"]
    labels = read_annotation(track.annotation)

    def present() -> list[int]:
        table = FeatureStore(tmp_path / "store").read("visual", fingerprint, track.id)
        return [int(i) for i, there in zip(table.frame_index, table.present, strict=True) if there]

    assert present() == (np.flatnonzero(labels.valid) + 1).tolist()
    labels.valid[:3] = False  # a corrected annotation is another choice of frames
    write_annotation(track.annotation, labels)
    again = encode(one, tmp_path / "store", config)
    assert (again.encoded, again.skipped) == (1, 1)  # the sound stays
    assert present() == (np.flatnonzero(labels.valid) + 1).tolist()


@pytest.mark.long
def test_a_broken_annotation_is_a_reason_until_it_is_mended(rendered: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(rendered, corpus)
    track = next(t for t in read_aff_wild2(corpus).tracks if t.annotation)
    assert track.annotation is not None
    one = Catalog(corpus, (track,))
    good = track.annotation.read_text()
    track.annotation.write_text(good.replace("valence,arousal", "arousal"))
    config = CONFIG.model_copy(update={"visual": VisualStream(crop="frame", frames="labelled")})
    (lost,) = encode(one, tmp_path / "store", config).quarantined
    assert lost.stream == "visual"
    assert lost.reason.startswith("ANN-HEADER")
    track.annotation.write_text(good)
    assert encode(one, tmp_path / "store", config).quarantined == ()
    track.annotation.write_text(good.replace("\n", "\nx,0\n", 1))
    (lost,) = encode(one, tmp_path / "store", config).quarantined
    assert lost.reason.startswith("ANN-NUMBER")
    masked = one.on_bad_label("mask")  # reads the unchanged file in another way
    report = encode(masked, tmp_path / "store", config)
    assert (report.quarantined, report.encoded) == ((), 1)
