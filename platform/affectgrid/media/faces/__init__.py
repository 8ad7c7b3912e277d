"""Faces: found in frames and cut out by `detection`, or read from the data set's own `crops`."""

from affectgrid.media.faces.detection import (
    DlibDetector,
    FaceBox,
    FaceDetector,
    FaceTracker,
    Person,
    align_face,
    choose_face,
    crop_face,
    default_detector,
    landmark_predictor,
)

__all__ = [
    "DlibDetector",
    "FaceBox",
    "FaceDetector",
    "FaceTracker",
    "Person",
    "align_face",
    "choose_face",
    "crop_face",
    "default_detector",
    "landmark_predictor",
]
