"""Allowed imports between packages and layers, read from the source; modules loaded by `skinedge --help`."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = {
    "skinedge": REPOSITORY / "skinedge",
    "skinedge_export": REPOSITORY / "export" / "skinedge_export",
    "skinedge_bench": REPOSITORY / "bench" / "skinedge_bench",
}
FRAMEWORKS = {"torch", "torchvision", "timm", "peft", "accelerate", "safetensors"}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Return the top-level names of a file's imports, without those for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        if top_level_only and isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def calls_in(path: Path) -> set[str]:
    """Return the callees of a file as written, such as 'json.loads'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def files_of(package: str) -> list[Path]:
    paths = sorted(PACKAGES[package].rglob("*.py"))
    assert paths
    return paths


# Each package's folders and modules, highest layer first: they import only lower layers. Names in one tuple share a
# layer and do not import each other.
LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "skinedge": (
        ("cli",), ("api",), ("publish",), ("training",), ("network",), ("run",), ("stats", "data"), ("system",),
        ("core",),
    ),
    "skinedge_export": (("search",), ("formats",), ("graph", "int8")),
    "skinedge_bench": (
        ("classifier", "report", "web", "devices"), ("latency",), ("verify", "explain"), ("evaluate",), ("predict",),
        ("loaded_model", "split_images"), ("runtimes",), ("device",),
    ),
}  # fmt: skip
# Folders of skinedge that the other packages must not import: export may use the network, bench runs without torch.
HIDDEN = {
    "skinedge_export": {"cli", "api", "publish"},
    "skinedge_bench": {"cli", "api", "publish", "training", "network"},
}
LAZY = "skinedge"  # the package itself: names of the API, for type checkers only
LARGEST_FOLDER, LONGEST_FILE = 18, 400
LARGE = ("skinedge/cli", "skinedge/data/readers")


def modules() -> dict[str, Path]:
    """Return dotted name -> file for every module of the three packages."""
    names: dict[str, Path] = {}
    for package, root in PACKAGES.items():
        for path in files_of(package):
            parts = [package, *path.relative_to(root).with_suffix("").parts]
            names[".".join(parts if parts[-1] != "__init__" else parts[:-1])] = path
    return names


