"""Videos that cameras, editors and broadcasters make, and that readers get wrong: a recipe for each.

Each recipe is called with a folder of its own and an FFmpeg command, and returns the file. Pictures are FFmpeg's test
pattern in a colour that no neighbour has, so that a wrong frame is told from a right one.
"""

from __future__ import annotations

import dataclasses
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from support import h264_fields

PICTURES = "testsrc2=s=160x120:r=25:d={seconds},hue=h=n*137.5,format=yuv420p"
# a white picture and a click in the same instant of every second
FLASHES = "color=black:s=160x120:r=25:d=6,drawbox=t=fill:color=white:enable='lt(mod(t,1),0.039)*gte(t,1)'"
CLICKS = "aevalsrc='0.8*lt(mod(t,1),0.02)*gte(t,1)*sin(2*PI*1000*t)':s=48000:d=6"
TONE = "sine=frequency={hz}:sample_rate=48000:duration={seconds}"


@dataclasses.dataclass(frozen=True)
class Maker:
    """An FFmpeg to run, and a folder to run it in."""

    ffmpeg: Path
    folder: Path

    def run(self, *arguments: str) -> None:
        """One command, in the folder."""
        command = [str(self.ffmpeg), "-v", "error", "-y", "-bitexact", *arguments]
        subprocess.run(command, cwd=self.folder, check=True, timeout=120, stdin=subprocess.DEVNULL)

    def film(self, name: str, *options: str, seconds: float = 6, sound: bool = False) -> Path:
        """The test pattern, encoded with `options`."""
        inputs = ["-f", "lavfi", "-i", PICTURES.format(seconds=seconds)]
        if sound:
            inputs += ["-f", "lavfi", "-i", TONE.format(hz=440, seconds=seconds)]
        self.run(*inputs, *options, name)
        return self.folder / name

    def flashes(self, name: str) -> Path:
        """Six seconds with a flash and a click a second: H.264 with B-frames, AAC."""
        inputs = ("-f", "lavfi", "-i", FLASHES, "-f", "lavfi", "-i", CLICKS)
        self.run(*inputs, *H264, "-g", "25", "-c:a", "aac", "-b:a", "96k", name)
        return self.folder / name


H264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-threads", "1")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "3", "-bf", "2", "-g", "12")


def cut_by_edit_list(make: Maker, source: Path, duration_s: float, start_s: float) -> Path:
    """Rewrite the edit lists, as phones and editors do when they trim: all packets stay in the file."""
    data = bytearray(source.read_bytes())
    scale = _u32(data, data.find(b"mvhd") + 16)
    at = data.find(b"elst")
    while at >= 0:
        media_scale = _u32(data, data.find(b"mdhd", at) + 16)
        for entry in range(at + 12, at + 12 + 12 * _u32(data, at + 8), 12):
            begins = struct.unpack_from(">i", data, entry + 4)[0]
            if begins >= 0:
                times = int(duration_s * scale), begins + int(start_s * media_scale)
                struct.pack_into(">Ii", data, entry, *times)
        at = data.find(b"elst", at + 4)
    path = make.folder / "trimmed.mp4"
    path.write_bytes(data)
    return path


def with_matrix(make: Maker, a: float, b: float, c: float, d: float) -> Path:
    """A display matrix in the video's track header."""
    data = bytearray(make.film("plain.mp4", *H264, seconds=0.4).read_bytes())
    header = data.find(b"tkhd") + 4
    values = [round(value * 65536) for value in (a, b)], [round(value * 65536) for value in (c, d)]
    matrix = [*values[0], 0, *values[1], 0, 0, 0, 1 << 30]
    struct.pack_into(">9i", data, header + (40 if data[header] == 0 else 52), *matrix)
    path = make.folder / "turned.mp4"
    path.write_bytes(data)
    return path


