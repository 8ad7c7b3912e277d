"""The experiment log. Nothing else imports mlflow, and this only when a run is logged."""

from affectgrid.tracking.tracker import Point, RunLog, Status, Tracker, open_tracker

__all__ = ["Point", "RunLog", "Status", "Tracker", "open_tracker"]
