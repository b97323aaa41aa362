"""What the driving side needs: packages, the pinned tools, an environment that does not depend on who calls."""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from common import ARTIFACTS, REPOSITORY, Failure, need, say

# program (or file) → Debian package
NEEDED = {
    "podman": "podman",
    "crun": "crun",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
    "newuidmap": "uidmap",
    "iptables": "iptables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "openssl": "openssl",
    "git": "git",
    "shellcheck": "shellcheck",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "wrk": "wrk",
    "testssl": "testssl.sh",
    "hexdump": "bsdextrautils",
    "nginx": "nginx",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
}
# The virtual machine of `make faults`
FOR_FAULTS = {"mke2fs": "e2fsprogs", "qemu-system-x86_64": "qemu-system-x86"}


def lab_directory():
    return Path(os.environ["SENEX_LAB_DIR"])


def environment():
    if sys.version_info < (3, 11):  # noqa: UP036  (this is the check)
        raise Failure(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; make PYTHON=python3.13 names another")
    os.environ.setdefault("HOME", "/root")
    os.environ["SENEX_LAB_DIR"] = str(Path(os.environ.get("SENEX_LAB_DIR") or "/var/lib/senex-lab").resolve())
    # The checkout is a collections path of its own: ansible_collections/senex/trader leads back to it.
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(REPOSITORY)
    os.environ.update(PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    # nginx and ip are for root, and lie where a CI's PATH may not lead
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    ARTIFACTS.mkdir(exist_ok=True)


def packages(faults=False):
    missing = sorted({package for path, package in (NEEDED | (FOR_FAULTS if faults else {})).items() if not shutil.which(path)})
    if not importlib.util.find_spec("ensurepip"):
        missing.append("python3-venv")
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Failure(f"missing on this machine: {' '.join(missing)}; as root on Debian or Ubuntu they are installed for you")
    say(f"==== installing {' '.join(missing)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    need("apt-get", "update", "-q")
    with _no_service_starts():
        need("apt-get", "install", "-qy", "--no-install-recommends", *missing)


@contextlib.contextmanager
def _no_service_starts():
    """nginx is wanted as a program; as a package it would take port 80 of the machine. invoke-rc.d(8) asks this file, where there is none."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    try:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)


def venv():
    """The tools of requirements.txt, made once for each content of it, and first on PATH."""
    lock_file = REPOSITORY / "requirements.txt"
    digest = hashlib.sha256(lock_file.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = lab_directory() / f"venv-{digest}"
    lab_directory().mkdir(parents=True, exist_ok=True)
    with open(lab_directory() / "venv.lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            say(f"==== tools of requirements.txt into {place}")
            shutil.rmtree(place, ignore_errors=True)
            need(sys.executable, "-m", "venv", place)
            done = subprocess.run([place / "bin" / "pip", "install", "--quiet", "--require-hashes", "--requirement", lock_file], check=False)
            if done.returncode:
                raise Failure(f"pip could not install {lock_file}")
            (place / "complete").touch()
    os.environ["PATH"] = f"{place / 'bin'}:{os.environ['PATH']}"
    return place
