"""The experiment log. No other package imports mlflow, and this one only when a run is logged."""

from affectgrid.tracking.run_log import Point, RunLog, Status
from affectgrid.tracking.tracker import Tracker, open_tracker

__all__ = ["Point", "RunLog", "Status", "Tracker", "open_tracker"]
