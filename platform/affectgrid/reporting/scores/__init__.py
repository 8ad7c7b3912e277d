"""Scores and predictions for a person: of one model (`model`), of several (`comparison`), as a whole (`evaluation`)."""

from affectgrid.reporting.scores.evaluation import (
    evaluation_note,
    evaluation_tables,
    print_evaluation,
    write_evaluation,
)
from affectgrid.reporting.scores.model import (
    absent_lines,
    draw_predictions,
    ensemble_lines,
    face_lines,
    prediction_lines,
    region_table,
    score_table,
    smoothing_lines,
    write_predictions,
)
from affectgrid.reporting.scores.worst import draw_worst

__all__ = [
    "absent_lines",
    "draw_predictions",
    "draw_worst",
    "ensemble_lines",
    "evaluation_note",
    "evaluation_tables",
    "face_lines",
    "prediction_lines",
    "print_evaluation",
    "region_table",
    "score_table",
    "smoothing_lines",
    "write_evaluation",
    "write_predictions",
]
