"""Bytes and names as nobody would write them, and the one rule for what a reader may answer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from affectgrid.errors import AffectGridError, Problem


def coded(read: Callable[[], object]) -> list[str]:
    """The codes that a reader refuses its input with, none where it takes it. Any other exception is the finding."""
    problems: tuple[Problem, ...] = ()
    try:
        read()
    except AffectGridError as error:
        problems = error.problems
        str(error).encode()  # a message can be written to a file
    assert all(p.code and p.where and p.found and p.expected and p.hint for p in problems), problems
    return [problem.code for problem in problems]


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A whole file with bytes overwritten, cut out or put in, or cut off."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(("flip", "end", "insert", "remove", "cut")))
        if kind == "flip" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "end" and data:  # headers and footers hold the lengths
            data[-1 - at % min(len(data), 64)] = draw(st.integers(0, 255))
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=6))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 40))]
        else:
            del data[at:]
    return bytes(data)


def npy(array: np.ndarray, *, pickles: bool = False) -> bytes:
    """A .npy file; of objects only with `pickles`."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickles)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    """A .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def parquet(columns: dict[str, object]) -> bytes:
    """A Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


_NAMES = ("videos", "batch1", "Train_Set", "Validation_Set", "VA_Estimation_Challenge", "cropped_aligned", "crops2")
_STEMS = ("a", "A", "a_left", "a_right", "1", "00001", "٣", "000000001", "0", "é", "e\u0301", "._a", ".", "con", "a b")
_SUFFIXES = (".mp4", ".AVI", ".txt", ".jpg", ".JPG", ".png", ".tar", ".zip", ".npy", "", ".")
_FORBIDDEN = {"", ".", ".."}


def file_names() -> st.SearchStrategy[bytes]:
    """Names that Linux takes: any bytes but a slash and zero; most near those that readers look for."""
    near = st.tuples(st.sampled_from(_STEMS), st.sampled_from(_SUFFIXES)).map("".join).map(str.encode)
    anything = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    suffixed = st.tuples(anything, st.sampled_from(_SUFFIXES)).map(lambda pair: pair[0] + pair[1].encode())
    return st.one_of(near, near, suffixed).filter(lambda name: name.decode("latin-1") not in _FORBIDDEN)


def folder_names() -> st.SearchStrategy[bytes]:
    """Names of folders, most of them such as a data set has."""
    return st.one_of(st.sampled_from(_NAMES).map(str.encode), file_names())


CONTENT = {"file": b"x", "labels": b"valence,arousal\n0,0\n", "array": npy(np.zeros((3, 2)))}


def make_tree(root: bytes, entries: list[tuple[list[bytes], bytes, str]]) -> None:
    """A tree of files, folders and links; what does not fit what is already there is left out."""
    for folders, name, kind in entries:
        folder = os.path.join(root, *folders)  # noqa: PTH118
        path = os.path.join(folder, name)  # noqa: PTH118
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            if kind == "folder":
                os.mkdir(path)  # noqa: PTH102
            elif "link" in kind:
                target = {"dangling link": b"nowhere", "link to itself": name, "link out": b"/etc/passwd"}[kind]
                os.symlink(target, path)  # noqa: PTH211
            else:
                with open(path, "xb") as file:  # noqa: PTH123
                    file.write(CONTENT[kind])
        except OSError:
            continue
