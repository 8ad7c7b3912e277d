"""MTCNN's networks against torch's own layers, its boxes worked by hand, faces turned upright; real faces: `media`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional

from affectgrid.errors import MediaError
from affectgrid.media.faces import FaceBox, FaceTracker, MtcnnDetector, crop_face, cut_face
from affectgrid.media.faces import mtcnn as module
from affectgrid.media.faces.networks import Networks, load_weights

# height and width of the kernel, channels in and out; of a connected layer: in and out. Each with slopes, but heads.
LAYERS = {
    "pnet": [(3, 3, 3, 10), (3, 3, 10, 16), (3, 3, 16, 32)],
    "rnet": [(3, 3, 3, 28), (3, 3, 28, 48), (2, 2, 48, 64), (576, 128)],
    "onet": [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (2, 2, 64, 128), (1152, 256)],
}
HEADS = {"pnet": [(1, 1, 32, 4), (1, 1, 32, 2)], "rnet": [(128, 4), (128, 2)], "onet": [(256, 4), (256, 10), (256, 2)]}


@pytest.fixture(scope="module")
def weights() -> dict[str, list[np.ndarray]]:
    """Random ones in the order of the wheel's files."""
    random = np.random.default_rng(0)

    def layer(shape: tuple[int, ...], slope: bool) -> list[np.ndarray]:
        scale = 1.5 / np.sqrt(np.prod(shape[:-1]))
        drawn = [random.normal(0, scale, shape), random.normal(0, 0.1, shape[-1])]
        return [array.astype(np.float32) for array in (*drawn, *([random.random(shape[-1])] if slope else []))]

    return {
        name: [
            array
            for slope, shapes in ((True, LAYERS[name]), (False, HEADS[name]))
            for shape in shapes
            for array in layer(shape, slope)
        ]
        for name in LAYERS
    }


def by_torch(name: str, weights: list[np.ndarray], pools: tuple[int, ...], x: np.ndarray) -> list[np.ndarray]:
    """The heads' outputs; `pools` are window sizes after each convolution, negative where they round up, 0 for none."""
    tensors = [torch.from_numpy(array) for array in weights]
    y = torch.from_numpy(x).permute(0, 3, 1, 2)
    for number, pool in enumerate(pools):
        kernel, bias, slope = tensors[3 * number : 3 * number + 3]
        y = functional.prelu(functional.conv2d(y, kernel.permute(3, 2, 0, 1), bias), slope)
        if pool:
            y = functional.max_pool2d(y, abs(pool), 2, ceil_mode=pool < 0)
    rest = tensors[3 * len(pools) :]
    if name == "pnet":
        return [functional.conv2d(y, rest[k].permute(3, 2, 0, 1), rest[k + 1]).numpy() for k in (0, 2)]
    y = y.permute(0, 3, 2, 1).flatten(1)  # columns, rows, channels
    y = functional.prelu(y @ rest[0] + rest[1], rest[2])
    return [(y @ rest[k] + rest[k + 1]).numpy() for k in range(3, len(rest), 2)]


def test_the_networks_compute_what_torch_does(weights: dict[str, list[np.ndarray]]) -> None:
    networks, random = Networks(weights), np.random.default_rng(1)
    picture = random.normal(size=(1, 29, 35, 3)).astype(np.float32)
    face, offsets = networks.propose(picture)
    want = by_torch("pnet", weights["pnet"], (-2, 0, 0), picture)
    np.testing.assert_allclose(offsets, want[0].transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(face, functional.softmax(torch.from_numpy(want[1]), 1)[:, 1], atol=1e-5)

    patches = random.normal(size=(5, 24, 24, 3)).astype(np.float32)
    face, offsets = networks.refine(patches)
    want = by_torch("rnet", weights["rnet"], (-3, 3, 0), patches)
    np.testing.assert_allclose(offsets, want[0], atol=1e-4)
    np.testing.assert_allclose(face, functional.softmax(torch.from_numpy(want[1]), 1)[:, 1], atol=1e-5)

    patches = random.normal(size=(4, 48, 48, 3)).astype(np.float32)
    face, offsets, points = networks.decide(patches)
    want = by_torch("onet", weights["onet"], (-3, 3, -2, 0), patches)
    np.testing.assert_allclose(offsets, want[0], atol=1e-4)
    np.testing.assert_allclose(points.reshape(4, 10), want[1], atol=1e-4)
    np.testing.assert_allclose(face, functional.softmax(torch.from_numpy(want[2]), 1)[:, 1], atol=1e-5)


def test_overlapping_boxes_leave_the_best() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [2, 2, 6, 6]], float)
    scores = np.array([0.7, 0.9, 0.8, 0.6])
    # 0 and 1 share 90 of 110 pixels; 3 lies inside 1, of which it covers 16 of 100
    assert module._distinct(boxes, scores, 0.5) == [1, 2, 3]
    assert module._distinct(boxes, scores, 0.5, inside=True) == [1, 2]
    assert module._distinct(boxes, scores, 0.9) == [1, 2, 0, 3]
    assert module._distinct(boxes[:0], scores[:0], 0.5) == []


