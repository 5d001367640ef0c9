"""TFLite Metadata: description of a .tflite file for generic clients.

A second flatbuffer, in the model's metadata entry TFLITE_METADATA, describes the normalization of an image's bytes
before the graph, and names the file of the appended zip archive that lists the classes. Tables, field numbers and
enumerations: `metadata_schema.fbs`, version 1.5.0, of TensorFlow Lite Support and of MediaPipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skinedge.core.errors import SkinedgeError
from skinedge.core.input_format import CONTRACTS, HEATMAP, LOGITS, PROBABILITIES
from skinedge.run.embedded_metadata import ModelDescription
from skinedge.run.file_card import MEANING, formula, resize_text
from skinedge.run.model_card import intended_use
from skinedge_export.formats.metadata import LABELS_FILE

SIGNATURE = "serving_default"  # the graph's only signature
ENTRY = b"TFLITE_METADATA"
_MODEL_MAGIC, _METADATA_MAGIC = b"TFL3", b"M001"
_PARSER = "1.0.0"  # the oldest parser that knows every field used here
_RGB, _IMAGE, _NORMALIZATION, _AXIS_LABELS = 1, 2, 1, 2  # ColorSpaceType, two unions, AssociatedFileType
_ALIGNMENT = 16  # of a tensor's bytes: `force_align` in the model's schema, which the Python builder does not follow


# Table -> its fields in the schema's order, up to the last one used here; a union is preceded by its type.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata"),
        *("author", "license", "associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content"),
        *("process_units", "stats", "associated_files"),
    ),
    "Content": ("content_properties_type", "content_properties"),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}


@dataclass(frozen=True)
class Table:
    """A flatbuffer table: field number -> text, a table, a list of either, a tuple of float32, or an int (a byte)."""

    fields: Mapping[int, Any]

    @classmethod
    def of(cls, kind: str, **fields: Any) -> Table:
        """Build a table of the flatbuffer."""
        return cls({_FIELDS[kind].index(name): value for name, value in fields.items()})


def with_metadata(model: bytes, description: ModelDescription, outputs: Sequence[str]) -> bytes:
    """Return a .tflite flatbuffer with TFLite Metadata, and with all weights inside the flatbuffer; same graph.

    ai-edge-quantizer stores weights behind the flatbuffer, at offsets from the file's start. A longer flatbuffer would
    make those offsets wrong, and old readers do not follow them.
    outputs: required names of the outputs, in any order.
    Raises: SkinedgeError if the file has other outputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    unpacked = schema.ModelT.InitFromPackedBuf(model)
    _move_inside(unpacked.buffers, model)
    buffer = schema.BufferT(data=_bytes(_encode(_model(description, _outputs(unpacked, outputs)), _METADATA_MAGIC)))
    others = [entry for entry in unpacked.metadata or [] if entry.name != ENTRY]
    unpacked.metadata = [*others, schema.MetadataT(ENTRY, len(unpacked.buffers))]
    unpacked.buffers.append(buffer)
    builder = _aligned_builder(len(model))
    builder.Finish(unpacked.Pack(builder), _MODEL_MAGIC)
    return bytes(builder.Output())


def _move_inside(buffers: list[Any], model: bytes) -> None:
    """Move weights stored behind the flatbuffer into it."""
    for buffer in buffers:
        if buffer.offset > 1:  # 0 and 1: no data outside
            buffer.data = _bytes(model[buffer.offset : buffer.offset + buffer.size])
            buffer.offset = buffer.size = 0


def _outputs(model: Any, expected: Sequence[str]) -> list[str]:
    """Return the outputs' names in the graph's order, which is not always the signature's."""
    named = {item.tensorIndex: item.name.decode() for item in model.signatureDefs[0].outputs}
    names = [named[index] for index in model.subgraphs[0].outputs]
    if sorted(names) != sorted(expected):
        raise SkinedgeError(f"the TFLite file's outputs are {', '.join(names)}, expected {', '.join(expected)}")
    return names


