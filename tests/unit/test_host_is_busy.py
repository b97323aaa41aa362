"""What a host may be doing, or may have set, before anybody deploys to it."""

import pathlib
import shutil
import subprocess

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from rendered import trust_as_template, variables

ROOT = pathlib.Path(__file__).parents[2]


def tasks(items):
    for item in items or []:
        yield item
        for inner in ("block", "rescue", "always"):
            yield from tasks(item.get(inner))


def test_every_installation_waits_for_another_package_manager():
    """The first boot of a cloud image installs updates for some minutes."""
    found = []
    for path in ROOT.glob("roles/*/tasks/*.yml"):
        for task in tasks(yaml.safe_load(path.read_text())):
            if "ansible.builtin.apt" in task:
                found.append(path.parts[-3])
                assert task["ansible.builtin.apt"].get("lock_timeout", 60) >= 600, f"{path}: {task['name']}"
    assert {"common", "podman", "nginx"} <= set(found)


@pytest.mark.parametrize("shell", ["dash", "bash", "sh"])
@pytest.mark.parametrize("before", ["", "readonly TMOUT=900", "TMOUT=900; readonly TMOUT; export TMOUT", "TMOUT=5"])
def test_a_login_survives_what_the_host_has_set(tmp_path, shell, before):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    inputs = {"common_shell_umask": "027", "common_shell_timeout": 3600, "common_core_dumps": False}
    templar = Templar(loader=DataLoader(), variables=variables("common", **inputs))
    template = trust_as_template((ROOT / "roles/common/templates/profile.sh.j2").read_text())
    text = templar.template(template, overrides={"trim_blocks": True, "lstrip_blocks": True})
    (tmp_path / "senex.sh").write_text(text)
    login = f"{before}\n. {tmp_path}/senex.sh\necho here $TMOUT $(umask)"
    result = subprocess.run([shell, "-c", login], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["here", "900" if "readonly" in before else "3600", "0027"]
