"""Read and change the page alignment of shared libraries, for phones with 16 KiB pages (Android 15 or newer).

The AAR's libraries are built for 4 KiB pages. `relaid` changes the layout of a 64-bit library without changing any
address: it joins the writable segments at file offset == address, so that no 16 KiB page has both code and data.
(ELF-64 Object File Format, version 1.5; Android's guide to 16 KB page sizes.)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from steps import BuildError

PAGE = 0x4000
PT_NULL, PT_LOAD, PT_GNU_RELRO = 0, 1, 0x6474E552
WRITABLE = 2
_SEGMENT = struct.Struct("<IIQQQQQQ")
_OFFSET_IN_SECTION = 24
_SECTION_BYTES = 64


@dataclass(frozen=True)
class Segment:
    """A program header; offset: in the file; address: in memory; both sizes in bytes."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    align: int

    @property
    def file_end(self) -> int:
        return self.offset + self.file_size


def load_alignments(library: bytes) -> set[int]:
    """Return `p_align` of every loaded segment, for 32 and 64 bit."""
    wide = _is_64_bit(library)
    table, size, count = _header_table(library)
    alignments = set()
    for offset in range(table, table + size * count, size):
        if struct.unpack_from("<I", library, offset)[0] == PT_LOAD:
            alignments.add(struct.unpack_from("<Q" if wide else "<I", library, offset + (48 if wide else 28))[0])
    return alignments


def relaid(library: bytes) -> bytes:
    """Return a 64-bit library with a layout for 16 KiB pages, unchanged if it has one already.

    Raises: BuildError for an unsupported layout, which only relinking can change.
    """
    segments = _segments(library)
    loads = [s for s in segments if s.kind == PT_LOAD]
    if all(s.align >= PAGE for s in loads):
        return library
    code = [s for s in loads if not s.flags & WRITABLE]
    data = [s for s in loads if s.flags & WRITABLE]
    if len(code) != 1 or not data or code[0].offset != code[0].address or data[0].offset != data[0].address:
        raise BuildError("unsupported layout of the library's segments")
    if data[0].address % PAGE:
        raise BuildError(f"the writable part starts at {data[0].address:#x}, not on a page of 16 KiB")
    moves = _Moves(library, data)
    out = bytearray(moves.content)
    for index, segment in enumerate(_joined(segments, data, moves)):
        _SEGMENT.pack_into(out, _header_table(library)[0] + index * _SEGMENT.size, *vars(segment).values())
    _move_sections(out, library, moves)
    return bytes(out)


class _Moves:
    """The file's content with its writable segments at offset == address, and the new value of each old offset.

    data: the writable segments in order; the first one is not moved.
    """

    def __init__(self, library: bytes, data: list[Segment]) -> None:
        content = bytearray(library[: data[0].file_end])
        self._moved = []
        for segment in data[1:]:
            content += bytes(segment.address - len(content))
            content += library[segment.offset : segment.file_end]
            self._moved.append((segment.offset, segment.file_end, segment.address - segment.offset))
        self._end = max(segment.file_end for segment in data)
        self._tail = len(content) - self._end
        self.content = bytes(content + library[self._end :])

    def new(self, offset: int) -> int:
        for start, end, shift in self._moved:
            if start <= offset < end:
                return offset + shift
        return offset + self._tail if offset >= self._end else offset


def _joined(segments: list[Segment], data: list[Segment], moves: _Moves) -> list[Segment]:
    """Return the program headers of the new layout, with a single writable segment."""
    first, last = data[0], data[-1]
    whole = replace(
        first,
        file_size=last.address + last.file_size - first.address,
        memory_size=last.address + last.memory_size - first.address,
        align=PAGE,
    )
    new = []
    for segment in segments:
        if segment is first:
            segment = whole
        elif any(segment is other for other in data[1:]):
            segment = replace(segment, kind=PT_NULL)
        elif segment.kind == PT_LOAD:
            segment = replace(segment, align=PAGE)
        elif segment.kind == PT_GNU_RELRO:  # only complete pages can be made read-only
            end = (segment.address + segment.file_size) // PAGE * PAGE
            size = max(end, segment.address) - segment.address
            segment = replace(segment, file_size=size, memory_size=size)
        elif segment.kind != PT_NULL:
            segment = replace(segment, offset=moves.new(segment.offset))
        new.append(segment)
    return new


def _move_sections(out: bytearray, library: bytes, moves: _Moves) -> None:
    """Update the section headers, which are not loaded but read by tools."""
    table = moves.new(struct.unpack_from("<Q", library, 40)[0])
    struct.pack_into("<Q", out, 40, table)
    for index in range(struct.unpack_from("<H", library, 60)[0]):
        place = table + index * _SECTION_BYTES + _OFFSET_IN_SECTION
        offset = struct.unpack_from("<Q", out, place)[0]
        struct.pack_into("<Q", out, place, moves.new(offset) if offset else 0)


def _segments(library: bytes) -> list[Segment]:
    if not _is_64_bit(library):
        raise BuildError("not a 64-bit library; 32-bit ones never run on 16 KiB pages")
    table, size, count = _header_table(library)
    return [Segment(*_SEGMENT.unpack_from(library, table + size * index)) for index in range(count)]


def _is_64_bit(library: bytes) -> bool:
    if library[:4] != b"\x7fELF":
        raise BuildError("not a shared library (ELF)")
    return library[4] == 2


def _header_table(library: bytes) -> tuple[int, int, int]:
    """Return (offset of the program headers, size of each in bytes, their number)."""
    if _is_64_bit(library):
        return (struct.unpack_from("<Q", library, 32)[0], *struct.unpack_from("<HH", library, 54))
    return (struct.unpack_from("<I", library, 28)[0], *struct.unpack_from("<HH", library, 42))
