"""No data about models, images or the machine is sent anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = """
import sys
from pathlib import Path
from skinedge.run.plugins import runtimes_for
path = Path(sys.argv[1])
runtimes_for(path)[0].open(path, 1)
"""


def test_onnx_runtime_telemetry_is_disabled(tiny_run: Path, tmp_path: Path) -> None:
    """Since 1.29, telemetry is on by default and keeps a database in the user's cache."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI")
    }
    command = [sys.executable, "-c", RUN, str(tiny_run / "model.int8.onnx")]
    subprocess.run(command, env={**environment, "HOME": str(tmp_path)}, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