def _model(description: ModelDescription, outputs: list[str]) -> Table:
    synthetic = "Trained on SYNTHETIC drawings: it knows nothing of skin. " if description.synthetic else ""
    license = (
        ". ".join(text for text in (description.license, description.attribution) if text) or "No licence was stated."
    )
    graph = Table.of(
        "SubGraphMetadata",
        input_tensor_metadata=[_image(description)],
        output_tensor_metadata=[_OUTPUTS[name]() for name in outputs],
    )
    return Table.of(
        "ModelMetadata",
        name=description.name,
        description=f"{synthetic}{description.notice} {intended_use(description.domain)}",
        version=description.run_id,
        subgraph_metadata=[graph],
        author="skinedge",
        license=license,
        min_parser_version=_PARSER,
    )


def _image(description: ModelDescription) -> Table:
    """Describe the input: a client computes (byte - mean) / std for any dtype, then quantizes if necessary."""
    contract = CONTRACTS[description.input]
    low, high = contract.range
    scaling = Table.of("NormalizationOptions", mean=(float(contract.offset),), std=(float(contract.scale),))
    return Table.of(
        "TensorMetadata",
        name="image",
        description=f"{resize_text(description.preprocess)} Contract '{contract.name}': {formula(contract)}.",
        content=Table.of(
            "Content", content_properties_type=_IMAGE, content_properties=Table.of("ImageProperties", color_space=_RGB)
        ),
        process_units=[Table.of("ProcessUnit", options_type=_NORMALIZATION, options=scaling)],
        stats=Table.of("Stats", max=(high,), min=(low,)),
    )


def _probabilities() -> Table:
    """Describe the probabilities.

    Without score calibration: temperature and biases are in the graph already, and would be applied twice. Without a
    score threshold: ours is on the sum over several classes, which the schema cannot express.
    """
    order = "One class a line, in the order of the output."
    return Table.of(
        "TensorMetadata",
        name=PROBABILITIES,
        description=MEANING[PROBABILITIES],
        stats=Table.of("Stats", max=(1.0,), min=(0.0,)),
        associated_files=[Table.of("AssociatedFile", name=LABELS_FILE, description=order, type=_AXIS_LABELS)],
    )


def _logits() -> Table:
    return Table.of("TensorMetadata", name=LOGITS, description=MEANING[LOGITS])


def _heatmap() -> Table:
    axes = ["batch", "height", "width", "class"]
    return Table.of("TensorMetadata", name=HEATMAP, description=MEANING[HEATMAP], dimension_names=axes)


_OUTPUTS = {PROBABILITIES: _probabilities, LOGITS: _logits, HEATMAP: _heatmap}


def _encode(root: Table, magic: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(_put(builder, root), magic)
    return bytes(builder.Output())


def _put(builder: Any, value: Any) -> int:
    """Write a text, a vector or a table after the objects it refers to; returns its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Table):
        return _put_table(builder, value)
    elements = [item if isinstance(item, float) else _put(builder, item) for item in value]
    builder.StartVector(4, len(elements), 4)
    add = builder.PrependUOffsetTRelative if isinstance(value, list) else builder.PrependFloat32
    for element in reversed(elements):
        add(element)
    return int(builder.EndVector())


def _put_table(builder: Any, table: Table) -> int:
    slots = {n: value if isinstance(value, int) else _put(builder, value) for n, value in table.fields.items()}
    builder.StartObject(max(slots, default=-1) + 1)
    for number, slot in slots.items():
        if isinstance(table.fields[number], int):
            builder.PrependInt8Slot(number, slot, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, slot, 0)
    return int(builder.EndObject())


def _bytes(data: bytes) -> Any:
    import numpy as np

    return np.frombuffer(data, np.uint8)


def _aligned_builder(size: int) -> Any:
    """Return a builder that aligns every vector of bytes to 16."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
            return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

    return Builder(size)
