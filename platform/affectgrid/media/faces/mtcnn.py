"""MTCNN: faces of any pose by three networks in a row, each with five points."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from affectgrid.media.faces.boxes import FaceBox
from affectgrid.media.faces.networks import Networks, load_weights

_CELL, _STRIDE = 12, 2  # pixels of a face that P-Net sees, and between two of its cells
_SMALLEST_PX, _SMALLEST_SHARE = 20, 1 / 12
_STEP = 0.709  # half the area from one scale to the next
_PROPOSED, _REFINED, _DECIDED = 0.6, 0.7, 0.7  # the paper's thresholds
_OVERLAP_IN_SCALE, _OVERLAP = 0.5, 0.7

Boxes = Float[np.ndarray, "n 4"]


class MtcnnDetector:
    """Finds faces turned aside, tilted or partly hidden, and small ones.

    Args:
        smallest_px: side of the smallest face that is looked for; each halving costs four times as long. None: a
            twelfth of the picture's shorter side, and at least 20.
        networks: None: with the weights of the package `mtcnn`.

    Raises MediaError (MED-DETECTOR) where the package is not installed.
    """

    def __init__(self, *, smallest_px: float | None = None, networks: Networks | None = None) -> None:
        self._smallest_px = smallest_px
        self._networks = networks or Networks(load_weights())

    def detect(self, rgb: UInt8[np.ndarray, "h w 3"]) -> list[FaceBox]:
        """Faces by falling score, the probability of a face."""
        picture = Image.fromarray(rgb)
        boxes = self._propose(picture)
        return self._decide(picture, self._refine(picture, boxes))

    def follow(self, rgb: UInt8[np.ndarray, "h w 3"], box: FaceBox) -> MtcnnFollower:
        """By the last network alone, around the place where the face was."""
        return MtcnnFollower(self, box)

    def look_again(self, rgb: UInt8[np.ndarray, "h w 3"], box: FaceBox) -> FaceBox | None:
        """The face that is about where `box` is; None where there is none."""
        around = _squares(np.array([[box.left, box.top, box.right, box.bottom]]))
        found = self._decide(Image.fromarray(rgb), around)
        return found[0] if found else None

    def _propose(self, picture: Image.Image) -> Boxes:
        """Squares that may hold a face, from a pyramid of scales."""
        width, height = picture.size
        smallest = self._smallest_px or max(_SMALLEST_PX, min(width, height) * _SMALLEST_SHARE)
        found: list[tuple[Boxes, Boxes, Float[np.ndarray, " n"]]] = []
        scale = _CELL / smallest
        while min(width, height) * scale >= _CELL:
            size = max(_CELL, round(width * scale)), max(_CELL, round(height * scale))
            picture = picture.resize(size, Image.Resampling.BILINEAR)  # from the last scale: cheaper, and as good
            found.append(self._cells(picture, width / size[0], height / size[1]))
            scale *= _STEP
        if not found:
            return np.zeros((0, 4))
        boxes, offsets, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = _distinct(boxes, scores, _OVERLAP)
        return _squares(_moved(boxes[kept], offsets[kept]))

    def _cells(self, picture: Image.Image, across: float, down: float) -> tuple[Boxes, Boxes, Float[np.ndarray, " n"]]:
        """Cells of one scale that look like a face: in pixels of the picture, their offsets and probabilities."""
        face, offsets = self._networks.propose(_normalised(np.asarray(picture))[None])
        y, x = np.nonzero(face[0] > _PROPOSED)
        left, top = _STRIDE * x, _STRIDE * y
        boxes = np.stack([left * across, top * down, (left + _CELL) * across, (top + _CELL) * down], axis=1)
        kept = _distinct(boxes, face[0, y, x], _OVERLAP_IN_SCALE)
        return boxes[kept], offsets[0, y, x][kept], face[0, y, x][kept]

    def _refine(self, picture: Image.Image, boxes: Boxes) -> Boxes:
        if not len(boxes):
            return boxes
        face, offsets = self._networks.refine(_patches(picture, boxes, 24))
        sure = face > _REFINED
        boxes, offsets, face = boxes[sure], offsets[sure], face[sure]
        kept = _distinct(boxes, face, _OVERLAP)
        return _squares(_moved(boxes[kept], offsets[kept]))

    def _decide(self, picture: Image.Image, boxes: Boxes) -> list[FaceBox]:
        if not len(boxes):
            return []
        face, offsets, shares = self._networks.decide(_patches(picture, boxes, 48))
        sure = face > _DECIDED
        boxes, offsets, shares, face = boxes[sure], offsets[sure], shares[sure], face[sure]
        points = boxes[:, :2, None] + (boxes[:, 2:] - boxes[:, :2])[:, :, None] * shares
        boxes = _moved(boxes, offsets)
        found = []
        for k in _distinct(boxes, face, _OVERLAP, inside=True):
            left, top, right, bottom = boxes[k].tolist()
            pairs = tuple((x, y) for x, y in points[k].T.tolist())
            found.append(FaceBox(left, top, right, bottom, float(face[k]), pairs))
        return found


class MtcnnFollower:
    """Follows a face from frame to frame, as long as the last network sees one where it was."""

    def __init__(self, detector: MtcnnDetector, box: FaceBox) -> None:
        self._detector, self._box = detector, box

    def update(self, rgb: UInt8[np.ndarray, "h w 3"]) -> FaceBox | None:
        """The face in the next frame."""
        found = self._detector.look_again(rgb, self._box)
        self._box = found or self._box
        return found


def _normalised(pixels: UInt8[np.ndarray, "*n h w 3"]) -> Float[np.ndarray, "*n h w 3"]:
    return (pixels.astype(np.float32) - 127.5) / 128


def _patches(picture: Image.Image, boxes: Boxes, side: int) -> Float[np.ndarray, "n side side 3"]:
    """The boxes' pictures in one size; black beyond the picture's edge."""
    width, height = picture.size
    beyond = max(-boxes[:, :2].min(), (boxes[:, 2] - width).max(), (boxes[:, 3] - height).max(), 0)
    edge = int(beyond) + 1
    framed = Image.new("RGB", (width + 2 * edge, height + 2 * edge))
    framed.paste(picture, (edge, edge))
    cut = [framed.resize((side, side), Image.Resampling.BILINEAR, box=tuple(box)) for box in (boxes + edge).tolist()]
    return _normalised(np.stack([np.asarray(patch) for patch in cut]))


def _moved(boxes: Boxes, offsets: Boxes) -> Boxes:
    """Boxes whose edges are moved by shares of their sides."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return np.asarray(boxes + offsets * sides)


def _squares(boxes: Boxes) -> Boxes:
    """Squares of the longer side about the same centres; at least one pixel."""
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True), 1) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _distinct(boxes: Boxes, scores: Float[np.ndarray, " n"], overlap: float, *, inside: bool = False) -> list[int]:
    """Places of the best boxes by falling score, without those that overlap a better one by more than `overlap`.

    Overlap is the intersection over the union; with `inside` over the smaller of both.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area, order, kept = sides.prod(axis=1), np.argsort(-scores, kind="stable"), list[int]()
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.maximum(np.minimum(boxes[best, 2:], boxes[rest, 2:]) - low, 0).prod(axis=1)
        whole = np.minimum(area[best], area[rest]) if inside else area[best] + area[rest] - shared
        order = rest[shared <= overlap * whole]
    return kept
