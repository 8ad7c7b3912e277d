"""Fitting published sound models to windows that are shorter than what they were trained on."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from affectgrid.encoders.logmel import FRAME_SAMPLES, HOP_SAMPLES
from affectgrid.errors import ModelError, Problem


def shorten_ast(model: Any, num_frames: int, *, window_s: float, sample_rate_hz: int, name: str) -> None:
    """Let an AST hear a window of `num_frames`: its spectrogram is not padded, its position embeddings are cut instead.

    Padding 1 s to the 10.24 s of the published model would make nine tenths of its input a constant. AST's authors cut
    the middle out of the time axis for a shorter input and interpolate for a longer one; so do we. Raises ModelError
    (MOD-WINDOW) for less than a patch.
    """
    config, embeddings = model.config, model.embeddings
    if num_frames < config.patch_size:
        shortest_s = (FRAME_SAMPLES + HOP_SAMPLES * (config.patch_size - 1)) / sample_rate_hz
        raise _window_error(
            name,
            found=f"a window of {window_s} s, {num_frames} spectrogram frames",
            expected=f"at least {config.patch_size} frames, one patch",
            hint=f"set window_s to {shortest_s:g} or more",
        )
    columns = (num_frames - config.patch_size) // config.time_stride + 1
    positions = embeddings.position_embeddings.detach()
    embeddings.position_embeddings = nn.Parameter(fit_positions(positions, embeddings.get_shape(config), columns))


def shorten_whisper(model: Any, *, num_frames: int) -> None:
    """Let Whisper's encoder hear a window instead of 30 s: its first position embeddings, which are sinusoids.

    Padding 1 s to 30 would cost thirty times as much, and the mean over time would be silence. Raises ModelError
    (MOD-WINDOW) for more than 30 s.
    """
    encoder = model
    positions = (num_frames - 1) // 2 + 1  # the second convolution has stride 2
    if positions > encoder.config.max_source_positions:
        found = f"a window of {num_frames / 100:g} s"
        raise _window_error("whisper", found=found, expected="at most 30 s", hint="set a shorter window_s")
    kept = encoder.embed_positions.weight[:positions].detach().clone()
    encoder.embed_positions = nn.Embedding(kept.shape[0], kept.shape[1]).requires_grad_(False)
    encoder.embed_positions.weight.data = kept
    encoder.config.max_source_positions = encoder.max_source_positions = positions


def fit_positions(
    positions: Float[Tensor, "1 token dim"], grid: tuple[int, int], columns: int
) -> Float[Tensor, "1 fitted dim"]:
    """Fit AST's position embeddings to another number of time columns.

    ``grid`` is (frequency rows, time columns) of the trained model; two class tokens come first. Fewer columns: the
    middle ones; more: linear interpolation along time. As in the authors' code (Gong et al., 2021).
    """
    rows, trained = grid
    if columns == trained:
        return positions
    classes, patches = positions[:, :2], positions[:, 2:]
    plane = patches.reshape(1, rows, trained, -1)
    if columns < trained:
        first = (trained - columns) // 2
        plane = plane[:, :, first : first + columns]
    else:
        plane = nn.functional.interpolate(plane.permute(0, 3, 1, 2), size=(rows, columns), mode="bilinear")
        plane = plane.permute(0, 2, 3, 1)
    return torch.cat((classes, plane.reshape(1, rows * columns, -1)), dim=1)


def _window_error(name: str, *, found: str, expected: str, hint: str) -> ModelError:
    return ModelError(Problem("MOD-WINDOW", where=name, found=found, expected=expected, hint=hint))
