"""Signed models: our signatures in Debian's minisign, minisign's keys and signatures here, and altered bytes."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import class_edits as edits
import pytest

from skinedge.core.errors import BundleError, ConfigError
from skinedge.publish import bundled_model
from skinedge.run import commit
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle
from skinedge.run.signing import PASSWORD, SIGNATURE, check_signature, open_secret_key, sign

pytest.importorskip("minisign")
PASSWORD_TEXT = "a password, with spaces and ü"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not (bundled_model.FOLDER / MANIFEST).is_file():
        pytest.skip("no model ships with this checkout")
    return Path(shutil.copytree(bundled_model.FOLDER, tmp_path / "model"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A secret key without a password, and its public key, as files."""
    from minisign import KeyPair

    pair = KeyPair.generate()
    secret, public = tmp_path / "our.key", tmp_path / "our.pub"
    secret.write_bytes(bytes(pair.secret_key) + b"\n")
    public.write_bytes(bytes(pair.public_key) + b"\n")
    return secret, public


def minisign(*arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run Debian's program; the test is skipped, visibly, where it is not installed."""
    if shutil.which("minisign") is None:
        pytest.skip("minisign is not installed: make minisign")
    command = ["minisign", *map(str, arguments)]
    return subprocess.run(command, input=typed, capture_output=True, text=True, check=False)


def test_minisign_verifies_our_signature(folder: Path, keys: tuple[Path, Path]) -> None:
    sign(folder, open_secret_key(keys[0]))
    done = minisign("-V", "-H", "-m", folder / MANIFEST, "-p", keys[1])
    assert done.returncode == 0 and "verified" in done.stdout and "skinedge" in done.stdout
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text() + " ")
    assert minisign("-V", "-m", folder / MANIFEST, "-p", keys[1]).returncode != 0


@pytest.mark.parametrize("password", ["", PASSWORD_TEXT])
def test_minisigns_keys_and_signatures_are_accepted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    secret, public = tmp_path / "their.key", tmp_path / "their.pub"
    without = [] if password else ["-W"]
    made = minisign("-G", *without, "-s", secret, "-p", public, typed=f"{password}\n{password}\n")
    assert made.returncode == 0, made.stderr
    monkeypatch.setenv(PASSWORD, password)
    sign(folder, open_secret_key(secret))
    assert "skinedge" in check_signature(folder, str(public))
    assert minisign("-V", "-m", folder / MANIFEST, "-p", public).returncode == 0
    (folder / SIGNATURE).unlink()
    signed = minisign("-S", "-m", folder / MANIFEST, "-s", secret, "-t", "by hand", typed=f"{password}\n")
    assert signed.returncode == 0, signed.stderr
    assert check_signature(folder, str(public)) == "by hand"
    assert check_signature(folder, public.read_text().splitlines()[1]) == "by hand"


def test_no_altered_byte_of_manifest_or_signature_is_accepted(folder: Path, keys: tuple[Path, Path]) -> None:
    sign(folder, open_secret_key(keys[0]))
    check_signature(folder, str(keys[1]))
    rng = random.Random(3)
    for name, times in ((MANIFEST, 30), (SIGNATURE, 60)):
        path = folder / name
        content = path.read_bytes()
        untrusted = content.index(b"\n") if name == SIGNATURE else 0
        for _ in range(times):
            position = rng.randrange(untrusted, len(content) - 1)
            altered = bytearray(content)
            altered[position] ^= 1 << rng.randrange(7)
            path.write_bytes(altered)
            with pytest.raises(BundleError):
                check_signature(folder, str(keys[1]))
        path.write_bytes(content)


def test_every_listed_file_is_checked(folder: Path, keys: tuple[Path, Path]) -> None:
    sign(folder, open_secret_key(keys[0]))
    for name in Bundle.open(folder).entries():
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BundleError, match="does not match the hash"):
            check_signature(folder, str(keys[1]))
        path.write_bytes(content)


