"""Signatures of packed models, in minisign's format. Signed is manifest.json, which has the hash of every file.

A hash proves that a file matches the manifest; a signature proves who made both. `minisign -V -m manifest.json -p KEY`
verifies the same signature, and minisign's own keys can sign here.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Any

from skinedge.core.errors import BundleError, ConfigError, MissingDependencyError
from skinedge.core.files import read_regular, write_atomic
from skinedge.run.manifest import MANIFEST, now
from skinedge.run.run_directory import Bundle

SIGNATURE = f"{MANIFEST}.minisig"
PASSWORD = "SKINEDGE_SIGN_PASSWORD"  # environment variable, for use without a terminal
MOST_BYTES = 10_000  # of a key or a signature
MANIFEST_BYTES = 16 << 20


def open_secret_key(path: Path) -> Any:
    """Read a minisign secret key; its password comes from SKINEDGE_SIGN_PASSWORD or the terminal.

    Returns: a decrypted minisign.SecretKey.
    Raises: ConfigError for another kind of file or a wrong password; MissingDependencyError.
    """
    minisign = _library()
    try:
        key = minisign.SecretKey.from_bytes(read_regular(path, MOST_BYTES, ConfigError))
        if key.is_encrypted():
            key.decrypt(_password(path))
    except minisign.Error as error:
        what, todo = f"not a usable minisign secret key ({error})", "Make a key with: minisign -G"
        raise ConfigError(what, where=str(path), todo=todo) from None
    return key


def _password(path: Path) -> str:
    """Return the key's password. Raises: ConfigError when the variable is not set and there is no terminal."""
    password = os.environ.get(PASSWORD)
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise ConfigError("the key has a password", where=str(path), todo=f"Set {PASSWORD}, or use a terminal.")
    return getpass.getpass(f"Password of {path}: ")


def sign(folder: Path, key: Any) -> None:
    """Write manifest.json.minisig beside the manifest of `folder`. key: from `open_secret_key`."""
    content = read_regular(folder / MANIFEST, MANIFEST_BYTES, BundleError)
    signature = key.sign(content, trusted_comment=f"{MANIFEST} of a skinedge model, signed {now()}")
    write_atomic(folder / SIGNATURE, bytes(signature) + b"\n")


def check_signature(root: Path, key: str) -> str:
    """Verify the manifest's signature, then the hash of every listed file.

    Args:
        key: a file with a minisign public key, or the key itself in base64.
    Returns: the signature's trusted comment.
    Raises: BundleError when signature, manifest or a file does not match; ConfigError for an invalid key;
        MissingDependencyError.
    """
    minisign = _library()
    public = _public_key(minisign, key)
    path = root / SIGNATURE
    if not path.is_file():
        todo = "Only models packed with `skinedge ship --sign KEY` have a signature."
        raise BundleError("not signed", where=str(path), todo=todo)
    Bundle.open(root)  # handles an interrupted stage first, so that nothing replaces the verified manifest
    try:
        signature = minisign.Signature.from_bytes(read_regular(path, MOST_BYTES, BundleError))
        if not signature.is_prehashed():
            raise minisign.VerifyError("legacy signature without prehash")
        public.verify(read_regular(root / MANIFEST, MANIFEST_BYTES, BundleError), signature)
    except minisign.Error as error:
        what = f"the signature does not match this manifest and key ({error})"
        raise BundleError(what, where=str(path), todo="Get the model again from its signer.") from None
    bundle = Bundle.open(root)
    for name in bundle.entries():
        bundle.file(name)
    return str(signature.trusted_comment)


def _public_key(minisign: Any, key: str) -> Any:
    """Read a public key from a file or from base64. Raises: ConfigError."""
    try:
        if Path(key).is_file():
            return minisign.PublicKey.from_bytes(read_regular(Path(key), MOST_BYTES, ConfigError))
        return minisign.PublicKey.from_base64(key)
    except (minisign.Error, OSError) as error:
        todo = "Use the file minisign.pub, or its second line."
        raise ConfigError(f"not a minisign public key, nor a file with one ({error})", where=key, todo=todo) from None


def _library() -> Any:
    """Import minisign. Raises: MissingDependencyError."""
    try:
        import minisign
    except ModuleNotFoundError:
        raise MissingDependencyError("py-minisign", "sign") from None
    return minisign
