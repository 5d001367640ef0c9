"""Who may import whom, read from the source; and what `skinedge --help` drags in."""

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
    """First names of what a file imports; imports for type checkers are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        if top_level_only and isinstance(node, ast.FunctionDef):
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def calls_in(path: Path) -> set[str]:
    """What a file calls, as it is written there: 'json.loads'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def files_of(package: str) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    assert found
    return found


# Each package's folders and modules, highest first: one imports those below it alone. Names in one tuple are on one
# level, and import each other no more than upwards.
LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "skinedge": (
        ("cli",), ("publish",), ("training",), ("network",), ("run",), ("stats", "data"), ("system",), ("core",),
    ),
    "skinedge_export": (("search",), ("formats",), ("graph", "int8")),
    "skinedge_bench": (
        ("report", "web", "devices"), ("latency",), ("verify", "explain"), ("evaluate",), ("predict",),
        ("loaded_model", "split_images"), ("runtimes",), ("device",),
    ),
}  # fmt: skip
# What the other packages see of skinedge: export may take the network apart, bench runs without torch.
HIDDEN = {"skinedge_export": {"cli", "publish"}, "skinedge_bench": {"cli", "publish", "training", "network"}}
LARGEST_FOLDER, LONGEST_FILE = 18, 400
LARGE = ("skinedge/cli", "skinedge/data/readers")


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the three packages."""
    names: dict[str, Path] = {}
    for package, root in PACKAGES.items():
        for path in files_of(package):
            parts = [package, *path.relative_to(root).with_suffix("").parts]
            names[".".join(parts if parts[-1] != "__init__" else parts[:-1])] = path
    return names


def arrows(names: dict[str, Path]) -> set[tuple[str, str]]:
    """(importing, imported) modules, imports inside functions and for type checkers among them."""
    pairs = set()
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                pairs |= {(name, alias.name) for alias in node.names if alias.name in names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                whole = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                pairs |= {(name, known if known in names else node.module) for known in whole.values()}
    return {(importing, imported) for importing, imported in pairs if imported in names and importing != imported}


def level(module: str) -> int | None:
    """Position of a module's layer, 0 the highest; None for modules that no layer names."""
    package, _, rest = module.partition(".")
    top = rest.partition(".")[0]
    return next((at for at, layer in enumerate(LAYERS[package]) if top in layer), None)


def test_imports_run_downwards() -> None:
    upwards = []
    for importing, imported in sorted(arrows(modules())):
        package, folders = importing.partition(".")[0], [name.split(".")[1:2] for name in (importing, imported)]
        if imported.startswith(f"{package}."):
            own, other = level(importing), level(imported)
            if own is not None and other is not None and folders[0] != folders[1] and other <= own:
                upwards.append(f"{importing} -> {imported}")
        elif imported.startswith("skinedge.") and folders[1][0] in HIDDEN[package]:
            upwards.append(f"{importing} -> {imported}")
    assert not upwards, upwards


def test_every_folder_has_a_layer() -> None:
    for package, root in PACKAGES.items():
        folders = {path.name for path in root.iterdir() if (path / "__init__.py").is_file()}
        assert folders <= {name for layer in LAYERS[package] for name in layer}, package


def test_no_module_imports_itself_through_others() -> None:
    order = graphlib.TopologicalSorter[str]()
    for importing, imported in arrows(modules()):
        order.add(importing, imported)
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_and_files_stay_small(package: str) -> None:
    folders: dict[str, int] = Counter()
    for path in files_of(package):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
        folders[path.parent.relative_to(REPOSITORY).as_posix()] += path.name != "__init__.py"
    assert not {name: count for name, count in folders.items() if count > LARGEST_FOLDER and name not in LARGE}


def test_export_and_bench_never_meet() -> None:
    for path in files_of("skinedge_export"):
        assert "skinedge_bench" not in imports(path), path
    for path in files_of("skinedge_bench"):
        assert "skinedge_export" not in imports(path), path


def test_skinedge_reaches_the_others_only_from_inside_its_commands() -> None:
    for path in files_of("skinedge"):
        late = imports(path) & {"skinedge_export", "skinedge_bench"}
        assert not late or path.parent.name == "cli", path
        assert not imports(path, top_level_only=True) & {"skinedge_export", "skinedge_bench"}, path


def test_no_torch_where_models_only_run() -> None:
    for path in files_of("skinedge_bench"):
        if not path.name.startswith("torch_"):
            assert not imports(path) & FRAMEWORKS, path


@pytest.mark.parametrize("folder", ["core", "system", "stats", "data", "run"])
def test_the_shared_contract_is_light(folder: str) -> None:
    names = [name for name in modules() if name.startswith(f"skinedge.{folder}.")]
    assert names
    code = f"import sys, {', '.join(names)}; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {*FRAMEWORKS, "onnx", "onnxruntime", "ai_edge_litert", "scipy", "pandas"}


def test_running_a_model_needs_no_torch(tmp_path: Path) -> None:
    """Every module of bench but torch's own runtime imports where torch does not."""
    names = [
        ".".join(path.relative_to(PACKAGES["skinedge_bench"].parent).with_suffix("").parts)
        for path in files_of("skinedge_bench")
        if path.name != "__init__.py"
    ]
    lines = [f"import {name}" for name in names]
    code = "import sys\nfor name in ('torch', 'timm', 'peft', 'safetensors'): sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", code + "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_assert_stands_outside_tests() -> None:
    """`python -O` removes asserts: what guards a result is an error of its own."""
    folders = [*PACKAGES.values(), REPOSITORY / "bench" / "experiments", REPOSITORY / "android-demo"]
    for path in [path for folder in folders for path in sorted(folder.rglob("*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert not lines, f"{path}: assert in lines {lines}"


PARSERS = {"json.load", "json.loads", "tomllib.load", "tomllib.loads"}
# The reader itself, and a script for the Python of another environment, which has no skinedge.
PARSING = {"skinedge/core/json_io.py", "export/skinedge_export/formats/onnx2tf/foreign.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_one_module_parses_json_and_toml(package: str) -> None:
    for path in files_of(package):
        assert not calls_in(path) & PARSERS or path.relative_to(REPOSITORY).as_posix() in PARSING, path


STARTERS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
            "os.system", "os.popen", "os.fork", "os.posix_spawn", "os.execv", "os.execvp"}  # fmt: skip
# The helper itself; and ssh, whose processes share the terminal that asks for a password.
STARTING = {"skinedge/system/child_process.py", "bench/skinedge_bench/devices/ssh.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_one_helper_starts_other_processes(package: str) -> None:
    """They end with this one, and execute nothing that lies in the current folder."""
    for path in files_of(package):
        assert not calls_in(path) & STARTERS or path.relative_to(REPOSITORY).as_posix() in STARTING, path


def test_help_imports_no_framework() -> None:
    code = (
        "import sys\nsys.argv = ['skinedge', '--help']\nfrom skinedge.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\nprint('LOADED', *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "Usage" in done.stdout
    assert not loaded & {*FRAMEWORKS, "numpy", "onnx", "onnxruntime", "ai_edge_litert", "PIL", "msgspec"}
