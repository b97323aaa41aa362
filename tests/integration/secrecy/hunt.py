"""Runs on a host as root: where do these strings show? Asked by JSON on standard input, so that no command line holds them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

# Neither the kernel's nor packages and their downloads
SKIPPED = ("/proc", "/sys", "/dev", "/usr", "/boot", "/var/cache", "/var/lib/apt", "/var/lib/dpkg")


def found(text, tokens):
    return sorted(name for name, needles in tokens.items() if any(needle.encode() in text for needle in needles))


def open_to_others(path):
    """Can somebody else than the owner and its group read this file?"""
    try:
        steps = [parent.stat().st_mode for parent in path.parents]
        return bool(path.stat().st_mode & 0o004) and all(mode & 0o001 for mode in steps)
    except OSError:
        return False


def files(tokens, storage):
    hits = []
    for top, directories, names in os.walk("/", followlinks=False):
        directories[:] = [d for d in directories if os.path.join(top, d) not in SKIPPED and os.path.join(top, d) != storage]
        for path in (Path(top, name) for name in names):
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                text = path.read_bytes()
            except OSError:
                continue
            if names_found := found(text, tokens):
                details = path.stat()
                hits.append({"path": str(path), "names": names_found, "mode": oct(details.st_mode & 0o7777), "open": open_to_others(path)})
    return hits


def closed_top(directory):
    """Is the way to this directory closed to others?"""
    return any(not step.stat().st_mode & 0o001 for step in (directory, *directory.parents))


class Podman:
    def __init__(self, uid, user):
        self.prefix = ["runuser", "-u", user, "--", "env", *self.session(uid), "podman", "--log-level=error"]

    @staticmethod
    def session(uid):
        return f"XDG_RUNTIME_DIR=/run/user/{uid}", f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus"

    def __call__(self, *arguments):
        return subprocess.run([*self.prefix, *arguments], cwd="/", capture_output=True, check=True).stdout  # noqa: S603


def containers(tokens, podman):
    inspected, environment = {}, {}
    for details in json.loads(podman("inspect", *podman("ps", "--quiet").decode().split())):
        name = details["Name"]
        variables = details["Config"].pop("Env")
        inspected[name] = {
            "environment": found(json.dumps(variables, ensure_ascii=False).encode(), tokens),
            "rest": found(json.dumps(details, ensure_ascii=False).encode(), tokens),
        }
        environment[name] = found(podman("exec", name, "env"), tokens)
    return inspected, environment


def main():
    asked = json.load(sys.stdin)
    tokens, uid, home = asked["tokens"], asked["uid"], asked["home"]
    storage = f"{home}/.local/share/containers/storage"
    inspected, environment = containers(tokens, Podman(uid, asked["user"]))
    journal = subprocess.run(["journalctl", "--no-pager", "--output=export"], capture_output=True, check=True).stdout  # noqa: S607
    units = subprocess.run(["systemctl", "--user", "-M", f"{asked['user']}@", "show", "*.service"], capture_output=True, check=True).stdout  # noqa: S607
    leaks, control = [], 0
    for line in journal.split(b"\n"):
        names = found(line, tokens)
        control += "control" in names
        if set(names) - {"control"}:
            leaks.append([names, re.sub(rb"[0-9a-f]{10}", b"...", line)[:300].decode(errors="replace")])
    json.dump(
        {
            "files": files(tokens, storage),
            "storage_open": [] if closed_top(Path(storage)) else [storage],
            "inspect": inspected,
            "environment": environment,
            "journal": {"control": control, "leaks": leaks[:5]},
            "journal_bytes": len(journal),
            "units": found(units, tokens),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
