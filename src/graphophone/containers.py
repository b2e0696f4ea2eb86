"""What an audio file says of its own length, read from its bytes.

libsndfile shortens its idea of a cut file to the bytes that are there, and says nothing: half a WAV file
reads as a good file of half the length. A cut file can only be known from the length its header promises,
which is read here. What each kind of file tells:

================  ====================================================================================
WAV, RF64, AIFF,  the size of the data chunk. Up to 64 missing bytes are let go, for programs that count their
W64, CAF, AU      own header; placeholders written into a pipe, where the size is not known, promise nothing.
Ogg, Opus         the last page must be whole and carry the mark of the end: any missing byte is noticed.
MP3               with a Xing, Info or VBRI header: the promised bytes, to one frame. Without: the chain of
                  frames is followed to the end: a cut inside a frame is noticed, one between two is not.
FLAC              nothing that is cheap to read; the decoder is asked for the last sample instead.
================  ====================================================================================
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Inspection:
    """What the bytes of a file say of its length.

    Attributes:
        truncated: What is missing, in words; None where nothing is known to be missing.
        frames: Samples per channel, where the bytes tell it better than libsndfile, which only estimates it
            for an MP3 file without a length header (and then stops reading there).
        foreign: The file has the name of an MP3 file and nothing of its content.
    """

    truncated: str | None = None
    frames: int | None = None
    foreign: bool = False


def inspect(path: Path) -> Inspection:
    """Look for the marks of a cut file, without decoding it.

    Costs a few small reads, except for an MP3 file without a length header, which is walked frame by frame
    (about 0.1 s for an hour).

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(16)
        if head[:4] == b"OggS":
            return Inspection(truncated=_ogg_shortfall(file, size))
        if _is_mpeg(head) or (path.suffix.lower() in MPEG_SUFFIXES and not _is_other(head)):
            return _inspect_mpeg(file, size, named=path.suffix.lower() in MPEG_SUFFIXES)
        if head[:4] == b".snd":
            return Inspection(truncated=_au_shortfall(head, size))
        return Inspection(truncated=_chunk_shortfall(file, size, head))


# --------------------------------------------------------------------------------------- files made of chunks


@dataclass(frozen=True)
class _ChunkLayout:
    """How one family of formats writes its chunks: an identifier, a size, a body.

    Attributes:
        first: Byte at which the first chunk begins.
        data: Identifier of the chunk that holds the samples.
        size: `struct` format of the size field.
        counts_header: The size field counts the chunk's own identifier and size field.
        align: Chunks begin at multiples of this many bytes.
    """

    first: int
    data: bytes
    size: str
    counts_header: bool = False
    align: int = 2


_SLACK = 64  # bytes
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_LAYOUTS = {
    b"RIFF": _ChunkLayout(12, b"data", "<I"),
    b"RIFX": _ChunkLayout(12, b"data", ">I"),
    b"RF64": _ChunkLayout(12, b"data", "<I"),
    b"BW64": _ChunkLayout(12, b"data", "<I"),
    b"FORM": _ChunkLayout(12, b"SSND", ">I"),
    b"caff": _ChunkLayout(8, b"data", ">Q", align=1),
    _W64_RIFF: _ChunkLayout(
        40, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", "<Q", counts_header=True, align=8
    ),
}


def _missing(start: int, length: int, size: int) -> str | None:
    # Lengths that are written where the true one is not known yet: 0 (a recorder that was not closed),
    # 0xFFFFFFFF (FFmpeg), about 2 GiB (SoX, eSpeak, arecord), -1 in 64 bits (CAF).
    if length in (0, (1 << 64) - 1) or 0x7FFFF000 <= length <= 0x80001000 or 0xFFFFFF00 <= length < 1 << 32:
        return None
    if start + length <= size + _SLACK:
        return None
    return f"the header promises {length:,} bytes of sound and {max(0, size - start):,} are there"


def _chunk_shortfall(file: BinaryIO, size: int, head: bytes) -> str | None:
    """What is missing of the data chunk, in words."""
    magic = next((m for m in _LAYOUTS if head.startswith(m)), None)
    if magic is None:
        return None
    layout = _LAYOUTS[magic]
    width = struct.calcsize(layout.size)
    header = len(layout.data) + width
    long_size: int | None = None
    position = layout.first
    while True:
        if position + header > size:
            return "its header is cut"
        file.seek(position)
        field = file.read(header)
        name = field[:-width]
        length = int(struct.unpack(layout.size, field[-width:])[0])
        if layout.counts_header:
            length -= header
        if length < 0 or not (name[:4].isascii() and name[:4].decode().isprintable()):
            return None  # not a chunk: a program forgot a byte of padding, and libsndfile must find its way
        body = position + header
        if name == b"ds64":  # RF64 and BW64 keep the 64-bit size of the data chunk here
            long_size = int(struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0])
        if name == layout.data:
            if magic in (b"RF64", b"BW64") and length == 0xFFFFFFFF and long_size is not None:
                length = long_size
            return _missing(body, length, size)
        position = body + length + (-(body + length)) % layout.align