def test_boxes_are_moved_by_shares_of_their_sides_and_made_square() -> None:
    box = np.array([[10.0, 20.0, 30.0, 60.0]])
    np.testing.assert_allclose(module._moved(box, np.array([[0.1, -0.1, 0.0, 0.5]])), [[12, 16, 30, 80]])
    np.testing.assert_allclose(module._squares(box), [[0, 20, 40, 60]])


def test_a_patch_beyond_the_edge_is_black_there() -> None:
    picture = Image.fromarray(np.full((40, 40, 3), 255, np.uint8))
    patch = module._patches(picture, np.array([[-20.0, 0.0, 20.0, 40.0]]), 24)[0]
    assert patch[:, :11].max() == pytest.approx(-127.5 / 128)
    assert patch[2:-2, 13:].min() == pytest.approx(127.5 / 128)


@pytest.mark.parametrize("size", [(8, 8), (12, 500), (19, 19), (20, 20), (240, 320)])
def test_any_picture_can_be_searched(weights: dict[str, list[np.ndarray]], size: tuple[int, int]) -> None:
    """With random networks, so that what is found is noise; every box is finite and has points."""
    noise = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    found = MtcnnDetector(networks=Networks(weights)).detect(noise)
    assert [box.score for box in found] == sorted((box.score for box in found), reverse=True)
    for box in found:
        assert np.isfinite([box.left, box.top, box.right, box.bottom, *sum(box.points, ())]).all()
        assert len(box.points) == 5


def test_other_weights_than_the_known_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mtcnn" / "assets" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "mtcnn" / "__init__.py").write_text("raise SystemExit('this would have been TensorFlow')")
    for name in LAYERS:
        (folder / f"{name}.lz4").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mtcnn", raising=False)
    with pytest.raises(MediaError, match="MED-DETECTOR mtcnn: other weights"):
        load_weights()


def drawn_face(degrees: float) -> tuple[np.ndarray, FaceBox]:
    """A face with eyes and mouth, turned about its middle, and its box with points."""
    image = Image.new("RGB", (240, 200), (60, 60, 60))
    draw = ImageDraw.Draw(image)
    draw.ellipse((70, 50, 170, 150), fill=(220, 180, 150))
    for x, y in ((103, 90), (137, 90)):
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill=(20, 20, 20))
    draw.rectangle((107, 123, 133, 129), fill=(150, 30, 30))
    turned = np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR, center=(120, 100)))
    points = np.array([[103, 90], [137, 90], [120, 108], [107, 126], [133, 126]]) - (120, 100)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return turned, FaceBox(70, 50, 170, 150, points=tuple(map(tuple, (points @ turn.T + (120, 100)).tolist())))


@pytest.mark.parametrize("degrees", [-40, 25])
def test_a_face_is_turned_upright_by_its_points(degrees: float) -> None:
    upright = cut_face(*drawn_face(0), margin=0.2, upright=True)
    turned = cut_face(*drawn_face(degrees), margin=0.2, upright=True)
    untouched = crop_face(*drawn_face(degrees), margin=0.2)
    assert abs(len(turned) - len(upright)) <= 1
    assert 120 < len(upright) < 160  # about 1.4 times the box's side
    side = min(len(turned), len(upright), len(untouched))

    def difference(picture: np.ndarray) -> float:
        return float(np.abs(picture[:side, :side].astype(float) - upright[:side, :side])[20:-20, 20:-20].mean())

    assert difference(turned) < 0.2 * difference(untouched)
    np.testing.assert_array_equal(cut_face(*drawn_face(degrees), margin=0.2), untouched)


@pytest.fixture
def mtcnn() -> MtcnnDetector:
    try:
        return MtcnnDetector()
    except MediaError as error:
        pytest.skip(str(error))


@pytest.mark.media
def test_real_faces(mtcnn: MtcnnDetector, media: Path) -> None:
    """Found with their points where people are, and nowhere else; followed by the last network alone."""
    from affectgrid.media.frames import FrameReader
    from affectgrid.media.video import probe_video

    def frames(name: str, *positions: int) -> list[np.ndarray]:
        return [rgb for _, _, rgb in FrameReader(media / name, probe_video(media / name)).read(list(positions))]

    assert mtcnn.detect(frames("no_face.mp4", 10)[0]) == []
    shown = frames("single_face.mp4", *range(10, 20))
    boxes = mtcnn.detect(shown[0])
    assert len(boxes) == 1
    (left, right, nose, *mouth), box = boxes[0].points, boxes[0]
    assert box.left < left[0] < nose[0] < right[0] < box.right
    assert box.top < max(left[1], right[1]) < nose[1] < min(y for _, y in mouth) < box.bottom
    tracker = FaceTracker(mtcnn, every=10)
    followed = [tracker.find(number, rgb) for number, rgb in enumerate(shown)]
    for rgb, seen in zip(shown, followed, strict=True):
        detected = mtcnn.detect(rgb)[0]
        assert seen is not None
        assert abs(seen.left - detected.left) < 0.1 * (detected.right - detected.left)
