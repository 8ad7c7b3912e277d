"""The layout in which torch computes a network."""

from __future__ import annotations

import pytest
import timm
import torch

from affectgrid.encoders.runtime.torch_runtime import TorchRuntime, memory_format_of
from affectgrid.encoders.visual import load_visual


def test_a_convolutional_network_computes_the_same_with_channels_last():
    network = timm.create_model("efficientnet_lite0", pretrained=False, num_classes=0).eval()
    pictures = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(pictures)
    runtime = TorchRuntime(network, "fp32")
    assert network.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.conv_stem.weight.is_contiguous()
    torch.testing.assert_close(runtime(pictures), expected, rtol=1e-3, atol=1e-4)


def test_a_transformer_stays_as_it_is():
    assert memory_format_of(load_visual("tiny").network) == torch.preserve_format


@pytest.mark.parametrize(("ratio", "expected"), [(1, torch.preserve_format), (10, torch.channels_last)])
def test_the_larger_part_decides(ratio: int, expected: torch.memory_format):
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4 * ratio, 3, bias=False), torch.nn.Linear(12, 12, bias=False))
    assert memory_format_of(network) == expected