def test_consistent_edits_are_refused_without_the_key(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """All hashes match and nothing contradicts anything else: only the signature detects the change."""
    sign(folder, open_secret_key(keys[0]))
    (folder / "LICENSE").write_text("Do what you like.")
    edits.with_right_hashes(folder)
    for name in Bundle.open(folder).entries():
        Bundle.open(folder).file(name)
    with pytest.raises(BundleError, match="signature does not match"):
        check_signature(folder, str(keys[1]))
    from minisign import KeyPair

    other = KeyPair.generate()
    (tmp_path / "other.key").write_bytes(bytes(other.secret_key))
    sign(folder, open_secret_key(tmp_path / "other.key"))
    with pytest.raises(BundleError, match="signature does not match"):
        check_signature(folder, str(keys[1]))


def test_errors_of_signing_and_verifying_give_the_reason(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minisign import KeyPair

    with pytest.raises(BundleError, match="not signed"):
        check_signature(folder, str(keys[1]))
    for key in ("no-such-file.pub", "RWQ", "", str(keys[0])):
        with pytest.raises(ConfigError, match="public key"):
            check_signature(folder, key)
    for other_file in (keys[1], folder / "LICENSE"):
        with pytest.raises(ConfigError, match="not a usable minisign secret key"):
            open_secret_key(other_file)
    secret = KeyPair.generate().secret_key
    secret.encrypt(PASSWORD_TEXT)
    (tmp_path / "locked.key").write_bytes(bytes(secret))
    monkeypatch.delenv(PASSWORD, raising=False)
    with (tmp_path / "locked.key").open() as no_terminal:
        monkeypatch.setattr(sys, "stdin", no_terminal)
        with pytest.raises(ConfigError, match=PASSWORD):
            open_secret_key(tmp_path / "locked.key")
    monkeypatch.setenv(PASSWORD, "another")
    with pytest.raises(ConfigError, match="wrong password"):
        open_secret_key(tmp_path / "locked.key")


def test_packing_signs_the_model(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    from skinedge.publish.package import ship
    from skinedge_bench.verify.verify import verify

    packed = ship(Bundle.open(folder), tmp_path / "packed", key=keys[0])
    assert "skinedge" in check_signature(packed.root, str(keys[1]))
    assert verify(packed, keep=False).unmeasured  # writes nothing, so the signature remains valid
    assert "skinedge" in check_signature(packed.root, str(keys[1]))


def test_the_commands_sign_and_verify(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
    skinedge = [sys.executable, "-m", "skinedge"]
    packed, public = tmp_path / "packed", keys[1].read_text().splitlines()[1]
    done = run([*skinedge, "ship", folder, "--to", packed, "--sign", keys[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        done = run([*skinedge, "verify", packed, "--key", public, "--json"], capture_output=True, text=True)
        assert done.returncode == 0 and "signature and files verified" in done.stderr, done.stderr
    (packed / "LICENSE").write_text("Do what you like.")
    done = run([*skinedge, "verify", packed, "--key", public, "--json"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and "does not match the hash" in done.stderr


def test_an_interrupted_stage_in_a_received_model_cannot_replace_the_signed_manifest(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    """Opening a run would finish a forged stage folder that looks committed."""
    sign(folder, open_secret_key(keys[0]))
    signed = (folder / MANIFEST).read_bytes()
    stage = folder / f"{commit.PREFIX}01234567"
    forged = stage / commit.FILES / MANIFEST
    forged.parent.mkdir(parents=True)
    forged.write_bytes(signed.replace(b'"mel"', b'"nv"'))
    (stage / commit.JOURNAL).write_text(f'{{"moved": ["{MANIFEST}"], "removed": []}}')
    with pytest.raises(BundleError, match="the journal names"):
        check_signature(folder, str(keys[1]))
    assert (folder / MANIFEST).read_bytes() == signed
