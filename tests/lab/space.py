"""The place where the lab's podman runs: one mount namespace with a cgroup v2 tree, own storage, own network files."""

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import time
from pathlib import Path

import network
from settings import DIRECTORY, PREFIX, RUNTIME, STORAGE
from shell import LabError, lock, run, say, succeeds

PIN = RUNTIME / "mnt"
# Podman as root keeps addresses and name service here whatever its settings say; the lab's namespace has its own.
SHARED_RUNTIME = Path("/run/containers")
OWN_RUNTIME = RUNTIME / "run-containers"
# Podman's name server outlives the containers it served
NAMES = "aardvark-dns"
CLONE_NEWNS = 0x00020000
TIDY_SECONDS = 60


def _mounts():
    """(mount point, file system) of this namespace, in the order of mounting."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        yield fields[4], fields[fields.index("-") + 1]


def pure_cgroup_v2():
    return [kind for point, kind in _mounts() if point == "/sys/fs/cgroup"][-1:] == ["cgroup2"]


def _pinned():
    return (str(PIN), "nsfs") in set(_mounts())


def _abandoned():
    """Podman takes its containers for running when every process was killed at once; then its notes are worth nothing."""
    notes = any((RUNTIME / "containers" / "overlay-containers").glob("*/userdata/conmon.pid"))
    if not notes:
        return False
    if _pinned():
        return not any(place == PIN.stat().st_ino and program != NAMES for place, program in _namespaces())
    return not any(_is_monitor(program, command) for _, program, command, *_ in _processes())


def _namespaces():
    """(mount namespace, name) of every other process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                yield (entry / "ns" / "mnt").stat().st_ino, (entry / "comm").read_text(encoding="utf-8").strip()


def _is_monitor(program, command):
    return program == "conmon" and f"{RUNTIME}/" in command


def enter():
    """Move this process to where the lab's podman works; make that place first when it is missing."""
    if os.geteuid() != 0:
        raise LabError("the lab makes privileged containers: run it as root")
    # podman and ansible both want a home; a CI runner may not set one.
    os.environ.setdefault("HOME", "/root")
    with lock("space.lock"):
        _configure()
        if not pure_cgroup_v2():
            if not _pinned() or _abandoned():
                clear_runtime()
                _pin()
            _join()
        elif _abandoned():
            clear_runtime()
        network.create()
        network.steady()


def _configure():
    nofile = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1] % 2**63, 1048576)
    nproc = min(resource.getrlimit(resource.RLIMIT_NPROC)[1] % 2**63, 32768)
    files = {
        "storage.conf": f"""\
[storage]
driver = "overlay"
graphroot = "{STORAGE}"
runroot = "{RUNTIME}/containers"
""",
        "hosts": network.HOSTS,
        "containers.conf": f"""\
[containers]
pids_limit = 0
base_hosts_file = "{network.HOSTS_FILE}"
dns_options = {json.dumps(network.DNS_OPTIONS)}
default_ulimits = ["nofile={nofile}:{nofile}", "nproc={nproc}:{nproc}"]
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{RUNTIME}/libpod"
static_dir = "{STORAGE}/libpod"
volume_path = "{STORAGE}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{STORAGE}/networks"
""",
    }
    place = DIRECTORY / "etc"
    for path in (place, STORAGE / "networks", RUNTIME):
        path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = place / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
    os.environ["CONTAINERS_CONF"] = str(place / "containers.conf")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(place / "storage.conf")


def _pin():
    RUNTIME.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", RUNTIME, RUNTIME)
    run("mount", "--make-private", RUNTIME)
    PIN.touch()
    OWN_RUNTIME.mkdir()
    SHARED_RUNTIME.mkdir(exist_ok=True)
    mounts = f"mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount --bind {OWN_RUNTIME} {SHARED_RUNTIME}"
    run("unshare", f"--mount={PIN}", "--propagation", "slave", "sh", "-c", mounts)


