"""TFLite Metadata: what a .tflite file says to clients that never heard of skinedge.

A second flatbuffer, in the model's metadata entry TFLITE_METADATA, tells what to do with an image's bytes before the
graph, and which file of the appended zip names the classes. Tables, field numbers and enumerations:
`metadata_schema.fbs`, version 1.5.0, of TensorFlow Lite Support and of MediaPipe.
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

SIGNATURE = "serving_default"  # name of the graph's only signature
ENTRY = b"TFLITE_METADATA"
_MODEL_MAGIC, _METADATA_MAGIC = b"TFL3", b"M001"
_PARSER = "1.0.0"  # the oldest parser that knows every field used here
_RGB, _IMAGE, _NORMALIZATION, _AXIS_LABELS = 1, 2, 1, 2  # ColorSpaceType, two unions, AssociatedFileType
_ALIGNMENT = 16  # of a tensor's bytes: `force_align` in the model's schema, which the Python builder does not follow


# Table -> its fields in the schema's order, as far as the last one that is used here; a union has its type before it.
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
        return cls({_FIELDS[kind].index(name): value for name, value in fields.items()})


def with_metadata(model: bytes, description: ModelDescription, outputs: Sequence[str]) -> bytes:
    """A .tflite flatbuffer with TFLite Metadata in it, and all weights inside the flatbuffer; the graph stays.

    ai-edge-quantizer keeps weights behind the flatbuffer, at offsets from the file's start. Any writer that makes the
    flatbuffer longer leaves those pointing at other bytes, and old readers do not follow them at all.
    outputs: the names that the file's outputs must have, in any order.
    Raises: SkinedgeError when it has others.
    """
    from ai_edge_litert import schema_py_generated as schema

    found = schema.ModelT.InitFromPackedBuf(model)
    _take_in(found.buffers, model)
    buffer = schema.BufferT(data=_bytes(_encode(_model(description, _outputs(found, outputs)), _METADATA_MAGIC)))
    kept = [entry for entry in found.metadata or [] if entry.name != ENTRY]
    found.metadata = [*kept, schema.MetadataT(ENTRY, len(found.buffers))]
    found.buffers.append(buffer)
    builder = _aligned_builder(len(model))
    builder.Finish(found.Pack(builder), _MODEL_MAGIC)
    return bytes(builder.Output())


def _take_in(buffers: list[Any], model: bytes) -> None:
    """Move weights that lie behind the flatbuffer into it."""
    for buffer in buffers:
        if buffer.offset > 1:  # 0 and 1: there is nothing outside
            buffer.data = _bytes(model[buffer.offset : buffer.offset + buffer.size])
            buffer.offset = buffer.size = 0


def _outputs(model: Any, expected: Sequence[str]) -> list[str]:
    """Names of the outputs in the graph's order, which is not always the signature's."""
    named = {item.tensorIndex: item.name.decode() for item in model.signatureDefs[0].outputs}
    names = [named[index] for index in model.subgraphs[0].outputs]
    if sorted(names) != sorted(expected):
        raise SkinedgeError(f"the TFLite file's outputs are {', '.join(names)}, expected {', '.join(expected)}")
    return names


def _model(said: ModelDescription, outputs: list[str]) -> Table:
    synthetic = "Trained on SYNTHETIC drawings: it knows nothing of skin. " if said.synthetic else ""
    license = ". ".join(text for text in (said.license, said.attribution) if text) or "No licence was stated."
    graph = Table.of(
        "SubGraphMetadata",
        input_tensor_metadata=[_image(said)],
        output_tensor_metadata=[_OUTPUTS[name]() for name in outputs],
    )
    return Table.of(
        "ModelMetadata",
        name=said.name,
        description=f"{synthetic}{said.notice} {intended_use(said.domain)}",
        version=said.run_id,
        subgraph_metadata=[graph],
        author="skinedge",
        license=license,
        min_parser_version=_PARSER,
    )


def _image(said: ModelDescription) -> Table:
    """A client computes (byte - mean) / std, whatever the input's dtype, then quantizes where the input asks for it."""
    contract = CONTRACTS[said.input]
    low, high = contract.range
    scaling = Table.of("NormalizationOptions", mean=(float(contract.offset),), std=(float(contract.scale),))
    return Table.of(
        "TensorMetadata",
        name="image",
        description=f"{resize_text(said.preprocess.size)} Contract '{contract.name}': {formula(contract)}.",
        content=Table.of(
            "Content", content_properties_type=_IMAGE, content_properties=Table.of("ImageProperties", color_space=_RGB)
        ),
        process_units=[Table.of("ProcessUnit", options_type=_NORMALIZATION, options=scaling)],
        stats=Table.of("Stats", max=(high,), min=(low,)),
    )


def _probabilities() -> Table:
    """No score calibration: temperature and biases are in the graph already, and would be applied twice.

    No score threshold either: ours is on the sum over several classes, which the schema cannot say.
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
    """Write a text, a vector or a table, what it refers to first; returns its place."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Table):
        return _put_table(builder, value)
    places = [item if isinstance(item, float) else _put(builder, item) for item in value]
    builder.StartVector(4, len(places), 4)
    add = builder.PrependUOffsetTRelative if isinstance(value, list) else builder.PrependFloat32
    for place in reversed(places):
        add(place)
    return int(builder.EndVector())


def _put_table(builder: Any, table: Table) -> int:
    placed = {n: value if isinstance(value, int) else _put(builder, value) for n, value in table.fields.items()}
    builder.StartObject(max(placed, default=-1) + 1)
    for number, place in placed.items():
        if isinstance(table.fields[number], int):
            builder.PrependInt8Slot(number, place, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, place, 0)
    return int(builder.EndObject())


def _bytes(data: bytes) -> Any:
    import numpy as np

    return np.frombuffer(data, np.uint8)


def _aligned_builder(size: int) -> Any:
    """A builder that starts every vector of bytes at a multiple of 16."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
            return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

    return Builder(size)