def joined(make: Maker, suffix: str, first: tuple[str, ...], second: tuple[str, ...]) -> Path:
    """Two streams, the bytes of one behind those of the other."""
    parts = [make.film(f"{k}.{suffix}", *options, seconds=2) for k, options in enumerate((first, second))]
    path = make.folder / f"joined.{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def begun_late(make: Maker) -> Path:
    """A transport stream from the middle of a group of pictures on, as a recording of a broadcast begins."""
    data = make.film("whole.ts", *H264, "-g", "25", "-sc_threshold", "0").read_bytes()
    with av.open(str(make.folder / "whole.ts")) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path = make.folder / "late.ts"
    path.write_bytes(data[: 188 * 3] + data[places[14] :])  # the tables, then from the 15th picture on
    return path


def packed(make: Maker) -> Path:
    """DivX's packed bitstream: a P and a B picture in one packet, and one without content after it."""
    with av.open(str(make.film("plain.avi", "-c:v", "mpeg4", "-q:v", "3", "-bf", "1", "-g", "24"))) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        kinds = [data[data.find(b"\0\0\1\xb6") + 4] >> 6 for data in packets]  # 0: I, 1: P, 2: B
        out: list[bytes] = []
        while packets:
            if len(packets) > 1 and kinds[0] < 2 and kinds[1] == 2:
                out += [packets[0] + packets[1], b"\0\0\1\xb6\x40\0\0"]
                packets, kinds = packets[2:], kinds[2:]
            else:
                out.append(packets.pop(0))
                kinds.pop(0)
        head = out[0].find(b"\0\0\1\xb6")
        out[0] = out[0][:head] + b"\0\0\1\xb2DivX503b1393p" + out[0][head:]
        with av.open(str(make.folder / "packed.avi"), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for number, data in enumerate(out):
                packet = av.Packet(data)
                packet.pts = packet.dts = number
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, number == 0
                target.mux(packet)
    return make.folder / "packed.avi"


def two_videos(make: Maker) -> Path:
    """The second one is marked default."""
    inputs = ("-f", "lavfi", "-i", "color=gray:s=64x48:r=25:d=2", "-f", "lavfi", "-i", PICTURES.format(seconds=2))
    marks = ("-disposition:v:0", "0", "-disposition:v:1", "default")
    make.run(*inputs, "-map", "0:v", "-map", "1:v", *H264, *marks, "two.mkv")
    return make.folder / "two.mkv"


def with_cover(make: Maker, *, moving: bool = True) -> Path:
    """A picture as the first video stream, not flagged as a cover."""
    source = make.film("plain.mp4", *H264, seconds=2, sound=True)
    inputs = ("-f", "lavfi", "-i", "color=red:s=64x48:r=1:d=1", "-i", str(source))
    maps = ("-map", "0:v", *(("-map", "1:v") if moving else ()), "-map", "1:a")
    make.run(*inputs, *maps, "-c", "copy", "-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-frames:v:0", "1", "c.mp4")
    return make.folder / "c.mp4"


def two_sounds(make: Maker) -> Path:
    """A commentary (880 Hz) before the film's own sound (440 Hz)."""
    source = make.film("plain.mp4", *H264, seconds=2, sound=True)
    inputs = ("-i", str(source), "-f", "lavfi", "-i", TONE.format(hz=880, seconds=2))
    marks = ("-disposition:a:0", "comment", "-disposition:a:1", "0")
    make.run(*inputs, "-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy", *marks, "two.mkv")
    return make.folder / "two.mkv"


def unknown_codec(make: Maker, kind: str) -> Path:
    """A four-character code that nothing knows, of the sound or of the picture."""
    data = make.film("plain.mov", *H264, "-c:a", "pcm_s16le", seconds=2, sound=True).read_bytes()
    at = data.rfind({"sound": b"sowt", "picture": b"avc1"}[kind])
    path = make.folder / "unknown.mov"
    path.write_bytes(data[:at] + b"xxxx" + data[at + 4 :])
    return path


def antiphase(make: Maker) -> Path:
    """Left is -right."""
    inputs = ("-f", "lavfi", "-i", PICTURES.format(seconds=2), "-f", "lavfi", "-i", TONE.format(hz=440, seconds=2))
    make.run(*inputs, "-af", "pan=stereo|c0=c0|c1=-1*c0", *H264, "-c:a", "aac", "-b:a", "128k", "anti.mp4")
    return make.folder / "anti.mp4"


def open_gop_cut(make: Maker) -> Path:
    """Cut by copy in an open group of pictures: the first pictures refer to one that is gone."""
    make.film("whole.mp4", *H264, "-g", "12", "-x264-params", "open-gop=1:scenecut=0")
    make.run("-ss", "1.5", "-i", "whole.mp4", "-c", "copy", "cut.mkv")
    return make.folder / "cut.mkv"


def _u32(data: bytearray, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _film(name: str, *options: str) -> Callable[[Maker], Path]:
    return lambda make: make.film(name, *options)


def _whole(make: Maker) -> Path:
    return make.film("whole.mp4", *H264, "-g", "25", "-c:a", "aac", sound=True)


_FIELDS = ("-flags", "+ildct+ilme", "-vf", "tinterlace=interleave_top,fieldorder=tff")
_SEVENTH = 2**-0.5

# whose pictures, in order and alone, and times must be FFmpeg's
PICTURE_CASES: dict[str, Callable[[Maker], Path]] = {
    "plain.mp4": _film("plain.mp4", *H264, "-g", "25"),
    "trimmed at the end": lambda make: cut_by_edit_list(make, _whole(make), 3.0, 0.0),
    "trimmed at both ends": lambda make: cut_by_edit_list(make, _whole(make), 3.0, 1.5),
    "mpeg2.vob": _film("v.vob", *MPEG2, "-f", "vob"),
    "mpeg2.mpg": _film("v.mpg", *MPEG2),
    "mpeg1.mpg": _film("v.mpg", "-c:v", "mpeg1video", "-q:v", "3", "-bf", "2", "-g", "12"),
    "mpeg2.ts": _film("v.ts", *MPEG2),
    "mpeg2 interlaced.vob": _film("v.vob", *MPEG2, *_FIELDS, "-f", "vob"),
    "mpeg2 interlaced.ts": _film("v.ts", *MPEG2, *_FIELDS),
    "h264 interlaced.ts": _film("v.ts", *H264, "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    "begun in mid-GOP": begun_late,
    "open GOP cut by copy": open_gop_cut,
    "fields, a packet each.ts": lambda make: h264_fields.write(make.folder / "fields.ts", packets_per_frame=2),
    "fields, a packet each.mkv": lambda make: h264_fields.write(make.folder / "fields.mkv", packets_per_frame=2),
    "fields, a packet each.mp4": lambda make: h264_fields.write(make.folder / "fields.mp4", packets_per_frame=2),
    "fields, a packet a frame.ts": lambda make: h264_fields.write(make.folder / "fields.ts", packets_per_frame=1),
    "packed bitstream": packed,
    "packed by Xvid": _film("v.avi", "-c:v", "libxvid", "-bf", "2"),
    "intra refresh.ts": _film("v.ts", *H264, "-bf", "0", "-x264-params", "intra-refresh=1:keyint=25"),
    "mirrored left-right": lambda make: with_matrix(make, -1, 0, 0, 1),
    "mirrored up-down": lambda make: with_matrix(make, 1, 0, 0, -1),
    "transposed": lambda make: with_matrix(make, 0, 1, 1, 0),
    "transposed the other way": lambda make: with_matrix(make, 0, -1, -1, 0),
    "turned by 90": lambda make: with_matrix(make, 0, 1, -1, 0),
    "turned by 180": lambda make: with_matrix(make, -1, 0, 0, -1),
    "turned by 270": lambda make: with_matrix(make, 0, -1, 1, 0),
    "turned by 45": lambda make: with_matrix(make, _SEVENTH, _SEVENTH, -_SEVENTH, _SEVENTH),
    "two videos": two_videos,
    "a picture before the video": with_cover,
}
