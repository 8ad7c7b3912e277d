"""Sound encoders by transformers: an audio spectrogram transformer, another audio model, or the seeded ``tiny`` one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from affectgrid.encoders.logmel import HOP_SAMPLES, LogMel, num_mel_frames
from affectgrid.encoders.runtime.batches import Batches
from affectgrid.encoders.runtime.choice import open_runtime
from affectgrid.encoders.runtime.interface import Runtime
from affectgrid.encoders.runtime.precision import Resolved, digest_in
from affectgrid.encoders.runtime.quantised import Quantised
from affectgrid.encoders.runtime.torch_runtime import to_device
from affectgrid.encoders.sound_features import SoundFeatures
from affectgrid.encoders.tiny import TINY, tiny_audio_directory
from affectgrid.encoders.towers.audio_window import shorten_ast, shorten_whisper
from affectgrid.encoders.towers.quiet import quiet
from affectgrid.encoders.weights import digest_weights, find_safetensors, misfit
from affectgrid.errors import ModelError, Problem
from affectgrid.settings import AudioPooling, RuntimeName

AST = "audio-spectrogram-transformer"
WHISPER = "whisper"
TRAINING_ONLY = ("masked_spec_embed",)  # wav2vec 2.0 and its kin: published without it, never read when frozen


class AudioEncoder:
    """A frozen audio model. One window of sound gives one feature vector.

    Its pooled output when it has one (AST: the mean of its two class tokens), else the mean over time of its last
    hidden states (wav2vec 2.0, HuBERT, WavLM, Whisper's encoder). An AST gets the spectrogram from `LogMel`, on its own
    device; other models from their own extractor. `layer` and `pooling` read another hidden layer, or pool its states,
    over all tokens, to their mean, or to that and their standard deviation.
    """

    def __init__(
        self,
        model: Any,
        extractor: Any,
        *,
        name: str,
        device: str,
        window_s: float | None,
        layer: int | None,
        pooling: AudioPooling,
        runtime: RuntimeName,
        precision: Resolved,
        quantised: Quantised | None,
        trusted: bool,
        batch_size: int | None,
    ) -> None:
        self.name, self.device = name, torch.device(device)
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.window_s = window_s
        self._extractor = extractor
        pooling = pooling if layer is None or pooling != "model" else "mean"
        settings: dict[str, Any] = {
            "model": _portable(model.config.to_diff_dict()),
            "extractor": _portable(extractor.to_dict()),
        }
        if pooling != "model":
            settings |= {"layer": layer, "pooling": pooling}
        self.weights = "" if trusted else digest_weights(model, settings)
        self._mel: LogMel | None = None
        self._num_frames: int | None = None
        if model.config.model_type == AST:
            self._prepare_spectrogram(model)
        elif model.config.model_type == WHISPER and window_s is not None:
            shorten_whisper(model, num_frames=self.window_samples // extractor.hop_length)
        model = model.eval().requires_grad_(False).to(self.device)
        self.dim = int(model.config.hidden_size) * (2 if pooling == "mean+sd" else 1)
        example = self._inputs(self.drawn())
        network = SoundFeatures(model, tuple(example), layer=layer, pooling=pooling)
        self.runtime: Runtime = open_runtime(runtime, precision, network, lambda: tuple(example.values()), quantised)
        self.network: nn.Module = nn.Identity() if trusted else network
        self._batches = Batches(self.device, batch_size)

    @property
    def precision(self) -> Resolved:
        """What it computes in."""
        return self.runtime.precision

    @property
    def digest(self) -> str:
        """Names the weights and everything that changes the features."""
        return digest_in(self.weights, self.runtime.label)

    def inputs(self, sample: Float[Tensor | np.ndarray, "n sample"]) -> tuple[Tensor, ...]:
        """Windows of sound as the network takes them."""
        return tuple(self._inputs(torch.as_tensor(sample, dtype=torch.float32)).values())

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
        return self._batches.run(len(sound), lambda part: self.runtime(*self._inputs(sound[part]).values()))

    def encode_sound(
        self, sound: Float[Tensor | np.ndarray, "sample"], begins: Sequence[int] | np.ndarray
    ) -> Float[Tensor, "n dim"]:
        """Features of the windows of one sound that begin at the given samples: ``encode_windows`` of the slices.

        A frame of an AST's spectrogram depends on its own 25 ms alone, so where windows lie whole frame hops (10 ms)
        apart, they share one spectrogram. Samples beyond the sound's end are silence.
        """
        starts = np.asarray(begins, dtype=np.int64)
        if len(starts) == 0:
            return torch.zeros(0, self.dim)
        end = int(starts.max()) + self.window_samples
        whole = torch.as_tensor(sound, dtype=torch.float32)
        whole = nn.functional.pad(whole, (0, max(0, end - len(whole))))
        shared = self._mel is not None and not np.any((starts - starts.min()) % HOP_SAMPLES)
        frames = self._mel(to_device(whole[None, starts.min() : end], self.device))[0] if shared and self._mel else None

        def features(part: slice) -> Tensor:
            some = starts[part]
            if frames is None:
                inputs = self._inputs(torch.stack([whole[start : start + self.window_samples] for start in some]))
            else:
                places = torch.from_numpy((some - starts.min()) // HOP_SAMPLES).to(self.device)
                span = torch.arange(self._num_frames or 0, device=self.device)
                inputs = {"input_values": frames[places[:, None] + span]}
            return self.runtime(*inputs.values())

        return self._batches.run(len(starts), features)

    def drawn(self) -> Float[Tensor, "8 sample"]:
        """Windows for where no real sound is at hand: chords in noise, at eight loudnesses."""
        generator = torch.Generator().manual_seed(0)
        seconds = torch.arange(self.window_samples if self.window_s else self.sample_rate_hz) / self.sample_rate_hz
        pitches = 80 * 2 ** (5 * torch.rand(8, 5, generator=generator))
        chords = torch.sin(2 * math.pi * pitches[:, :, None] * seconds).mean(dim=1)
        noise = torch.randn(8, len(seconds), generator=generator)
        return (chords + 0.1 * noise) * torch.logspace(-2, -0.3, 8)[:, None]

    @property
    def window_samples(self) -> int:
        """Samples of a window of ``window_s``."""
        if self.window_s is None:
            raise ValueError("the encoder was loaded without window_s")
        return round(self.window_s * self.sample_rate_hz)

    def _inputs(self, sound: Tensor) -> dict[str, Tensor]:
        if self._mel is not None:
            return {"input_values": self._mel(to_device(sound, self.device), num_frames=self._num_frames)}
        # Whisper's extractor would pad to 30 s; windows have one length already.
        options = {"max_length": sound.shape[1]} if self.window_s is not None else {}
        inputs = self._extractor(list(sound.numpy()), sampling_rate=self.sample_rate_hz, return_tensors="pt", **options)
        return {key: to_device(value, self.device) for key, value in inputs.items()}

    def _prepare_spectrogram(self, model: Any) -> None:
        """The front end, and the model fitted to a window's spectrogram."""
        extractor = self._extractor
        mean, std = (extractor.mean, extractor.std) if extractor.do_normalize else (0.0, 0.5)
        self._mel = LogMel(
            num_mel_bins=extractor.num_mel_bins, sample_rate_hz=self.sample_rate_hz, mean=mean, std=std
        ).to(self.device)
        self._num_frames = extractor.max_length
        if self.window_s is not None:
            self._num_frames = num_mel_frames(self.window_samples)
            shorten_ast(
                model, self._num_frames, window_s=self.window_s, sample_rate_hz=self.sample_rate_hz, name=self.name
            )


def load_audio(
    name: str,
    *,
    window_s: float | None = None,
    layer: int | None = None,
    pooling: AudioPooling = "model",
    device: str = "cpu",
    runtime: RuntimeName = "torch",
    precision: Resolved = "fp32",
    quantised: Quantised | None = None,
    trusted: bool = False,
    batch_size: int | None = None,
) -> AudioEncoder:
    """Load a frozen audio encoder by name.

    Args:
        name: ``tiny`` (random, seeded, made on first use), a directory with ``config.json``,
            ``preprocessor_config.json`` and one ``.safetensors`` file, or a hub name such as
            ``MIT/ast-finetuned-audioset-10-10-0.4593``.
        window_s: length of every window, in seconds; None: the model's own, sound padded or cut to it.
        layer: the hidden layer to read; None: the model's own output.
        pooling: of the states of a window; of another layer than the model's own, ``model`` means ``mean``.
        device: where it runs.
        runtime, precision, quantised, trusted, batch_size: as in ``load_visual``.

    Raises ModelError: MOD-NAME, MOD-FETCH (no network: what to fetch and how), MOD-CONFIG, MOD-WEIGHTS, MOD-PICKLE,
    MOD-FIT, MOD-WINDOW, MOD-LAYER, MOD-RUNTIME, MOD-CONVERT.
    """
    source = str(tiny_audio_directory()) if name == TINY else name
    local = Path(source).is_dir()
    if local:
        find_safetensors(Path(source))
    elif source.startswith((".", "/", "~")):
        raise ModelError(
            Problem(
                "MOD-NAME",
                where=name,
                found="no such directory",
                expected="a model directory",
                hint="correct the path of the model",
            )
        )
    model, extractor = _from_pretrained(source, local=local)
    _require_layer(model, layer, name)
    return AudioEncoder(
        model, extractor, name=name, device=device, window_s=window_s, layer=layer, pooling=pooling,
        runtime=runtime, precision=precision, quantised=quantised, trusted=trusted, batch_size=batch_size,
    )  # fmt: skip


def _require_layer(model: Any, layer: int | None, name: str) -> None:
    depth = int(getattr(model.config, "num_hidden_layers", 0) or getattr(model.config, "encoder_layers", 0))
    if layer is not None and not -depth - 1 <= layer <= depth:
        found, expected = f"layer {layer}", f"0 (the embedding) to {depth}, or -1 to {-depth - 1} from the end"
        hint = "correct encode.audio.layer"
        raise ModelError(Problem("MOD-LAYER", where=name, found=found, expected=expected, hint=hint))


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
                where=source,
                found=reason,
                expected="config.json, preprocessor_config.json and weights that transformers can load",
                hint="correct the model directory",
            )
        )
    return ModelError(
        Problem(
            "MOD-FETCH",
            where=source,
            found=f"not in the local cache and not fetched ({reason})",
            expected="a network, or a local copy with safetensors",
            hint=f"on a machine with a network run `hf download {source} --local-dir DIR`, then pass DIR as the model",
        )
    )


def _portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what tells where a model lies and what wrote it: a copy in another place has the same digest."""
    return {key: value for key, value in settings.items() if key not in ("_name_or_path", "transformers_version")}
