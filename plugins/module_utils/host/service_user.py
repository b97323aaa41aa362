"""The one place that knows how to act as the service user: its user manager, its bus, its Podman."""

from __future__ import annotations

import errno
import json
import math
import os
import pwd
import subprocess
from typing import IO

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted, user_manager

PODMAN = "/usr/bin/podman"
SYSTEMCTL = "/usr/bin/systemctl"
WRITES = 300.0  # seconds for files that are written together, and synchronised on a busy disk
LINES = 1 << 20  # bytes of a journal that go into a message
FULL = ("no space left on device", "disk quota exceeded")


def room(paths: list[str]) -> str:
    """What is free on the file system of each path (or of its nearest parent that exists), each file system once."""
    found = {}
    for path in paths:
        seen = untrusted.space([path])[path]
        while "error" in seen and path != "/":
            path = os.path.dirname(path)
            seen = untrusted.space([path])[path]
        text = f"{path} has {seen['bavail'] * seen['frsize'] // 1000**2} of {seen['blocks'] * seen['frsize'] // 1000**2} MB free"
        if seen["files"] and not seen["favail"]:
            text += " and no inode left"
        found.setdefault(seen["device"], text)
    return ", ".join(found.values())


class CommandError(Exception):
    """A command that had to succeed did not. `output` is what it printed."""

    def __init__(self, argv: list[str], result: subprocess.CompletedProcess):
        self.argv, self.returncode = argv, result.returncode
        self.output = (result.stderr or result.stdout).strip()
        super().__init__(f"{' '.join(argv)} ended with {result.returncode}: {self.output}")


def has_manager(user: str) -> bool:
    """Whether the host has this user, and a manager of theirs that runs: a host that is new has neither."""
    try:
        return bool(untrusted.kind(f"/run/user/{pwd.getpwnam(user).pw_uid}/bus"))
    except KeyError:
        return False


