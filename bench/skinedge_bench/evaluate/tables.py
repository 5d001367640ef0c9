"""Tables of an evaluation, for the terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skinedge.core.terminal import visible
from skinedge.data.columns import TONE_SCALES
from skinedge_bench.evaluate.document import PER_CLASS

Cell = str | int | None


@dataclass(frozen=True)
class Table:
    """A table. rows: one cell per column; None if undefined."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


def tables(document: Mapping[str, Any]) -> list[Table]:
    """Build the tables of an evaluation's JSON document, in reading order."""
    labels = document["classes"]
    return [
        Table(
            f"{document['n']} images, split {document['split']} ({_prior(document, 'per_class')})",
            (
                "class",
                *(name.replace("recall", "sensitivity").replace("_", " ") for name in PER_CLASS),
                "images",
                "flagged",
            ),
            [
                [label, *(number(row[name], 3) for name in PER_CLASS), row["support"], _flagged(row)]
                for label, row in _classes(document)
            ],
        ),
        Table(
            f"Confusion (rows: truth; as the file answers, {_prior(document, 'confusion')})",
            ("", *labels),
            [[label, *counts] for label, counts in zip(labels, document["confusion"], strict=True)],
        ),
        _overall(document),
        *(_subgroups(attribute, groups) for attribute, groups in document["subgroups"].items()),
    ]


def decision_tables(document: Mapping[str, Any]) -> list[Table]:
    """Build the tables on the malignant score: other thresholds, predictive values, net benefit, reliability.

    A table without rows is left out; evaluations from before these figures have none.
    """
    parts: Mapping[str, Any] = document.get("decisions", {})
    built = [
        Table(
            "Other thresholds of the malignant score (the highest one that reaches each sensitivity on these images)",
            ("sensitivity wanted", "threshold", "sensitivity", "specificity", "benign flagged per malignant flagged"),
            [
                [
                    f"{row['wanted']:.0%}",
                    *(number(row[k], 3) for k in ("threshold", "sensitivity", "specificity", "alarms")),
                ]
                for row in parts.get("operating_points", ())
            ],
        ),
        Table(
            "What a flag means where the malignant share is another (at the file's threshold, by Bayes' theorem)",
            ("malignant share", "malignant among the flagged (PPV)", "benign among the others (NPV)"),
            [
                [f"{row['prevalence']:.0%}", number(row["ppv"], 3), number(row["npv"], 3)]
                for row in parts.get("predictive_values", ())
            ],
        ),
        Table(
            "Net benefit (decision curve, Vickers and Elkin 2006; flagging none: 0)",
            ("risk threshold", "model", "flag all"),
            [
                [f"{row['risk']:.0%}", number(row["model"], 3), number(row["everyone"], 3)]
                for row in parts.get("decision_curve", ())
            ],
        ),
        Table(
            "Reliability of the malignant score",
            ("score", "images", "malignant", "mean score", "share malignant"),
            [
                [
                    f"{row['above']:.1f}-{row['up_to']:.1f}",
                    row["images"],
                    row["malignant"],
                    number(row["mean_score"], 3),
                    number(row["malignant"] / row["images"], 3) if row["images"] else None,
                ]
                for row in parts.get("score_reliability", ())
            ],
        ),
    ]
    return [table for table in built if table.rows]


def sections(tables: Sequence[Table], level: int) -> list[str]:
    """Headings and tables in Markdown, alternating. level: of the headings."""
    return [part for table in tables for part in (f"{'#' * level} {escaped(table.title)}", markdown_table(table))]


def markdown(document: Mapping[str, Any], notice: str, pictures: Sequence[str]) -> str:
    """Build a page of the summary, the tables, the intervals of each class, and the pictures in the same folder."""
    warning = f"**CONTAMINATED: the model was trained on {document['contaminated']} of these images or their lesions.**"
    parts = [
        f"# {escaped(document['file'])}" + (" (trained on SYNTHETIC images)" if document["synthetic"] else ""),
        notice,
        *([warning] if document["contaminated"] else []),
        *([f"**{escaped(absent)}**"] if (absent := absent_note(document)) else []),
        *([" ".join(map(escaped, document["summary"]))] if document.get("summary") else []),
        *sections([*tables(document), *decision_tables(document), class_intervals(document)], 2),
    ]
    parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _flagged(row: Mapping[str, Any]) -> str | None:
    """Format the images of a class that are flagged: '43 of 53'; None without a threshold, or if older."""
    counts = row.get("flagged")
    return f"{counts[0]} of {counts[1]}" if counts and counts[1] else None


def absent_note(document: Mapping[str, Any]) -> str | None:
    """Name the classes without an image; None if all occur, or an earlier version wrote the document."""
    absent = document.get("absent_classes", ())
    if not absent:
        return None
    present = len(document["classes"]) - len(absent)
    return (
        f"only {present} of the model's {len(document['classes'])} classes occur in these images, without "
        f"{', '.join(absent)}: balanced accuracy and the other means over classes are of these {present} only"
    )


