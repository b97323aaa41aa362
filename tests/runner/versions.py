"""The versions of Python and Ansible that are supported: unit tests and lint on each, a host from nothing on the oldest and the newest."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import layers
from common import ARTIFACTS, LAB, REPOSITORY, Failure, Result, need, say
from prepare import lab_directory

HOST = "versions"
# What the tests need beside Ansible, in the versions of requirements.in
TOOLS = ("ansible-lint", "cryptography", "pytest", "pytest-rerunfailures", "pytest-testinfra", "websockets", "yamllint")
RECAP = "^PLAY RECAP.*\n.*changed=(\\d+) +unreachable=0 +failed=0"


@dataclass(frozen=True)
class Version:
    python: str
    core: str
    package: str  # the ansible package, which brings the collections

    def __str__(self):
        return f"Python {self.python}, ansible-core {self.core}"


# Oldest first. 2.19 is out of support, and the last for Python 3.11; of 2.22 there is no release yet.
SUPPORTED = (
    Version("3.11", "2.19.14", "12.3.0"),
    Version("3.12", "2.20.10", "13.8.0"),
    Version("3.13", "2.21.5", "14.5.0"),
    Version("3.13", "2.22.0rc1", "14.5.0"),
)


def interpreter(version):
    """A Python of this version: one that PYTHONS names, the one that runs this, or one on PATH; None where there is none."""
    named = os.environ.get("PYTHONS", "").split()
    for program in (*named, sys.executable, shutil.which(f"python{version}")):
        if program:
            asked = [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == version:
                return program
    return None


def _tools():
    wanted = re.compile(rf"^({'|'.join(TOOLS)})==[\w.]+$", flags=re.MULTILINE)
    return [match[0] for match in wanted.finditer((REPOSITORY / "requirements.in").read_text(encoding="utf-8"))]


def _venv(version, program):
    """A virtual environment with this Ansible, made once for each set of versions."""
    asked = [f"ansible-core=={version.core}", *_tools()]
    digest = hashlib.sha256(f"{version} {version.package} {asked}".encode()).hexdigest()[:12]
    place = lab_directory() / f"versions-{digest}"
    if not (place / "complete").exists():
        say(f"==== {version}: its tools")
        shutil.rmtree(place, ignore_errors=True)
        need(program, "-m", "venv", place)
        need(place / "bin/pip", "install", "--quiet", *asked)
        # The package asks for a release of its own core, which is another where that is tried before its release
        need(place / "bin/pip", "install", "--quiet", "--no-deps", f"ansible=={version.package}")
        (place / "complete").touch()
    return place


def _counted(name, command, environment):
    log = ARTIFACTS / f"versions-{name}.log"
    with open(log, "w", encoding="utf-8") as handle:
        done = subprocess.run([str(word) for word in command], cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=handle,
                              stderr=subprocess.STDOUT, check=False)  # fmt: skip
    text = log.read_text(encoding="utf-8", errors="replace")
    say(f"{name}: {'passed' if done.returncode == 0 else 'FAILED'}, all of it in {log.relative_to(REPOSITORY)}")
    if done.returncode:
        say("\n".join(text.splitlines()[-40:]))
    return done.returncode == 0, text


def _checked(version, place):
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    # What is locked is asked where it is installed
    commands = {
        "unit": [place / "bin/pytest", "-q", "--ignore=tests/unit/test_requirements.py", "tests/unit"],
        # What unit tests would be if it took no longer
        **{folder: [place / "bin/pytest", "-q", f"tests/integration/{folder}"] for folder in ("playbooks", "servers")},
        "lint": [place / "bin/ansible-lint", "--offline"],
    }
    results = [_counted(f"{kind}-{version.core}", command, environment)[0] for kind, command in commands.items()]
    return Result(passed=sum(results), failed=len(results) - sum(results))


def _converged(version, place):
    """A bare host, and again: the second run changes nothing."""
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    subprocess.run([LAB, "down", HOST], capture_output=True, check=False)
    try:
        address = subprocess.check_output([LAB, "up", HOST], stdin=subprocess.DEVNULL, text=True).split()[-1]
        command = [LAB, "run", "--", place / "bin/ansible-playbook", "site.yml", "-i", "inventory/demo", "--tags", "phase1", "-e", f"ansible_host={address}"]
        changed = []
        for number in ("first", "second"):
            good, text = _counted(f"{number}-run-{version.core}", command, environment)
            changed += re.findall(RECAP, text, flags=re.MULTILINE) if good else []
        right = len(changed) == 2 and int(changed[0]) > 0 and changed[1] == "0"
        say(f"{version}: changed {', then '.join(changed) or 'unknown'}")
        return Result(passed=int(right), failed=int(not right))
    finally:
        subprocess.run([LAB, "down", HOST], capture_output=True, check=False)


def versions():
    """All that this machine has an interpreter for; which it has not is said."""
    places = {}
    for version in SUPPORTED:
        program = interpreter(version.python)
        if program:
            places[version] = _venv(version, program)
        else:
            say(f"not run: {version}: no Python {version.python} on this machine; PYTHONS names some")
    if not places:
        raise Failure("no interpreter of a supported version")
    results = [_checked(version, place) for version, place in places.items()]
    layers.images()
    found = list(places)  # oldest first
    results += [_converged(version, places[version]) for version in dict.fromkeys((found[0], found[-1]))]
    return sum(results, Result())
