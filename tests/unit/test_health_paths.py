"""The application's health is asked where the variables say that it is: one path, one address, whoever asks."""

import re

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from controller import ROOT
from rendered import ROLES, loaded, trust_as_template, trusted

READY = {"nginx": "nginx_health_path", "watchdog": "watchdog_ready_path", "release": "release_ready_path"}
ALIVE = {"nginx": "nginx_alive_path", "watchdog": "watchdog_alive_path", "release": "release_probe_paths"}


SHARED = {name: one for name, one in loaded(ROLES / "senex/defaults/main.yml").items() if name.startswith("senex_health_")}


def worked_out(value, variables):
    variables = {**SHARED, **variables}
    return Templar(loader=DataLoader(), variables=trusted(variables)).template(trust_as_template(value) if isinstance(value, str) else
                                                                               [trust_as_template(one) for one in value])  # fmt: skip


@pytest.mark.parametrize(("names", "owner", "usual"), [(READY, "django_health_ready_path", "/health/"), (ALIVE, "django_health_alive_path", "/health/simple/")])
def test_whoever_asks_goes_by_the_path_of_the_application(names, owner, usual):
    for role, name in names.items():
        value = loaded(ROLES / role / "defaults/main.yml")[name]
        shared = {name: loaded(ROLES / "senex/defaults/main.yml")[name] for name in ("senex_health_alive_path", "senex_health_ready_path")}
        for variables, wanted in ((shared, usual), ({**shared, owner: "/up/"}, "/up/")):
            found = worked_out(value, variables)
            assert wanted in found if isinstance(value, list) else found == wanted, (role, name)


@pytest.mark.parametrize(("variables", "address", "port", "path"), [
    ({"groups": {"nginx": ["one"]}}, "127.0.0.1", 8001, "/health/"),
    ({"groups": {"nginx": ["door"]}}, "10.0.0.7", 8001, "/health/"),
    ({"groups": {}}, "127.0.0.1", 8001, "/health/"),
    ({"groups": {}, "django_bind_address": "10.9.9.9", "django_base_port": "9000", "django_health_ready_path": "/up/"}, "10.9.9.9", 9000, "/up/"),
])  # fmt: skip
def test_after_an_operation_the_application_is_asked_where_it_is_published(variables, address, port, path):
    (ask,) = [task for task in yaml.safe_load((ROLES / "backup/tasks/application_start.yml").read_text()) if "senex.trader.application" in task]
    target = ask["senex.trader.application"]["target"]
    shared = {"senex_web_address": loaded(ROLES / "senex/defaults/main.yml")["senex_web_address"], "senex_web_base_port": 8001}
    about = {"inventory_hostname": "one", "senex_private_address": "10.0.0.7", **shared, **variables}
    assert worked_out(target["address"], about) == address
    assert int(worked_out(target["port"], about)) == port and worked_out(target["paths"], about) == [path]
    own = worked_out(loaded(ROLES / "django/defaults/main.yml")["django_bind_address"], about)
    assert variables.get("django_bind_address", own) == address


def test_no_task_and_no_template_has_a_path_of_its_own():
    """The variables' own defaults have it, and those of the programs that are handed it."""
    found = []
    for folder in ("roles", "playbooks", "templates"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".yml", ".j2", ".sh") and path.parts[-2] not in ("meta", "defaults"):
                for line in path.read_text().splitlines():
                    bare = re.sub(r"default\('/health/(simple/)?'\)", "", line)
                    if "/health/" in bare and "such as /health/" not in bare:
                        found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert found == []
