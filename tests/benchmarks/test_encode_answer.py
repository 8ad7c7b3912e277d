"""What an encoder's arithmetic does to the answer: P of models that are trained on its features."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from affectgrid.data.features.streams import VisualStream
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.options import DataOptions
from affectgrid.distributed.prepare import prepare
from affectgrid.encoders.runtime.precision import MIN_COSINE
from affectgrid.training.config import TrainConfig
from affectgrid.training.loop import fit
from support.real_weights import write_efficientnet
from support.runtimes import needs_openvino

pytestmark = [needs_openvino, pytest.mark.timeout(3600)]

ARITHMETICS = (("torch", "fp32"), ("torch", "bf16"), ("openvino", "bf16"), ("openvino", "int8"))
SEEDS = range(5)
RATE_HZ = 5.0


@pytest.mark.media
@pytest.mark.usefixtures("ray_cluster")
def test_encode_answer(media: Path, say, tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    """P on the rendered corpus with EfficientNet-Lite0 and its ImageNet weights, less that with float32, seed by seed.

    The sound is encoded by the tiny encoder in float32, the same for all. No cosine is too low here: it is told.
    """
    for precision in MIN_COSINE:
        monkeypatch.setitem(MIN_COSINE, precision, -1.0)
    caplog.set_level("INFO", logger="affectgrid.encoders.runtime.choice")
    model = str(write_efficientnet(media, tmp_path / "efficientnet"))
    workspace = Workspace.open(tmp_path / "out")
    config = TrainConfig.model_validate({"prompt": {"mode": "learned"}})
    scores, cosines = {}, {}
    for runtime, precision in ARITHMETICS:
        visual = VisualStream(model=model, runtime=runtime, precision=precision, frame_rate_hz=RATE_HZ)
        options = DataOptions(encode=EncodeConfig(visual=visual))
        data = prepare(options, workspace, [config.prompt.file], [config.prompt.mode])
        found = re.findall(rf"by {runtime} in {precision}: cosine (\S+)", caplog.text)
        cosines[runtime, precision] = found[0] if found else "1"
        scores[runtime, precision] = np.array(
            [
                fit(
                    config.model_copy(update={"seed": seed}), data.train, data.validation, data.prompts_for(config)
                ).best["val/p"]
                for seed in SEEDS
            ]
        )
    reference = scores["torch", "fp32"]
    for (runtime, precision), own in scores.items():
        difference = own - reference
        half = stats.t.ppf(0.975, len(own) - 1) * difference.std(ddof=1) / len(own) ** 0.5
        figures = f"P {own.mean():.3f} +- {own.std(ddof=1):.3f}, less fp32's {difference.mean():+.3f} +- {half:.3f}"
        figures += f", lowest cosine {cosines[runtime, precision]}"
        say(f"encode_answer {runtime} {precision}", own.mean() / reference.mean(), figures, "told")
    assert abs(scores["openvino", "bf16"].mean() - reference.mean()) < 0.1
