"""A store that version 92158de wrote is found again: nothing that it holds is encoded anew.

`old_store/make.py` says how it was made. The majors of libraries are part of a fingerprint, on purpose; here they are
those of the store, so that an upgrade of a library is not taken for a change of the code.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.features import streams
from affectgrid.data.features.report import Amount
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, Stream, VisualStream, describe, fingerprint
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import plan_encode
from affectgrid.encoders.audio import load_audio
from affectgrid.encoders.visual import load_visual

OLD = Path(__file__).with_name("old_store")
VISUAL = VisualStream(crop="frame", frame_rate_hz=5.0, precision="fp32")
AUDIO = AudioStream(hop_s=0.5, precision="fp32")


def written(stream: Stream) -> tuple[str, dict[str, Any]]:
    """The fingerprint that names the stream's folder in the old store, and what was hashed to it."""
    [file] = (OLD / "features" / stream.kind).glob("*/fingerprint.json")
    return file.parent.name, json.loads(file.read_text())


@pytest.fixture
def their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    majors = written(VISUAL)[1]["libraries"] | written(AUDIO)[1]["libraries"]
    monkeypatch.setattr(streams, "_major", majors.__getitem__)


@pytest.mark.parametrize("stream", [VISUAL, AUDIO], ids=lambda stream: stream.kind)
def test_the_same_settings_have_the_same_fingerprint(stream: Stream, their_libraries: None) -> None:
    name, facts = written(stream)
    assert describe(stream, facts["encoder"]) == facts
    assert fingerprint(stream, facts["encoder"]) == name


def test_the_tiny_encoders_are_the_same() -> None:
    """A release of torch or transformers that stores the weights otherwise fails this: then make the store anew."""
    assert load_visual("tiny").digest == written(VISUAL)[1]["encoder"]
    assert load_audio("tiny", window_s=AUDIO.window_s).digest == written(AUDIO)[1]["encoder"]


@pytest.mark.parametrize("same_dates", [True, False], ids=["by date", "by content"])
def test_nothing_is_left_to_encode(same_dates: bool, ray_cluster: None, their_libraries: None, tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    video = tmp_path / "corpus" / "batch2" / "rendered-001.mp4"
    fingerprints = {kind: written(stream)[0] for kind, stream in {"visual": VISUAL, "audio": AUDIO}.items()}
    store = FeatureStore(tmp_path / "features")
    if same_dates:
        [record] = store.read_records("visual", fingerprints["visual"], "sources.jsonl")
        date_ns = int(record["signature"].split()[1].rpartition(":")[2])
        os.utime(video, ns=(date_ns, date_ns))
    config = EncodeConfig(visual=VISUAL, audio=AUDIO)
    plan, lost = plan_encode(read_aff_wild2(tmp_path / "corpus"), store.root, config, calibrated=False)
    assert lost == []
    assert plan.changed == 0
    assert [(part.stream, part.done, part.todo) for part in plan.streams] == [
        ("visual", Amount(1, 32), Amount()),
        ("audio", Amount(1, 6), Amount()),
    ]
    assert store.verify() == []
