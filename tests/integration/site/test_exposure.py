"""What of the host can be reached and read: ports from another network namespace, containers from the kernel's point of view, file modes."""

import json
import re
import resource
import selectors
import socket
import time
from contextlib import ExitStack

import pytest
from stack import HOME, ROOT, UID, UNITS

CONTAINERS = tuple(unit for unit in UNITS if unit != "nginx")
OPEN = {22, 80, 443}
SUBORDINATE = range(200_000, 265_536)
# Unprivileged, without any capability in any set, with no way to get one
HARDENED = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1}


def answering(address, ports, timeout=1.0, at_once=16000):
    """Ports that accept a connection. What is dropped costs the whole timeout, so as many are tried at once as this process may open."""
    ports, found = list(ports), set()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    at_once = at_once if most == resource.RLIM_INFINITY else min(at_once, most - 100)
    for begin in range(0, len(ports), at_once):
        with ExitStack() as sockets, selectors.DefaultSelector() as selector:
            for port in ports[begin : begin + at_once]:
                one = sockets.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex((address, port))
                selector.register(one, selectors.EVENT_WRITE, port)
            deadline = time.monotonic() + timeout
            while selector.get_map() and (rest := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(rest):
                    selector.unregister(key.fileobj)
                    if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                        found.add(key.data)
    return found


def listening(stack):
    """{(address, port)} of every TCP socket that listens."""
    fields = [line.split()[3] for line in stack.sh("ss -Htln").splitlines()]
    return {(address, int(port)) for address, port in (field.rsplit(":", 1) for field in fields)}


def test_of_all_ports_three_answer_from_outside(stack):
    """The three get a second look: a busy machine may be slow to answer."""
    assert answering(stack.address, range(1, 65536)) | answering(stack.address, OPEN, timeout=5) == OPEN


def test_web_instances_listen_on_loopback_alone(stack):
    """The firewall is the second wall, not the first."""
    found = listening(stack)
    assert {address for address, port in found if port in (8001, 8002)} == {"127.0.0.1"}
    assert {port for address, port in found if port in (8001, 8002)} == {8001, 8002}


def test_nothing_else_listens_beyond_loopback(stack):
    assert {port for address, port in listening(stack) if not address.startswith(("127.", "[::1]"))} == OPEN


def test_database_and_redis_are_published_nowhere(stack):
    assert not {port for _, port in listening(stack)} & {5432, 6379}
    bindings = json.loads(stack.user("podman", "inspect", "postgres", "redis"))
    assert [details["HostConfig"]["PortBindings"] for details in bindings] == [{}, {}]


def test_firewall_refuses_by_itself(stack):
    """A listener of root on every address is not to be reached: so far the scan had nothing to find."""
    port = 18080
    stack.sh(f"systemd-run --quiet --collect --unit=exposure-probe python3 -m http.server {port}")
    try:
        stack.sh(f"for i in $(seq 50); do curl -so /dev/null http://127.0.0.1:{port}/ && exit; sleep 0.1; done; exit 1")
        assert answering(stack.address, {port}, timeout=3) == set()
    finally:
        stack.sh("systemctl stop exposure-probe.service")


@pytest.fixture(scope="module")
def processes(stack):
    """{container: /proc/PID/status of each of its processes, as the host sees them, and the mount options of its root}."""
    script = """
        for name in {names}; do
            pid=$({podman} inspect --format '{{{{.State.Pid}}}}' $name)
            echo "container $name $(awk '$2 == "/" {{print $4}}' /proc/$pid/mounts)"
            for one in $(cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)/cgroup.procs); do cat /proc/$one/status 2>/dev/null; done
        done"""
    podman = f"runuser -u senex -- env XDG_RUNTIME_DIR=/run/user/{UID} podman --log-level=error"
    text = stack.sh("cd /; " + script.format(names=" ".join(CONTAINERS), podman=podman))
    found = {}
    for name, options, rest in re.findall(r"^container (\S+) (\S+)\n(.*?)(?=^container |\Z)", text, re.M | re.S):
        statuses = [dict(line.split(":\t", 1) for line in block.splitlines() if ":\t" in line) for block in re.split(r"^(?=Name:)", rest, flags=re.M) if block]
        found[name] = options.split(","), statuses
    return found


@pytest.mark.parametrize("container", CONTAINERS)
def test_processes_of_container_may_do_nothing_special(processes, container):
    statuses = processes[container][1]
    assert statuses
    for status in statuses:
        assert {name: int(status[name], 16) for name in HARDENED} == HARDENED, status["Name"]
        assert {int(uid) in SUBORDINATE for uid in status["Uid"].split()} == {True}, f"{status['Name']}: {status['Uid']}"
        assert status["Seccomp"].strip() == "2", f"{status['Name']} runs without a seccomp filter"


@pytest.mark.parametrize("container", CONTAINERS)
def test_root_of_container_is_read_only(stack, processes, container):
    assert "ro" in processes[container][0]
    attempt = stack.ssh(f"cd /; runuser -u senex -- env XDG_RUNTIME_DIR=/run/user/{UID} DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{UID}/bus"
                        f" podman exec {container} sh -c ': >/probe'")  # fmt: skip
    assert attempt.returncode != 0 and "Read-only file system" in attempt.stderr


def test_no_container_holds_more_than_it_needs_of_the_host(stack):
    """No host network, no host process names, no device, no socket of Podman, no mount outside the service user's home but certificates."""
    for details in json.loads(stack.user("podman", "inspect", *CONTAINERS)):
        settings, name = details["HostConfig"], details["Name"]
        assert not settings["Privileged"] and not settings["Devices"], name
        assert settings["NetworkMode"] == "bridge" and settings["PidMode"] == "private" and settings["IpcMode"] in ("shareable", "private"), name
        for mount in details["Mounts"]:
            assert mount["Source"].startswith((f"{HOME}/", "/etc/senex-trader/tls/")), f"{name}: {mount['Source']}"
            assert not mount["Source"].endswith((".key", ".sock", ".env")), f"{name}: {mount['Source']}"


PAGE = (ROOT / "docs/operations/hardening.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def inspected(stack):
    """{container: what Podman holds it to}."""
    return {details["Name"]: details for details in json.loads(stack.user("podman", "inspect", *CONTAINERS))}


@pytest.mark.parametrize("container", CONTAINERS)
def test_container_is_as_the_page_says(stack, inspected, container):
    """docs/operations/hardening.md is what runs; the user of PostgreSQL's image of Debian is the page's own exception."""
    row = re.search(rf"^\| `{re.sub('-[0-9]+$', '', container)}` \| (\d+) \| none \| no \| read-only \| (.*) \|$", PAGE, re.MULTILINE)
    details = inspected[container]
    wanted = "999" if container == "postgres" and "alpine" not in details["ImageName"] else row[1]
    assert details["Config"]["User"] == wanted
    assert details["EffectiveCaps"] in ([], None) and details["BoundingCaps"] in ([], None)
    assert details["HostConfig"]["ReadonlyRootfs"] and "no-new-privileges" in details["HostConfig"]["SecurityOpt"]
    writable = {mount["Destination"] for mount in details["Mounts"] if mount["RW"]} | set(details["HostConfig"]["Tmpfs"])
    assert writable == set(re.findall(r"`([^`]+)`", row[2]))


@pytest.mark.parametrize(("unit", "limit"), re.findall(r"^\| `([a-z-]+\.service)` \| ([0-9.]+) \|", PAGE, re.MULTILINE))
def test_system_unit_is_as_closed_as_the_page_says(stack, unit, limit):
    found = re.search(r"exposure level for \S+: ([0-9.]+)", stack.sh(f"systemd-analyze security --no-pager {unit}"))
    assert float(found[1]) <= float(limit)


def test_every_system_service_of_ours_is_on_the_page(stack):
    """Those in the manifests: a unit of its own, or a drop-in that is more than a time limit."""
    listed = stack.sh("cat /var/lib/senex.trader/*.json | grep -oE '/etc/systemd/system/[^/\"]+[.]service([.]d/|\")'").split()
    ours = {re.sub(r'[.]d/$|"$', "", path.removeprefix("/etc/systemd/system/")) for path in listed}
    timing = {"systemd-networkd-wait-online.service", "NetworkManager-wait-online.service", f"user@{UID}.service", "certbot.service"}
    assert {"nginx.service", "senex-watchdog.service"} <= ours
    assert ours - timing <= set(re.findall(r"^\| `([a-z-]+\.service)`", PAGE, re.MULTILINE))


MODES = {
    f"{HOME}/.config/containers/systemd/.env": "600 senex",
    f"{HOME}/.local/share/containers/storage/secrets/filedriver/secretsdata.json": "600 senex",
    f"{HOME}/.config": "700 senex",
    f"{HOME}/.local": "700 senex",
    f"{HOME}/backups": "700 senex",
    "/var/lib/senex.trader": "700 root",
    "/etc/nginx/senex/tls/ownca.key": "600 root",
    "/root/.ssh/authorized_keys": "600 root",
}


def test_secret_files_are_their_owners_alone(stack):
    listed = stack.sh(f"stat -c '%n %a %U' {' '.join(MODES)} /var/lib/senex.trader/*.json")
    modes = dict(line.split(" ", 1) for line in listed.splitlines())
    assert {path: modes[path] for path in MODES} == MODES
    manifests = {path: mode for path, mode in modes.items() if path.endswith(".json") and path not in MODES}
    assert len(manifests) >= 6 and set(manifests.values()) == {"600 root"}


def test_every_private_key_is_closed(stack):
    """Whatever holds a private key, wherever the collection puts things."""
    places = f"/etc /var/lib/senex.trader {HOME}/.config {HOME}/config"
    keys = stack.sh(f"grep -rlsE -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' {places} || true").split()
    assert keys
    modes = dict(line.rsplit(" ", 1) for line in stack.sh(f"stat -c '%n %a' {' '.join(keys)}").splitlines())
    assert {path: mode for path, mode in modes.items() if mode not in ("600", "400")} == {}


def test_nothing_is_writable_for_everybody(stack):
    places = f"/etc {HOME}/.config {HOME}/config {HOME}/bin {HOME}/scripts {HOME}/backups {HOME}/logs /var/lib/senex.trader"
    assert stack.sh(f"find {places} ! -type l -perm -0002 ! -perm -1000").split() == []


def test_home_lets_nginx_through_to_files_and_nobody_to_the_rest(stack):
    """Of what others may pass, only static files and media can be listed."""
    as_nobody = "runuser -u nobody -- "
    for closed in (HOME, f"{HOME}/.config", f"{HOME}/config", f"{HOME}/backups", f"{HOME}/logs", f"{HOME}/data/postgres", f"{HOME}/data/redis"):
        assert stack.ssh(f"cd /; {as_nobody} ls {closed}").returncode != 0, closed
    assert stack.ssh(f"cd /; runuser -u www-data -- test -r {HOME}/data/staticfiles/staticfiles.json").returncode == 0
