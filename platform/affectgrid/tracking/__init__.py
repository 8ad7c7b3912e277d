"""The experiment log. No other package imports mlflow, and this one only when a run is logged."""

from affectgrid.tracking.data_sets import DataSet, data_sets
from affectgrid.tracking.models import CARD
from affectgrid.tracking.pages import NOTE
from affectgrid.tracking.run_log import Point, RunLog, Status
from affectgrid.tracking.tracker import Tracker, open_tracker

__all__ = ["CARD", "NOTE", "DataSet", "Point", "RunLog", "Status", "Tracker", "data_sets", "open_tracker"]
