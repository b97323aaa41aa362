"""Images that are broken on purpose, and one PostgreSQL and one Redis for all of their checks."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/unit"), str(Path(__file__).parent)]

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
    """Services that one check after the other uses; each begins with an empty database and empty volumes."""

    def __init__(self):
        self.podman = podman.Podman(900, [])
        self.services = None

    def look(self, image, names, inputs):
        """The findings of one image by name of the point."""
        given = handed_over({"image": image, "points": names}, **{**INPUTS, **inputs})
        wanted = given["wanted"] | {"image": image}
        bench = Bench(self.podman, wanted)
        if self.services:
            bench.services = self.services
            self.services.new_database(drop=True)
        bench.environment |= self.passwords(bench.environment)
        try:
            return {found.point: found for found in points.look(bench, given["points"])}
        finally:
            self.services = bench.__dict__.get("services", self.services)
            for part in ("asker", "facts", "empty", "release", "web", "worker", "beat"):
                self.podman.drop(part)
            for name in self.podman.volumes - {"postgresql"}:
                engine("volume", "rm", "--force", f"{self.podman.name}-{name}", check=False)
            self.podman.volumes &= {"postgresql"}

    def passwords(self, environment):
        """Those with which the services were made."""
        if not self.services:
            names = ("DB_PASSWORD", "REDIS_URL", "CHANNELS_REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
            self.known = {name: environment[name] for name in names}
        return self.known


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
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACKS_ENABLED": ""}
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
