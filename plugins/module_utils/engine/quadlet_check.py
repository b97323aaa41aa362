"""Validation of a staged set of units before it is installed: key table, the host's own generator, systemd's verify."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_keys import check_unit
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.host_layout import GENERATORS
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

MOST = 100  # problems of all files together, of which there may be hundreds


def generator() -> str:
    """The host's Quadlet generator."""
    for path in GENERATORS:
        if os.path.exists(path):
            return path
    raise LookupError("this host has no Quadlet generator: Podman 4.9 or newer is needed (the podman role installs it)")


def problems(user: ServiceUser, units: dict[str, str], version: tuple[int, ...]) -> list[str]:
    """What is wrong with a set of units (file name -> text), each line naming its file. Empty: all good."""
    found = []
    for name, text in units.items():
        if name.endswith(unit_text.QUADLET_SUFFIXES):
            found += check_unit(text, untrusted.plain(name, 255), version)
        if len(found) > MOST:
            return [*found, "and more, perhaps, in the other files"]
    if found:
        return found
    stage = tempfile.mkdtemp(prefix="senex-stage-", dir="/run")
    try:
        return _generated(user, units, stage)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _generated(user: ServiceUser, units: dict[str, str], stage: str) -> list[str]:
    source, output = os.path.join(stage, "units"), os.path.join(stage, "generated")
    for directory in (source, output):
        os.mkdir(directory)
        os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask is
    os.chmod(stage, 0o711)  # noqa: S103 - the service user passes through to its own two directories
    for name, text in units.items():
        directory = source if name.endswith(unit_text.QUADLET_SUFFIXES) else output
        with open(os.path.join(directory, name), "w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), 0o644)
            handle.write(text)
    # The user's only now that root has written into it, or a link it planted would lead root elsewhere
    os.chown(output, user.uid, user.gid)
    result = user.run([generator(), "-user", "-no-kmsg-log", output], check=False, extra={"QUADLET_UNIT_DIRS": source})
    lines = _lines(result, stage)
    if result.returncode or lines:
        return lines or [f"the Quadlet generator ended with {result.returncode} and said nothing"]
    services = sorted(name for name in os.listdir(output) if name.endswith(unit_text.SYSTEMD_SUFFIXES))
    if not services:
        return []
    # Its exit status is 0 for most bad units, so what it prints is the verdict
    result = user.run(
        ["/usr/bin/systemd-analyze", "--user", "verify", "--man=no", "--generators=no", *(os.path.join(output, name) for name in services)],
        check=False,
        extra={"SYSTEMD_UNIT_PATH": f"{output}:"},
    )
    return _lines(result, stage)


def _lines(result: subprocess.CompletedProcess, stage: str) -> list[str]:
    text = f"{result.stdout}\n{result.stderr}".replace(f"{stage}/units/", "").replace(f"{stage}/generated/", "").replace(f"{stage}/", "")
    return [line.strip() for line in text.splitlines() if line.strip() and "Loading source unit file" not in line]
