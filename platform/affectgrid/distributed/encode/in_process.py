"""Encoding in this process alone, one track after another: what a few videos need, and a served model. Without Ray."""

from __future__ import annotations

import dataclasses
import time

import torch

from affectgrid.data.catalog import Catalog
from affectgrid.data.features.report import EncodeReport, Quarantined
from affectgrid.data.features.store import FeatureStore
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.decoding import StreamJob, decode
from affectgrid.distributed.encode.encoding import EncodeChunks
from affectgrid.distributed.encode.loading import stream_jobs
from affectgrid.distributed.encode.plan import TrackPlan, plan_track
from affectgrid.distributed.encode.sandbox import Limits, probe_track
from affectgrid.encoders.runtime.precision import Resolved
from affectgrid.errors import MediaError


class LocalEncoder:
    """Encodes into a store with the numbers of `run.encode`; encoders stay loaded from one call to the next.

    Not safe for use from several threads at once.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._loaded: dict[str, tuple[dict[str, StreamJob], EncodeChunks]] = {}

    def encode(self, catalog: Catalog, config: EncodeConfig) -> EncodeReport:
        """Encode every track anew; one that cannot be encoded is told in the report, and nothing is kept of it.

        Raises ModelError where an encoder cannot be loaded, StoreError where the store cannot be written.
        """
        began, limits, key = time.monotonic(), config.limits, config.model_dump_json()
        if key not in self._loaded:
            self._loaded[key] = self._load(catalog, config, limits)
        jobs, encoder = self._loaded[key]
        lost: list[Quarantined] = []
        frames = encoded = 0
        for track in catalog.tracks:
            for kind, job in jobs.items():
                try:
                    video, crops = (None if path is None else str(path) for path in (track.video, track.crops))
                    source = probe_track(limits, video, crops)
                    planned = plan_track(track, kind, source, {}, config)
                    reason = _encode(planned, encoder, jobs, limits)
                except MediaError as error:
                    reason = str(error)
                if reason:
                    self._store.remove(kind, job.fingerprint, track.id)
                    lost.append(Quarantined(track.id, kind, reason))
                    continue
                facts = {"source_sha256": planned.source_sha256, "encoder": job.stream.model}
                self._store.finalize(kind, job.fingerprint, track.id, len(planned.chunks), facts)
                frames, encoded = frames + sum(chunk.size for chunk in planned.chunks), encoded + 1
        return EncodeReport(
            fingerprints={kind: job.fingerprint for kind, job in jobs.items()},
            models={kind: job.stream.model for kind, job in jobs.items()},
            tracks=len(catalog.tracks),
            skipped=0,
            encoded=encoded,
            frames=frames,
            seconds=time.monotonic() - began,
            quarantined=tuple(lost),
        )

    def _load(
        self, catalog: Catalog, config: EncodeConfig, limits: Limits
    ) -> tuple[dict[str, StreamJob], EncodeChunks]:
        half: Resolved | None = "bf16" if self._device == "cuda" else None
        jobs = stream_jobs(config.visual, config.audio, catalog.tracks, limits, self._store, half=half)
        for kind, job in jobs.items():
            self._store.write_spec(kind, job.fingerprint, job.spec)
        root = str(self._store.root)
        return jobs, EncodeChunks(root, jobs, batch_size=config.batch_size, device=self._device)


def _encode(planned: TrackPlan, encoder: EncodeChunks, jobs: dict[str, StreamJob], limits: Limits) -> str:
    """Write a track's chunks; why that cannot be done, or nothing."""
    for chunk in planned.chunks:
        row = decode(dataclasses.asdict(chunk), jobs=jobs, limits=limits)
        if not row["error"]:
            encoder.encode(row)
        if row["error"]:
            return str(row["error"])
    return ""
