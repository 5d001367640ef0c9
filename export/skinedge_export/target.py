"""What an export is asked for: which files, of which precision and form, by which converter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from skinedge.core.errors import ConfigError, one_of
from skinedge.run import plugins
from skinedge.run.manifest import FileEntry
from skinedge_export.converter import Converter
from skinedge_export.recipe import CALIBRATED, PRECISIONS, RECIPES, ExportRecipe
from skinedge_export.search import candidates
from skinedge_export.signature import IOSignature

LADDER = "ladder"  # asked for instead of a precision: the fastest that passes


@dataclass(frozen=True)
class ExportTarget:
    """One file to make. precision: 'ladder' or one of PRECISIONS; fallback: the ladder may go below int8;
    arm: for the int8 dot products of ARM processors (ONNX: S8S8); converter: its name, by default that of the format.
    """

    format: str
    precision: str
    form: IOSignature = field(default_factory=IOSignature)
    fallback: bool = False
    arm: bool = False
    converter: str = ""

    def __post_init__(self) -> None:
        one_of("precision", self.precision, (LADDER, *PRECISIONS))

    @property
    def precisions(self) -> tuple[str, ...]:
        """What to try, in this order."""
        if self.precision != LADDER:
            return (self.precision,)
        return ("int8", "int8-mixed", *(candidates.load_search_settings().fallback if self.fallback else ()))

    @property
    def calibrated(self) -> bool:
        return any(precision in CALIBRATED for precision in self.precisions)

    def file_name(self, precision: str, suffix: str) -> str:
        """Name in the run directory: model.<precision>[.arm][.<contract>][.logits][.heatmap][.<converter>]<suffix>."""
        arm = "arm" if self.arm and precision in CALIBRATED else ""
        parts = ("model", precision, arm, *self.form.parts, self.converter)
        return ".".join(part for part in parts if part) + suffix

    @property
    def shown(self) -> str:
        """The name that people know it by: that of its first candidate's file."""
        return self.file_name(self.precisions[0], f".{self.format}")

    @classmethod
    def of(cls, entry: FileEntry) -> ExportTarget:
        """What a file of a run was asked for as."""
        said = entry.info.get("asked")
        if said is None:  # a file of the first version
            precision = str(entry.info["precision"])
            return cls(str(entry.info["format"]), LADDER if precision == "int8" else precision)
        return cls(**{**said, "form": IOSignature(**said["form"])})


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
    """The files of one command: fp32, and with `int8` the ladder's, of each format; or the one `precision`.

    Of a converter that is not the format's own, `int8` is static int8 and no other: it is there to compare with.

    Raises: ConfigError for an unknown format or precision, or for options that mean nothing together.
    """
    one_of("--precision", precision or "fp32", PRECISIONS)
    if int8 and precision:
        raise ConfigError("--int8 and --precision contradict each other", todo="Say one of them.")
    if fallback and not int8:
        raise ConfigError("--fallback says where the ladder may end, and only --int8 climbs it", todo="Add --int8.")
    form, found, quantized = form or IOSignature(), [], (LADDER, *CALIBRATED)
    for name in formats:
        other = converter if converter != name else ""
        _check_converter(name, other)
        wanted = [precision] if precision else ["fp32", *["int8" if other else LADDER] * int8]
        found += [ExportTarget(name, each, form, fallback and each == LADDER, converter=other) for each in wanted]
        if arm and (RECIPES / f"{name}-int8-arm.toml").is_file():
            found += [
                ExportTarget(name, each, form, fallback and each == LADDER, arm=True)
                for each in wanted
                if each in quantized
            ]
    if arm and not any(ask.arm for ask in found):
        raise ConfigError("--cpu arm: none of these files has a variant for ARM", todo="Ask for --format onnx --int8.")
    return found


def converter_of(ask: ExportTarget) -> Converter:
    found: Converter = plugins.load(plugins.CONVERTERS, ask.converter or ask.format)
    return found


def runtime_of(ask: ExportTarget) -> plugins.Runtime:
    """What gates and times its files."""
    found: plugins.Runtime = plugins.load(plugins.RUNTIMES, converter_of(ask).runtime)
    return found


def formats() -> list[str]:
    """The formats that a converter of the same name makes."""
    return [name for name in plugins.names(plugins.CONVERTERS) if plugins.load(plugins.CONVERTERS, name).format == name]


def _check_converter(format: str, converter: str) -> None:
    """Raises: ConfigError for an unknown format or converter, or for one that makes files of another format."""
    plugins.load(plugins.CONVERTERS, format)
    made = plugins.load(plugins.CONVERTERS, converter or format).format
    if made != format:
        name = converter or format
        todo = f"Say --format {made} --converter {name}."
        raise ConfigError(f"the converter '{name}' makes {made} files, not {format}", todo=todo)


def recipe_of(ask: ExportTarget, precision: str) -> ExportRecipe:
    return converter_of(ask).recipe(f"{precision}-arm" if ask.arm and precision == "int8" else precision)
