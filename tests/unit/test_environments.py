"""The inventories that a user fills in: what is seen of one on a host holds for the others."""

import sys

import pytest
from controller import ROOT

sys.path.insert(0, str(ROOT / "tests" / "integration"))
import environments  # noqa: E402  (the path above must come first)


def lines(environment):
    text = (ROOT / "inventory" / environment / "group_vars/all/main.yml").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_production_is_staging_with_names_of_its_own_and_a_public_certificate():
    differ = {(a.partition(":")[0], b.partition(":")[0]) for a, b in zip(lines("staging"), lines("production"), strict=True) if a != b}
    assert differ == {(name, name) for name in ("senex_environment", "senex_domain", "nginx_tls_mode")}
    hosts = [(ROOT / "inventory" / name / "hosts.yml").read_text(encoding="utf-8").replace(name, "NAME") for name in ("staging", "production")]
    assert hosts[0] == hosts[1]


@pytest.mark.parametrize("name", ["staging", "production"])
def test_no_placeholder_is_left_of_an_environment_that_the_lab_fills(name, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "LAB_DIRECTORY", tmp_path)
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry/password").write_text("word\n", encoding="utf-8")
    monkeypatch.setenv(f"SENEX_VAULT_PASSWORD_{name.upper()}", "")
    place = environments.filled(name, tmp_path)
    written = {path.name: path.read_text(encoding="utf-8") for path in place.rglob("*.yml")}
    assert written["vault.yml"].startswith(f"$ANSIBLE_VAULT;1.2;AES256;{name}\n")
    for text in (written["hosts.yml"], written["main.yml"].partition("\n# The ")[2].partition("\n")[2]):
        assert "your-domain" not in text and "CHANGE_ME" not in text
    assert environments.domain(place).endswith(".senex.test")