def _join():
    here = Path.cwd()
    libc = ctypes.CDLL(None, use_errno=True)
    with open(PIN, "rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNS):
            raise LabError(f"cannot join {PIN}: {os.strerror(ctypes.get_errno())}; tests/lab/lab reset makes it anew")
    os.chdir(here)


def _processes():
    """(pid, name of the program, command line, cgroup, mounts) of all others."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            texts = [(entry / name).read_text(encoding="utf-8", errors="replace") for name in ("cgroup", "mountinfo")]
        except OSError:
            continue
        yield int(entry.name), command.split("\0")[0].rpartition("/")[2], command, *texts


def _containers():
    place = STORAGE / "overlay-containers"
    return {p.name for p in place.iterdir() if p.is_dir()} if place.exists() else set()


def _leftovers():
    """Processes of the lab's containers, and podman's helpers beside them."""
    identifiers = _containers()
    own_mount = f"/{RUNTIME.name}/{OWN_RUNTIME.name}"
    for pid, program, command, groups, mounts in _processes():
        monitor = _is_monitor(program, command)
        names = program == NAMES and own_mount in mounts
        if monitor or names or any(f"libpod-{name}" in groups for name in identifiers):
            yield pid


def _forget_addresses():
    """Without a private place the addresses of dead containers stay taken; drop them when nobody else has any."""
    programs = [(pid, program) for pid, program, *_ in _processes()]
    if any(program == "conmon" for _, program in programs):
        return
    for pid, program in programs:
        if program == NAMES:
            os.kill(pid, signal.SIGKILL)
    run("rm", "-rf", SHARED_RUNTIME / "networks")


def clear_runtime():
    """As after a reboot: no process, no mount, no runtime file. What is stored stays."""
    deadline = time.monotonic() + 30
    while pids := list(_leftovers()):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes {pids} of the lab cannot be killed")
        time.sleep(0.2)
    for name in _containers():
        # The runtime's own notes lie outside the lab's place, and a container noted there can't be started.
        run("crun", "delete", "--force", name, check=False)
    _forget_addresses()
    _remove_bridge()
    for _ in range(20):
        points = sorted({p for p, _ in _mounts() if f"{p}/".startswith((f"{RUNTIME}/", f"{STORAGE}/"))}, reverse=True)
        if not points:
            break
        for point in points:
            run("umount", "--lazy", point, check=False)
    run("rm", "-rf", RUNTIME)
    _configure()


def _remove_bridge():
    """An interface with the lab's address outlives the podman that made it, and blocks the next one."""
    for line in run("ip", "-o", "-4", "address").stdout.splitlines():
        fields = line.split()
        if f"{PREFIX}.1/24" in fields:
            run("ip", "link", "delete", fields[1], check=False)


def tidy():
    """Remove volumes without a name whose container is gone: molecule's driver leaves those of its hosts, some hundred MB each.

    Where Podman is busy with other work they wait for the next time.
    """
    try:
        for name in run("podman", "volume", "ls", "--quiet", "--filter", "dangling=true", timeout=TIDY_SECONDS).stdout.split():
            if re.fullmatch("[0-9a-f]{64}", name):
                succeeds("podman", "volume", "rm", name, timeout=TIDY_SECONDS)
    except LabError as error:
        say(f"old volumes stay for now: {error}")


def reset():
    """Recover from anything a killed run left: containers and volumes go, images stay."""
    with lock(timeout=60):
        with lock("space.lock", timeout=60):
            clear_runtime()
        enter()
        if not succeeds("podman", "rm", "--all", "--force", "--volumes", timeout=300):
            run("podman", "rm", "--all", "--force", "--volumes", timeout=300, check=False)
        succeeds("podman", "volume", "prune", "--force", timeout=300)
        if not succeeds("podman", "images", timeout=60) or run("podman", "ps", "--all", "--quiet").stdout.strip():
            # Storage a power cut has torn can't be mended; images are built again.
            run("rm", "-rf", STORAGE)
            (STORAGE / "networks").mkdir(parents=True)
            network.create()
