"""Modules run in sessions of any umask: 077 is what hardened hosts give to root."""

import importlib
import os
import pathlib
import stat

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check

ROOT = pathlib.Path(__file__).parents[2]
# Those whose work an action plugin does on the controller; and one that only asks the network
ELSEWHERE = {"fail_on_problems", "quadlet", "system_files", "vault", "preflight"}
MODULES = sorted({path.stem for path in (ROOT / "plugins/modules").glob("*.py")} - ELSEWHERE - {"__init__"})


@pytest.fixture
def strict():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_sets_its_umask_before_anything_else(strict, monkeypatch, name):
    class Reached(Exception):
        pass

    def reached(*given, **named):
        raise Reached

    module = importlib.import_module(f"ansible_collections.senex.trader.plugins.modules.{name}")
    monkeypatch.setattr(module, "AnsibleModule", reached)
    with pytest.raises(Reached):
        module.main()
    assert os.umask(0o077) == 0o022


def test_the_service_user_reads_what_its_generator_is_given(strict, monkeypatch, tmp_path):
    """The generator runs as the service user, in directories that root made."""
    seen = {}
    monkeypatch.setattr(quadlet_check, "generator", lambda: "generator")

    class User:
        uid, gid = os.getuid(), os.getgid()

        def run(self, argv, check, extra):
            source = pathlib.Path(extra.get("QUADLET_UNIT_DIRS", tmp_path))
            seen.update({path.name: stat.S_IMODE(path.stat().st_mode) for path in (source, *source.iterdir())})
            return type("Result", (), {"stdout": "", "stderr": "", "returncode": 0})()

    stage = tmp_path / "stage"
    stage.mkdir()
    quadlet_check._generated(User(), {"web.container": "[Container]\n"}, str(stage))
    assert seen["units"] & 0o055 == 0o055 and seen["web.container"] & 0o044 == 0o044
