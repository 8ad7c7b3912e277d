"""Sound encoders by transformers: an audio spectrogram transformer, another audio model, or the seeded ``tiny`` one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from affectgrid.encoders.logmel import LogMel, num_mel_frames
from affectgrid.encoders.quiet import quiet
from affectgrid.encoders.tiny import TINY, tiny_audio_directory
from affectgrid.encoders.weights import digest_weights, find_safetensors, misfit
from affectgrid.errors import ModelError, Problem

log = logging.getLogger(__name__)

AST = "audio-spectrogram-transformer"
TRAINING_ONLY = ("masked_spec_embed",)  # wav2vec 2.0 and its kin: published without it, never read when frozen


class AudioEncoder:
    """A frozen audio model. One window of sound gives one feature vector.

    Its pooled output when it has one (AST: the mean of its two class tokens), else the mean over time of its last
    hidden states. An AST gets the spectrogram from `LogMel`, on its own device; other models from their own extractor.
    """

    def __init__(self, model: Any, extractor: Any, *, name: str, device: str, window_s: float | None) -> None:
        self.name, self.device = name, torch.device(device)
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.window_s = window_s
        self._extractor = extractor
        settings = {"model": _portable(model.config.to_diff_dict()), "extractor": _portable(extractor.to_dict())}
        self.digest = digest_weights(model, settings)
        self._mel: LogMel | None = None
        self._num_frames: int | None = None
        if model.config.model_type == AST:
            self._prepare_spectrogram(model)
        self._model = model.eval().requires_grad_(False).to(self.device)
        self.dim = int(model.config.hidden_size)

    def encode_windows(self, windows: Float[Tensor | np.ndarray, "n sample"]) -> Float[Tensor, "n dim"]:
        """Features of n windows of mono sound in [-1, 1] at ``sample_rate_hz``; float32 on the CPU.

        With ``window_s`` every window must have ``round(window_s * sample_rate_hz)`` samples, or ValueError.
        """
        sound = torch.as_tensor(windows, dtype=torch.float32)
        if sound.ndim != 2:
            raise ValueError(f"windows must be [n, sample], not {tuple(sound.shape)}")
        if self.window_s is not None and sound.shape[1] != self.window_samples:
            raise ValueError(f"a window of {self.window_s} s has {self.window_samples} samples, not {sound.shape[1]}")
        if len(sound) == 0:
            return torch.zeros(0, self.dim)
        with torch.inference_mode():
            output = self._model(**self._inputs(sound))
            pooled = getattr(output, "pooler_output", None)
            features: Tensor = output.last_hidden_state.mean(dim=1) if pooled is None else pooled
        return features.float().cpu().clone()

    @property
    def window_samples(self) -> int:
        """Samples of a window of ``window_s``."""
        if self.window_s is None:
            raise ValueError("the encoder was loaded without window_s")
        return round(self.window_s * self.sample_rate_hz)

    def _inputs(self, sound: Tensor) -> dict[str, Tensor]:
        if self._mel is not None:
            return {"input_values": self._mel(sound.to(self.device), num_frames=self._num_frames)}
        arrays = list(sound.numpy())
        inputs = self._extractor(arrays, sampling_rate=self.sample_rate_hz, return_tensors="pt")
        return {key: value.to(self.device) for key, value in inputs.items()}

    def _prepare_spectrogram(self, model: Any) -> None:
        """Fit the model to the window: its spectrogram is not padded, its position embeddings are cut instead.

        Padding 1 s to the 10.24 s of the published model would make nine tenths of its input a constant. AST's
        authors cut the middle out of the time axis for a shorter input and interpolate for a longer one; so do we.
        """
        config, extractor = model.config, self._extractor
        mean, std = (extractor.mean, extractor.std) if extractor.do_normalize else (0.0, 0.5)
        self._mel = LogMel(
            num_mel_bins=extractor.num_mel_bins, sample_rate_hz=self.sample_rate_hz, mean=mean, std=std
        ).to(self.device)
        self._num_frames = extractor.max_length
        if self.window_s is None:
            return
        self._num_frames = num_mel_frames(self.window_samples)
        if self._num_frames < config.patch_size:
            shortest_s = (400 + 160 * (config.patch_size - 1)) / self.sample_rate_hz
            raise ModelError(
                Problem(
                    "MOD-WINDOW",
                    self.name,
                    f"a window of {self.window_s} s, {self._num_frames} spectrogram frames",
                    f"at least {config.patch_size} frames, one patch",
                    f"set window_s to {shortest_s:g} or more",
                )
            )
        embeddings = model.embeddings
        grid = embeddings.get_shape(config)
        columns = (self._num_frames - config.patch_size) // config.time_stride + 1
        embeddings.position_embeddings = nn.Parameter(
            fit_positions(embeddings.position_embeddings.detach(), grid, columns)
        )


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


def load_audio(name: str, *, window_s: float | None = None, device: str = "cpu") -> AudioEncoder:
    """Load a frozen audio encoder by name.

    Args:
        name: ``tiny`` (random, seeded, made on first use), a directory with ``config.json``,
            ``preprocessor_config.json`` and one ``.safetensors`` file, or a hub name such as
            ``MIT/ast-finetuned-audioset-10-10-0.4593``.
        window_s: length of every window, in seconds; None: the model's own, sound padded or cut to it.
        device: where it runs.

    Raises ModelError: MOD-NAME, MOD-FETCH (no network: what to fetch and how), MOD-CONFIG, MOD-WEIGHTS, MOD-PICKLE,
    MOD-FIT, MOD-WINDOW.
    """
    source = str(tiny_audio_directory()) if name == TINY else name
    local = Path(source).is_dir()
    if local:
        find_safetensors(Path(source))
    elif source.startswith((".", "/", "~")):
        raise ModelError(
            Problem("MOD-NAME", name, "no such directory", "a model directory", "correct the path of the model")
        )
    model, extractor = _from_pretrained(source, local=local)
    return AudioEncoder(model, extractor, name=name, device=device, window_s=window_s)


def _from_pretrained(source: str, *, local: bool) -> tuple[Any, Any]:
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, **options)
            extractor = AutoFeatureExtractor.from_pretrained(source, **options)
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                **options,
            )
    except Exception as error:  # transformers raises many kinds; which one depends on the file that is wrong
        raise _unloadable(source, local, error) from error
    wrong = [f"{key} is missing" for key in sorted(report["missing_keys"]) if key not in TRAINING_ONLY]
    wrong += [f"{key} is {tuple(theirs)}, not {tuple(own)}" for key, theirs, own in sorted(report["mismatched_keys"])]
    if wrong:
        raise misfit(source, wrong)
    if config.is_encoder_decoder:
        model = model.get_encoder()
    return model, extractor


def _unloadable(source: str, local: bool, error: Exception) -> ModelError:
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    if local:
        return ModelError(
            Problem(
                "MOD-CONFIG",
                source,
                reason,
                "config.json, preprocessor_config.json and weights that transformers can load",
                "correct the model directory",
            )
        )
    return ModelError(
        Problem(
            "MOD-FETCH",
            source,
            f"not in the local cache and not fetched ({reason})",
            "a network, or a local copy with safetensors",
            f"on a machine with a network run `hf download {source} --local-dir DIR`, then pass DIR as the model",
        )
    )


def _portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what tells where a model lies and what wrote it: a copy in another place has the same digest."""
    return {key: value for key, value in settings.items() if key not in ("_name_or_path", "transformers_version")}
