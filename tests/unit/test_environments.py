"""The inventories that a user fills in: what is seen of one on a host holds for the others."""

import re
import sys

import pytest
import yaml
from controller import ROOT
from rendered import value

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


# What was in the defaults of the collection until these inventories said it themselves
OWN = {
    "senex_image": "senex-trader", "senex_django_settings_module": "senex_trader.settings.production", "senex_celery_app": "senex_trader",
    "senex_celery_queues": ["celery", "accounts", "trading", "services"],
    "django_log_directory": "/var/log/senex_trader", "celery_log_directory": "/var/log/senex_trader",
}  # fmt: skip
TOLD = {"TASTYTRADE_CLIENT_ID": "<client_id>", "TASTYTRADE_CLIENT_SECRET": "<client_secret>", "TASTYTRADE_BASE_URL": "https://api.tastyworks.com"}


@pytest.mark.parametrize("name", ["staging", "production"])
def test_senex_trader_has_what_it_had_when_that_was_everybodys(name):
    """A deployed host of it is not changed."""
    given = yaml.safe_load((ROOT / "inventory" / name / "group_vars/all/main.yml").read_text(encoding="utf-8"))
    given |= {"vault_tastytrade_client_id": "<client_id>", "vault_tastytrade_client_secret": "<client_secret>", "vault_field_encryption_key": "<key>"}
    assert {one: value("celery" if one.startswith("celery") else "django", one, **given) for one in OWN} == OWN
    extra = value("django", "senex_extra_environment", **given)
    assert extra == TOLD and value("django", "__senex_field_encryption_keys", **given) == "<key>"
    issued = value("django", "query('senex.trader.new_secrets', 'given') + senex_application_secrets | map('regex_replace', '^', 'vault_') | list", **given)
    assert {"vault_tastytrade_client_id", "vault_tastytrade_client_secret"} < set(issued)


# What somebody else would have to undo
ALIEN = re.compile("tastytrade|tastyworks|senex_trader|trading", re.IGNORECASE)


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("roles/*/defaults/main.yml")), *sorted(ROOT.glob("roles/*/meta/argument_specs.yml")),
                                  *sorted((ROOT / "templates/environment").rglob("*.j2")), *sorted(ROOT.glob("playbooks/vars/*.yml"))],
                         ids=lambda path: str(path.relative_to(ROOT)))  # fmt: skip
def test_nothing_of_senex_trader_is_in_what_everybody_gets(path):
    assert ALIEN.findall(path.read_text(encoding="utf-8")) == []


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
