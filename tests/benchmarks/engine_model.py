"""The encoder as an engine's user writes it: open_clip in float32, one thread, on frames already resized."""

import numpy as np

RESIZED = (224, 298)  # of a film of 480 x 640: the shorter side as the network expects it


class Encoder:
    """`directory` is a local model of open_clip. Torch is imported where the encoder runs, not where a plan is made."""

    def __init__(self, directory: str) -> None:
        import open_clip
        import torch

        torch.set_num_threads(1)
        self.torch, self.model = torch, open_clip.create_model(f"local-dir:{directory}").eval()
        levels = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in levels)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Features [frame, dim] of frames [frame, 224, 298, 3] in uint8; their middle is cut out."""
        left = (RESIZED[1] - RESIZED[0]) // 2
        images = self.torch.from_numpy(frames[:, :, left : left + RESIZED[0]]).permute(0, 3, 1, 2)
        with self.torch.inference_mode():
            return self.model.encode_image((images / 255 - self.mean) / self.std).numpy()
