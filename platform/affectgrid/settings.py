"""The base of every configuration model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen; an unknown key, a wrong type or a value out of range fails before any work."""

    model_config = ConfigDict(frozen=True, extra="forbid")
