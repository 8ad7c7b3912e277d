"""The bare matrix products of a training step, part by part: what no implementation can leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from affectgrid.model.attention import FEED_FORWARD_RATIO
from benchmarks.timing import seconds

Product = tuple[int, int, int, int]  # batch, rows, inner, columns


def linear(rows: int, inner: int, columns: int, *, to_input: bool = True, count: int = 1) -> list[Product]:
    """A linear layer forwards, its weight's gradient, and its input's where that is needed."""
    products = [(1, rows, inner, columns), (1, inner, rows, columns)]
    return (products + [(1, rows, columns, inner)] * to_input) * count


def bare_seconds(products: Sequence[Product], repeats: int = 1) -> float:
    """Time of these products on one thread, into memory that is there; `repeats`: how often the list is run."""
    calls: list[Callable[[], object]] = []
    for batch, rows, inner, columns in products:
        left, right = torch.randn(batch, rows, inner), torch.randn(batch, inner, columns)
        out = torch.empty(batch, rows, columns)
        if batch == 1:
            left, right, out = left[0], right[0], out[0]
        calls.append(lambda left=left, right=right, out=out: torch.matmul(left, right, out=out))

    def run() -> None:
        for _ in range(repeats):
            for call in calls:
                call()

    return seconds(run)


def of_step(
    *,
    num_windows: int,
    num_frames: int,
    dims: Sequence[int],
    hidden: int,
    heads: int,
    depth: int,
    regions: int,
) -> dict[str, float]:
    """Seconds of the bare products of each part of a step of the default model in float32."""
    rows, streams, width = num_windows * num_frames, len(dims), hidden // 2
    grus = 2 * streams
    recurrent = [(grus, num_windows, width, 3 * width), (grus, num_windows, 3 * width, width)]
    score = (num_windows * heads, num_frames, hidden // heads, num_frames)
    mix = (num_windows * heads, num_frames, num_frames, hidden // heads)
    # per direction: query, key and value, out, feed-forward; scores and mix forwards, two of each kind backwards
    layer = [
        *linear(rows, hidden, hidden, count=2),
        *linear(rows, hidden, 2 * hidden),
        *linear(rows, hidden, FEED_FORWARD_RATIO * hidden),
        *linear(rows, FEED_FORWARD_RATIO * hidden, hidden),
        *([score] * 2 + [mix] * 4),
    ]
    gate = linear(rows, 2 * hidden, hidden)
    return {
        "inputs": bare_seconds([p for dim in dims for p in linear(rows, dim, hidden, to_input=False)]),
        "gru": bare_seconds([*linear(rows, hidden, 3 * width, count=grus), (grus, width, rows, 3 * width)])
        + bare_seconds(recurrent, num_frames),
        "attention": depth * bare_seconds(layer * 2 + gate),
        # the prompt head needs no product with the text's width: a Gram matrix of its weights stands in for it
        "heads": bare_seconds(
            [*linear(rows, hidden, 2), *linear(rows, hidden + 1, regions), *linear(rows, hidden + 1, hidden + 1)]
        ),
    }
