"""The report's section on latency: times, memory and size on one device, and accuracy beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skinedge.run.class_order import read_reference
from skinedge_bench.evaluate.tables import Cell, Table, number
from skinedge_bench.latency.targets import sample_key
from skinedge_bench.report import charts, pareto
from skinedge_bench.report.content import Block, Charts, Missing, Section, Text
from skinedge_bench.report.pareto import Candidate
from skinedge_bench.report.sources import LATENCY, REFERENCE, Document, Sources, is_valid

PARTS = ("decode", "resize", "infer", "label")


def latency(sources: Sources) -> Section:
    """Times, memory and size on the device that measured; accuracy against latency."""
    said = sources.latency
    if said is None:
        return Section("Latency", (Missing("Not measured", "skinedge bench RUN"),))
    device, rows = said["device"], said["rows"]
    libraries = ", ".join(f"{name} {version}" for name, version in device["versions"].items())
    host, protocol = said.get("host"), said["protocol"]["name"]
    where = f"{host}: {device['cpu']}" if host else device["cpu"]
    blocks: list[Block] = [Text(f"{where}, {device['system']}; {libraries}. Protocol: {protocol}.")]
    blocks += [
        Text(f"{reason[:1].upper()}{reason[1:]}.") for reason in said.get("recommendation", {}).get("reasons", ())
    ]
    blocks += [*_earlier(sources, rows), _times(rows)]
    blocks += [
        Text(f"Not trustworthy, {_row_name(row, rows)}: {'; '.join(row['reasons'])}.") for row in rows if row["reasons"]
    ]
    blocks += [Text(remark) for remark in (*said["remarks"], said.get("floor_method")) if remark]
    blocks += [*_charts(sources, said), *_from_photo_to_label(rows)]
    return Section("Latency", tuple(blocks))


def _earlier(sources: Sources, rows: Sequence[Document]) -> Iterator[Missing]:
    """Which of the files that were timed the run has made again since."""
    gone = dict.fromkeys(row["file"] for row in rows if sources.made_again(row["file"], row["sha256"]))
    if gone:
        yield Missing(f"Measured on earlier files than the run has now: {', '.join(gone)}", "skinedge bench RUN")


def _times(rows: Sequence[Document]) -> Table:
    cells: list[list[Cell]] = []
    for row in rows:
        times = [number(row[key], 2) for key in ("p50_ms", "p90_ms", "p99_ms")]
        times.append(number((row.get("floor") or {}).get("ms"), 2))
        times += [number(row[key], 2) for key in ("ratio_to_fp32", "ratio_to_eager")]
        memory = [number(row[key], 1) for key in ("load_ms", "first_inference_ms", "peak_rss_mib")]
        size = f"{row['size_bytes'] / 1e6:.2f}" if row["size_bytes"] else None
        cells.append([_row_name(row, rows), *times, *memory, size, number(row["balanced_accuracy"]), str(row["n"])])
    columns = ("file", "p50 ms", "p90 ms", "p99 ms", "floor ms", "x fp32", "x eager", "load ms", "first ms", "RSS MiB")
    return Table("Every file and runtime", (*columns, "MB", "balanced accuracy", "samples"), cells)


def _from_photo_to_label(rows: Sequence[Document]) -> Iterator[Table]:
    """What a user waits for, and where the time goes; of reports that timed it."""
    cells: list[list[Cell]] = []
    for row in rows:
        if found := row.get("end_to_end"):
            parts = [number(found["parts_ms"].get(part), 2) for part in PARTS]
            whole = [number(found["p50_ms"], 2), number(found["p90_ms"], 2), str(found["n"])]
            cells.append([_row_name(row, rows), *whole, *parts])
    if cells:
        columns = ("file", "p50 ms", "p90 ms", "images", *(f"{part} ms" for part in PARTS))
        yield Table("From encoded photo to label", columns, cells)


def _row_name(row: Document, rows: Sequence[Document]) -> str:
    threads = {each["threads"] for each in rows}
    return f"{row['file']} ({row['runtime']}" + (f", {row['threads']} threads)" if len(threads) > 1 else ")")


def _charts(sources: Sources, said: Document) -> Iterator[Block]:
    rows, samples = said["rows"], said["samples_ms"]
    keys = {_row_name(row, rows): sample_key(row["runtime"], row["file"], row["threads"]) for row in rows}
    spread = [(name, [ms for block in samples[key] for ms in block]) for name, key in keys.items() if key in samples]
    found = pareto.judged(list(candidates(sources, said)))
    drawn = [charts.distributions("How the times spread", spread)] if spread else []
    if any(not candidate.apart for candidate in found):
        drawn.append(pareto.chart(found))
    if drawn:
        yield Charts(tuple(drawn))
    if found:
        yield pareto.table(found)


def candidates(sources: Sources, said: Document) -> Iterator[Candidate]:
    """Every file that was both timed and judged: this run's, then those of the other runs."""
    own = sources.bundle
    yield from _candidates("", said, "")
    images = read_reference(own).ids if own.has(REFERENCE) else None
    for bundle, other in sources.others:
        theirs = read_reference(bundle).ids if bundle.has(REFERENCE) else None
        with is_valid(bundle.root / LATENCY):
            cpu = other["device"]["cpu"]
            apart = f"other CPU: {cpu}" if cpu != said["device"]["cpu"] else ""
            apart = apart or ("" if theirs == images else "other test images")
            yield from _candidates(bundle.manifest.name, other, apart)


def _candidates(run: str, said: Document, apart: str) -> Iterator[Candidate]:
    for row in said["rows"]:
        if row["p50_ms"] is not None and row["balanced_accuracy"] is not None:
            name = _row_name(row, said["rows"]).replace(f" ({row['runtime']})", "")
            known = (row["runtime"], row["precision"], row["p50_ms"], row["balanced_accuracy"], row["size_bytes"])
            yield Candidate(run, name, *known, apart)
