"""Tracks that cannot be encoded: one reason each, kept in the store's quarantine unless the run is dry."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from affectgrid.data.catalog import Catalog
from affectgrid.data.features.quarantine import WHOLE, Quarantine
from affectgrid.data.features.report import Quarantined
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.errors import MediaError, Problem

log = logging.getLogger(__name__)


class Failures:
    """What failed, in this run or in an earlier one, by track and stream."""

    def __init__(
        self,
        catalog: Catalog,
        config: EncodeConfig,
        quarantine: Quarantine,
        fingerprints: Mapping[str, str],
        *,
        dry: bool,
    ) -> None:
        self._tracks = {track.id: track for track in catalog.tracks}
        self._stop = config.on_error == "stop" and not dry
        self._quarantine, self._fingerprints, self._dry = quarantine, fingerprints, dry
        self.found: dict[tuple[str, str], Quarantined] = {}

    def add(self, track: str, stream: str, reason: str) -> None:
        """A failure in this run. Raises MediaError (ENC-STOP) where the run is to stop at failures."""
        if (track, stream) in self.found:
            return
        if not self._dry:
            self._quarantine.add(self._tracks[track], stream, self._fingerprints.get(stream, ""), reason)
            self._quarantine.save()
        log.warning("%s (%s) cannot be encoded: %s", track, stream, reason)
        self._note(track, stream, reason, "repair it, or use --on-error skip")

    def recall(self, held: Mapping[tuple[str, str], str]) -> None:
        """Failures of earlier runs, which this one does not try. Raises MediaError (ENC-STOP) as `add` does."""
        for (track, stream), reason in held.items():
            self._note(track, stream, reason, "repair it, use --retry-quarantined, or --on-error skip")

    def release(self, tried: Iterable[tuple[str, str]]) -> None:
        """Out of quarantine with the pairs of track and stream that were tried and did not fail."""
        for track, stream in tried:
            self._quarantine.release(track, WHOLE)
            if (track, stream) not in self.found:
                self._quarantine.release(track, stream, self._fingerprints[stream])
        self._quarantine.save()

    def _note(self, track: str, stream: str, reason: str, hint: str) -> None:
        self.found[track, stream] = Quarantined(track, stream, reason)
        if self._stop:
            raise MediaError(Problem("ENC-STOP", where=track, found=reason, expected="a readable track", hint=hint))