def _classes(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(document["per_class"].items())


def _overall(document: Mapping[str, Any]) -> Table:
    intervals, malignant, bootstrap = document["intervals"], document["malignant"], document["bootstrap"]
    rows: list[list[Cell]] = []
    for name in ("accuracy", "balanced_accuracy", "macro_auc", "macro_auc_training_prior", "macro_average_precision"):
        title = name.removesuffix("_training_prior").replace("_", " ")
        value, bounds = number(document[name]), interval(intervals.get(name))
        if value or name != "macro_auc_training_prior":
            rows.append([f"{title}, {_prior(document, name)}", value, bounds, None, None])
    for name in ("sensitivity", "specificity", "auc", "average_precision"):
        bounds = interval(intervals.get(f"malignant_{name}"))
        counts, wilson = malignant.get(f"{name}_counts"), interval(malignant.get(f"{name}_wilson"))
        right = f"{counts[0]} of {counts[1]}" if counts else None
        rows.append([f"malignant {name.replace('_', ' ')}", number(malignant[name]), bounds, right, wilson])
    rows.append(["malignant threshold", number(malignant["threshold"]), None, None, None])
    for name, title in (("ece", "calibration error (ECE)"), ("ece_at_class_prior", "ECE at the class prior")):
        rows.append([title, number(document[name]), interval(intervals.get(name)), None, None])
    title = f"Overall (bootstrap over {bootstrap['units']} {bootstrap['unit']}s, {bootstrap['resamples']} resamples)"
    return Table(title, ("figure", "value", f"95 % by {bootstrap['unit']}", "images", "95 % by image (Wilson)"), rows)


def _prior(document: Mapping[str, Any], metric: str) -> str:
    """Return the class prior that a metric assumes: 'training prior', 'uniform prior' or 'own prior'."""
    return f"{document['assumed_prior'][metric].replace('file', 'own')} prior"


def _describe(attribute: str) -> str:
    """Return the name of an attribute, with its scale's ends: 'fitzpatrick (1 lightest to 6 darkest)'."""
    scale = TONE_SCALES.get(attribute)
    if scale is None:
        return attribute
    ends = ("darkest", "lightest") if attribute == "milk10k_tone" else ("lightest", "darkest")
    return f"{attribute} ({scale[0]} {ends[0]} to {scale[1]} {ends[1]})"


def _subgroups(attribute: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """Build the table of an attribute; a group that is too small shows its number of images only."""
    columns = (
        "balanced accuracy (classes)",
        "malignant sensitivity, 95 %",
        "to the others, 95 %",
        "malignant specificity, 95 %",
    )
    rows: list[list[Cell]] = []
    for value, group in groups.items():
        if "balanced_accuracy" in group:
            accuracy = f"{number(group['balanced_accuracy'], 3)} ({group['classes']})"
            rates = _rate(group, "sensitivity"), _gap(group), _rate(group, "specificity")
            rows.append([value, group["n"], accuracy, *rates])
        else:
            rows.append([value, group["n"], None, None, None, None])
    return Table(f"By {attribute}", (_describe(attribute), "images", *columns), rows)


def class_intervals(document: Mapping[str, Any]) -> Table:
    """Build the table of the intervals of every metric of every class."""
    names = tuple(name.replace("recall", "sensitivity").replace("_", " ") for name in PER_CLASS)
    rows = [[label, *(interval(row["intervals"][name]) for name in PER_CLASS)] for label, row in _classes(document)]
    return Table(f"95 % intervals of each class, by {document['bootstrap']['unit']}", ("class", *names), rows)


def _rate(group: Mapping[str, Any], name: str) -> str | None:
    """Format a rate: '0.812 (13/16) 0.570-0.934'; None if it is undefined."""
    share, counts = number(group[name], 3), group[f"{name}_counts"]
    return f"{share} ({counts[0]}/{counts[1]}) {interval(group[f'{name}_wilson'])}" if share else None


def _gap(group: Mapping[str, Any]) -> str | None:
    """Format the difference to the sensitivity of all other images: '-0.120 (-0.310 to +0.050)'; None if unknown."""
    difference, low, high = group.get("sensitivity_gap") or (None, None, None)
    return None if difference is None else f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"


def interval(pair: Sequence[float] | None) -> str | None:
    """Format an interval: '0.570-0.934'; None if it is undefined."""
    low, high = (number(value, 3) for value in pair or (None, None))
    return f"{low}-{high}" if low and high else None


def number(value: float | None, digits: int = 4) -> str | None:
    """Format a number for a cell; None if it is undefined."""
    return None if value is None or value != value else f"{value:.{digits}f}"


def markdown_table(table: Table) -> str:
    """Format a table in Markdown."""
    cells = [["-" if cell is None else escaped(str(cell)) for cell in line] for line in (table.columns, *table.rows)]
    lines = [cells[0], ["---"] * len(table.columns), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escaped(text: str) -> str:
    """Escape a text for Markdown, on one line: no end of a table cell, no HTML, no link, no emphasis."""
    return re.sub(r"([\\`*\[\]<|])", r"\\\1", visible(" ".join(text.split())))
