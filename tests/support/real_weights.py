"""Real weights that `make media` fetches, as directories that the encoders load."""

from __future__ import annotations

from pathlib import Path

from affectgrid.encoders.towers.conversion import convert_weights

EFFICIENTNET = {
    "embed_dim": 1280,
    "vision_cfg": {"timm_model_name": "efficientnet_lite0", "timm_proj": None, "image_size": 224},
}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def write_efficientnet(media: Path, directory: Path) -> Path:
    """EfficientNet-Lite0 with its ImageNet weights, as an open_clip directory."""
    weights = media / "efficientnet-lite0-57934424.pth"
    convert_weights(weights, directory, model_cfg=EFFICIENTNET, preprocess_cfg=IMAGENET)
    return directory
