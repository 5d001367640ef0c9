"""Mutated command lines and environments."""

from __future__ import annotations

from random import Random

from experiments.fuzz.case import Base, Case
from experiments.fuzz.fixture import IMAGE, RUN
from experiments.fuzz.mutate import NAMES

COMMANDS = (
    ("predict", IMAGE, "--run", RUN, "--jobs", "1", "--top", "2"),
    ("predict", "data/few", "--run", RUN, "--file", "model.int8.tflite", "--out", "out/r.jsonl", "--jobs", "1"),
    ("explain", IMAGE, "--run", RUN, "--file", "model.int8.tflite", "--method", "cam", "--class", "mel"),
    ("evaluate", RUN, "--data", "data/few", "--split", "all", "--jobs", "1", "--file", "model.int8.tflite"),
    ("verify", RUN, "--images", "8"),
    ("report", RUN, "--evaluation", "evaluation", "--runs", "runs", "--out", "out/page.html"),
    ("ship", RUN, "--to", "out/shipped", "--evaluation", "evaluation"),
    ("compare", RUN, RUN, "--budget-latency", "5", "--budget-accuracy", "1", "--strict",
    "--allow-different", "cpu"),
    ("bench", "out/none", "--protocol", "quick", "--threads", "1", "--runtime", "litert"),
    ("data", "info", "data/few"), ("data", "check", "data/few", "--against", "data/isic"),
    ("data", "synth", "out/images", "--count", "7", "--size", "32", "--seed", "1"),
    ("web", "--run", RUN, "--out", "out/site", "--port", "0"), ("android", "--model", RUN, "--to", "out/assets"),
    ("merge", "out/none"),
    ("export", "out/none", "--format", "onnx", "--precision", "fp32", "--fallback", "none", "--prior", "uniform"),
    ("train", "--data", "out/none", "--out", "out/run", "--epochs", "1", "--limit", "10", "--image-size", "32",
    "--seed", "0"),
)  # fmt: skip
# No value that starts long work: no large numbers, and not the root folder.
VALUES = (
    *(name for name in NAMES if name != "/"),
    "0",
    "-1",
    "1",
    "2",
    "1.5",
    "nan",
    "inf",
    "1e999",
    "9" * 30,
    "-0",
    "0x10",
    " ",
    "--",
    "--json",
    "-h",
    "None",
)
VARIABLES = {
    "WORLD_SIZE": ("x", "0", "-1", "2", "1.5", "9" * 30, ""), "RANK": ("x", "-1", "1", "7", ""), "LOCAL_RANK": ("x",
    "0"),
    "LOCAL_WORLD_SIZE": ("x", "0"), "SKINEDGE_SHIPPED": (*NAMES[:16], "shipped", RUN, "/nonexistent"),
    "SKINEDGE_DEBUG": ("0", "", "x"),
    "SKINEDGE_CACHE": NAMES[:6], "COLUMNS": ("0", "-1", "x", "1", "9" * 30), "LINES": ("x",), "LANG": ("C", "x"),
    "LC_ALL": ("C", "POSIX"),
    "HOME": ("/nonexistent", "", None), "TMPDIR": ("/nonexistent", ""), "XDG_RUNTIME_DIR": ("/nonexistent", "", None),
    "TERM": ("dumb", "x", None),
    "OMP_NUM_THREADS": ("x", "0", "-1"), "NO_COLOR": ("1",), "PYTHONIOENCODING": ("ascii", "latin-1"),
    "PATH": ("", None),
    "PYTHONUTF8": ("0",), "TZ": ("x" * 300,), "USER": (None, "\x1b[31m"),
}  # fmt: skip


def arguments(rng: Random, base: Base) -> Case:
    """Change, remove, repeat or add one or two arguments of a command line."""
    argv = list(rng.choice(COMMANDS))
    first = 2 if argv[1] == "out/none" else 1  # without a run's name they take the newest run, which is slow
    for _ in range(rng.choice((1, 1, 2))):
        index = rng.randrange(first, len(argv)) if len(argv) > first else 0
        operation = rng.randrange(6)
        if operation < 3:
            argv[index] = _argument(rng.choice(VALUES))
        elif operation == 3:
            del argv[index]
        elif operation == 4:
            argv.insert(
                index, _argument(rng.choice((*VALUES, "--force", "--resume", "--layers", "--data", "--unknown")))
            )
        else:
            argv.insert(index, argv[rng.randrange(len(argv))])
        if not argv:
            argv = ["predict"]
    writes = ("out", RUN, "explanations", "../tmp/skinedge-0", *(value for value in argv if _is_new_name(value)))
    torch = argv[0] in ("train", "merge", "export", "explain", "verify", "run")
    return Case("arguments", tuple(argv), writes=writes, torch=torch, encoding=rng.choice(("utf-8", "utf-8", "ascii")))


def environment(rng: Random, base: Base) -> Case:
    """Run a command in a new process with unusual environment variables."""
    command = rng.choice((0, 5, 9, 10, 12))
    names = rng.sample(list(VARIABLES), rng.choice((1, 1, 2, 4)))
    values = {name: rng.choice(VARIABLES[name]) for name in names}
    env = {
        name: value if value is None else value.replace("\0", "").replace("\ud800", "")
        for name, value in values.items()
    }
    argv = COMMANDS[command]
    if argv[0] == "report" and not base.has("evaluation"):
        argv = ("report", RUN, "--out", "out/page.html")
    name = "data/few/mel/\x1b[31mä\u202e.png"
    files = {name: base.read(IMAGE)} if rng.random() < 0.5 else {}
    cache = env.get("SKINEDGE_CACHE")
    return Case("environment", argv, files, writes=("out", *([cache] if cache else [])), env=env, fresh=True)


def _argument(value: str) -> str:
    """Convert a value to the form in which a shell passes it: without NUL, and undecodable bytes as surrogates."""
    return value.replace("\0", "").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _is_new_name(value: str) -> bool:
    """Return True if a mutated argument may be the name of a requested output.

    On Linux, a backslash is a character of the name: C:\\victim.txt is a file of the working folder.
    """
    if not value or value.startswith((RUN, "data", "evaluation", ".", "/")):
        return False
    return "victim" not in value or ("\\" in value and "/" not in value)
