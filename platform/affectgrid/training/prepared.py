"""All that a search needs of the data, read once and shared by every trial."""

from __future__ import annotations

import dataclasses

from affectgrid.data.resident import Split
from affectgrid.training.prompts import EncodedPrompts


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """Resident splits and encoded prompts.

    Args:
        train: what is learnt from.
        validation: what every score of a search is measured on.
        prompts: by the name that ``prompt.file`` uses.
        fingerprint: changes with the data, the encoders and the media settings.
    """

    train: Split
    validation: Split
    prompts: dict[str, EncodedPrompts]
    fingerprint: str
