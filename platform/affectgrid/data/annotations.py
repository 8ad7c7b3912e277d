"""Labels of a track's frames, and Aff-Wild2's files of them: a header, then a line per frame; -5,-5 is no label."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from affectgrid.errors import AnnotationError, Problem
from affectgrid.storage import show_places, staged, write_atomic

log = logging.getLogger(__name__)

OnBadLabel = Literal["refuse", "mask"]
FrameTimes = Callable[[], NDArray[np.float64]]  # seconds of frames 1, 2, ... of the track's video, NaN where unknown

HEADER = "valence,arousal"
INVALID = -5.0

# float() would also take "1_000", "infinity" and digits of other scripts
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MAX_BYTES = 64 << 20  # forty times the longest track of Aff-Wild2
_BOM = b"\xef\xbb\xbf"

# For the compiled parser: two columns of numbers, and nothing that it would be lenient about.
_NAMES = ["valence", "arousal"]
_READ = pyarrow.csv.ReadOptions(use_threads=False, column_names=_NAMES, block_size=_MAX_BYTES)
_PARSE = pyarrow.csv.ParseOptions(quote_char=False, ignore_empty_lines=False)
_TYPES = dict.fromkeys(_NAMES, pa.float64())
_CONVERT = pyarrow.csv.ConvertOptions(check_utf8=False, null_values=[], column_types=_TYPES)

# What is found in place of an annotation: how the file begins, its code, its name, the hint.
_IMPOSTORS = (
    (rb"<", "ANN-HTML", "an HTML or XML page, such as a login page", "log in and download the file itself"),
    (rb"version https://git-lfs\.github\.com/", "ANN-POINTER", "a Git LFS pointer", "fetch the file: git lfs pull"),
    (rb"[./]*/?annex/objects/", "ANN-POINTER", "a git-annex pointer", "fetch the file: git annex get"),
    (rb"\{\\rtf", "ANN-RTF", "a rich text document", "save it as plain text"),
    (rb"PK\x03\x04|\x1f\x8b", "ANN-ARCHIVE", "a compressed archive", "unpack it"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """Labels of one track; row k belongs to frame_index k + 1.

    Args:
        va: (valence, arousal) in [-1, 1], 0 where not valid, float32 [frame, 2].
        valid: False where the file says -5, or where an odd line was masked, bool [frame].
        odd: what was wrong with each line that was masked.
    """

    va: NDArray[np.float32]
    valid: NDArray[np.bool_]
    odd: tuple[Problem, ...] = ()

    @property
    def num_frames(self) -> int:
        """Lines after the header."""
        return len(self.valid)


@dataclasses.dataclass(frozen=True)
class LabelFile:
    """A file of labels, and what becomes of a line that cannot be read: the file is refused, or the frame masked.

    This one is of Aff-Wild2; `catalog.points.LabelPoints` are those of other formats.
    """

    path: Path
    on_bad: OnBadLabel = "refuse"

    @classmethod
    def of(cls, annotation: Path | LabelFile) -> LabelFile:
        """Itself, or a file whose odd lines refuse it."""
        return annotation if isinstance(annotation, LabelFile) else LabelFile(annotation)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that the labels are read from."""
        return (self.path,)

    def state(self) -> bytes:
        """All that the labels depend on: the file's bytes, and how they are read. Raises OSError."""
        with staged(self.path) as path:
            return path.read_bytes() + self.choice

    def read(self, times: FrameTimes | None) -> Annotation:
        """As ``read_labels``."""
        return _read_lines(self)

    @property
    def choice(self) -> bytes:
        """What the labels depend on beside the file's bytes; empty by default."""
        return b"" if self.on_bad == "refuse" else f"\0on bad label {self.on_bad}".encode()

    def __str__(self) -> str:
        return str(self.path)


def read_annotation(annotation: Path | LabelFile, times: FrameTimes | None = None) -> Annotation:
    """Read and check the labels of one track; CRLF and a UTF-8 byte order mark are accepted.

    `times` is asked for the times of the video's frames where labels have times of their own, which Aff-Wild2's do not.
    Raises only AnnotationError: ANN-MISSING, ANN-SIZE, ANN-HTML, ANN-POINTER (of Git LFS), ANN-RTF, ANN-ARCHIVE,
    ANN-CR (line ends), ANN-ENCODING, ANN-HEADER, ANN-COLUMNS, ANN-NUMBER, ANN-FINITE, ANN-RANGE, ANN-HALF (one of the
    two is -5), ANN-EMPTY, ANN-MASKED (nothing valid). Values are checked as text, so that an error names the first
    wrong line. Where the `LabelFile` masks them, odd lines after the header are frames without a label; how many is
    logged once.
    """
    source = LabelFile.of(annotation)
    labels = source.read(times)
    if labels.odd:
        _log_odd(source, len(labels.odd), labels.num_frames, str(labels.odd[0]))
    return labels


