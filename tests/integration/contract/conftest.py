"""Images that are broken on purpose, and one PostgreSQL and one Redis for all of their checks."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/unit"), str(Path(__file__).parent)]
init_plugin_loader([str(ROOT)])  # makes the collection importable

from ansible_collections.senex.trader.plugins.module_utils.contract import podman, points  # noqa: E402
from ansible_collections.senex.trader.plugins.module_utils.contract.bench import Bench  # noqa: E402
from broken import BEFORE, ENTRY  # noqa: E402  (the path above must come first)
from image_check import handed_over  # noqa: E402

DEMO = "localhost/senex-lab/demo:1"
SERVICES = {
    "postgresql_image": "localhost/senex-lab/postgres:latest",
    "redis_image": "localhost/senex-lab/redis:latest",
    "senex_django_settings_module": "demo.settings",
}
INPUTS = {"senex_domain": "www.acme.io", **SERVICES}


def engine(*words, check=True):
    """Podman on this machine."""
    return subprocess.run(["podman", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=check)


def left():
    """Names of what checks have left."""
    found = [engine(*words).stdout.split() for words in podman.LISTS.values()]
    return [name for names in found for name in names if name.startswith(podman.PREFIX)]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """image(case): the demo's image, broken so. All are gone at the end."""
    repository = f"localhost/senex-contract-{secrets.token_hex(4)}"
    made = []

    def image(number, case):
        place = tmp_path_factory.mktemp("image")
        text = [f"FROM {DEMO}"]
        files = dict(case.files)
        if ENTRY in files:
            files[BEFORE] = (ROOT / "tests/images/demo/entrypoint").read_text(encoding="utf-8")
        for index, (target, content) in enumerate(files.items()):
            (place / str(index)).write_text(content, encoding="utf-8")
            text.append(f"COPY --chmod=0755 {index} {target}")
        (place / "Containerfile").write_text("\n".join([*text, *case.lines, ""]), encoding="utf-8")
        made.append(f"{repository}:{number}")
        engine("build", "--quiet", "--pull=never", "--network=none", f"--tag={made[-1]}", str(place))
        return made[-1]

    yield image
    if made:
        engine("rmi", "--force", *made, check=False)


class Shared:
    """Services that one check after the other uses, and a release of the demo that counts for all but those that look at their own."""

    def __init__(self):
        self.podman = podman.Podman(1500, [])
        self.services, self.passwords, self.broker, self.release = None, {}, {}, None

    def look(self, image, case):
        """The findings of one image by name of the point."""
        given = handed_over({"image": image, "points": case.points}, **{**INPUTS, **case.inputs})
        shares = case.released and any(name not in ("user", "python", "versions", "secrets") for name in given["points"])
        if shares:  # first of all, for the services and their passwords come with it
            self.release = self.release or self.demo_released()
        bench = self.bench(given["wanted"] | {"image": image})
        if shares:
            bench.released = self.release
        elif self.services:
            self.services.new_database(drop=True)
        try:
            return {found.point: found for found in points.look(bench, given["points"])}
        finally:
            self.end(bench)

    def bench(self, wanted):
        """With the services that are there, and the passwords with which they were made."""
        bench = Bench(self.podman, wanted | self.broker)
        bench.environment |= self.passwords
        if self.services:
            bench.services = self.services
        return bench

    def demo_released(self):
        """The demo's own release, in an empty database."""
        bench = self.bench(handed_over({"image": DEMO}, **INPUTS)["wanted"] | {"image": DEMO})
        if self.services:
            self.services.new_database(drop=True)
        try:
            return bench.released
        finally:
            self.end(bench)

    def end(self, bench):
        """Keep what can be used again."""
        if "services" in bench.__dict__ and not self.services:
            self.services, self.broker = bench.services, {"broker": bench.wanted["broker"]}
            self.passwords = {name: value for name, value in bench.environment.items() if name.endswith(("_URL", "_BACKEND", "DB_PASSWORD"))}
        for part in ("asker", "facts", "empty", "release", "web", "worker", "beat"):
            self.podman.drop(part)
        for name in self.podman.volumes - {"postgresql"}:
            engine("volume", "rm", "--force", f"{self.podman.name}-{name}", check=False)
        self.podman.volumes &= {"postgresql"}


@pytest.fixture(scope="session")
def shared():
    """See Shared."""
    made = Shared()
    made.podman.begin(DEMO)
    yield made
    made.podman.remove()
    assert [name for name in left() if name.startswith(made.podman.name)] == []


@pytest.fixture
def playbook():
    """playbook(NAME=VALUE…): a run of the playbook as a user types it, which has begun."""

    def run(**given):
        words = [word for name, value in {**SERVICES, **given}.items() for word in ("-e", f"{name}={value}")]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.Popen(
            ["ansible-playbook", "playbooks/check_image.yml", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return run
