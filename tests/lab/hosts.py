"""Test hosts: systemd machines in privileged containers, reached over ssh."""

import json
import time

import connections
import images
import network
import snapshots
from authority import ensure_ca, ensure_ssh_key
from settings import (
    CA,
    DEMO_ADDRESS,
    IMAGE_PREFIX,
    NETWORK,
    PREFIX,
    SSH_CONFIG,
    SSH_KEY,
    STATIC_ADDRESSES,
)
from shell import LabError, lock, output, remove_container, run, runs, say, step, succeeds

ADDRESS = "senex.lab.address"


def _known():
    """{name: address} of the hosts that exist."""
    listed = json.loads(output("podman", "ps", "--all", "--filter", f"label={ADDRESS}", "--format", "json") or "[]")
    return {entry["Names"][0]: entry["Labels"][ADDRESS] for entry in listed or []}


def _address(name, known):
    if name == "demo":
        return DEMO_ADDRESS
    used = set(known.values())
    free = (f"{PREFIX}.{n}" for n in STATIC_ADDRESSES)
    return next(address for address in free if address not in used)


def up(name, image, snapshot=None):
    """Make or start a host. One from a `snapshot`, which is its name and key, keeps its host name, which its files know."""
    with step(f"host {name} up"):
        ensure_ssh_key()
        ensure_ca()
        if not snapshot:
            images.build([image])
        with lock():
            known = _known()
            if name not in known:
                if succeeds("podman", "container", "exists", name):
                    raise LabError(f"a container {name} exists that the lab did not make; remove it or take another name")
                known[name] = _address(name, known)
                _create(name, known[name], image, snapshot)
            elif not runs(name):
                connections.end(name)
                start_container(name)
            _write_ssh_config(known)
        _welcome(name)
        _wait_for_ssh(name)
    print(known[name])


def _create(name, address, image, snapshot):
    # What a host of this name left whose container somebody removed
    run("podman", "volume", "rm", "--force", snapshots.volume(name), check=False)
    reference, hostname = snapshots.restore(*snapshot, name) if snapshot else (f"{IMAGE_PREFIX}/{image}:latest", name)
    run(
        "podman", "run", "--detach", "--name", name, "--hostname", hostname, "--network", NETWORK, "--ip", address, "--mac-address", network.mac(address),
        "--privileged", "--systemd=always", "--cgroupns=private", "--stop-timeout=30",
        "--label", f"{ADDRESS}={address}", "--volume", f"{snapshots.volume(name)}:/opt", reference,
    )  # fmt: skip


def start_container(name):
    if not succeeds("podman", "start", name):
        # Right after a crash podman may need one look to see that the container is not running.
        run("podman", "container", "cleanup", name, check=False)
        run("podman", "start", name)


def _welcome(name):
    """Give the host what the lab alone knows: who may log in, and whom to trust."""
    script = """set -e
        install -d -m 700 /root/.ssh
        umask 077
        printf '%s\\n' "$1" >/root/.ssh/authorized_keys
        umask 022
        printf '%s\\n' "$2" >/usr/local/share/ca-certificates/senex-lab.crt
        update-ca-certificates >/dev/null"""
    key = SSH_KEY.with_suffix(".pub").read_text(encoding="utf-8").strip()
    authority = (CA / "ca.crt").read_text(encoding="utf-8").strip()
    run("podman", "exec", name, "sh", "-c", script, "sh", key, authority)


def _write_ssh_config(known):
    shared = connections.options()
    entries = [
        f"Host {name}\n  HostName {address}\n  User root\n  IdentityFile {SSH_KEY}\n  IdentitiesOnly yes\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n{shared}"
        for name, address in sorted(known.items())
    ]
    SSH_CONFIG.write_text("\n".join(entries), encoding="utf-8")


def _wait_for_ssh(name, timeout=60):
    deadline = time.monotonic() + timeout
    while True:
        answer = run("ssh", "-F", SSH_CONFIG, "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", name, "true", check=False)
        if answer.returncode == 0:
            return
        if time.monotonic() > deadline:
            journal = run("podman", "exec", name, "journalctl", "-b", "-n", "50", "--no-pager", check=False).stdout
            raise LabError(f"{name} does not answer over ssh after {timeout} s: {answer.stderr.strip()}\n{journal}")
        time.sleep(0.3)


def stop(name):
    with lock(), step(f"host {name} stopped"):
        connections.end(name)
        run("podman", "stop", name)


def start(name):
    with step(f"host {name} started"):
        with lock():
            start_container(name)
        _wait_for_ssh(name)


def down(names):
    with lock():
        known = _known()
        for name in names:
            if name not in known:
                say(f"host {name}: there is none")
                continue
            with step(f"host {name} down"):
                connections.end(name)
                remove_container(name, "--volumes")
                run("podman", "volume", "rm", "--force", snapshots.volume(name), check=False)
            del known[name]
        if SSH_CONFIG.parent.exists():
            _write_ssh_config(known)


def all_names():
    return sorted(_known())
