"""Face crops as the data set ships them: one picture per frame, named by its 1-based frame index."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affectgrid.errors import MediaError, Problem

_NAME = re.compile(r"(\d{1,9})\.(?:jpg|jpeg|png)", re.IGNORECASE)


def list_crops(folder: Path) -> dict[int, Path]:
    """Crops by frame index, ascending. Other files are left alone.

    Names count from 1; where AFEW-VA's ``<folder>.json`` lies beside the pictures, from 0 as that file does.
    Raises MediaError: MED-MISSING without the folder, MED-CROP-INDEX for index 0 or two crops of one frame.
    """
    if not folder.is_dir():
        raise MediaError(
            Problem(
                "MED-MISSING",
                where=str(folder),
                found="no such folder",
                expected="a folder of crops",
                hint="check the path",
            )
        )
    from_0 = (folder / f"{folder.name}.json").is_file()
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        index = int(match[1]) + from_0
        if index == 0 or index in found:
            clash = f"{path.name} beside {found[index].name}" if index else f"{path.name}: frames count from 1"
            raise MediaError(
                Problem(
                    "MED-CROP-INDEX",
                    where=str(folder),
                    found=clash,
                    expected="one crop a frame: 00001.jpg ...",
                    hint="rename or remove it",
                )
            )
        found[index] = path
    return dict(sorted(found.items()))


def read_crop(path: Path) -> NDArray[np.uint8]:
    """RGB pixels [height, width, 3]. Raises MediaError (MED-CROP) for a file that is no whole picture."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            return np.array(image.convert("RGB"))
    # a damaged PNG was seen to raise SyntaxError; a bomb of pixels raises its own
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        found = f"{type(error).__name__}: {error}"
        raise MediaError(
            Problem("MED-CROP", where=str(path), found=found, expected="a whole JPEG or PNG", hint="extract it again")
        ) from error
