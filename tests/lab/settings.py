"""Where the lab keeps things, and the numbers of its network."""

import hashlib
import os
from pathlib import Path

DEFAULT_DIRECTORY = "/var/lib/senex-lab"

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "tests" / "images"

DIRECTORY = Path(os.environ.get("SENEX_LAB_DIR") or DEFAULT_DIRECTORY).resolve()
_OTHER = "" if str(DIRECTORY) == DEFAULT_DIRECTORY else "-" + hashlib.sha256(str(DIRECTORY).encode()).hexdigest()[:8]
RUNTIME = Path("/run/senex-lab" + _OTHER)

STORAGE = DIRECTORY / "containers"
NETWORK = "senex-lab"
# A second lab on one machine (the lab's own tests) needs a subnet of its own.
PREFIX = os.environ.get("SENEX_LAB_PREFIX") or "10.203.0"

REGISTRY_NAME = "registry.senex.test"
REGISTRY_ADDRESS = f"{PREFIX}.2"
REGISTRY_PORT = 5000
REGISTRY_USER = "lab"

DEMO_ADDRESS = f"{PREFIX}.10"
STATIC_ADDRESSES = range(50, 128)
DYNAMIC_RANGE = f"{PREFIX}.128/26"

SSH_KEY = DIRECTORY / "ssh" / "id_ed25519"
SSH_CONFIG = DIRECTORY / "ssh" / "config"
CA = DIRECTORY / "ca"
IMAGE_PREFIX = "localhost/senex-lab"
