"""The TCN: how far it sees, by counting; and what it does, against a loop."""

from __future__ import annotations

import pytest
import torch

from affectgrid.model.temporal.convolution import ConvolutionalEncoder, DilatedBlock
from affectgrid.model.temporal.recurrent import FrameOrder


def order_of(num_windows: int, num_frames: int) -> FrameOrder:
    return FrameOrder.of(torch.ones(num_windows, num_frames, dtype=torch.bool))


@pytest.mark.parametrize(
    ("num_blocks", "kernel", "causal"),
    [(1, 3, True), (3, 3, True), (1, 2, True), (3, 2, True), (1, 3, False), (3, 3, False), (2, 5, False)],
)
def test_a_frame_depends_on_exactly_its_receptive_field(num_blocks, kernel, causal):
    torch.manual_seed(0)
    encoder = ConvolutionalEncoder(1, 4, num_blocks, kernel, 0.0, causal=causal).double()
    for name, parameter in encoder.named_parameters():
        if name.endswith("first.bias"):
            torch.nn.init.constant_(parameter, 2.0)  # above the kink, so that every path carries a gradient
    field = 1 + 2 * (kernel - 1) * (2**num_blocks - 1)
    num_frames, middle = 2 * field + 1, field
    states = torch.randn(1, 1, num_frames, 4, dtype=torch.float64, requires_grad=True)
    encoder(states, order_of(1, num_frames))[0, 0, middle].pow(3).sum().backward()
    seen = (states.grad[0, 0].abs().amax(-1) > 0).nonzero().flatten().tolist()
    first = middle - (field - 1 if causal else (field - 1) // 2)
    assert seen == list(range(first, first + field))


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_equals_a_loop_over_frames_and_taps(causal):
    torch.manual_seed(0)
    block = DilatedBlock(3, 3, 2, 0.0, causal=causal).double()
    states = torch.randn(1, 7, 3, dtype=torch.float64)

    def convolve(layer: torch.nn.Conv1d, inputs: torch.Tensor) -> torch.Tensor:
        rows = []
        for frame in range(7):
            row = layer.bias.clone()
            for tap in range(3):
                source = frame + 2 * (tap - 2 if causal else tap - 1)
                if 0 <= source < 7:
                    row = row + layer.weight[:, :, tap] @ inputs[source]
            rows.append(row)
        return torch.stack(rows)

    inner = torch.relu(convolve(block.first, block.norm(states[0])))
    torch.testing.assert_close(block(states, None)[0], states[0] + convolve(block.second, inner))


def test_each_stream_has_its_own_convolutions():
    torch.manual_seed(0)
    encoder = ConvolutionalEncoder(2, 4, 1, 3, 0.0, causal=False)
    states = torch.randn(1, 2, 6, 4).expand(2, -1, -1, -1)
    first, second = encoder(states, order_of(2, 6))
    assert not torch.allclose(first, second)
    encoder.streams[1].load_state_dict(encoder.streams[0].state_dict())
    first, second = encoder(states, order_of(2, 6))
    assert torch.equal(first, second)
