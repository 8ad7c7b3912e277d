"""Faces: found by `hog` (dlib) or `mtcnn`, followed by `tracking`, cut out by `alignment`; or read from `crops`."""

from affectgrid.media.faces.alignment import cut_face
from affectgrid.media.faces.boxes import FaceBox, FaceDetector, Follower, Person, choose_face, crop_face
from affectgrid.media.faces.hog import CorrelationFollower, DlibDetector, align_face, landmark_predictor
from affectgrid.media.faces.mtcnn import MtcnnDetector
from affectgrid.media.faces.tracking import DetectorName, FaceTracker, load_detector

__all__ = [
    "CorrelationFollower",
    "DetectorName",
    "DlibDetector",
    "FaceBox",
    "FaceDetector",
    "FaceTracker",
    "Follower",
    "MtcnnDetector",
    "Person",
    "align_face",
    "choose_face",
    "crop_face",
    "cut_face",
    "landmark_predictor",
    "load_detector",
]
