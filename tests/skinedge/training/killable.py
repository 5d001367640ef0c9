"""Run `skinedge` commands that are killed (SIGKILL) at a chosen moment; used by test_kill.py.

The frameworks are imported once; each command runs in a forked process. Reads one JSON line per command:
{"arguments", "log", "kill": null | {"event", "name", "occurrence", "delay"}}; answers with one: {"status"}.
The moment is a file operation, observed with Python's audit events: immediately before the `occurrence`-th `event` on a
file named `name`, plus `delay` seconds.
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
    """Return the name of the file that an event changes, None if it changes no file."""
    if event not in FILE_EVENTS:
        return None
    path = arguments[FILE_EVENTS[event]]
    if not isinstance(path, str | os.PathLike) or (event == "open" and not arguments[2] & WRITING):
        return None
    return Path(path).name


def kill_self(delay: float) -> None:
    """Kill this process after `delay` seconds."""
    if delay > 0:
        time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)


def watch(kill: dict[str, Any]) -> None:
    """Watch the audit events, and kill this process at the chosen moment."""
    remaining = kill["occurrence"]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal remaining
        name = target(event, arguments)
        if name is not None and event == kill["event"] and fnmatch.fnmatch(name, kill["name"]):
            remaining -= 1
            if remaining == 0 and kill["delay"] == 0:
                kill_self(0)
            elif remaining == 0:
                threading.Thread(target=kill_self, args=[kill["delay"]], daemon=True).start()

    sys.addaudithook(hook)


def command(order: dict[str, Any]) -> None:
    """Run a command in the forked process through the CLI's entry point, with its output in a file."""
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
    """Fork a process for each command read from standard input; answer with its exit status."""
    import timm  # noqa: F401
    import torch  # noqa: F401

    import skinedge.training.train  # noqa: F401
    from skinedge.network import lora

    lora.import_peft()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            command(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"status": status}), flush=True)


if __name__ == "__main__":
    serve()
