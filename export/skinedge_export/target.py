"""Export targets: which files to write, in which precision and I/O signature, by which converter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from skinedge.core.errors import ConfigError, UnavailableError, one_of
from skinedge.run import plugins
from skinedge.run.manifest import FileEntry
from skinedge.system.progress import note
from skinedge.system.requirements import check_wheels
from skinedge_export.converter import Converter
from skinedge_export.recipe import CALIBRATED, PRECISIONS, RECIPES, ExportRecipe
from skinedge_export.search.candidates import load_search_settings
from skinedge_export.signature import IOSignature

SEARCH = "ladder"  # in place of a precision: the fastest one that passes; the name is part of existing manifests


@dataclass(frozen=True)
class ExportTarget:
    """One file to write.

    precision: 'ladder' (precision search) or one of PRECISIONS; form: I/O signature; fallback: the search may go below
    int8; arm: for the int8 dot products of ARM processors (ONNX: S8S8); converter: its name, '' for the format's own.
    """

    format: str
    precision: str
    form: IOSignature = field(default_factory=IOSignature)
    fallback: bool = False
    arm: bool = False
    converter: str = ""

    def __post_init__(self) -> None:
        one_of("precision", self.precision, (SEARCH, *PRECISIONS))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions to try, in this order."""
        if self.precision != SEARCH:
            return (self.precision,)
        return ("int8", "int8-mixed", *(load_search_settings().fallback if self.fallback else ()))

    @property
    def calibrated(self) -> bool:
        """True if a precision to try needs calibration images."""
        return any(precision in CALIBRATED for precision in self.precisions)

    def file_name(self, precision: str, suffix: str) -> str:
        """Return the name in the run: model.<precision>[.arm][.<contract>][.logits][.heatmap][.<converter>]<suffix>."""
        arm = "arm" if self.arm and precision in CALIBRATED else ""
        parts = ("model", precision, arm, *self.form.parts, self.converter)
        return ".".join(part for part in parts if part) + suffix

    @property
    def shown(self) -> str:
        """Name in messages: that of the first candidate's file."""
        return self.file_name(self.precisions[0], f".{self.format}")

    @classmethod
    def of(cls, entry: FileEntry) -> ExportTarget:
        """Return the target that a file of a run was made for."""
        fields = entry.info.get("asked")
        if fields is None:  # a file of the first version
            precision = str(entry.info["precision"])
            return cls(str(entry.info["format"]), SEARCH if precision == "int8" else precision)
        return cls(**{**fields, "form": IOSignature(**fields["form"])})


def export_targets(
    formats: Sequence[str],
    *,
    int8: bool = False,
    precision: str | None = None,
    form: IOSignature | None = None,
    fallback: bool = False,
    arm: bool = False,
    converter: str = "",
) -> list[ExportTarget]:
    """Return the targets of one command: for each format fp32, with `int8` a search, or only the one `precision`.

    With a converter other than the format's own, `int8` is static int8 without a search: it is for comparison.

    Raises: ConfigError for an unknown format or precision, or for contradicting options; UnavailableError for a format
    whose converter has no wheel for this platform.
    """
    one_of("--precision", precision or "fp32", PRECISIONS)
    if int8 and precision:
        raise ConfigError("--int8 and --precision contradict each other", todo="Say one of them.")
    if fallback and not int8:
        raise ConfigError("--fallback has no effect without --int8", todo="Add --int8.")
    form, targets = form or IOSignature(), []
    for name in formats:
        other = converter if converter != name else ""
        _check_converter(name, other)
        precisions = [precision] if precision else ["fp32", *["int8" if other else SEARCH] * int8]
        targets += [ExportTarget(name, each, form, fallback and each == SEARCH, converter=other) for each in precisions]
        if arm and (RECIPES / f"{name}-int8-arm.toml").is_file():
            quantized = [each for each in precisions if each in (SEARCH, *CALIBRATED)]
            targets += [ExportTarget(name, each, form, fallback and each == SEARCH, arm=True) for each in quantized]
    if arm and not any(target.arm for target in targets):
        raise ConfigError("--cpu arm: none of these files has a variant for ARM", todo="Ask for --format onnx --int8.")
    return targets


def converter_of(target: ExportTarget) -> Converter:
    """Load the target's converter; raises ConfigError if it is not installed."""
    converter: Converter = plugins.load(plugins.CONVERTERS, target.converter or target.format)
    return converter


def runtime_of(target: ExportTarget) -> plugins.Runtime:
    """Load the runtime that checks and times the target's files."""
    runtime: plugins.Runtime = plugins.load(plugins.RUNTIMES, converter_of(target).runtime)
    return runtime


def formats() -> list[str]:
    """Return the formats with a converter of the same name, without those that this platform lacks, with a note."""
    names = []
    for name in plugins.names(plugins.CONVERTERS):
        if (converter := plugins.load(plugins.CONVERTERS, name)).format == name:
            try:
                check_wheels(getattr(converter, "libraries", ()), "export")
                names.append(name)
            except UnavailableError as error:
                note(f"no {name} files: {error.what}")
    return names


def _check_converter(format: str, converter: str) -> None:
    """Check a converter before any work.

    Raises: ConfigError for an unknown format or converter, or for a converter of another format; UnavailableError if
    it has no wheel for this platform.
    """
    plugins.load(plugins.CONVERTERS, format)
    name = converter or format
    chosen: Converter = plugins.load(plugins.CONVERTERS, name)
    own_format = chosen.format
    if own_format != format:
        todo = f"Say --format {own_format} --converter {name}."
        raise ConfigError(f"the converter '{name}' makes {own_format} files, not {format}", todo=todo)
    check_wheels(getattr(chosen, "libraries", ()), "export")


def recipe_of(target: ExportTarget, precision: str) -> ExportRecipe:
    """Return the target's recipe for a precision; raises ConfigError if there is none."""
    return converter_of(target).recipe(f"{precision}-arm" if target.arm and precision == "int8" else precision)