class ServiceUser:
    """Runs commands and writes files as the service user, called by root."""

    settle_by = math.inf  # when waiting for units that are on their way up ends (time.monotonic)

    def __init__(self, name: str, home: str):
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise LookupError(f"senex_user: there is no user '{name}' on this host; the common role creates it") from error
        self.name, self.uid, self.gid, self.home = name, entry.pw_uid, entry.pw_gid, home
        self.runtime = user_manager.runtime(self.uid)

    def check_manager(self) -> None:
        """Say clearly what is missing when the user manager does not run."""
        if not untrusted.kind(f"{self.runtime}/bus"):
            raise LookupError(
                f"the user manager of '{self.name}' does not run ({self.runtime}/bus is missing): "
                f"'loginctl enable-linger {self.name}' and 'systemctl start user@{self.uid}.service', or run the podman role"
            )

    @property
    def environment(self) -> dict[str, str]:
        """What a command of the user needs, and nothing of root's own."""
        return user_manager.environment(self.name, self.uid, self.home)

    def run(self, argv: list[str], check: bool = True, stdin: str | IO | None = None, extra: dict | None = None, timeout: int = 900, exact: bool = False):
        """Run a command as the user, in its home (root's own directory is closed to it). `stdin` is a text or an open file; `exact`: see untrusted.told."""
        try:
            result = untrusted.told(
                argv,
                stdin,
                timeout,
                exact=exact,
                cwd=self.home if untrusted.kind(self.home) == "directory" else "/",
                env={**self.environment, **(extra or {})},
                user=self.uid,
                group=self.gid,
                extra_groups=[],
            )
        except subprocess.TimeoutExpired:
            result = subprocess.CompletedProcess(argv, 124, "", f"no end after {timeout} s")
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            result = subprocess.CompletedProcess(argv, 125, "", error.strerror)
        if check and result.returncode:
            raise CommandError(argv, result)
        return result

    def systemctl(self, *arguments: str, check: bool = True, timeout: int = 900):
        """`systemctl --user …`."""
        return self.run([SYSTEMCTL, "--user", "--no-ask-password", *arguments], check=check, timeout=timeout)

    def podman(self, *arguments: str, check: bool = True, stdin: str | IO | None = None, timeout: int = 900, exact: bool = False):
        """`podman …`."""
        return self.run([PODMAN, *arguments], check=check, stdin=stdin, timeout=timeout, exact=exact)

    def podman_version(self) -> tuple[int, ...]:
        """(5, 4, 2)."""
        text = subprocess.run([PODMAN, "--version"], capture_output=True, text=True, check=True).stdout
        return tuple(int(part) for part in text.split()[-1].split("-")[0].split("+")[0].split(".")[:3])

    def unit_states(self, units: list[str]) -> dict[str, dict[str, str]]:
        """ActiveState, SubState, LoadState and Result of each unit, in one call."""
        if not units:
            return {}
        text = self.systemctl("show", "--property=Id,ActiveState,SubState,LoadState,Result,UnitFileState", "--", *units).stdout
        return dict(zip(units, user_manager.properties(text), strict=False))  # systemd answers in the order asked

    def unhealthy(self) -> set[str]:
        """Names of containers whose health check fails now."""
        rows = json.loads(self.podman("ps", "--filter", "health=unhealthy", "--format", "json").stdout or "[]")
        return {name for row in rows or [] for name in row.get("Names", [])}

    def image_ids(self, references: list[str]) -> dict[str, str]:
        """Id of each image that is in local storage."""
        if not references:
            return {}
        result = self.podman("image", "inspect", "--format", "{{.Id}}", *references, check=False)
        if result.returncode == 0:
            return dict(zip(references, result.stdout.split(), strict=True))  # in the order asked
        if len(references) == 1:
            return {}
        # By this very question: HostSnapshot, whose answers come from here, has none to give yet
        return {name: found for reference in references for name, found in ServiceUser.image_ids(self, [reference]).items()}

    def cannot_pull(self, variable: str, reference: str, said: str) -> str:
        """What to tell of an image that did not come, and what to do about it."""
        begin = f"{variable}: " if variable else ""
        begin += f"the image {reference} cannot be pulled, nothing was changed or stopped; "
        if any(word in said.lower() for word in FULL):
            # Layers come by way of the one to the other; Podman's own words may name a path inside the layer
            places = self.podman("info", "--format", "{{.Store.GraphRoot}}/overlay\n{{.Store.ImageCopyTmpDir}}", check=False).stdout.split()[:2]
            begin += (
                f"the disk is full: {room(places or [f'{self.home}/.local/share/containers/storage/overlay', '/var/tmp'])}. Make room and run the playbook "  # noqa: S108
                f"again: {self.home}/bin/senex-prune-images --keep 1 (as {self.name}) removes images that nothing runs; then old dumps in {self.home}/backups"
            )
        else:
            begin += "name one that the registry has and senex_registry_login may read"
        return f"{begin}. Podman said: {said.strip()[-800:]}"

    def secret_values(self, names: list[str]) -> dict[str, str]:
        """Values of the named Podman secrets that exist."""
        if not names:
            return {}
        # Names that do not exist are an error beside the answer, which holds all others
        result = self.podman("secret", "inspect", "--showsecret", *names, check=False)
        if result.returncode and "no such secret" not in result.stderr:
            raise CommandError(["podman", "secret", "inspect"], result)
        rows = json.loads(result.stdout or "[]")
        return {row["Spec"]["Name"]: row["SecretData"] for row in rows}

    def set_secret(self, name: str, value: str | None) -> None:
        """Create or replace a Podman secret (None removes it); the value goes by standard input."""
        if value is None:
            self.podman("secret", "rm", "--ignore", name)
            return
        # Podman 4 takes --replace of a secret that is not there for an error
        made = self.podman("secret", "create", name, "-", check=False, stdin=value)
        if made.returncode and "in use" in made.stderr:
            self.podman("secret", "create", "--replace", name, "-", stdin=value)
        elif made.returncode:
            raise CommandError([PODMAN, "secret", "create", name], made)

    def writes(self, function, *arguments):
        """File operations of the user's, so a link it planted leads root nowhere, and a file system that it made and does not answer holds nobody for ever."""
        if (self.uid, self.gid) == (os.geteuid(), os.getegid()):
            return function(*arguments)
        return self.does(function, *arguments, patience=WRITES)

    def does(self, function, *arguments, patience: float = untrusted.PATIENCE):
        """What a function answers in a process of the user's own."""
        return untrusted.run(self.uid, self.gid, function, *arguments, patience=patience)

    def make_directory(self, path: str, mode: int, container_user: int | None, container_group: int | None) -> None:
        """Create a directory; one for a container's user gets its owner here, once, and never again."""

        def own(temporary: str) -> None:
            self.writes(os.chmod, temporary, mode)
            if container_user is not None:
                group = container_user if container_group is None else container_group
                self.podman("unshare", "chown", f"{container_user}:{group}", temporary)

        fileset.make_directory(path, own, self.writes)


def journal(unit: str, uid: int, since: float, lines: int = 50) -> str:
    """Last lines of a user unit's journal (a system account has no journal of its own, so root reads it)."""
    words = [
        "/usr/bin/journalctl", f"_SYSTEMD_USER_UNIT={unit}", f"_UID={uid}", "+", f"USER_UNIT={unit}", f"_UID={uid}",
        "--no-pager", "--quiet", "--output=short-iso", f"--since=@{int(since)}", "--lines", str(lines),
    ]  # fmt: skip
    try:
        said = untrusted.told(words, timeout=60, limit=LINES).stdout
    except (OSError, subprocess.TimeoutExpired) as error:  # a line may be of any length
        return f"journalctl: {error}"
    noise = ("<nwarn>", "health_status=")  # Podman's own events, of which there may be many
    return "\n".join(line for line in untrusted.records(said) if not any(word in line for word in noise))
