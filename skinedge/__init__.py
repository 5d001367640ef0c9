"""Train, export and verify skin-lesion classifiers for phones and Raspberry Pis.

The names of the Python API are imported on first use: `import skinedge` loads neither NumPy nor torch.
"""

import os

# For type checkers, which take it for true. `python -m skinedge` runs this file with the current folder first in
# the path: only modules that Python has loaded already are imported, not `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from skinedge.api import bench as bench
    from skinedge.api import evaluate as evaluate
    from skinedge.api import export as export
    from skinedge.api import layers as layers
    from skinedge.api import load as load
    from skinedge.api import merge as merge
    from skinedge.api import pipeline as pipeline
    from skinedge.api import ship as ship
    from skinedge.api import train as train
    from skinedge.api import verify as verify
    from skinedge.core.errors import SkinedgeError as SkinedgeError
    from skinedge.run.config import TrainConfig as TrainConfig
    from skinedge.run.config import load_config as load_config
    from skinedge.run.run_directory import Bundle as Bundle
    from skinedge.training.job import TrainRequest as TrainRequest
    from skinedge_bench.classifier import Classifier as Classifier
    from skinedge_bench.evaluate.request import EvaluationRequest as EvaluationRequest
    from skinedge_bench.latency.targets import BenchRequest as BenchRequest
    from skinedge_export.target import export_targets as export_targets

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later send telemetry, and read this variable at their first import. Set it to 0 to allow that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_FUNCTIONS = ("bench", "evaluate", "export", "layers", "load", "merge", "pipeline", "ship", "train", "verify")
_MODULES = {
    **dict.fromkeys(_FUNCTIONS, "skinedge.api"),
    "BenchRequest": "skinedge_bench.latency.targets",
    "Bundle": "skinedge.run.run_directory",
    "Classifier": "skinedge_bench.classifier",
    "EvaluationRequest": "skinedge_bench.evaluate.request",
    "SkinedgeError": "skinedge.core.errors",
    "TrainConfig": "skinedge.run.config",
    "TrainRequest": "skinedge.training.job",
    "export_targets": "skinedge_export.target",
    "load_config": "skinedge.run.config",
}


def __getattr__(name: str) -> object:
    """Import a name of the Python API on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'skinedge' has no attribute '{name}'")
    from importlib import import_module

    globals()[name] = getattr(import_module(_MODULES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
