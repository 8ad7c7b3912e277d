"""The fusion model as an ONNX file: features of a window in, valence and arousal of its frames out."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from affectgrid.errors import ConfigError, ModelError, Problem
from affectgrid.model.fusion import FusionModel
from affectgrid.training.inference.package import ModelPackage

_EXAMPLE = (2, 24)  # windows and frames that the graph is traced with; both stay open


class _Window(nn.Module):
    """The model with its streams as plain arguments: features, then presence, one stream after another."""

    def __init__(self, model: FusionModel, reach: int) -> None:
        super().__init__()
        self.model, self.reach = model, reach

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(given[::2], given[1::2], strict=True)
        streams = dict(zip(self.model.feature_dims, pairs, strict=True))
        output = self.model(streams, torch.ones_like(given[1]), attention_reach=self.reach)
        logits = output.region_logits
        return (output.va,) if logits is None else (output.va, logits.softmax(-1))


def export_onnx(package: ModelPackage, path: Path) -> Path:
    """Write the model of a package as ``path``, with the weights inside.

    Inputs, for every stream ``s`` of the model: ``s`` float32 [window, frame, dim], ``s_present`` bool [window, frame].
    Outputs: ``va`` float32 [window, frame, 2]; with a prompt head ``regions`` [window, frame, region]. The numbers of
    windows and of frames are open. Encoding, cutting a track into windows, merging and smoothing stay outside: a causal
    model takes whole tracks, any other one windows of ``config.window.length`` frames. All windows of a call are of one
    length.

    Raises ConfigError (CFG-EXTRA) without the extra ``onnx``, ModelError (ONNX-TEMPORAL) for a state space model, whose
    scan is a loop over a number of chunks that the graph would fix.
    """
    config = package.config
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        hint = "pip install 'affectgrid[onnx]'"
        found = f"no {' and no '.join(missing)}"
        raise ConfigError(Problem("CFG-EXTRA", where="export_onnx", found=found, expected="both", hint=hint))
    if config.model.temporal in ("ssm", "causal-ssm"):
        found, expected = f"model.temporal {config.model.temporal}", "a GRU, convolutions, a transformer, or none"
        hint = "serve this model through MLflow, or train another one"
        raise ModelError(Problem("ONNX-TEMPORAL", where=str(path), found=found, expected=expected, hint=hint))
    names, example = [], []
    for name, dim in package.model.feature_dims.items():
        names += [name, f"{name}_present"]
        example += [torch.zeros(*_EXAMPLE, dim), torch.ones(_EXAMPLE, dtype=torch.bool)]
    window, frame = torch.export.Dim("window"), torch.export.Dim("frame")
    outputs = ["va", "regions"] if package.model.prompt_head is not None else ["va"]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of deprecations inside the exporter
        torch.onnx.export(
            _Window(package.model.eval(), config.window.length - 1 if config.model.causal else 0).eval(),
            tuple(example),
            path,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=(tuple({0: window, 1: frame} for _ in names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path
