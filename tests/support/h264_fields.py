"""H.264 pictures of two fields (PAFF), written bit by bit: no free encoder makes them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_WIDTH, _FIELD_ROWS = 4, 4  # macroblocks: pictures of 64 x 128
NUM_FRAMES = 60


class _Bits:
    """A string of bits in the codes of H.264."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def fixed(self, width: int, value: int) -> None:
        self.bits += [value >> (width - 1 - place) & 1 for place in range(width)]

    def golomb(self, *values: int) -> None:
        """Unsigned Exp-Golomb codes; 0 is also the signed one's 0."""
        for value in values:
            width = (value + 1).bit_length()
            self.fixed(width - 1, 0)
            self.fixed(width, value + 1)

    def align(self) -> None:
        self.bits += [0] * (-len(self.bits) % 8)

    def unit(self, header: int) -> bytes:
        """The NAL unit, with its stop bit and its emulation prevention."""
        self.bits.append(1)
        self.align()
        out, zeros = bytearray(), 0
        for byte in np.packbits(np.array(self.bits, np.uint8)).tolist():
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([header]) + bytes(out)


def _parameters() -> bytes:
    sequence, picture = _Bits(), _Bits()
    for value in (77, 0, 30):  # Main profile, level 3.0
        sequence.fixed(8, value)
    sequence.golomb(0, 0, 2, 1)
    sequence.fixed(1, 0)
    sequence.golomb(_WIDTH - 1, _FIELD_ROWS - 1)
    for flag in (0, 0, 1, 0, 0):  # frame_mbs_only_flag is 0: fields are allowed
        sequence.fixed(1, flag)
    picture.golomb(0, 0)
    picture.fixed(2, 0)
    picture.golomb(0, 0, 0)
    picture.fixed(3, 0)
    picture.golomb(0, 0, 0)
    picture.fixed(3, 0)
    return sequence.unit(0x67) + picture.unit(0x68)


def _field(number: int, *, bottom: bool) -> bytes:
    """One field of uncompressed macroblocks, brighter from frame to frame."""
    bits = _Bits()
    bits.golomb(0, 7, 0)
    bits.fixed(4, 0)
    bits.fixed(2, 0b10 | bottom)
    if not bottom:
        bits.golomb(number % 2)
        bits.fixed(2, 0)
    else:
        bits.fixed(1, 0)
    bits.golomb(0)
    samples = np.unpackbits(np.array([20 + 3 * number] * 256 + [128] * 128, np.uint8)).tolist()
    for _ in range(_WIDTH * _FIELD_ROWS):
        bits.golomb(25)
        bits.align()
        bits.bits += samples
    return bits.unit(0x61 if bottom else 0x65)


def write(path: Path, *, packets_per_frame: int) -> Path:
    """60 frames at 25 frames/s, with both fields in one packet or one packet for each."""
    fields = []
    for number in range(NUM_FRAMES):
        fields.append(b"\0\0\0\1\x09\x10" + _parameters() + _field(number, bottom=False))
        fields.append(b"\0\0\0\1\x09\x10" + _field(number, bottom=True))
    raw = path.with_suffix(".h264")
    raw.write_bytes(b"".join(fields))
    if packets_per_frame == 1:
        fields = [top + bottom for top, bottom in zip(fields[::2], fields[1::2], strict=True)]
    step = 3600 // packets_per_frame
    with av.open(str(raw), format="h264") as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.time_base = Fraction(1, 90_000)
        for number, data in enumerate(fields):
            packet = av.Packet(data)
            packet.pts = packet.dts = step * number
            packet.duration, packet.time_base, packet.stream = step, Fraction(1, 90_000), stream
            packet.is_keyframe = number % packets_per_frame == 0
            target.mux(packet)
    return path
