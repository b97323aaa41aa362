"""Containers of the lab's PostgreSQL and Redis images, or of those that SENEX_POSTGRES_IMAGE and SENEX_REDIS_IMAGE name, such as the official ones."""

import json
import os
import re
import secrets
import shlex
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LAB_RUN = shlex.split(os.environ.get("SENEX_LAB_RUN", f"{ROOT}/tests/lab/lab run --"))
POSTGRES = os.environ.get("SENEX_POSTGRES_IMAGE", "localhost/senex-lab/postgres:latest")
REDIS = os.environ.get("SENEX_REDIS_IMAGE", "localhost/senex-lab/redis:latest")
HOSTILE = "p $HOME \"q\" 'r' #s %t \\u =v {w} ;x &y `z` é"
# What the lab itself says, such as that it waits, is no output of a container
OF_THE_LAB = re.compile(r"^lab: .*\n", re.MULTILINE)
HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp"]


class Containers:
    """Containers, volumes and networks that are gone when the test is."""

    def __init__(self, options=()):
        self.options, self.made = options, []

    def podman(self, *arguments, check=True, timeout=40):
        done = subprocess.run(
            [*LAB_RUN, "podman", "--log-level=error", *arguments],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        done.stdout = OF_THE_LAB.sub("", done.stdout)
        assert not check or done.returncode == 0, f"podman {shlex.join(arguments)}: {done.stdout}"
        return done

    def make(self, kind, *arguments):
        name = f"image-contract-{secrets.token_hex(4)}"
        self.made.append((kind, name))
        self.podman(kind, "create", *arguments, name)
        return name

    def once(self, image, *command, options=(), network="none", check=True):
        """Run to the end; what it printed and its exit status."""
        name = f"image-contract-{secrets.token_hex(4)}"
        try:
            return self.podman("run", "--rm", "--pull=never", "--name", name, f"--network={network}", *self.options, *options, image, *command, check=check)
        except subprocess.TimeoutExpired:
            self.podman("rm", "-fv", "-t", "0", name)
            pytest.fail(f"{shlex.join([image, *command])} did not end by itself")

    def start(self, image, *command, options=(), network="none"):
        name = f"image-contract-{secrets.token_hex(4)}"
        self.made.append(("container", name))
        self.podman("run", "-d", "--pull=never", "--name", name, f"--network={network}", *self.options, *options, image, *command)
        return name

    def execute(self, name, *command, options=(), check=True):
        return self.podman("exec", *options, name, *command, check=check)

    def ready(self, name, *command, seconds=60):
        deadline = time.monotonic() + seconds
        while self.execute(name, *command, check=False).returncode != 0:
            if time.monotonic() > deadline or self.state(name)["Status"] == "exited":
                pytest.fail(f"{name} did not get ready:\n{self.logs(name)}")
            time.sleep(0.2)
        return name

    def postgres(self, *command, options=(), **more):
        name = self.start(POSTGRES, *command, options=options, **more)
        # The temporary server of the first start listens on no TCP, so this waits for the real one.
        return self.ready(name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres")

    def redis(self, *command, options=(), **more):
        return self.ready(self.start(REDIS, *command, options=options, **more), "redis-cli", "ping")

    def sql(self, name, statement, *options, database="postgres", user="postgres"):
        return self.execute(name, "psql", "-XAtqU", user, "-d", database, "-c", statement, *options).stdout.strip()

    def inspect(self, name, kind="container"):
        return json.loads(self.podman("inspect", "--type", kind, name).stdout)[0]

    def state(self, name):
        return self.inspect(name)["State"]

    def logs(self, name):
        return self.podman("logs", name).stdout

    def remove(self):
        for kind, name in reversed(self.made):
            extra = ["-v", "-t", "0"] if kind == "container" else []
            self.podman(kind, "rm", "-f", *extra, name, check=False)
        self.made.clear()


def files(directory, contents, mode=0o644):
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for name, content in contents.items():
        path = directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if name.startswith("run") else mode)
    return directory


def address(lab, name):
    return next(iter(lab.inspect(name)["NetworkSettings"]["Networks"].values()))["IPAddress"]
