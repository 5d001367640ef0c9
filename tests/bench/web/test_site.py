"""The site of `skinedge web`, its server and its libraries. Tests in a browser: tests/browser."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import lzma
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from conftest import REPOSITORY
from examples import manifest

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.image_file import MAX_PIXELS
from skinedge.core.preprocess import LONGEST, Preprocess
from skinedge.run.run_directory import Bundle
from skinedge_bench.web import assets
from skinedge_bench.web.assets import PAGE, Package, compressed, extract, fetch, is_complete, packages, vendored
from skinedge_bench.web.server import SiteServer
from skinedge_bench.web.site import LIMIT, Site, build, write

from ..conftest import Cli

FLAGSHIP = REPOSITORY / "skinedge" / "flagship"
HEATMAP = "model.int8.heatmap.tflite"
PAGES = {path.name for path in PAGE.iterdir() if path.is_file()} - {"assets.toml"}


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a placeholder for every library file, since these tests run no browser."""
    folder = tmp_path / "vendor"
    for package in packages():
        for name in package.files.values():
            path = compressed(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lzma.compress(name.encode()))
    monkeypatch.setattr("skinedge_bench.web.site.vendored", lambda runtime: vendored(runtime, folder))
    return folder


@pytest.fixture
def flagship(tmp_path: Path) -> Bundle:
    """A copy that tests may damage."""
    return Bundle.open(Path(shutil.copytree(FLAGSHIP, tmp_path / "flagship")))


@pytest.fixture
def site() -> Site:
    """A small site."""
    return Site({"index.html": b"<p>", "code.js": b"1", "a/lib.wasm": b"\0asm", "m.tflite": b"TFL3"}, "m.tflite")


@pytest.fixture
def server(site: Site) -> Iterator[SiteServer]:
    with SiteServer(site, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: SiteServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Send a request; return (status, headers, body)."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)  # type: ignore[misc]
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


# --- the site ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "folder"),
    [
        (None, HEATMAP, "litert"),
        ("model.int8.tflite", "model.int8.tflite", "litert"),
        ("model.int8.onnx",) * 2 + ("ort",),
    ],
)
def test_the_site_has_the_page_one_model_and_its_runtime(
    vendor: Path, name: str | None, file: str, folder: str
) -> None:
    built = build(Bundle.open(FLAGSHIP), name)
    vendored_names = [
        path.relative_to(vendor).as_posix().removesuffix(".xz") for path in (vendor / folder).rglob("*.xz")
    ]
    libraries = {f"vendor/{name}" for name in vendored_names}
    assert all(built.files[f"vendor/{name}"] == name.encode() for name in vendored_names)
    model = {f"model/{file}", f"model/{file}.skinedge.json"}
    assert set(built.files) == PAGES | libraries | model | {"site.json", "check.bin"}
    assert built.model == file and built.files[f"model/{file}"] == (FLAGSHIP / file).read_bytes()


def test_one_missing_library_is_noticed(vendor: Path) -> None:
    assert is_complete(vendor)
    next(vendor.rglob("*.xz")).unlink()
    assert not is_complete(vendor)


def test_the_self_check_expects_unsaturated_probabilities(vendor: Path) -> None:
    """Saturated ONNX int8 on an x86 CPU without VNNI differs by more than the limit, so every browser would fail."""
    onnx, tflite = (
        [
            image["probabilities"]
            for image in json.loads(build(Bundle.open(FLAGSHIP), name).files["site.json"])["check"]["images"]
        ]
        for name in ("model.int8.onnx", "model.int8.tflite")
    )
    np.testing.assert_allclose(onnx, tflite, rtol=0, atol=LIMIT)


