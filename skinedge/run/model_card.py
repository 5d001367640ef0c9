"""MODEL_CARD.md and LICENSE of a packed model (the sections: Mitchell et al. 2019, Model Cards for Model Reporting)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skinedge.core.terminal import visible, visible_lines
from skinedge.data.licensing import NON_COMMERCIAL
from skinedge.run.config import TrainConfig
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.run.report_schemas import Bounds, Counts, FileVerdict, Latency, Metrics, Parity
from skinedge.stats.calibration import Calibration
from skinedge.stats.verdicts import counted, word

NOTICE = "**Research tool, not a medical device. No output of it is a diagnosis.**"
NAMES = {NON_COMMERCIAL: "Creative Commons Attribution-NonCommercial 4.0 International"}
LEGAL_CODE = {NON_COMMERCIAL: "https://creativecommons.org/licenses/by-nc/4.0/legalcode"}


@dataclass(frozen=True)
class Facts:
    """Sources of a card. files: the packed model files; parity, latency: the run's reports, None where missing."""

    manifest: Manifest
    files: tuple[FileEntry, ...]
    parity: Parity | None
    latency: Latency | None

    def verdict(self, path: str) -> FileVerdict | None:
        """Return the verdict of `verify` on a file; None where it gave none."""
        return None if self.parity is None else self.parity.files.get(path)

    def metrics(self, path: str) -> Metrics | None:
        """Return a file's figures on the test split; None where they were not measured."""
        verdict = self.verdict(path)
        return None if verdict is None else verdict.metrics


def card(facts: Facts, evaluation: str) -> str:
    """Write the card in Markdown. evaluation: the page of tables that `skinedge evaluate` wrote, '' without one."""
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
    """State network, classes and files."""
    manifest = facts.manifest
    classes = ", ".join(f"{label} ({manifest.taxonomy[label]})" for label in manifest.labels)
    rows = [[f.path, f"{f.size / 1e6:.2f}", f"`{f.sha256[:16]}`"] for f in facts.files]
    size = manifest.preprocess.size
    return (
        f"{manifest.training['backbone']} with merged LoRA adapters, {size} x {size} px, run {manifest.id}.\n"
        f"Classes, in the order of the outputs: {classes}.\n\n" + table(("file", "MB", "sha256"), rows)
    )


def intended_use(domain: str) -> str:
    """State what a model of this domain is for. Embedded into model files: its bytes must not change."""
    images = {
        "dermoscopic": "images taken through a dermatoscope. A bare phone camera is not validated",
        "clinical": "clinical photographs, taken without a dermatoscope",
        "synthetic": "drawings, to try out the tool. It has never seen skin",
    }.get(domain, "images like those that it was trained on; of what kind they are is not recorded")
    return (
        f"Research and teaching on {images} (`domain: {domain}`). Not for diagnosis, screening or triage of "
        "patients, and not for any lesion outside its classes: it always answers with one of them."
    )


def data(manifest: Manifest) -> str:
    """Describe the images and count them by split and class."""
    images = manifest.training["data"]
    counts: Mapping[str, Mapping[str, int]] = images["counts"]
    rows = [[split, *(c.get(label, 0) for label in manifest.labels), sum(c.values())] for split, c in counts.items()]
    return (
        f"{manifest.attribution or images['kind']}. Read as: {images['kind']}. No image is in this folder; `split.csv` "
        "names them. Photos of one lesion, where lesions are known, and copies are in one split; *val* chose the "
        "epoch, *cal* fitted probabilities and thresholds, *test* was used for the figures below alone.\n\n"
        + table(("split", *manifest.labels, "all"), rows)
        + sources(images.get("sources", ()))
    )


def sources(documents: Sequence[Mapping[str, Any]]) -> str:
    """Tabulate the sources of a training on several folders, each with its licence; '' for one folder."""
    if not documents:
        return ""
    rows = [
        [
            one["name"],
            one["kind"],
            one["domain"],
            ", ".join(one["labels"]),
            one["license"] or "not stated",
            one["attribution"] or "-",
        ]
        for one in documents
    ]
    columns = ("source", "read as", "domain", "classes that it distinguishes", "licence", "attribution")
    return "\n\n" + table(columns, rows)


