"""What every measuring program does around its measurement: errors on standard error, the document into a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from skinedge.core.errors import SkinedgeError
from skinedge.system.progress import note


def run_benchmark(benchmark: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> int:
    """Run a benchmark and write its document as JSON to `options.out`, if given; returns the exit status."""
    try:
        document = benchmark(options)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        note(f"written: {options.out}")
    return 0
