"""LiteRT's log line on standard error: left out, unless asked for; everything else is shown."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skinedge_bench.runtimes import litert_log

OPEN = (
    "import os\n"
    "from skinedge_bench.runtimes.litert import runtime\n"
    "from skinedge_bench.runtimes.litert_log import TINY\n"
    "from ai_edge_litert.interpreter import Interpreter\n"
    "{first}\n"
    "runtime.version()\n"
    "Interpreter(model_content=TINY).allocate_tensors()\n"
    "try: os.write(2, b'shown later\\n')\n"
    "except OSError: pass\n"
)


@pytest.mark.parametrize(
    ("debug", "first", "shown"),
    [
        ("", "", ["shown later"]),
        ("1", "", ["INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "shown later"]),
        ("", "os.close(2)", []),
    ],
)
def test_the_line_is_shown_only_if_asked_for(debug: str, first: str, shown: list[str]) -> None:
    """The third case closes standard error, as a service manager may."""
    environment = {**os.environ, "SKINEDGE_DEBUG": debug}
    command = [sys.executable, "-c", OPEN.format(first=first)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (0, shown)


def test_other_lines_are_shown_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    with litert_log._without_info():
        os.write(2, b"WARNING: a\nINFO: b\nerror: INFO: c\nINFO: d\nno end")
    assert capfd.readouterr().err == "WARNING: a\nerror: INFO: c\nno end"


def test_lines_before_an_exception_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="raised"), litert_log._without_info():
        os.write(2, b"ERROR: a\n")
        raise ValueError("raised")
    assert capfd.readouterr().err == "ERROR: a\n"


def test_the_file_is_a_model_that_litert_describes() -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(litert_log.TINY, 0)
    assert len(litert_log.TINY) == 276 and model.OperatorCodes(0).BuiltinCode() == schema.BuiltinOperator.ABS