def metrics(facts: Facts, evaluation: str) -> str:
    """Return the tables of `evaluation`, else those of `verify`."""
    if evaluation:
        body = evaluation.partition("\n\n")[2]  # without the page's own title
        return "\n".join(f"#{line}" if line.startswith("##") else line for line in body.strip().splitlines())
    return (
        "By `skinedge verify` on the test split, as the files answer, at their own class prior (`skinedge evaluate` "
        "gives figures at each prior, intervals by lesion and subgroups).\n\n"
        + (figures_table(facts) or "Not measured.")
    )


def figures_table(facts: Facts) -> str:
    """Tabulate the figures of the merged network and of each packed file; '' where they were not measured."""
    measured = [("PyTorch, fp32", facts.parity.reference if facts.parity else None)]
    measured += [(file.path, facts.metrics(file.path)) for file in facts.files]
    rows = [
        [name, m.n, *map(number, (m.accuracy, m.balanced_accuracy, m.macro_auc, m.melanoma_sensitivity))]
        for name, m in measured
        if m is not None
    ]
    columns = ("", "images", "accuracy", "balanced accuracy", "macro auc", "melanoma sensitivity")
    return table(columns, rows) if rows else ""


def parity(facts: Facts) -> str:
    """Tabulate each packed file beside the merged network, with the gates that it did not pass."""
    rows = []
    for entry in facts.files:
        verdict = facts.verdict(entry.path)
        if verdict is not None and (m := verdict.metrics) is not None:
            agreement = f"{number(m.agreement)} ({number(m.agreement_low)}-{number(m.agreement_high)})"
            others = [f"{gate.name} {gate.word}" for gate in verdict.gates if gate.verdict != "pass"]
            counts = counted(gate.verdict for gate in verdict.gates)
            gates = "; ".join([f"{word(verdict.worst)} ({counts})", *others])
            drop = "-" if m.fall is None else f"{m.fall:+.4f}"
            rows.append([entry.path, m.n, agreement, drop, gates])
    columns = ("file", "images", "same class (95 %, Wilson)", "drop of balanced accuracy", "gates")
    return table(columns, rows) if rows else "Not measured."


def thresholds(facts: Facts) -> str:
    """Describe the calibration, and tabulate each file's decision threshold with the rates that it reaches."""
    manifest = facts.manifest
    fitted = asdict(Calibration.from_dict(manifest.calibration)) if manifest.calibration else {}
    lines = []
    if fitted:
        reading, gain = fitted["reading"], [number(fitted[key]) for key in ("ece_before", "ece_after")]
        if fitted["temperature"] == 1:
            how = f"Not calibrated: a fit to {fitted['images']} *cal* images did not help."
            error = gain[1]
        else:
            how = (
                f"Temperature {fitted['temperature']:.3f} and one bias per class, fitted on {fitted['images']} *cal* "
                "images, are folded into the classifier."
            )
            error = f"{gain[0]} before, {gain[1]} after"
        lines.append(
            f"{how} Probabilities assume a {reading['prior']} class prior; expected "
            f"calibration error of the fp32 network on *test*, weighted to it: {error}. The "
            "malignant score is the sum over the malignant and premalignant classes; its thresholds were fitted, on "
            f"*cal*, to flag {reading['sensitivity']:.0%} of the malignant images. On *test* they reach:"
        )
    rows = []
    for entry in facts.files:
        m = facts.metrics(entry.path)
        rates = (
            ["-", "-"]
            if m is None
            else [
                rate(m.malignant.sensitivity, m.malignant.sensitivity_counts, m.malignant.sensitivity_wilson),
                rate(m.malignant.specificity, m.malignant.specificity_counts, m.malignant.specificity_wilson),
            ]
        )
        rows.append([entry.path, number(manifest.threshold(entry.path)), *rates])
    lines.append(table(("file", "decision threshold", "sensitivity (95 %)", "specificity (95 %)"), rows))
    return "\n\n".join(lines)


def latency(report: Latency | None) -> str:
    """Tabulate the latency of each file and runtime on the device that measured."""
    if report is None:
        return "Not measured."
    rows = []
    for row in report.rows:
        times = [number(row.p50_ms, 2), number(row.p90_ms, 2)]
        rows.append([f"{row.file} ({row.runtime})", row.threads, *times, row.n, "; ".join(row.reasons) or "-"])
    versions = ", ".join(f"{name} {version}" for name, version in report.device.versions.items())
    columns = ("file", "threads", "p50 ms", "p90 ms", "samples", "not trustworthy because")
    return f"{report.device.cpu}, {versions}.\n\n" + table(columns, rows)


