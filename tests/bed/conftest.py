"""A second lab beside the one in use, with its own storage, network and runtime directory."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bed import IMAGE  # noqa: E402  (the path above must come first)

LAB = Path(__file__).parents[1] / "lab" / "lab"


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    place = tmp_path_factory.mktemp("lab")
    roots = sorted(Path(os.environ["SENEX_LAB_DIR"], "rootfs").glob("base-*.tar"), key=lambda p: p.stat().st_mtime)
    environment = {**os.environ, "SENEX_LAB_DIR": str(place), "SENEX_LAB_PREFIX": "10.203.9"}

    def run(*argv, check=True):
        """What the lab prints; with check=False all that was said, whether it failed or not."""
        done = subprocess.run([LAB, *argv], env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout.strip() if check else done.stdout + done.stderr

    run.directory, run.environment = place, environment
    run("run", "--", "podman", "import", "--change", 'CMD ["sleep","600"]', roots[-1], IMAGE)
    yield run
    run("run", "--", "podman", "rm", "--all", "--force", "--time", "0")
    run("reset")
    runtime = f"/run/senex-lab-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    subprocess.run(["umount", "--lazy", f"{runtime}/mnt", runtime], check=False)
    subprocess.run(["rm", "-rf", runtime], check=False)
