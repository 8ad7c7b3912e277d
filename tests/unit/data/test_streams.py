"""The fingerprint changes with what changes the numbers, and with nothing else."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from pydantic import ValidationError

from affectgrid.data.features import streams
from affectgrid.data.features.streams import BY_DIGEST, AudioStream, VisualStream, describe, fingerprint
from affectgrid.errors import ConfigError

VISUAL, AUDIO = VisualStream(), AudioStream()


def test_a_fingerprint_is_sixteen_stable_digits():
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint(VISUAL, "d"))
    assert fingerprint(VISUAL, "d") == fingerprint(VisualStream.model_validate(VISUAL.model_dump()), "d")


@pytest.mark.parametrize(
    "other",
    [
        (VISUAL, "e"),
        (VisualStream(model="ViT-B-32/openai"), "d"),
        (VisualStream(crop="frame"), "d"),
        (VisualStream(margin=0.3), "d"),
        (VisualStream(frame_rate_hz=5), "d"),
        (VisualStream(detect_every=5), "d"),
        (VisualStream(skip_unchanged=8), "d"),
        (VisualStream(causal=True), "d"),
        (AUDIO, "d"),
        (AudioStream(hop_s=0.1), "d"),
        (AudioStream(window_s=2), "d"),
        (AudioStream(sample_rate_hz=8000), "d"),
        (AudioStream(causal=True), "d"),
        (AudioStream(layer=9), "d"),
        (AudioStream(pooling="mean+sd"), "d"),
    ],
)
def test_everything_that_changes_the_numbers_changes_it(other):
    assert fingerprint(*other) != fingerprint(VISUAL, "d")
    if other[0] != AUDIO:
        assert fingerprint(*other) != fingerprint(AUDIO, "d")


def test_precision_counts_by_what_it_comes_to_and_landmarks_by_their_content(tmp_path):
    assert fingerprint(VisualStream(precision="bf16"), "d") == fingerprint(VISUAL, "d")  # the digest tells
    assert fingerprint(VisualStream(runtime="openvino"), "d") != fingerprint(VISUAL, "d")  # its library counts, too
    one, copy, other = (tmp_path / name for name in ("one.dat", "copy.dat", "other.dat"))
    for path, content in ((one, b"a"), (copy, b"a"), (other, b"b")):
        path.write_bytes(content)
    prints = [fingerprint(VisualStream(landmarks=path), "d") for path in (one, copy, other)]
    assert prints[0] == prints[1] != prints[2]
    assert fingerprint(VISUAL, "d") not in prints


def test_a_major_version_counts_and_a_minor_does_not(monkeypatch):
    real = importlib.metadata.version
    before = fingerprint(VISUAL, "d")
    major = real("av").split(".")[0]
    monkeypatch.setattr(importlib.metadata, "version", lambda n: f"{major}.999" if n == "av" else real(n))
    assert fingerprint(VISUAL, "d") == before
    monkeypatch.setattr(importlib.metadata, "version", lambda n: "999.1" if n == "av" else real(n))
    assert fingerprint(VISUAL, "d") != before


def test_the_schema_version_counts(monkeypatch):
    before = fingerprint(VISUAL, "d")
    monkeypatch.setattr(streams, "SCHEMA_VERSION", streams.SCHEMA_VERSION + 1)
    assert fingerprint(VISUAL, "d") != before


def test_what_is_hashed_can_be_read():
    assert describe(AUDIO, "d")["stream"] == AUDIO.model_dump(exclude={*BY_DIGEST, "causal", "layer", "pooling"})
    assert describe(AudioStream(causal=True), "d")["stream"]["causal"] is True
    assert describe(AUDIO, "d")["encoder"] == "d"


@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "fp16"), ("torch", "int8")])
def test_a_precision_that_a_runtime_lacks_is_refused(runtime, precision):
    for stream in (VisualStream, AudioStream):
        with pytest.raises(ConfigError, match=rf"CFG-RUNTIME .*precision {precision} with runtime {runtime}"):
            stream(runtime=runtime, precision=precision)


@pytest.mark.parametrize("wrong", [{"hop_s": 0}, {"window_s": -1}, {"hops": 1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        AudioStream(**wrong)