def limits(manifest: Manifest) -> str:
    """List what the figures do not cover."""
    lines = [
        "Performance by skin tone is unknown: the images carry no labels of it (HAM10000, for one, has none).",
        "Figures are of the data named above. Other cameras, clinics and case mixes will give others.",
        "Class shares differ from place to place; probabilities hold for the class prior that is stated.",
        "Images with rulers, ink, bubbles, hair or bad focus were not judged on their own.",
    ]
    if manifest.domain == "dermoscopic":
        lines.insert(0, "Dermatoscope images only; predictions on a bare phone camera's photos are not validated.")
    return "\n".join(f"- {line}" for line in lines)


def training(manifest: Manifest) -> str:
    """State the command, the settings and the base weights that the network was trained with."""
    record = manifest.training
    base, best, config = record["base_weights"], record.get("best", {}), record["config"]
    seconds = f"{record['seconds']:.0f} s" if "seconds" in record else "time not recorded"
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    settings = toml(config)
    command = "skinedge run --data DIR" + (" --config settings.toml" if settings else "")
    parts = [
        f"`{command}`, seed {config.get('seed')}, {seconds} on {record.get('device')} in {record.get('precision')}, "
        f"best epoch {best.get('epoch', '-')}; {versions}.",
        f"Base weights: {base['source']}, sha256 `{base['sha256'][:16]}`.",
    ]
    if teacher := record.get("teacher"):
        members = [
            f"{one['name']}: its merged network, sha256 `{one['model_sha256'][:16]}`" for one in members_of(teacher)
        ]
        parts.append(f"Taught by the {'mean of the runs' if len(members) > 1 else 'run'} {'; '.join(members)}.")
    if settings:
        parts.append(f"settings.toml:\n\n```toml\n{settings}\n```")
    return "\n\n".join(parts)


def members_of(teacher: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the record of each teacher of an ensemble; of one teacher, its own."""
    members: Sequence[Mapping[str, Any]] = teacher.get("members", [teacher])
    return members


def toml(config: Mapping[str, Any]) -> str:
    """Write the settings that are not the defaults as TOML."""
    import tomli_w

    return tomli_w.dumps(_changed(config, TrainConfig().to_dict())).strip()


def _changed(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, at any depth, that differ from the defaults; TOML has no null, so None is left out."""
    changed: dict[str, Any] = {}
    for key, value in config.items():
        default = defaults.get(key)
        if isinstance(value, Mapping):
            if section := _changed(value, default or {}):
                changed[key] = section
        elif value is not None and value != (list(default) if isinstance(default, tuple) else default):
            changed[key] = value
    return changed


def license_text(manifest: Manifest) -> str:
    """Write the licence that is packed beside the weights."""
    if not manifest.license:
        return "No licence was stated for these weights. Ask their authors before you pass them on.\n"
    licenses = manifest.license.split(" AND ")
    name = " and ".join(NAMES.get(one, one) for one in licenses)
    parts = [f"The weights in this folder are licensed under {name} (SPDX: {manifest.license})."]
    parts += [f"Legal code: {LEGAL_CODE[one]}" for one in licenses if one in LEGAL_CODE]
    if manifest.attribution:
        parts.append(
            f"They were made by training on, and may be shared only with attribution to:\n{manifest.attribution}."
        )
    if NON_COMMERCIAL in licenses:
        parts.append("No commercial use.")
    parts.append("They come without any warranty. Research tool, not a medical device.")
    parts.append("The program code around them is licensed under Apache-2.0.")
    return "\n\n".join(parts) + "\n"


def rate(share: float | None, counts: Counts | None, bounds: Bounds | None) -> str:
    """Write '0.903 (84/93, 0.826-0.948)'; '-' where it was not measured."""
    if share is None or counts is None or bounds is None:
        return "-"
    return f"{number(share)} ({counts[0]}/{counts[1]}, {number(bounds[0])}-{number(bounds[1])})"


def number(value: float | None, digits: int = 3) -> str:
    """Write a figure; '-' where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(visible(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
