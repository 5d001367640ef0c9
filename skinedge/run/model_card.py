"""MODEL_CARD.md and LICENSE of a packed model (the sections: Mitchell et al. 2019, Model Cards for Model Reporting)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skinedge.core.terminal import visible, visible_lines
from skinedge.data.licensing import NON_COMMERCIAL
from skinedge.run.config import TrainConfig
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.stats.calibration import Calibration

NOTICE = "**Research tool, not a medical device. No output of it is a diagnosis.**"
NAMES = {NON_COMMERCIAL: "Creative Commons Attribution-NonCommercial 4.0 International"}
LEGAL_CODE = {NON_COMMERCIAL: "https://creativecommons.org/licenses/by-nc/4.0/legalcode"}


@dataclass(frozen=True)
class Facts:
    """What a card is made of. files: the model files that are packed; parity, latency: the run's reports, {} and
    None where there are none."""

    manifest: Manifest
    files: tuple[FileEntry, ...]
    parity: Mapping[str, Any]
    latency: Mapping[str, Any] | None


def card(facts: Facts, evaluation: str) -> str:
    """The card as Markdown. evaluation: a page of tables that `skinedge evaluate` wrote, '' without one."""
    manifest = facts.manifest
    title = f"# Model card: {visible(manifest.name)}" + (
        " (trained on SYNTHETIC drawings)" if manifest.synthetic else ""
    )
    sections = {
        "Intended use": intended_use(manifest.domain),
        "Data": data(manifest),
        "Metrics": metrics(facts, evaluation),
        "int8 against PyTorch": parity(facts),
        "Probabilities and thresholds": thresholds(facts),
        "Latency": latency(facts.latency),
        "Limits": limits(manifest),
        "Training": training(manifest),
        "Licence": license_text(manifest).strip(),
    }
    parts = [title, NOTICE, overview(facts)]
    for name, text in sections.items():
        parts += [f"## {name}", text]
    return visible_lines("\n\n".join(parts)) + "\n"


def overview(facts: Facts) -> str:
    manifest = facts.manifest
    classes = ", ".join(f"{label} ({manifest.taxonomy[label]})" for label in manifest.labels)
    rows = [[f.path, f"{f.size / 1e6:.2f}", f"`{f.sha256[:16]}`"] for f in facts.files]
    size = manifest.preprocess.size
    return (
        f"{manifest.training['backbone']} with merged LoRA adapters, {size} x {size} px, run {manifest.id}.\n"
        f"Classes, in the order of the outputs: {classes}.\n\n" + table(("file", "MB", "sha256"), rows)
    )


def intended_use(domain: str) -> str:
    """What a model that was trained on images of this kind is for."""
    given = {
        "dermoscopic": "images taken through a dermatoscope. A bare phone camera is not validated",
        "clinical": "clinical photographs, taken without a dermatoscope",
        "synthetic": "drawings, to try out the tool. It has never seen skin",
    }.get(domain, "images like those that it was trained on; of what kind they are is not recorded")
    return (
        f"Research and teaching on {given} (`domain: {domain}`). Not for diagnosis, screening or triage of "
        "patients, and not for any lesion outside its classes: it always answers with one of them."
    )


def data(manifest: Manifest) -> str:
    said = manifest.training["data"]
    counts: Mapping[str, Mapping[str, int]] = said["counts"]
    rows = [[split, *(c.get(label, 0) for label in manifest.labels), sum(c.values())] for split, c in counts.items()]
    return (
        f"{manifest.attribution or said['kind']}. Read as: {said['kind']}. No image is in this folder; `split.csv` "
        "names them. Photos of one lesion, where lesions are known, and copies are in one split; *val* chose the "
        "epoch, *cal* fitted probabilities and thresholds, *test* was used for the figures below alone.\n\n"
        + table(("split", *manifest.labels, "all"), rows)
    )


def metrics(facts: Facts, evaluation: str) -> str:
    if evaluation:
        body = evaluation.partition("\n\n")[2]  # without the page's own title
        return "\n".join(f"#{line}" if line.startswith("##") else line for line in body.strip().splitlines())
    return (
        "By `skinedge verify` on the test split, as the files answer, at their own class prior (`skinedge evaluate` "
        "gives figures at each prior, intervals by lesion and subgroups).\n\n"
        + (figures_table(facts) or "Not measured.")
    )


def figures_table(facts: Facts) -> str:
    """The figures of each packed file, and of the merged network in PyTorch; '' where they were not measured."""
    judged = [("PyTorch, fp32", facts.parity.get("reference"))]
    judged += [(f.path, facts.parity.get("files", {}).get(f.path, {}).get("metrics")) for f in facts.files]
    keys = ("accuracy", "balanced_accuracy", "macro_auc", "melanoma_sensitivity")
    rows = [[name, found["n"], *(number(found[key]) for key in keys)] for name, found in judged if found]
    return table(("", "images", *(key.replace("_", " ") for key in keys)), rows) if rows else ""


def parity(facts: Facts) -> str:
    rows = []
    for entry in facts.files:
        said = facts.parity.get("files", {}).get(entry.path, {})
        if found := said.get("metrics"):
            agreement = (
                f"{number(found['agreement'])} ({number(found['agreement_low'])}-{number(found['agreement_high'])})"
            )
            gates = [f"{g['name']} {g['verdict']}" for g in said["gates"] if g["verdict"] != "pass"]
            drop = "-" if found["fall"] is None else f"{found['fall']:+.4f}"
            rows.append([entry.path, found["n"], agreement, drop, ", ".join(gates) or "pass"])
    columns = ("file", "images", "same class (95 %, Wilson)", "fall of balanced accuracy", "gates")
    return table(columns, rows) if rows else "Not measured."


def thresholds(facts: Facts) -> str:
    manifest = facts.manifest
    fitted = asdict(Calibration.from_dict(manifest.calibration)) if manifest.calibration else {}
    lines = []
    if fitted:
        reading, gain = fitted["reading"], [number(fitted[key]) for key in ("ece_before", "ece_after")]
        lines.append(
            f"Temperature {fitted['temperature']:.3f} and one bias per class, fitted on {fitted['images']} *cal* "
            f"images, are folded into the classifier. Probabilities assume a {reading['prior']} class prior; expected "
            f"calibration error of the fp32 network on *test*, weighted to it: {gain[0]} before, {gain[1]} after. The "
            "malignant score is the sum over the malignant and premalignant classes; its thresholds were fitted, on "
            f"*cal*, to flag {reading['sensitivity']:.0%} of the malignant images. On *test* they reach:"
        )
    rows = []
    for entry in facts.files:
        found = facts.parity.get("files", {}).get(entry.path, {}).get("metrics")
        said = found["malignant"] if found else {}
        reached = [rate(said, name) for name in ("sensitivity", "specificity")]
        rows.append([entry.path, number(manifest.threshold(entry.path)), *reached])
    lines.append(table(("file", "flagged from", "sensitivity (95 %)", "specificity (95 %)"), rows))
    return "\n\n".join(lines)


def latency(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "Not measured."
    device, rows = report["device"], []
    for row in report["rows"]:
        times = [number(row[key], 2) for key in ("p50_ms", "p90_ms")]
        name = f"{row['file']} ({row['runtime']})"
        rows.append([name, row["threads"], *times, row["n"], "; ".join(row["reasons"]) or "-"])
    versions = ", ".join(f"{name} {version}" for name, version in device["versions"].items())
    return f"{device['cpu']}, {versions}.\n\n" + table(
        ("file", "threads", "p50 ms", "p90 ms", "samples", "doubts"), rows
    )


def limits(manifest: Manifest) -> str:
    lines = [
        "Performance by skin tone is unknown: the images carry no labels of it (HAM10000, for one, has none).",
        "Figures are of the data named above. Other cameras, clinics and case mixes will give others.",
        "Class shares differ from place to place; probabilities hold for the class prior that is stated.",
        "Images with rulers, ink, bubbles, hair or bad focus were not judged on their own.",
    ]
    if manifest.domain == "dermoscopic":
        lines.insert(0, "Dermatoscope images only; what it says of a bare phone camera's picture is not validated.")
    return "\n".join(f"- {line}" for line in lines)


def training(manifest: Manifest) -> str:
    said = manifest.training
    base, best, config = said["base_weights"], said.get("best", {}), said["config"]
    seconds = f"{said['seconds']:.0f} s" if "seconds" in said else "time not recorded"
    versions = ", ".join(f"{name} {version}" for name, version in said.get("versions", {}).items())
    chosen = toml(config)
    command = "skinedge run --data DIR" + (" --config settings.toml" if chosen else "")
    parts = [
        f"`{command}`, seed {config.get('seed')}, {seconds} on {said.get('device')} in {said.get('precision')}, "
        f"best epoch {best.get('epoch', '-')}; {versions}.",
        f"Base weights: {base['source']}, sha256 `{base['sha256'][:16]}`.",
    ]
    if teacher := said.get("teacher"):
        parts.append(
            f"Taught by the run {teacher['name']}: its merged network, sha256 `{teacher['model_sha256'][:16]}`."
        )
    if chosen:
        parts.append(f"settings.toml:\n\n```toml\n{chosen}\n```")
    return "\n\n".join(parts)


def toml(config: Mapping[str, Any]) -> str:
    """The settings that are not the defaults, as TOML."""
    return "\n".join(_different(config, TrainConfig().to_dict(), ""))


def _different(config: Mapping[str, Any], defaults: Mapping[str, Any], table_name: str) -> Iterator[str]:
    plain = {
        k: v for k, v in config.items() if not isinstance(v, Mapping) and v is not None and v != _plain(defaults, k)
    }
    if plain and table_name:
        yield f"\n[{table_name}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {json.dumps(value)}"
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _different(value, defaults.get(key) or {}, f"{table_name}.{key}".lstrip("."))


def _plain(defaults: Mapping[str, Any], key: str) -> Any:
    """As JSON has it: a tuple is a list."""
    value = defaults.get(key)
    return list(value) if isinstance(value, tuple) else value


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def license_text(manifest: Manifest) -> str:
    """What stands beside the weights."""
    if not manifest.license:
        return "No licence was stated for these weights. Ask whoever made them before you pass them on.\n"
    name = NAMES.get(manifest.license, manifest.license)
    parts = [f"The weights in this folder are licensed under {name} (SPDX: {manifest.license})."]
    if manifest.license in LEGAL_CODE:
        parts.append(f"Legal code: {LEGAL_CODE[manifest.license]}")
    if manifest.attribution:
        parts.append(
            f"They were made by training on, and may be shared only with attribution to:\n{manifest.attribution}."
        )
    if manifest.license == NON_COMMERCIAL:
        parts.append("No commercial use.")
    parts.append("They come without any warranty. Research tool, not a medical device.")
    parts.append("The program code around them is licensed under Apache-2.0.")
    return "\n\n".join(parts) + "\n"


def rate(said: Mapping[str, Any], name: str) -> str:
    """'0.903 (84/93, 0.826-0.948)'; '-' where it was not measured."""
    share, counts, bounds = (said.get(f"{name}{part}") for part in ("", "_counts", "_wilson"))
    if share is None or counts is None or bounds is None:
        return "-"
    (hits, n), (low, high) = counts, bounds
    return f"{number(share)} ({hits}/{n}, {number(low)}-{number(high)})"


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(visible(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
