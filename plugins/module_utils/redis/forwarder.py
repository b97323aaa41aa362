"""What stands where Redis was: a container that answers to its name and at its port, and leads to the host where it is now.

The interpreter is the host's own (Ansible needs one there), in a container of Redis' image: so nothing has to come from a registry.
"""

from __future__ import annotations

import glob
import os
import sysconfig

from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

UNIT, CONTAINER = "redis-forward.service", "redis-forward"
UNIT_FILE = """# Managed by Ansible (senex.trader, playbooks/move.yml): changes here are overwritten
[Unit]
Description=The way to Redis on {other}
StartLimitIntervalSec=0

[Container]
Image={image}
Pull=never
ContainerName=redis-forward
Network={network}.network
PodmanArgs=--network-alias=redis
PublishPort={address}:{port}:6390
User={uid}
Secret=redis_tls_certificate,type=mount,uid={uid},gid={uid},mode=0400
Secret=redis_tls_key,type=mount,uid={uid},gid={uid},mode=0400
Volume=/usr:/usr:ro
Volume={directory}:/etc/forward:ro
NoNewPrivileges=true
DropCapability=all
SeccompProfile=/etc/senex-trader/seccomp.json
ReadOnly=true
PodmanArgs=--entrypoint={loader}
Exec=--library-path {libraries} /usr/bin/python3 -ISB /etc/forward/forward.py {other_address} {other_port}
PodmanArgs=--stop-signal=SIGINT
PodmanArgs=--stop-timeout=2

[Service]
Restart=always
RestartSec=1
MemoryMax=192M
TasksMax=64

[Install]
WantedBy=default.target
"""


def paths(home: str) -> tuple[str, str]:
    """The directory of its files, and its unit's file."""
    return os.path.join(home, "config/redis-forward"), os.path.join(home, ".config/containers/systemd/redis-forward.container")


def interpreter() -> dict[str, str]:
    """How a program of the host is started where the image has libraries of its own."""
    libraries = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"
    found = sorted(glob.glob(f"{libraries}/ld-linux*.so.*"))
    if not found:
        raise OSError(f"{libraries} has no ld-linux: the forwarder of a move cannot be started on this host")
    return {"loader": found[0], "libraries": libraries}


def install(user: ServiceUser, script: str, authority: str, words: dict) -> None:
    """Its files, so that nothing but a start is left."""
    directory, unit = paths(user.home)
    user.make_directory(directory, 0o755, None, None)
    text = UNIT_FILE.format(**words, **interpreter(), directory=directory)
    owner = (user.uid, user.gid)
    files = [(os.path.join(directory, "forward.py"), script, 0o644), (os.path.join(directory, "ca.crt"), authority, 0o644), (unit, text, 0o644)]
    user.writes(fileset.swap, [(path, content.encode(), (mode, *owner)) for path, content, mode in files])
    user.systemctl("daemon-reload")


def remove(user: ServiceUser) -> None:
    """It ends, and its files go."""
    directory, unit = paths(user.home)
    user.systemctl("stop", UNIT, check=False)
    files = [os.path.join(directory, name) for name in ("forward.py", "ca.crt")]
    user.writes(fileset.swap, [(path, None, (0, 0, 0)) for path in [*files, unit]])
    user.systemctl("daemon-reload")
