"""Model files (.onnx, .tflite, .safetensors) of a run or standalone, adapters and checkpoints."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from random import Random
from typing import Any

from experiments.fuzz import documents, trees
from experiments.fuzz.arrays import zipped
from experiments.fuzz.case import Base, Case
from experiments.fuzz.documents import PREDICT, refitted
from experiments.fuzz.fixture import IMAGE, RUN
from experiments.fuzz.mutate import NAMES, mutated

TFLITE, ONNX, MERGED = "model.int8.tflite", "model.fp32.onnx", "model.safetensors"
ADAPTER, ADAPTER_CONFIG = f"{RUN}/adapter/adapter_model.safetensors", f"{RUN}/adapter/adapter_config.json"
UNFINISHED = "runs/unfinished.training"
CACHES = ("../home/.cache", "../tmp")


def tflite(rng: Random, base: Base) -> Case:
    """Mutate a standalone .tflite file."""
    return _alone("tflite", rng, TFLITE, _tflite(rng, base.read(f"alone/{TFLITE}")))


def onnx(rng: Random, base: Base) -> Case:
    """Mutate a standalone .onnx file."""
    return _alone("onnx", rng, ONNX, _onnx(rng, base.read(f"alone/{ONNX}")))


def of_run(rng: Random, base: Base) -> Case:
    """Mutate the bytes or the metadata of a run's model file, with a matching hash."""
    name = f"{RUN}/{rng.choice((TFLITE, ONNX))}"
    if name.endswith(TFLITE):
        content, argv = _tflite(rng, base.read(name)), PREDICT
    else:
        content, argv = _onnx(rng, base.read(name)), (*PREDICT, "--file", ONNX)
    argv = (*rng.choice((documents.SHIP, documents.WEB, documents.ANDROID)),) if rng.random() < 0.2 else argv
    return Case("model of a run", argv, refitted(base, name, content))


def merged(rng: Random, base: Base) -> Case:
    """Mutate a merged network, standalone or in its run with a matching hash."""
    if rng.random() < 0.5:
        content = _safetensors(rng, base.read(f"alone/{MERGED}"))
        argv = ("predict", IMAGE, "--run", f"alone/{MERGED}", "--jobs", "1")
        return Case("safetensors", argv, {f"alone/{MERGED}": content}, torch=True)
    name = f"{RUN}/{MERGED}"
    files = refitted(base, name, _safetensors(rng, base.read(name)))
    return Case("safetensors", (*PREDICT, "--file", MERGED), files, torch=True)


def adapter(rng: Random, base: Base) -> Case:
    """Mutate an adapter or its configuration, with a matching hash, for `merge`."""
    if rng.random() < 0.5:
        files = refitted(base, ADAPTER, _safetensors(rng, base.read(ADAPTER)))
    else:
        files = refitted(base, ADAPTER_CONFIG, _json(rng, base, ADAPTER_CONFIG))
    return Case("adapter", ("merge", RUN, "--data", "data/ham"), files, writes=("out", RUN), torch=True)


def checkpoint(rng: Random, base: Base) -> Case:
    """Mutate a checkpoint or the job of an unfinished training."""
    names = [name for name in base.files(UNFINISHED) if name.endswith((".pt", "job.json"))]
    name = rng.choice(names)
    content = _json(rng, base, name) if name.endswith("json") else _checkpoint(rng, base.read(name))
    images = str(base.folder / "data/ham")  # the training to resume names their folder
    argv = ("train", "--data", images, "--config", "config.toml", "--out", "runs/unfinished", "--resume")
    return Case("checkpoint", argv, {name: content}, writes=("out", "runs", *CACHES), torch=True)


def _alone(kind: str, rng: Random, name: str, content: bytes) -> Case:
    argv = rng.choice(
        (("predict", IMAGE, "--run", f"alone/{name}", "--jobs", "1"),) * 4 + (("verify", f"alone/{name}"),)
    )
    return Case(kind, argv, {f"alone/{name}": content})


def _json(rng: Random, base: Base, name: str) -> bytes:
    return (
        mutated(rng, base.read(name)) if rng.random() < 0.2 else trees.to_json(rng, trees.mutated(rng, base.json(name)))
    )