def import_pairs(names: dict[str, Path]) -> set[tuple[str, str]]:
    """Return (importing, imported) modules, including imports inside functions and for type checkers."""
    pairs = set()
    for name, path in names.items():
        if name == LAZY:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                pairs |= {(name, alias.name) for alias in node.names if alias.name in names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                targets = {f"{node.module}.{alias.name}" for alias in node.names}
                pairs |= {(name, target if target in names else node.module) for target in targets}
    return {(importing, imported) for importing, imported in pairs if imported in names and importing != imported}


def level(module: str) -> int | None:
    """Return the index of a module's layer, 0 the highest; None for modules in no layer."""
    package, _, rest = module.partition(".")
    top = rest.partition(".")[0]
    return next((index for index, layer in enumerate(LAYERS[package]) if top in layer), None)


def test_modules_import_only_lower_layers() -> None:
    upwards = []
    for importing, imported in sorted(import_pairs(modules())):
        package, folders = importing.partition(".")[0], [name.split(".")[1:2] for name in (importing, imported)]
        if imported.startswith(f"{package}."):
            own, other = level(importing), level(imported)
            if own is not None and other is not None and folders[0] != folders[1] and other <= own:
                upwards.append(f"{importing} -> {imported}")
        elif imported.startswith("skinedge.") and folders[1][0] in HIDDEN[package]:
            upwards.append(f"{importing} -> {imported}")
    assert not upwards, upwards


def test_every_folder_is_in_a_layer() -> None:
    for package, root in PACKAGES.items():
        folders = {path.name for path in root.iterdir() if (path / "__init__.py").is_file()}
        assert folders <= {name for layer in LAYERS[package] for name in layer}, package


def test_imports_have_no_cycles() -> None:
    order = graphlib.TopologicalSorter[str]()
    for importing, imported in import_pairs(modules()):
        order.add(importing, imported)
    order.prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_and_files_stay_small(package: str) -> None:
    folders: dict[str, int] = Counter()
    for path in files_of(package):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
        folders[path.parent.relative_to(REPOSITORY).as_posix()] += path.name != "__init__.py"
    assert not {name: count for name, count in folders.items() if count > LARGEST_FOLDER and name not in LARGE}


def test_export_and_bench_do_not_import_each_other() -> None:
    for path in files_of("skinedge_export"):
        assert "skinedge_bench" not in imports(path), path
    for path in files_of("skinedge_bench"):
        assert "skinedge_export" not in imports(path), path


def test_skinedge_imports_the_others_only_inside_its_commands_and_its_api() -> None:
    for path in files_of("skinedge"):
        others = imports(path) & {"skinedge_export", "skinedge_bench"}
        assert not others or path.parent.name == "cli" or path == PACKAGES["skinedge"] / "api.py", path
        assert not imports(path, top_level_only=True) & {"skinedge_export", "skinedge_bench"}, path


def test_bench_imports_no_training_framework() -> None:
    for path in files_of("skinedge_bench"):
        if not path.name.startswith("torch_"):
            assert not imports(path) & FRAMEWORKS, path


@pytest.mark.parametrize("folder", ["core", "system", "stats", "data", "run"])
def test_shared_folders_load_no_heavy_packages(folder: str) -> None:
    names = [name for name in modules() if name.startswith(f"skinedge.{folder}.")]
    assert names
    code = f"import sys, {', '.join(names)}; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {*FRAMEWORKS, "onnx", "onnxruntime", "ai_edge_litert", "scipy", "pandas"}


def test_bench_imports_without_torch(tmp_path: Path) -> None:
    """Every module of bench can be imported where torch cannot."""
    names = [
        ".".join(path.relative_to(PACKAGES["skinedge_bench"].parent).with_suffix("").parts)
        for path in files_of("skinedge_bench")
        if path.name != "__init__.py"
    ]
    lines = [f"import {name}" for name in names]
    code = "import sys\nfor name in ('torch', 'timm', 'peft', 'safetensors'): sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", code + "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_asserts_are_only_in_tests() -> None:
    """`python -O` removes asserts, so checks of results raise errors."""
    folders = [*PACKAGES.values(), REPOSITORY / "bench" / "experiments", REPOSITORY / "android-demo"]
    for path in [path for folder in folders for path in sorted(folder.rglob("*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not lines, f"{path}: assert in lines {lines}"


PARSERS = {"json.load", "json.loads", "tomllib.load", "tomllib.loads"}
# json_io itself, and a script for the Python of another environment, without skinedge.
PARSING = {"skinedge/core/json_io.py", "export/skinedge_export/formats/onnx2tf/foreign.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_only_json_io_parses_json_and_toml(package: str) -> None:
    for path in files_of(package):
        assert not calls_in(path) & PARSERS or path.relative_to(REPOSITORY).as_posix() in PARSING, path


STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
            "os.system", "os.popen", "os.fork", "os.posix_spawn", "os.execv", "os.execvp"}  # fmt: skip
# child_process itself, and ssh, whose processes share the terminal for password prompts.
STARTING = {"skinedge/system/child_process.py", "bench/skinedge_bench/devices/ssh.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_only_child_process_starts_processes(package: str) -> None:
    """Its processes end with this one and execute nothing from the current folder."""
    for path in files_of(package):
        assert not calls_in(path) & STARTERS or path.relative_to(REPOSITORY).as_posix() in STARTING, path


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, skinedge; dir(skinedge); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {*FRAMEWORKS, "numpy", "PIL", "typer", "skinedge.api"}


def test_help_imports_no_framework() -> None:
    code = (
        "import sys\nsys.argv = ['skinedge', '--help']\nfrom skinedge.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\nprint('LOADED', *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "Usage" in done.stdout
    assert not loaded & {*FRAMEWORKS, "numpy", "onnx", "onnxruntime", "ai_edge_litert", "PIL", "msgspec"}