def test_the_settings_hold_pythons_results(vendor: Path) -> None:
    from skinedge.core.preprocess import prepare
    from skinedge_bench.loaded_model import open_listed

    bundle = Bundle.open(FLAGSHIP)
    files = build(bundle).files
    settings, content = json.loads(files["site.json"]), files["check.bin"]
    assert settings["names"]["mel"] == "melanoma"
    model = open_listed(bundle, HEATMAP)
    end = 0
    for image in settings["check"]["images"]:
        assert image["offset"] == end
        end += image["width"] * image["height"] * 3
        source = np.frombuffer(content[image["offset"] : end], np.uint8).reshape(image["height"], image["width"], 3)
        pixels = prepare(source, 224)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == image["prepared_sha256"]
        np.testing.assert_array_equal(model.run(pixels[None]).probabilities[0], np.float32(image["probabilities"]))
    assert end == len(content) and len(settings["check"]["images"]) == 4


def test_the_page_has_no_inline_script_or_style_except_the_import_map() -> None:
    html = (PAGE / "index.html").read_text()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.S)
    ((attributes, map_text),) = [(a, text) for a, text in scripts if text]
    assert attributes.strip() == 'type="importmap"'
    digest = base64.b64encode(hashlib.sha256(map_text.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert rules["script-src"] == f"'self' 'wasm-unsafe-eval' 'sha256-{digest}'"
    assert "unsafe-inline" not in policy and not re.search(r'\s(style|on\w+)="', html)
    assert html.index("Content-Security-Policy") < html.index("<script")


def test_every_file_and_element_that_the_page_uses_exists() -> None:
    html = (PAGE / "index.html").read_text()
    libraries = {name for package in packages() for name in package.files.values()}
    assert set(re.findall(r'(?:src|href)="([^"]+)"', html)) <= PAGES
    mapped = json.loads(re.findall(r'importmap">(.*?)</script>', html, re.S)[0])["imports"]
    assert {path.removeprefix("./vendor/") for path in mapped.values()} <= libraries
    for script in PAGE.glob("*.js"):
        text = script.read_text()
        imported = set(re.findall(r"""(?:from|import) '([^']+)'""", text))
        assert {name for name in imported if not name.startswith("./")} <= set(mapped), script.name
        assert {name.removeprefix("./") for name in imported if name.startswith("./")} <= PAGES, script.name
        identifiers = set(re.findall(r"element\('([\w-]+)'\)|show\('([\w-]+)'", text))
        used = {first or second for first, second in identifiers}
        assert used <= set(re.findall(r'id="([\w-]+)"', html)), script.name


def test_the_page_has_the_preprocessing_constants() -> None:
    rule = Preprocess(224)
    assert f"const RULE = ['{rule.resize}', '{rule.crop}'];" in (PAGE / "model.js").read_text()
    assert f"const LONGEST = {LONGEST};" in (PAGE / "resize.js").read_text()
    assert f"const MAX_PIXELS = {MAX_PIXELS};" in (PAGE / "decode.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_the_contrast_required_by_wcag(scheme: str) -> None:
    """4.5 to 1 (WCAG 2.2, 1.4.3), by the WCAG formula of relative luminance."""
    light, dark = re.findall(r":root \{(.*?)\}", (PAGE / "style.css").read_text(), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#\w{6});", dark))

    def luminance(name: str) -> float:
        parts = [int(colours[name][at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    texts = ["ink", "quiet", "accent", "malignant"]
    pairs = [(text, ground) for text in texts for ground in ("card", "paper")]
    pairs += [("on-accent", "accent"), ("caution-ink", "caution"), ("wrong-ink", "wrong")]
    for pair in pairs:
        low, high = sorted(map(luminance, pair))
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair


def test_an_invalid_run_is_refused(vendor: Path, flagship: Bundle) -> None:
    path = flagship.root / HEATMAP
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=HEATMAP):
        build(flagship)
    path.unlink()
    with pytest.raises(BundleError, match=HEATMAP):
        build(flagship, HEATMAP)
    with pytest.raises(BundleError, match=r"none\.tflite"):
        build(flagship, "none.tflite")


def test_a_run_without_a_file_for_browsers_is_refused(vendor: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"browsers run \.tflite and \.onnx files"):
        build(Bundle.open(FLAGSHIP), "model.safetensors")
    (tmp_path / "run").mkdir()
    with pytest.raises(BundleError, match="no exported model yet"):
        build(Bundle.create(tmp_path / "run", manifest()))


def test_missing_libraries_give_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(SkinedgeError, match="make web"):
        vendored("litert.js", tmp_path / "vendor")


# --- writing ----------------------------------------------------------------------------------------------------


def test_the_site_is_written_completely(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "new" / "site"
    write(site, out)
    written = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert written == site.files
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_existing_files_are_kept_and_partial_sites_removed(site: Site, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="output exists"):
        write(site, full)
    clash = Site({**site.files, "code.js/below": b"2"}, site.model)  # below a file
    with pytest.raises(BundleError):
        write(clash, tmp_path / "half")
    with pytest.raises(BundleError):
        write(site, full / "mine.txt" / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["full"] and (full / "mine.txt").read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    write(site, empty)
    assert (empty / "index.html").read_bytes() == b"<p>"


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_serves_until_ctrl_c(site: Site) -> None:
    if not assets.VENDOR.is_dir():
        pytest.skip("the browser's libraries are not installed: make web")
    command = [sys.executable, "-m", "skinedge", "web", "--run", str(FLAGSHIP), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        notice, address = process.stdout.readline(), process.stdout.readline()
        try:
            with urlopen(address.split()[0], timeout=60) as answer:
                assert b"not a medical device" in answer.read()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    assert "not a medical device" in notice and HEATMAP in errors


def test_the_command_writes_the_site(cli: Cli, vendor: Path, tmp_path: Path) -> None:
    code, stdout, _ = cli("web", "--run", FLAGSHIP, "--file", "model.int8.tflite", "--out", tmp_path / "site")
    assert code == 0 and "not a medical device" in stdout
    assert (tmp_path / "site" / "model" / "model.int8.tflite").stat().st_size == 4077730
    code, _, errors = cli("web", "--run", FLAGSHIP, "--out", tmp_path / "site")
    assert code == 1 and "output exists" in errors
    code, _, errors = cli("web", "--run", tmp_path / "none")
    assert code == 1 and "none" in errors


# --- the libraries ----------------------------------------------------------------------------------------------


def archive(folder: Path, content: bytes) -> Path:
    (folder / "index.js").write_bytes(content)
    path = folder / "lib.tgz"
    with tarfile.open(path, "w:gz") as members:
        members.add(folder / "index.js", "package/dist/index.js")
    return path


def test_only_the_required_files_of_a_package_are_extracted(tmp_path: Path) -> None:
    path = archive(tmp_path, b"code")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    extract(Package("lib", "1.0", "MIT", digest, "lib", {"dist/index.js": "lib/lib.js"}), path, tmp_path / "vendor")
    assert lzma.decompress(compressed(tmp_path / "vendor", "lib/lib.js").read_bytes()) == b"code"
    with pytest.raises(SkinedgeError, match=r"lib@1\.0: the archive has no file dist/more\.js"):
        extract(Package("lib", "1.0", "MIT", digest, "lib", {"dist/more.js": "more.js"}), path, tmp_path / "vendor")


def test_an_archive_with_another_hash_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, b"other code")
    with pytest.raises(SkinedgeError, match=r"lib@1\.0: the archive has sha256 .*, expected 00"):
        extract(Package("lib", "1.0", "MIT", "00", "lib", {"dist/index.js": "lib.js"}), path, tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()


def test_a_failed_fetch_keeps_the_previous_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor, tools = tmp_path / "vendor", tmp_path / "tools"
    vendor.mkdir()
    (vendor / "old.js").write_text("old")
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(SkinedgeError, match="npm is not installed"):
        fetch(vendor)
    (tools / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (tools / "npm").chmod(0o755)
    with pytest.raises(SkinedgeError, match=r"@litertjs/core@.*no network"):
        fetch(vendor)
    assert {path.name for path in tmp_path.iterdir()} == {"vendor", "tools"}
    assert (vendor / "old.js").read_text() == "old"
