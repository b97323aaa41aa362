"""Containers that are gone when the test is."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from containers import POSTGRES, REDIS, Containers  # noqa: E402  (the path above must come first)


@pytest.fixture(scope="module")
def options():
    """Without CAP_SYS_RESOURCE crun cannot set the limit that the device rules of a cgroup need."""
    for image in (POSTGRES, REDIS):
        found = Containers().podman("image", "exists", image, check=False)
        assert found.returncode == 0, f"{image} is missing: run tests/lab/lab images. {found.stdout}"
    probe = Containers().once(POSTGRES, "true", check=False)
    return ["--cgroups=disabled"] if "RLIM_MEMLOCK" in probe.stdout else []


@pytest.fixture(scope="module")
def shared(options):
    made = Containers(options)
    yield made
    made.remove()


@pytest.fixture
def lab(options):
    made = Containers(options)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def network(shared):
    return shared.make("network", "--internal")
