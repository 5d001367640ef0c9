"""`skinedge web`: a static site in which a run's model file judges images in a person's own browser.

The page is in `page/`, the libraries that run a model in it in `page/vendor` (`skinedge_bench.web.assets`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skinedge.core import json_io, taxonomy
from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.files import disk_error, path_inside
from skinedge.core.input_format import HEATMAP
from skinedge.core.preprocess import prepare
from skinedge.run import golden
from skinedge.run.file_card import card_name, read_card
from skinedge.run.run_directory import Bundle
from skinedge.system import folder_swap
from skinedge_bench.device import Device
from skinedge_bench.explain.overlay import OPACITY, STEPS
from skinedge_bench.latency.block_stats import DRIFT, LEAST_BLOCKS, NOISE, P99_SAMPLES, RESAMPLES
from skinedge_bench.latency.protocol import read_protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row
from skinedge_bench.loaded_model import LoadedModel, default_file, exported, open_listed
from skinedge_bench.web.assets import PAGE, vendored, version

SCHEMA = "skinedge.web/1"
SETTINGS = "site.json"
CHECK = "check.bin"
CHECKED = 4  # golden images that the page judges before anything else
LIMIT = 0.05  # of a probability: how far the browser may be from Python on those
RUNTIMES = {".tflite": "litert.js", ".onnx": "onnxruntime-web"}  # in the order of preference


@dataclass(frozen=True)
class Site:
    """What is to be served. files: path in the site -> content; model: name of the model file.

    All of it is in memory: a file that is changed, or becomes a link, after it was checked is not served.
    """

    files: Mapping[str, bytes]
    model: str


def build(bundle: Bundle, name: str | None = None) -> Site:
    """The site of a run's model file. name: of the file; None: as `choose`.

    Raises: BundleError when the run, the file or its card are not sound, or the run has no file for a browser;
    ConfigError for a file of a kind that no browser runs; SkinedgeError where the vendored libraries are absent.
    """
    if name and Path(name).suffix not in RUNTIMES:
        raise ConfigError(f"browsers run {' and '.join(RUNTIMES)} files", where=f"--file {name}")
    model = open_listed(bundle, name) if name else choose(bundle)
    runtime = RUNTIMES[model.path.suffix]
    content = model.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise BundleError("this file was changed while it was read", where=str(model.path))
    card = bundle.file(card_name(model.name))
    if read_card(card)["sha256"] != model.sha256:
        raise BundleError("the card is of another file", where=str(card))
    check, pixels = _check(model, golden.of_run(bundle))
    settings = _settings(model, runtime, check)
    page = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file() and path.suffix != ".toml"}
    libraries = {f"vendor/{path}": file for path, file in vendored(runtime).items()}
    own = {
        settings["model"]: content,
        settings["card"]: card.read_bytes(),
        CHECK: pixels,
        SETTINGS: json_io.to_text(settings).encode(),
    }
    return Site({**page, **libraries, **own}, model.name)


def choose(bundle: Bundle) -> LoadedModel:
    """The run's default file if it is a .tflite file with a map of each class, else the first such file; without any,
    the default file, or else the first, that a browser can run.

    Raises: BundleError when there is none.
    """
    first = default_file(bundle)
    names = [first, *(entry.path for entry in exported(bundle) if entry.path != first)]
    models = [open_listed(bundle, name) for suffix in RUNTIMES for name in names if name.endswith(suffix)]
    if not models:
        raise BundleError("this run has no file that a browser can run", where=str(bundle.root))
    return next(
        (model for model in models if any(output.name == HEATMAP for output in model.session.outputs)), models[0]
    )


def write(site: Site, out: Path) -> None:
    """Copy the site into the folder `out`, which appears complete or not at all.

    Raises: ConfigError when there is something already; BundleError when it cannot be written.
    """
    folder_swap.recover(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("this is there already", where=f"--out {out}", todo="Name a folder that is new or empty.")
    try:
        with folder_swap.new_folder(out) as folder:
            for name, content in site.files.items():
                target = path_inside(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except OSError as error:
        raise disk_error(error, out) from None


def _check(model: LoadedModel, vectors: golden.Golden) -> tuple[dict[str, Any], bytes]:
    """What the page must reproduce before it judges anything, and the source pixels, one image after the other."""
    smallest = sorted(vectors.sources, key=lambda index: vectors.sources[index].size)[:CHECKED]
    images, content = [], b""
    for index in smallest:
        source = vectors.sources[index]
        prepared = prepare(source, model.size)
        images.append(
            {
                "width": source.shape[1],
                "height": source.shape[0],
                "offset": len(content),
                "prepared_sha256": hashlib.sha256(prepared.tobytes()).hexdigest(),
                "probabilities": [float(value) for value in model.run(prepared[None]).probabilities[0]],
            }
        )
        content += source.tobytes()
    return {"file": CHECK, "limit": LIMIT, "images": images}, content


def _settings(model: LoadedModel, runtime: str, check: Mapping[str, Any]) -> dict[str, Any]:
    """What the page must know beside the card."""
    return {
        "schema": SCHEMA,
        "model": f"model/{model.name}",
        "card": f"model/{card_name(model.name)}",
        "runtime": {"name": runtime, "version": version(runtime)},
        "names": {label: _full_name(label) for label in model.labels},
        "check": check,
        "overlay": {"steps": STEPS, "opacity": OPACITY},
        "bench": _bench_settings(model, runtime),
    }


def _bench_settings(model: LoadedModel, runtime: str) -> dict[str, Any]:
    """The protocols, the limits of `block_stats`, and the report of `bench` with nothing measured yet."""
    device = Device(
        machine="a browser",  # the page fills in what its browser tells
        cpu="not told by the browser",
        system="a browser",
        python=None,
        features=(),
        int8_dot_product=None,
        cores=1,
        governor=None,
        max_frequency_mhz=None,
        emulated=None,
        virtualization=(),
        versions={runtime: version(runtime)},
    )
    row = Row(
        file=model.name,
        runtime=runtime,
        precision=model.precision,
        threads=1,
        size_bytes=model.path.stat().st_size,
        sha256=model.sha256,
        accuracy_note="not measured: a browser has no test images",
    )
    report = LatencyReport(device, read_protocol("quick"), 0, (row,))
    return {
        "protocols": [asdict(read_protocol(name)) for name in ("quick", "standard", "mlperf")],
        "limits": {
            "noise": NOISE,
            "drift": DRIFT,
            "p99_samples": P99_SAMPLES,
            "resamples": RESAMPLES,
            "least_blocks": LEAST_BLOCKS,
        },
        "key": row.key,
        "document": json_io.document("bench", report.document(), model_id=model.model_id, model_sha256=model.sha256),
    }


def _full_name(label: str) -> str:
    """'melanoma' for mel; the label itself where the table of conditions does not know it."""
    try:
        return taxonomy.resolve(label).name
    except DataError:
        return label