def _tflite(rng: Random, data: bytes) -> bytes:
    """Mutate bytes, offsets in the flatbuffer, or the zip behind it."""
    choice = rng.random()
    if choice < 0.4:
        return mutated(rng, data)
    start = data.find(b"PK\3\4")
    if choice < 0.7 or start < 0:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            offset = 4 * rng.randrange((start if start > 0 else len(data)) // 4)
            value = struct.unpack_from("<i", changed, offset)[0]
            new = rng.choice((0, -1, 2**31 - 1, value + 4, value - 4, -value, value * 2, rng.randrange(2**31)))
            struct.pack_into("<I", changed, offset, new % 2**32)
        return bytes(changed)
    return data[:start] + _zip(rng, data[start:])


def _zip(rng: Random, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    name = rng.choice(list(members))
    if name.endswith(".json") and rng.random() < 0.6:
        members[name] = trees.to_json(rng, trees.mutated(rng, json.loads(members[name])))
    elif rng.random() < 0.3:
        members[rng.choice(NAMES)] = members.pop(name)
    elif rng.random() < 0.2:
        members[name] = b"\0" * (rng.choice((10, 2000)) << 20 if rng.random() < 0.05 else 1 << 20)
    else:
        members[name] = rng.choice((mutated(rng, members[name]), b"", b"\xff\xfe", b"[" * 100_000, b"nevus\n" * 3))
    archive = zipped(rng, members)
    return mutated(rng, archive) if rng.random() < 0.3 else archive


def _onnx(rng: Random, data: bytes) -> bytes:
    """Mutate bytes, or fields of the graph."""
    if rng.random() < 0.4:
        return mutated(rng, data)
    import onnx

    model = onnx.load_from_string(data)
    for _ in range(rng.choice((1, 1, 3))):
        _change_graph(rng, model)
    content: bytes = model.SerializeToString()
    return content if content != data else mutated(rng, data)


def _change_graph(rng: Random, model: Any) -> None:
    graph, integer = model.graph, rng.choice((0, -1, 1, 7, 2**31, 2**40, 2**62))
    choice = rng.randrange(9)
    node, weight = rng.choice(graph.node), rng.choice(graph.initializer)
    if choice == 0 and weight.dims:
        weight.dims[rng.randrange(len(weight.dims))] = integer
    elif choice == 1:
        weight.data_type = rng.randrange(24)
    elif choice == 2:
        weight.raw_data = weight.raw_data[: rng.randrange(len(weight.raw_data) + 1)]
    elif choice == 3:
        node.op_type = rng.choice(
            ("Loop", "If", "Reshape", "Expand", "ConstantOfShape", "Tile", "Pad", "Resize", "Nothing")
        )
    elif choice == 4 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(
            [*(item.name for item in graph.initializer), "", *NAMES[:3]]
        )
    elif choice == 5 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = max(min(integer, 2**63 - 1), -(2**63))
        attribute.ints[:] = [integer] * len(attribute.ints)
    elif choice == 6:
        shape = rng.choice((*graph.input, *graph.output)).type.tensor_type
        shape.elem_type = rng.choice((shape.elem_type, rng.randrange(24)))
        rng.choice(shape.shape.dim).dim_value = integer
    elif choice == 7 and model.metadata_props:
        entry = rng.choice(model.metadata_props)
        entry.value = _metadata(rng, entry.value)
    else:
        weight.data_location = 1
        weight.external_data.add(key="location", value=rng.choice(("../victim.txt", "/etc/passwd", "x")))


def _metadata(rng: Random, text: str) -> str:
    try:
        return trees.to_json(rng, trees.mutated(rng, json.loads(text))).decode("utf-8", "replace")
    except ValueError:
        return mutated(rng, text.encode()).decode("utf-8", "replace")


def _safetensors(rng: Random, data: bytes) -> bytes:
    """Mutate bytes, or the header: names, types, shapes, offsets and metadata."""
    if rng.random() < 0.4:
        return mutated(rng, data)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    if "skinedge" in metadata and rng.random() < 0.4:
        description = trees.mutated(rng, json.loads(metadata["skinedge"]))
        metadata["skinedge"] = trees.to_json(rng, description).decode("utf-8", "replace")
    else:
        header = trees.mutated(rng, header)
    content = trees.to_json(rng, header)
    size = rng.choice((len(content),) * 9 + (2**40, 0, 2**63))
    return struct.pack("<Q", size) + content + data[8 + length :]


def _checkpoint(rng: Random, data: bytes) -> bytes:
    """Mutate bytes, or the pickle in an archive with matching checksums."""
    if rng.random() < 0.4:
        return mutated(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    name = rng.choice([name for name in members if name.endswith("data.pkl")] * 5 + list(members))
    members[name] = mutated(rng, members[name])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as target:
        for member, content in members.items():
            target.writestr(member, content)
    return stream.getvalue()
