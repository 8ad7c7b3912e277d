"""The script of a model in MLflow (models from code): what encodes videos, and the interface that predicts them.

It is copied into the model with the package beside it, and needs neither Ray nor the repository.
"""

from affectgrid.tracking.pyfunc import Videos, publish
from affectgrid.training.inference.package import ModelPackage


def _open_videos(package: ModelPackage) -> Videos:
    raise NotImplementedError


publish(_open_videos)
