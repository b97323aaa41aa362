"""On a host of their own, with a repository of their own in the registry, whose tags move."""

import json
import subprocess

import pytest
from own_host import stack_on
from stack import LAB, LAB_DIRECTORY

REGISTRY = "registry.senex.test:5000"
PREFIX = "localhost/senex-lab"
# Its server says its version, and does not start
BROKEN = "FROM {}\nRUN rm -r /usr/share/postgresql/15/timezonesets\n"


def lab(*argv, text=None):
    done = subprocess.run([LAB, "run", "--", *argv], input=text, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


class Registry:
    """updates/postgres:15 and updates/redis:7, which name one image after the other."""

    def __init__(self, name):
        self.postgres, self.redis = (f"{REGISTRY}/updates-{name}/{tag}" for tag in ("postgres:15", "redis:7"))
        settings = json.loads((LAB_DIRECTORY / "registry/auth.json").read_text(encoding="utf-8"))
        (self.address,) = settings["auths"]

    @property
    def inputs(self):
        return {"postgresql_image": self.postgres, "redis_image": self.redis}

    def push(self, reference, image):
        there = f"docker://{self.address}/{reference.partition('/')[2]}"
        place = LAB_DIRECTORY / "registry"
        lab("podman", "push", "--quiet", f"--authfile={place}/auth.json", f"--cert-dir={place}/trust", image, there)


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    yield from stack_on("updates")


@pytest.fixture(scope="session")
def registry():
    """With both images in the build from before."""
    subprocess.run([LAB, "images", "postgres", "redis", "postgres-earlier", "redis-earlier"], capture_output=True, timeout=1800, check=True)
    made = Registry("tests")
    made.push(made.postgres, f"{PREFIX}/postgres-earlier:latest")
    made.push(made.redis, f"{PREFIX}/redis-earlier:latest")
    return made


@pytest.fixture(scope="session")
def broken(tmp_path_factory):
    """An image whose server does not start."""
    place = tmp_path_factory.mktemp("broken")
    (place / "Containerfile").write_text(BROKEN.format(f"{PREFIX}/postgres:15"), encoding="utf-8")
    name = f"{PREFIX}/postgres-broken:latest"
    lab("podman", "build", "--isolation=chroot", "--network=host", "--tag", name, str(place))
    yield name
    lab("podman", "rmi", name)
