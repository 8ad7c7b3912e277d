"""The frames of a video before any is needed: from its packets, or by decoding it once where packets mislead."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from affectgrid.errors import MediaError, Problem
from affectgrid.media.container import open_media, origin_s
from affectgrid.media.tracks import moving_pictures

# In these codecs every demuxed packet becomes one picture, so counting packets counts frames. Others (VP8 has
# invisible reference frames) are indexed by decoding once.
_PACKET_IS_FRAME = frozenset({"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores"})
_PROGRESSIVE = 1  # FFmpeg's AV_FIELD_PROGRESSIVE
_VOP = b"\0\0\1\xb6"  # begins a picture of MPEG-4 part 2
_MAX_EMPTY_VOP_BYTES = 19  # FFmpeg takes up to this for a picture without content

Frame = tuple[int, int | None, bool]  # pts, dts, keyframe


@dataclasses.dataclass
class Scan:
    """What one pass over the packets finds.

    Args:
        frames: pts, dts and keyframe of the video's packets, in the file's order.
        discarded: packets of the video that an edit list cuts away.
        sound: first and end of the sound's packets, in its stream's ticks.
        stop_s: where the last packet of any stream ends.
        goes_back: decoding times of the video fall somewhere.
        packed: packets of MPEG-4 part 2 hold two pictures, or none.
    """

    frames: list[tuple[int | None, int | None, bool]] = dataclasses.field(default_factory=list)
    discarded: int = 0
    sound: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    stop_s: float = 0.0
    goes_back: bool = False
    packed: bool = False

    @property
    def begins_late(self) -> bool:
        """Whether pictures come before the first keyframe: the recording began in the middle of a group."""
        if not self.frames:
            return False
        first = self.frames[0]
        return not first[2] or any(
            pts < first[0] for pts, _, _ in self.frames if pts is not None and first[0] is not None
        )


def scan_packets(container: Any, video: Any, sound: Any) -> Scan:
    """Read every packet of every stream once, decoding none: subtitles may be what the stated duration counts."""
    scan, latest = Scan(), None
    is_mpeg4, own = video.codec_context.name == "mpeg4", video.index
    heard = None if sound is None else sound.index
    stops: dict[int, int] = {}  # of each stream, in its own ticks
    for packet in container.demux():
        if packet.size == 0:
            continue
        here = packet.stream_index
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            stop = time + (packet.duration or 0)
            if stop > stops.get(here, -1):
                stops[here] = stop
            if here == heard and not packet.is_discard:
                scan.sound.append((time, stop))
        if here != own:
            continue
        if packet.dts is not None:
            scan.goes_back |= latest is not None and packet.dts < latest
            latest = packet.dts
        if is_mpeg4:
            scan.packed |= packet.size <= _MAX_EMPTY_VOP_BYTES or bytes(packet).count(_VOP) != 1
        if packet.is_discard:  # cut away by an edit list
            scan.discarded += 1
        else:
            scan.frames.append((packet.pts, packet.dts, packet.is_keyframe))
    for here, stop in stops.items():
        scan.stop_s = max(scan.stop_s, stop * float(container.streams[here].time_base) - origin_s(container))
    return scan


def index_frames(path: Path, video: Any, scan: Scan) -> tuple[list[Frame], bool]:
    """The frames that decoding gives, and whether its order, not the packets', had to be taken.

    Packets are believed where their codec has one for each picture. The video is decoded once where a field may have a
    packet of its own (interlaced H.264), where packets hold two pictures or none, where the first pictures have no
    keyframe, and where times are missing or go back. Raises MediaError (MED-TIMES) if the pictures' times go back.
    """
    frames: list[Frame] = [(pts, dts, key) for pts, dts, key in scan.frames if pts is not None]
    codec = video.codec_context
    fields = codec.name == "h264" and codec.field_order != _PROGRESSIVE
    believed = codec.name in _PACKET_IS_FRAME and len(frames) == len(scan.frames)
    if believed and not (fields or scan.packed or scan.begins_late or scan.goes_back):
        return frames, False
    decoded = _decode(path)
    if scan.goes_back:
        _require_ascending(path, decoded, float(video.time_base))
    if believed and not scan.goes_back and [pts for pts, _, _ in decoded] == sorted(pts for pts, _, _ in frames):
        return frames, False
    return decoded, True


def _decode(path: Path) -> list[Frame]:
    """The slow index; without times, frames are counted."""
    with open_media(path) as container:
        frames: list[Frame] = [
            (frame.pts, None, bool(frame.key_frame)) for frame in container.decode(moving_pictures(path, container))
        ]
    if any(pts is None for pts, _, _ in frames):
        return [(count, None, count == 0) for count in range(len(frames))]
    return frames


def _require_ascending(path: Path, frames: list[Frame], tick_s: float) -> None:
    for number, (before, here) in enumerate(itertools.pairwise(frames), start=2):
        if here[0] < before[0]:
            found = f"frame {number} is at {here[0] * tick_s:.2f} s, the one before it at {before[0] * tick_s:.2f} s"
            raise MediaError(
                Problem(
                    "MED-TIMES",
                    where=str(path),
                    found=f"{found}: recordings joined end to end",
                    expected="times that never go back",
                    hint="give it new times with: ffmpeg -i FILE -c copy NEW.mkv",
                )
            )
