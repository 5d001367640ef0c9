"""Runs `skinedge` commands that end by SIGKILL at a chosen moment; used by test_kill.py.

The frameworks are imported once; each command is a process forked from there. Reads one JSON line per command:
{"arguments", "log", "kill": null | {"event", "name", "occurrence", "delay"}}, answers with one: {"status"}.
A moment is a file operation, as Python's audit events tell it: right before the `occurrence`-th `event` on a file
named `name`, and `delay` seconds after that where it is positive, wherever the process then is.
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

FILE_EVENTS = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "open": 0}  # event -> index of the path
WRITING = os.O_WRONLY | os.O_RDWR


def target(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Name of the file that an event changes; None for one that changes none."""
    if event not in FILE_EVENTS:
        return None
    path = arguments[FILE_EVENTS[event]]
    if not isinstance(path, str | os.PathLike) or (event == "open" and not arguments[2] & WRITING):
        return None
    return Path(path).name


def end(delay: float) -> None:
    if delay > 0:
        time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


def watch(kill: dict[str, Any]) -> None:
    """Arm the kill."""
    left = kill["occurrence"]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        name = target(event, arguments)
        if name is not None and event == kill["event"] and fnmatch.fnmatch(name, kill["name"]):
            left -= 1
            if left == 0 and kill["delay"] == 0:
                end(0)
            elif left == 0:
                threading.Thread(target=end, args=[kill["delay"]], daemon=True).start()

    sys.addaudithook(hook)


def command(order: dict[str, Any]) -> None:
    """In the forked process: the command line's own entry, with its output in a file."""
    from skinedge.cli import main

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["skinedge", *order["arguments"]]
    if order["kill"]:
        watch(order["kill"])
    try:
        main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    sys.stdout.flush()
    os._exit(code)


def serve() -> None:
    import timm  # noqa: F401
    import torch  # noqa: F401

    import skinedge.training.train  # noqa: F401
    from skinedge.network import lora

    lora._peft()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            command(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"status": status}), flush=True)


if __name__ == "__main__":
    serve()
