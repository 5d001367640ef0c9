"""skinedge backbones."""

from __future__ import annotations

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, say, table
from skinedge.cli.options import JsonOption
from skinedge.core.installation import pip_install


@app.command()
def backbones(json: JsonOption = False) -> None:
    """List backbones with size, source of their weights and int8 risk."""
    from skinedge.network.backbones import BACKBONES
    from skinedge.network.model import WEIGHT_PACKAGES, packaged_weights

    sources = {
        one.name: "offline" if packaged_weights(one.name) else "package" if one.name in WEIGHT_PACKAGES else "download"
        for one in BACKBONES
    }
    if json:
        rows = [
            {"name": one.name, "weights": sources[one.name], "parameters": one.parameters,
             "image_size": one.image_size, "int8_risk": one.risk or None}
            for one in BACKBONES
        ]  # fmt: skip
        emit_json("backbones", {"backbones": rows}, model_id=None, model_sha256=None)
        return
    table(
        "Backbones for --backbone",
        ("name", "weights", "M params", "px", "int8 risk"),
        [
            (one.name, sources[one.name], f"{one.parameters / 1e6:.1f}", one.image_size,
             one.risk or None)
            for one in BACKBONES
        ],
    )  # fmt: skip
    say(f"weights: offline (installed), package ({pip_install('teacher')}), download (from timm's hub).")
    say("An int8 file has about a byte for each parameter, an fp32 file four.")
    say("Any other timm model that ends in a linear layer can be named too; train prints its int8 risk.")
