"""Log-mel spectrograms in torch, equal to the numpy front end of transformers' ASTFeatureExtractor.

The extractor loops over frames in Python; this one is a batched matrix product, so it runs where the encoder runs.
Kaldi's conventions, as the extractor has them: 25 ms symmetric Hann window, 10 ms hop, 512-point FFT, DC offset
removed, pre-emphasis 0.97 within each frame, power spectrum, triangles in mel space, natural logarithm.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SAMPLES = 512
PREEMPHASIS = 0.97
MEL_FLOOR = 1.192092955078125e-07  # float32's epsilon, Kaldi's floor
MIN_FREQUENCY_HZ = 20.0


def num_mel_frames(num_samples: int) -> int:
    """Frames of a sound without padding: (samples - 400) // 160 + 1, 0 for a shorter one."""
    return max(0, (num_samples - FRAME_SAMPLES) // HOP_SAMPLES + 1)


class LogMel(nn.Module):
    """Sound to normalised log-mel frames: ``(log mel - mean) / (2 std)``, as AST was trained."""

    window: Tensor
    filters: Tensor

    def __init__(self, *, num_mel_bins: int, sample_rate_hz: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        window = torch.hann_window(FRAME_SAMPLES, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window.float(), persistent=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="At least one mel filter")  # the published AST's 128 have some
            filters = mel_filter_bank(
                FFT_SAMPLES // 2 + 1, num_mel_bins, MIN_FREQUENCY_HZ, sample_rate_hz // 2, sample_rate_hz,
                norm=None, mel_scale="kaldi", triangularize_in_mel_space=True,
            )  # fmt: skip
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    def forward(
        self, sound: Float[Tensor, "batch sample"], *, num_frames: int | None = None
    ) -> Float[Tensor, "batch frame mel"]:
        """Spectrograms of ``num_mel_frames(sample)`` frames.

        With ``num_frames`` the result is cut, or padded with a raw value of 0 before the normalisation, as the
        extractor pads. A sound shorter than one frame (25 ms) gives frames only by padding.
        """
        mel = self._log_mel(sound)
        if num_frames is not None:
            mel = nn.functional.pad(mel[:, :num_frames], (0, 0, 0, max(0, num_frames - mel.shape[1])))
        return (mel - self.mean) / (2 * self.std)

    def _log_mel(self, sound: Float[Tensor, "batch sample"]) -> Float[Tensor, "batch frame mel"]:
        if sound.shape[-1] < FRAME_SAMPLES:
            return sound.new_zeros(sound.shape[0], 0, self.filters.shape[1])
        frames = sound.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        frames = (frames - PREEMPHASIS * previous) * self.window
        power = torch.fft.rfft(frames, n=FFT_SAMPLES).abs().square()
        energies: Tensor = power @ self.filters
        return energies.clamp(min=MEL_FLOOR).log()
