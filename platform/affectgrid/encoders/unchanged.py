"""Which pictures need an encoder of their own: neighbouring frames of a face are nearly equal."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, UInt8

_CELLS = 16  # along each side: of a face, an eye or a corner of the mouth
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


class UnchangedFrames:
    """Lets a picture take the features of an earlier one where no part of it has changed by more than a bound.

    The measure is the largest change of any of 16 x 16 cells in mean luma, in grey levels of 255, against the picture
    whose features would be taken: so slow changes add up, and a blink is not averaged away. Pictures whose position is
    a multiple of `every` are encoded always, whatever came before: what a part of a video gives does not depend on
    where the part begins, if it begins at such a position.

    Args:
        bound: of the change, in grey levels; pictures that differ by less take what was encoded. None: all are encoded.
        every: positions from one picture that is encoded always to the next.
    """

    def __init__(self, bound: float | None, every: int) -> None:
        self._bound, self._every = bound, every
        self._kept: np.ndarray | None = None
        self._block = -1
        self._number = -1

    def begin(self, position: int) -> int:
        """Where to start reading for a part that begins at `position`."""
        return position if self._bound is None else position - position % self._every

    def choose(
        self, positions: Int[np.ndarray, " n"], images: UInt8[np.ndarray, "n 3 size size"]
    ) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """For each picture the running number, from 0, of the encoded one that it takes, and whether it is that one."""
        chosen, is_new = np.empty(len(images), np.int64), np.ones(len(images), np.bool_)
        cells = None if self._bound is None else _cells(images)
        for place, position in enumerate(positions):
            if cells is not None:
                is_new[place] = self._differs(int(position) // self._every, cells[place])
            self._number += int(is_new[place])
            chosen[place] = self._number
        return chosen, is_new

    def _differs(self, block: int, cells: np.ndarray) -> bool:
        """Whether the picture must be encoded; if so, later ones are compared with it."""
        kept, bound = self._kept, self._bound
        if kept is not None and bound is not None and block == self._block and np.abs(cells - kept).max() < bound:
            return False
        self._kept, self._block = cells, block
        return True


def _cells(images: UInt8[np.ndarray, "n 3 size size"]) -> np.ndarray:
    """Mean luma of every cell, float32 [n, cell, cell]. Sides that no cell divides lose their last pixels."""
    step = max(1, images.shape[-1] // _CELLS)
    count = images.shape[-1] // step
    cut = images[:, :, : count * step, : count * step].astype(np.float32)
    means: np.ndarray = cut.reshape(len(images), 3, count, step, count, step).mean((3, 5))
    luma: np.ndarray = np.einsum("nchw,c->nhw", means, _LUMA)
    return luma
