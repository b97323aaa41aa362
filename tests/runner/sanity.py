"""`ansible-test sanity`, which wants a tree below ansible_collections that holds what the archive of the collection does."""

import configparser
import fcntl
import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from common import REPOSITORY
from prepare import lab_directory

# ruff, yamllint and shellcheck are run with the settings of this repository; pylint takes longer than all others together
WITHOUT = ("pep8", "pylint", "shellcheck", "yamllint")
# What it looks at: the rest of the archive is pages
LOOKED_AT = re.compile(r"(changelogs|meta|playbooks|plugins|roles|tests/(sanity|runner))/|galaxy\.yml$")
BUILD_IGNORE = re.compile(r"^build_ignore:\n((?:  - .*\n)+)", re.MULTILINE)
# It brings pip into its virtual environments by a script from a host of its own, and takes this one where it lies there already
GET_PIP = "import ensurepip\n\nensurepip.bootstrap()\n"


def archived(listed):
    """Those of the files that an archive of the collection holds."""
    text = (REPOSITORY / "galaxy.yml").read_text(encoding="utf-8")
    without = [line.removeprefix("  - ").strip("\"'") for line in BUILD_IGNORE.search(text)[1].splitlines()]
    return [name for name in listed if not any(fnmatch.fnmatch(part, pattern) for part in Path(name).parts for pattern in without)]


def _version(tool):
    """Of the Python that runs it, and of the pip that it wants."""
    library = next(Path(tool).parents[1].glob("lib/python3.*"))
    source = library / "site-packages/ansible_test/_internal/python_requirements.py"
    return library.name.removeprefix("python"), re.search(r"pip='([0-9.]+)'", source.read_text(encoding="utf-8"))[1]


def _home(pip):
    """Where it keeps its virtual environments and downloads. The settings of pip lie there too, for it passes on no variable that has them."""
    home = lab_directory() / "sanity"
    script = home / f".ansible/test/cache/get_pip_{pip.replace('.', '_')}.py"
    for directory in (script.parent, home / ".config/pip"):
        directory.mkdir(parents=True, exist_ok=True)
    script.write_text(GET_PIP, encoding="utf-8")
    settings = configparser.RawConfigParser()
    settings.read(Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pip/pip.conf", encoding="utf-8")
    given = {name.removeprefix("PIP_").lower().replace("_", "-"): value for name, value in os.environ.items() if name.startswith("PIP_")}
    settings.read_dict({"global": {name: value for name, value in given.items() if name != "config-file"}})
    copy = home / ".config/pip/pip.conf"
    copy.touch(mode=0o600)  # the address of an index may hold a password
    with open(copy, "w", encoding="utf-8") as handle:
        settings.write(handle)
    return home


def sanity(listed):
    """Its exit code, and what it says where it finds something, of the files that are listed."""
    tool = shutil.which("ansible-test")
    core = re.search(r"(\d+\.\d+)\.", subprocess.check_output([tool, "--version"], text=True))[1]
    python, pip = _version(tool)
    home = _home(pip)
    with tempfile.TemporaryDirectory() as place, open(home / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its virtual environments are made by one at a time
        tree = Path(place) / "ansible_collections/senex/trader"
        for name in archived(listed):
            if (REPOSITORY / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, tree / name, follow_symlinks=False)
        (tree / "tests/sanity").mkdir(parents=True)
        shutil.copy(REPOSITORY / "tests/sanity/ignore.txt", tree / f"tests/sanity/ignore-{core}.txt")
        command = [tool, "sanity", "--color", "no", "--python", python, *(word for name in WITHOUT for word in ("--skip-test", name))]
        environment = {**os.environ, "HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": place}
        done = subprocess.run(command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)  # fmt: skip
    return done.returncode, done.stdout if done.returncode else ""  # a line for each of its tests
