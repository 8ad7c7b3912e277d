"""Features that the store cannot hold: their track is refused with the reason, and the chunks beside it are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import VisualStream
from affectgrid.distributed.encode.decoding import StreamJob
from affectgrid.distributed.encode.encoding import EncodeChunks

DIM = 3


class Brightness:
    """An encoder whose features are the mean of a picture, times a factor of their own."""

    def encode_images(self, images: np.ndarray) -> torch.Tensor:
        mean = torch.from_numpy(images).float().mean((1, 2, 3))
        return mean[:, None] * torch.tensor([1.0, 100.0, 1000.0])


def chunk(track: str, brightness: list[float]) -> dict[str, Any]:
    count = len(brightness)
    present = np.array([True] * count + [False])
    images = np.stack([np.full((3, 2, 2), value, dtype=np.float32) for value in brightness])
    return {
        "track": track, "stream": "visual", "number": 0, "error": "", "images": images,
        "sound": np.zeros(0, np.float32), "frame_index": np.arange(1, count + 2),
        "time_s": np.arange(count + 1) / 10, "present": present,
        "box": np.zeros((0, 5), np.float32), "taken": np.arange(count), "decode_s": 0.0,
    }  # fmt: skip


def encode(root: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    job = StreamJob(VisualStream(), "abc", None, DIM, {})
    actor = EncodeChunks(str(root), {"visual": job}, batch_size=4)
    actor.__dict__["_visual"] = Brightness()
    return actor({name: [row[name] for row in rows] for name in rows[0]})


@pytest.mark.parametrize(
    ("brightness", "said"),
    [
        ([1.0, 2.0, 70.0], "from 0.20 s: 1 of 9 feature values .* beyond 65504; the largest finite one is 7e+04"),
        ([1.0, np.nan, np.inf], "from 0.10 s: 6 of 9 feature values are not finite .* the largest finite one is 1e+03"),
        ([np.nan], "3 of 3 .* none is finite"),
    ],
)
def test_a_feature_beyond_half_precision_refuses_its_track_alone(tmp_path: Path, brightness: list[float], said: str):
    states = encode(tmp_path, chunk("good", [1.0, 65.0]), chunk("bad", brightness))
    assert states["error"][0] == ""
    assert "ENC-RANGE bad (visual)" in states["error"][1]
    pattern = said.replace("+", r"\+")
    assert re.search(pattern, states["error"][1]), states["error"][1]
    store = FeatureStore(tmp_path)
    assert list(store.parts("visual", "abc", "good")) == [0]
    assert list(store.parts("visual", "abc", "bad")) == []
