"""The selective state space against the recurrence that it is a faster form of."""

from __future__ import annotations

import pytest
import torch

from affectgrid.model.temporal.recurrent import FrameOrder
from affectgrid.model.temporal.state_space import StateSpaceEncoder, selective_scan


def scan_step_by_step(values, log_decay, write, read):
    state = torch.zeros(*values.shape[:1], *values.shape[2:], write.shape[-1], dtype=values.dtype)
    outputs = []
    for frame in range(values.shape[1]):
        state = state * log_decay[:, frame].exp()[..., None, None]
        state = state + values[:, frame].unsqueeze(-1) * write[:, frame, None, None]
        outputs.append((state * read[:, frame, None, None]).sum(-1))
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("num_frames", [1, 63, 64, 65, 200])
def test_the_scan_is_the_recurrence(num_frames):
    generator = torch.Generator().manual_seed(num_frames)

    def draw(*shape):
        return torch.randn(2, num_frames, *shape, generator=generator, dtype=torch.float64)

    values, decay, write, read = draw(3, 4), -draw(3).abs(), draw(5), draw(5)
    torch.testing.assert_close(
        selective_scan(values, decay, write, read), scan_step_by_step(values, decay, write, read)
    )


def test_a_long_track_with_fast_decay_stays_finite_and_so_do_its_gradients():
    values = torch.randn(1, 1000, 2, 4, requires_grad=True)
    decay = torch.full((1, 1000, 2), -50.0, requires_grad=True)
    write, read = torch.randn(1, 1000, 8), torch.randn(1, 1000, 8)
    out = selective_scan(values, decay, write, read)
    out.square().sum().backward()
    assert all(bool(torch.isfinite(part).all()) for part in (out, values.grad, decay.grad))


def test_memory_reaches_from_the_first_frame_to_the_last_of_a_long_track():
    torch.manual_seed(0)
    encoder = StateSpaceEncoder(1, 8, 1, 2, 4, 0.0, causal=True).double()
    with torch.no_grad():
        encoder.streams[0][0].log_rate.fill_(-6)  # a low rate forgets slowly
    states = torch.randn(1, 1, 500, 8, dtype=torch.float64)
    moved = states.clone()
    moved[0, 0, 0, 0] += 3
    order = FrameOrder.of(torch.ones(1, 500, dtype=torch.bool))
    change = (encoder(moved, order) - encoder(states, order)).abs().amax((0, 1, 3))
    assert bool((change > 0).all())


def test_both_directions_are_one_network_and_its_mirror():
    torch.manual_seed(0)
    encoder = StateSpaceEncoder(1, 8, 1, 2, 4, 0.0, causal=False).eval()
    layers = list(encoder.streams[0])
    layers[1].load_state_dict(layers[0].state_dict())
    states = torch.randn(1, 2, 20, 8)
    order = FrameOrder.of(torch.ones(2, 20, dtype=torch.bool))
    torch.testing.assert_close(encoder(states.flip(2), order).flip(2), encoder(states, order))