def _au_shortfall(head: bytes, size: int) -> str | None:
    if len(head) < 12:
        return "its header is cut"
    start, length = struct.unpack(">II", head[4:12])
    return _missing(start, length, size)


# -------------------------------------------------------------------------------------------------------- Ogg


_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255


def _ogg_shortfall(file: BinaryIO, size: int) -> str | None:
    """RFC 3533, section 6: a page is its header, a table of segment lengths, and the segments."""
    # Twice the largest page, so that a tag of another program behind the last page does not hide it.
    file.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return "its last page is cut"
    segments = tail[start + 26]
    table = tail[start + 27 : start + 27 + segments]
    if len(table) < segments or start + 27 + segments + sum(table) > len(tail):
        return "its last page is cut"
    if not tail[start + 5] & 4:
        return "its last page lacks the mark of the end"
    return None


# ------------------------------------------------------------------------------------------------------- MPEG


MPEG_SUFFIXES = frozenset({".mp3", ".mp2", ".mpga"})
_KBITS = {  # (MPEG-1?, layer) -> bit rates by index, ISO/IEC 11172-3 and 13818-3
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version bits


def _frame_table() -> dict[int, tuple[int, int]]:
    """The second and third byte of a frame header -> bytes and samples of the frame."""
    table = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version not in _RATES or layer == 4:
            continue
        samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
        slot = 4 if layer == 1 else 1
        for third in range(256):
            index, rate = third >> 4, third >> 2 & 3
            if index in (0, 15) or rate == 3:
                continue
            bits = _KBITS[version == 3, layer][index - 1] * 1000
            slots = samples // 8 * bits // (_RATES[version][rate] * slot) + (third >> 1 & 1)
            table[second << 8 | third] = (slots * slot, samples)
    return table


_FRAMES = _frame_table()


def _is_mpeg(head: bytes) -> bool:
    return head[:3] == b"ID3" or (head[:1] == b"\xff" and _frame_at(head, 0) is not None)


def _is_other(head: bytes) -> bool:
    return head[:4] == b"fLaC" or head[:4] == b".snd" or any(head.startswith(m) for m in _LAYOUTS)


def _frame_at(data: bytes | mmap.mmap, position: int) -> tuple[int, int] | None:
    if position + 4 > len(data) or data[position] != 0xFF:
        return None
    return _FRAMES.get(data[position + 1] << 8 | data[position + 2])


def _inspect_mpeg(file: BinaryIO, size: int, *, named: bool) -> Inspection:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first = _first_frame(data)
        if first is None:
            # An ID3 tag may also stand before a file of another kind, which libsndfile can name.
            return Inspection(foreign=named)
        promised = _promised_mpeg_bytes(data, first)
        if promised is not None:
            total, frames = promised
            present = size - first
            # Encoders differ in whether the frame of the header itself counts: one frame is let go.
            if present < total - total // max(frames, 1) - 1:
                return Inspection(truncated=f"the header promises {total:,} bytes of sound and {present:,} are there")
            return Inspection()
        return _walk_mpeg(data, first)


def _first_frame(data: mmap.mmap, reach: int = 1 << 16) -> int | None:
    """Position of the first frame header that another one follows (or the end of the file)."""
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:  # the size of the tag is written in four times seven bits
        start = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
    position = data.find(b"\xff", start)
    while 0 <= position < start + reach:
        frame = _frame_at(data, position)
        if frame is not None:
            following = position + frame[0]
            if following >= len(data) or _frame_at(data, following) is not None:
                return position
        position = data.find(b"\xff", position + 1)
    return None


def _promised_mpeg_bytes(data: mmap.mmap, first: int) -> tuple[int, int] | None:
    """Bytes and frames by the length header that encoders hide in the first frame, where there is one."""
    frame = bytes(data[first : first + 192])
    vbri = frame.find(b"VBRI", 0, 64)
    if vbri >= 0 and len(frame) >= vbri + 18:
        total, frames = struct.unpack(">II", frame[vbri + 10 : vbri + 18])
        return int(total), int(frames)
    xing = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if xing >= 0 and len(frame) >= xing + 16:
        flags, frames, total = struct.unpack(">III", frame[xing + 4 : xing + 16])
        if flags & 3 == 3:
            return int(total), int(frames)
    return None


def _walk_mpeg(data: mmap.mmap, first: int) -> Inspection:
    position, samples, size = first, 0, len(data)
    while position + 4 <= size:
        if data[position] != 0xFF:
            break
        frame = _FRAMES.get(data[position + 1] << 8 | data[position + 2])
        if frame is None:
            break
        if position + frame[0] > size:
            return Inspection(truncated="its last frame is cut")
        position += frame[0]
        samples += frame[1]
    rest = bytes(data[position : position + 8])
    if size - position < 4 or rest.startswith((b"TAG", b"ID3", b"APETAGEX", b"LYRICS", bytes(4))):
        return Inspection(frames=samples)
    return Inspection()  # the chain is broken by something unknown: nothing can be said
