"""What an inventory may get wrong in its shared inputs, through the tasks that every playbook begins with."""

import json
import sys

import ansible.release
import pytest
import yaml
from controller import ONE, ROOT, run

TASKS = ROOT / "playbooks/tasks/check_inventory.yml"
GOOD = {
    "senex_environment": "canary", "senex_domain": "www.example.com", "senex_registry": "registry.example.com/team", "senex_image_tag": "7",
    "senex_image": "shop", "senex_django_settings_module": "shop.settings",
    "senex_secret_key": "k" * 60, "senex_field_encryption_key": "A" * 43 + "=", "senex_database_password": "d" * 20, "senex_redis_password": "r" * 20,
    "senex_ca_passphrase": "p" * 20, "senex_ca_certificate": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
    "senex_ca_private_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nQUJD\n-----END ENCRYPTED PRIVATE KEY-----\n",
    "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "senex_memory_mb": 4096,
}  # fmt: skip
KNOWS_SOURCES = tuple(map(int, ansible.release.__version__.split(".")[:2])) >= (2, 19)


@pytest.fixture
def check(tmp_path):
    play = [{"hosts": "all", "gather_facts": False, "roles": ["senex.trader.senex"], "tasks": [{"ansible.builtin.import_tasks": str(TASKS)}]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    (tmp_path / "hosts.json").write_text(json.dumps({group: {"hosts": {host: {} for host in hosts}} for group, hosts in ONE.items()}))
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/good.json").write_text(json.dumps(GOOD))

    def once(text):
        (tmp_path / "group_vars/all/inputs.yml").write_text(text)
        result = run("ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.yml", ANSIBLE_COLLECTIONS_PATH=str(ROOT))
        return result.returncode, result.stdout + result.stderr

    return once


def test_good_inputs_pass(check):
    environment = "senex_extra_environment: {WORKERS: 4, SHARE: 0.5, PIN: '0123', FLAG: true}\n" if KNOWS_SOURCES else ""
    code, said = check("senex_domain_aliases: [a.example.com]\n" + environment)
    assert code == 0, said


INPUTS = {
    "a text for a list": ("senex_domain_aliases: www.x.example", ["senex_domain_aliases: is a text, and must be a list"]),
    "a part of a dictionary": ("senex_email: {host: mx, from: a@example.com}", ["senex_email: has no port, use_tls, host_user, host_password"]),
    "a text for a dictionary": ("senex_extra_environment: DEBUG", ["senex_extra_environment: is a text, and must be a dictionary"]),
    "a text for a number": ("senex_web_instances: two", ["senex_web_instances: is a text, and must be a whole number"]),
    "a dictionary in the environment": ("senex_extra_environment: {FEATURES: {a: 1}}", ["senex_extra_environment.FEATURES: a dictionary has no spelling"]),
    "a decimal": ("senex_extra_environment: {VERSION: 1.10}", ["senex_extra_environment.VERSION", "put it in quotes"]),
    "no domain": ("senex_domain: ''", ["senex_domain: is missing"]),
}
UNQUOTED = {
    "an octal": ("senex_extra_environment:\n  PIN: 0123 # of the door\n", ["senex_extra_environment.PIN", "put it in quotes"]),
    "a time": ("senex_extra_environment: {AT: 1:30, B: 7}", ["senex_extra_environment.AT", "put it in quotes"]),
    "underscores": ("senex_extra_environment: {LIMIT: [5, 1_000]}", ["senex_extra_environment.LIMIT", "put it in quotes"]),
    "a tag": ("senex_image_tag: 0123", ["senex_image_tag", "put it in quotes"]),
}


@pytest.mark.parametrize("name", [*INPUTS, *(UNQUOTED if KNOWS_SOURCES else [])])
def test_refused_by_name_in_a_line(check, name):
    text, words = {**INPUTS, **UNQUOTED}[name]
    code, said = check(text)
    assert code != 0, said
    (problem,) = {line.strip() for line in said.splitlines() if line.strip().startswith("senex_")}
    assert all(word in problem for word in words), problem
    assert "object of type" not in said and "Traceback" not in said


def test_every_shared_list_and_dictionary_has_a_type():
    shapes = next(task["vars"]["__check_shapes"] for task in yaml.safe_load(TASKS.read_text()) if "__check_shapes" in task.get("vars", {}))
    defaults = yaml.safe_load((ROOT / "roles/senex/defaults/main.yml").read_text())
    plain = {name: value for name, value in defaults.items() if isinstance(value, (list, dict))}
    for name, value in plain.items():
        # Checked with the environment file as a whole, made of other inputs, and what defaults are made of
        if name not in ("senex_application_environment", "senex_secret_files", "senex_redis_addresses") and not name.startswith("__"):
            assert shapes[name]["type"] == ("list" if isinstance(value, list) else "dict"), name
            assert set(value) == set(shapes[name].get("keys", value)) or not value, name
