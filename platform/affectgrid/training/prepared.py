"""All that training or a search needs of the data, read once and shared by every trial."""

from __future__ import annotations

import dataclasses

from affectgrid.data.resident import Split
from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.training.config import TrainConfig
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

    def prompts_for(self, config: TrainConfig) -> EncodedPrompts:
        """The prompts that a configuration names. Raises ConfigError (CFG-PROMPT) where they were not encoded."""
        name = config.prompt.file
        if name not in self.prompts:
            found, mend = f"{name!r}, which is not encoded", nearest(name, self.prompts)
            raise ConfigError(Problem("CFG-PROMPT", "prompt.file", found, "an encoded prompt file", mend))
        return self.prompts[name]