def read_labels(source: LabelFile, times: FrameTimes | None = None) -> Annotation:
    """As ``read_annotation``, without a log."""
    return source.read(times)


def _read_lines(source: LabelFile) -> Annotation:
    path, data, odd = source.path, _content(source.path), list[Problem]()
    va = parse_sound(data)
    if va is None:
        va = parse_lines(source, _decode(path, data).split("\n"), odd)
    valid = va[:, 0] != INVALID
    if not valid.any():
        found = f"all {len(va)} frames are -5" + (f" or odd ({len(odd)}), first {odd[0]}" if odd else "")
        _refuse(path, "ANN-MASKED", found, "at least one label", "leave the track out", line=None)
    va[~valid] = 0
    return Annotation(va, valid, tuple(odd))


def parse_sound(data: bytes) -> NDArray[np.float32] | None:
    """The values [frame, 2] of a file in which every line is sound; None where one might not be, or none is there.

    A compiled parser, which is an order of magnitude faster than reading line by line. Whatever it takes, line by line
    is read as the same numbers; what it does not take is read line by line, and refused by its line's number.
    """
    header, _, rows = data.removeprefix(_BOM).partition(b"\n")
    if header.removesuffix(b"\r").replace(b" ", b"").lower() != HEADER.encode() or not rows:
        return None
    signs = np.frombuffer(rows, np.uint8)  # counts four times as fast as bytes do
    ends = signs == ord("\n")
    if b"\r" in rows and np.any((signs == ord("\r")) & ~np.append(ends[1:], False)):  # it would end a line
        return None
    try:
        table = pyarrow.csv.read_csv(pa.py_buffer(rows), _READ, _PARSE, _CONVERT)
    except pa.ArrowException:
        return None
    if table.num_rows != np.count_nonzero(ends) + (not rows.endswith(b"\n")):
        return None
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    masked = values == INVALID
    is_sound = np.all(masked | (np.abs(values) <= 1)) and np.array_equal(masked[:, 0], masked[:, 1])
    return values.astype(np.float32) if is_sound else None  # NaN is no smaller than anything


def parse_lines(source: LabelFile, lines: list[str], odd: list[Problem]) -> NDArray[np.float32]:
    """The values [frame, 2], -5 for the lines that are masked; what is wrong with these is added to `odd`."""
    path = source.path
    if lines and lines[-1] == "":
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    _check_header(path, lines)
    if len(lines) == 1:
        _refuse(path, "ANN-EMPTY", "no line after the header", "one line per frame", "restore the file", line=None)
    values: list[tuple[float, float]] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            values.append(_parse(path, number, line))
        except AnnotationError as error:
            if source.on_bad == "refuse":
                raise
            odd.extend(error.problems)
            values.append((INVALID, INVALID))
    return np.array(values, dtype=np.float32)


@functools.lru_cache(maxsize=4096)
def _log_odd(source: LabelFile, num_odd: int, num_frames: int, first: str) -> None:
    log.warning("%s: %d of %d lines masked, first %s", show_places(str(source)), num_odd, num_frames, first)


def write_annotation(path: Path, annotation: Annotation) -> None:
    """Write the format that ``read_annotation`` reads back to the same float32 values."""
    rows = (
        f"{float(v):.9g},{float(a):.9g}" if valid else "-5,-5"
        for (v, a), valid in zip(annotation.va, annotation.valid, strict=True)
    )
    write_atomic(path, "\n".join([HEADER, *rows, ""]))


def read_text(path: Path) -> str:
    """The text of a file of labels. Raises AnnotationError where it is none: ANN-MISSING, ANN-SIZE, ANN-HTML, ..."""
    return _decode(path, _content(path))


def _content(path: Path) -> bytes:
    try:
        with staged(path) as local:
            if local.stat().st_size > _MAX_BYTES:
                found, hint = f"{local.stat().st_size} bytes", "check that this is an annotation file"
                _refuse(path, "ANN-SIZE", found, f"at most {_MAX_BYTES} bytes", hint, line=None)
            return local.read_bytes()
    except (OSError, ValueError) as error:
        _refuse(path, "ANN-MISSING", str(error), "a readable file", "check the path and its permissions", line=None)


