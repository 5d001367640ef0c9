"""Read the TFLite Metadata of a .tflite file: normalization of the image, and the names of its label files.

Tables and field numbers: schema.fbs of TensorFlow Lite, and `metadata_schema.fbs` of TensorFlow Lite Support.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from skinedge_bench.runtimes.input_layout import Normalization

ENTRY = b"TFLITE_METADATA"
MODEL_BUFFERS, MODEL_METADATA = 4, 6
ENTRY_NAME, ENTRY_BUFFER, BUFFER_DATA = 0, 1, 0
SUBGRAPHS, INPUTS, OUTPUTS = 3, 2, 3  # in ModelMetadata; in SubGraphMetadata
PROCESS_UNITS, ASSOCIATED_FILES = 4, 6  # in TensorMetadata
UNIT_TYPE, UNIT_OPTIONS, MEAN, STD = 0, 1, 0, 1
NORMALIZATION, SCORE_CALIBRATION = 1, 2  # types of a process unit
FILE_NAME, FILE_TYPE, AXIS_LABELS = 0, 2, 2


@dataclass(frozen=True)
class TfliteMetadata:
    """What the metadata says.

    normalization: of the image, None if not stated; label_files: of the outputs' classes, in the appended zip;
    calibrated: whether clients are asked to calibrate the scores, which skinedge does not.
    """

    normalization: Normalization | None = None
    label_files: tuple[str, ...] = ()
    calibrated: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What the metadata asks for and is not done, as sentences."""
        return ("the score calibration of the file's TFLite Metadata is not applied",) if self.calibrated else ()


def read_metadata(content: bytes) -> TfliteMetadata:
    """Read the metadata of a file that LiteRT has loaded.

    Raises: ValueError, IndexError, struct.error for damaged metadata, or a normalization that cannot be computed.
    """
    if ENTRY not in content:
        return TfliteMetadata()
    model = _Table.root(content)
    index = next((e.number(ENTRY_BUFFER, 4) for e in model.tables(MODEL_METADATA) if e.data(ENTRY_NAME) == ENTRY), None)
    if index is None:
        return TfliteMetadata()
    data = model.tables(MODEL_BUFFERS)[index].data(BUFFER_DATA)
    subgraphs = _Table.root(data).tables(SUBGRAPHS) if data else []
    images = [tensor for graph in subgraphs[:1] for tensor in graph.tables(INPUTS)]
    results = [tensor for graph in subgraphs[:1] for tensor in graph.tables(OUTPUTS)]
    files = [file for tensor in results for file in tensor.tables(ASSOCIATED_FILES)]
    labels = [file.data(FILE_NAME).decode() for file in files if file.number(FILE_TYPE, 1) == AXIS_LABELS]
    units = [unit for image in images for unit in image.tables(PROCESS_UNITS)]
    options = [unit.child(UNIT_OPTIONS) for unit in units if unit.number(UNIT_TYPE, 1) == NORMALIZATION]
    after = [unit.number(UNIT_TYPE, 1) for tensor in results for unit in tensor.tables(PROCESS_UNITS)]
    return TfliteMetadata(_normalization(options), tuple(labels), SCORE_CALIBRATION in after)


def _normalization(options: list[_Table]) -> Normalization | None:
    if not options:
        return None
    mean, std = options[0].floats(MEAN), options[0].floats(STD)
    if len(options) > 1 or {len(mean), len(std)} - {1, 3} or not all(0 < value < 1e9 for value in std):
        raise ValueError(f"its normalization has mean {list(mean)} and std {list(std)}")
    return Normalization(mean, std)


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer, at a position in its bytes; a missing field is 0 or empty.

    Format: "FlatBuffers internals", sections Tables, Vectors and Strings.
    """

    content: bytes
    position: int

    @classmethod
    def root(cls, content: bytes) -> _Table:
        return cls(content, _unsigned(content, 0))

    def number(self, field: int, size: int) -> int:
        """Return an unsigned integer of `size` bytes."""
        at = self._at(field)
        return int.from_bytes(self.content[at : at + size], "little") if at else 0

    def data(self, field: int) -> bytes:
        """Return a vector of bytes, or a string."""
        start, length = self._vector(field)
        return self.content[start : start + length]

    def floats(self, field: int) -> tuple[float, ...]:
        """Return a vector of float32."""
        start, length = self._vector(field)
        return struct.unpack_from(f"<{length}f", self.content, start)

    def tables(self, field: int) -> list[_Table]:
        """Return a vector of tables."""
        start, length = self._vector(field)
        return [self._follow(start + 4 * index) for index in range(length)]

    def child(self, field: int) -> _Table:
        """Return a table, or the value of a union."""
        return self._follow(self._at(field))

    def _at(self, field: int) -> int:
        """Return the position of a field, 0 if it is missing."""
        (distance,) = struct.unpack_from("<i", self.content, self.position)
        fields, entry = self.position - distance, 4 + 2 * field
        (size,) = struct.unpack_from("<H", self.content, fields)
        offset = struct.unpack_from("<H", self.content, fields + entry)[0] if entry < size else 0
        return self.position + offset if offset else 0

    def _vector(self, field: int) -> tuple[int, int]:
        """Return position and length of a vector."""
        at = self._at(field)
        start = at + _unsigned(self.content, at) if at else 0
        return (start + 4, _unsigned(self.content, start)) if at else (0, 0)

    def _follow(self, at: int) -> _Table:
        return _Table(self.content, at + _unsigned(self.content, at))


def _unsigned(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])
