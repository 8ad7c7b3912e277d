"""Samples in one forward pass: equal features however they are cut, and what becomes of a full memory."""

from __future__ import annotations

import logging

import pytest
import torch

from affectgrid.encoders.runtime.batches import Batches

CPU = torch.device("cpu")
SAMPLES = torch.arange(23.0)[:, None]


class Memory:
    """A network of a device that holds so many samples, and the sizes that it was asked for."""

    def __init__(self, holds: int) -> None:
        self.holds, self.asked = holds, []

    def __call__(self, part: slice) -> torch.Tensor:
        self.asked.append(part.stop - part.start)
        if part.stop - part.start > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return SAMPLES[part] * 2


def test_the_default_is_what_the_device_computes_fast():
    assert (Batches(CPU).size, Batches(torch.device("cuda")).size, Batches(CPU, 5).size) == (16, 256, 5)


def test_every_sample_is_computed_once():
    network = Memory(holds=100)
    assert torch.equal(Batches(CPU, 10).run(len(SAMPLES), network), SAMPLES * 2)
    assert network.asked == [10, 10, 3]


def test_a_batch_that_does_not_fit_is_halved_once_and_for_all(caplog: pytest.LogCaptureFixture):
    network, batches = Memory(holds=5), Batches(CPU, 16)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(batches.run(len(SAMPLES), network), SAMPLES * 2)
    assert network.asked == [16, 8, 4, 4, 4, 4, 4, 3]
    assert [record.getMessage()[-40:] for record in caplog.records][-1].endswith("on with 4 samples in a forward pass")
    batches.run(4, network)
    assert network.asked[-1] == 4


def test_a_sample_that_does_not_fit_alone_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        Batches(CPU, 4).run(2, Memory(holds=0))