def _decode(path: Path, data: bytes) -> str:
    _check_kind(path, data)
    try:
        # a NUL in UTF-8 is legal but means UTF-16 or a file of zeros after a crash
        if (zero := data.find(0)) >= 0:
            raise UnicodeDecodeError("utf-8", data, zero, zero + 1, "a zero byte")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {data[error.start]:#04x} at offset {error.start} ({error.reason})"
        _refuse(path, "ANN-ENCODING", found, "UTF-8", "save it as UTF-8", line=None)


def _check_kind(path: Path, data: bytes) -> None:
    """Refuse what is no annotation file at all, by its name."""
    start = data[:1024].removeprefix(_BOM).lstrip()
    for pattern, code, found, hint in _IMPOSTORS:
        if re.match(pattern, start):
            _refuse(path, code, found, "an annotation file", hint, line=None)
    if b"\r" in data and b"\n" not in data:
        found = f"lines that end in CR alone ({data.count(13)} of them), as old Macs wrote them"
        hint = "convert them, for example with: tr '\\r' '\\n' < old.txt > new.txt"
        _refuse(path, "ANN-CR", found, "line ends LF or CRLF", hint, line=None)


def _check_header(path: Path, lines: list[str]) -> None:
    first = lines[0].replace(" ", "").lower() if lines else ""
    if first != HEADER:
        found, hint = _explain_header(lines[0]) if lines else ("an empty file", "restore the file")
        _refuse(path, "ANN-HEADER", found, repr(HEADER), hint, line=1)


def _explain_header(line: str) -> tuple[str, str]:
    """What a first line is instead of the header, and what to do."""
    shown, lower = repr(line[:60]), line.strip().lower()
    names = [name.strip(" \"'") for name in re.split(r"[,;\t|]", lower)]
    if names == ["arousal", "valence"]:
        return f"{shown}: the columns are swapped", "swap them in every line, not only in the header"
    if names == ["valence", "arousal"]:
        if "," in lower:
            return f"{shown}: names in quotes", "remove the quotes"
        return f"{shown}: not separated by a comma", "put commas between the columns of every line, points in numbers"
    if {"valence", "arousal"} <= set(names):
        return f"{shown}: {len(names)} columns", "keep only the columns valence and arousal, without frames or times"
    if {"neutral", "anger"} <= set(names) or re.fullmatch(r"au\d+", names[0]):
        return f"{shown}: labels of expressions or action units", "take the files of the valence-arousal challenge"
    if all(_NUMBER.fullmatch(name) for name in names):
        return f"{shown}: numbers", f"add the line {HEADER} before it"
    return shown, f"make {HEADER} the first line"


def _parse(path: Path, number: int, line: str) -> tuple[float, float]:
    cells = [cell.strip(" \t") for cell in line.split(",")]
    if ",".join(cells).lower() == HEADER:
        _refuse(path, "ANN-HEADER", "a second header", "numbers", "remove this line", line=number)
    if len(cells) != 2:
        found = repr(line[:60]) if line else "an empty line"
        _refuse(path, "ANN-COLUMNS", found, "two numbers: valence,arousal", "correct this line", line=number)
    valence, arousal = (_number(path, number, cell) for cell in cells)
    if (valence == INVALID) != (arousal == INVALID):
        _refuse(path, "ANN-HALF", f"only one of {line[:60]!r} is -5", "both or none", "correct this line", line=number)
    for value in (valence, arousal):
        if value != INVALID and not -1 <= value <= 1:
            _refuse(path, "ANN-RANGE", repr(value), "a value in [-1, 1], or -5", "correct this line", line=number)
    return valence, arousal


def _number(path: Path, number: int, cell: str) -> float:
    if cell.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
        _refuse(path, "ANN-FINITE", repr(cell), "a finite number", "write -5,-5 for no label", line=number)
    if not _NUMBER.fullmatch(cell):
        _refuse(path, "ANN-NUMBER", repr(cell[:40]), "a number", "correct this line", line=number)
    value = float(cell)
    if not math.isfinite(value):  # 1e999
        _refuse(path, "ANN-FINITE", repr(cell[:40]), "a finite number", "correct this line", line=number)
    return value


def _refuse(path: Path, code: str, found: str, expected: str, hint: str, *, line: int | None) -> NoReturn:
    where = show_places(str(path)) + (f":{line}" if line else "")
    raise AnnotationError(Problem(code, where=where, found=found, expected=expected, hint=hint))
