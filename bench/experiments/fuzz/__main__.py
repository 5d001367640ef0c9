"""Run every command on mutated inputs and count the findings: `make fuzz ARGS="--count N --seed S"`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from experiments.fuzz import campaign, fixture
from experiments.fuzz.box import Box

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "fuzz"


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print the table. Returns 1 when there is a finding."""
    options = parse(arguments)
    base = fixture.ready(CACHE / "fixture")
    plan = campaign.Plan(options.count, options.seed, tuple(options.kinds), options.only, options.keep)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        rows = campaign.run(
            plan, base, Box(Path(folder) / "box", base), lambda line: print(line, file=sys.stderr, flush=True)
        )
    seconds = time.monotonic() - started
    print(campaign.table(rows))
    findings = sum(sum(row.findings.values()) for row in rows.values())
    blind = campaign.blind(rows)
    for name in blind:
        print(f"\n{name}: all inputs end in the same way, so the mutated file is not read: mend the input")
    tried = sum(row.tried for row in rows.values())
    print(f"\nseed {plan.seed}: {tried} inputs in {seconds / 60:.1f} min, {findings} findings")
    if options.json:
        document = {"seed": plan.seed, "seconds": round(seconds, 1), "findings": findings}
        text = json.dumps({**document, "kinds": {name: row.document() for name, row in rows.items()}}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(findings > 0 or bool(blind))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=17_000, help="total number of inputs [default: 17000]")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same inputs [default: 0]")
    parser.add_argument("--kinds", default=",".join(campaign.INPUTS), help="some of: " + ", ".join(campaign.INPUTS))
    parser.add_argument("--only", type=int, metavar="INDEX", help="only the input with this index of each kind")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="save findings in this folder, with the command that repeats them"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts as JSON too")
    options = parser.parse_args(arguments)
    options.kinds = [name.strip() for name in options.kinds.split(",")]
    unknown = [name for name in options.kinds if name not in campaign.INPUTS]
    if unknown:
        parser.error(f"unknown kind: {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
