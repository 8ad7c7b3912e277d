"""Under which conditions machines work: how fast they come, how often they go, what one driver can do."""

from __future__ import annotations

import math

from pydantic import Field

from affectgrid.settings import Settings


class Conditions(Settings):
    """What is assumed of cluster, network and driver. `docs/planning.md` says where each number comes from."""

    boot_s: float = Field(
        300, ge=0, description="from asking for a machine until Ray runs on it; 0: all are there at the beginning"
    )
    upscaling_speed: float = Field(2.0, gt=0, description="machines on their way, at most, as a multiple of those up")
    first_nodes: int = Field(5, gt=0, description="machines on their way in any case; Ray's own number")
    idle_s: float = Field(300, ge=0, description="an idle machine is kept, and paid, for so long")
    loss_per_hour: float = Field(
        0.02, ge=0, description="share of spot machines that are taken away in an hour; an assumption"
    )
    prepare_s: float = Field(10, ge=0, description="before a job asks for machines: imports, listing, Ray")
    worker_start_s: float = Field(24, ge=0, description="until a process has imported torch and loaded its model")
    driver_chunk_s: float = Field(0.0027, ge=0, description="the driver's own time for a chunk")
    driver_track_s: float = Field(0.003, ge=0, description="the driver's own time for a track's file")
    store_request_s: float = Field(
        0.03, ge=0, description="one request of the driver to the feature store: 0.03 is a guess for a bucket; disk: 0"
    )
    driver_bytes_s: float = Field(
        20e6, gt=0, description="bytes of features a second that the driver joins to tracks' files"
    )
    chunk_spread: float = Field(0.3, ge=0, lt=1, description="deviation of a chunk's time, as a share; an assumption")
    trial_spread: float = Field(0.1, ge=0, lt=1, description="the same of a trial's time; an assumption")
    checkpoint_s: float = Field(60, ge=0, description="a run in training saves itself so often")

    @property
    def per_chunk_s(self) -> float:
        """The driver notes a chunk and reads its part back when the track is complete."""
        return self.driver_chunk_s + self.store_request_s

    @property
    def per_track_s(self) -> float:
        """The driver lists a track's parts, writes its file and removes the parts."""
        return self.driver_track_s + 3 * self.store_request_s

    @property
    def on_demand(self) -> Conditions:
        """The same where no machine is taken away."""
        return self.model_copy(update={"loss_per_hour": 0.0})

    def loss_rate_s(self, nodes: float) -> float:
        """Losses a second among so many machines."""
        return self.loss_per_hour * nodes / 3600

    @property
    def presence(self) -> float:
        """Share of the time that a machine's place is filled by one that works: another comes for one that is lost."""
        return 1 / (1 + self.loss_rate_s(1) * (self.boot_s + self.worker_start_s))

    def arrivals(self, count: int) -> list[tuple[float, int]]:
        """When machines of one kind are up, in seconds after they are asked for: (time, how many come then).

        Ray lets a number on their way at a time: a multiple of those that are up, and never less than `first_nodes`.
        """
        if self.boot_s == 0:
            return [(0.0, count)]
        found: list[tuple[float, int]] = []
        up, time_s = 0, 0.0
        while up < count:
            batch = min(count - up, max(self.first_nodes, math.floor(self.upscaling_speed * up)))
            time_s += self.boot_s
            found.append((time_s, batch))
            up += batch
        return found
