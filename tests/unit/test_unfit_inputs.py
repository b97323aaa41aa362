"""Inputs of roles of a wrong type or form, as playbooks/tasks/check_inventory.yml refuses them before the first change."""

import datetime

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from rendered import ROLES, trusted, variables
from test_input_checks import GIVEN, refusal

ROOT = ROLES.parent
CHECKED = [name for name in sorted(path.name for path in ROLES.iterdir()) if (ROLES / name / "meta/argument_specs.yml").exists()]


def lines(**inputs):
    values = trusted({"senex_private_address": "10.0.0.5", **inputs})
    text = "{{ query('senex.trader.unfit_inputs', " + ", ".join(repr(role) for role in CHECKED) + ") }}"
    return Templar(loader=DataLoader(), variables=values).template(trusted(text))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("nginx_trusted_proxies", "10.0.0.0/8", "is a text, and must be a list; with -e as JSON, -e '{\"nginx_trusted_proxies\": [...]}'"),
        ("common_ssh_sources", "10.0.0.1,10.0.0.2", "is a text, and must be a list"),
        ("release_accepted_migrations", "app.0007_name", "is a text, and must be a list"),
        ("django_release_commands", ["migrate --noinput"], "number 1: is a text, and must be a list"),
        ("podman_allowed_addresses", [{"network": "10.0.0.0/8"}], "number 1: is a dictionary, and must be a text"),
        ("nginx_login_paths", ["/a/", None], "number 2: is nothing, and must be a text"),
        ("redis_appendfsync", False, "is true or false, and must be a text; put it in quotes"),
        ("common_ssh_tcp_forwarding", False, "put it in quotes"),
        ("backup_dump_schedule", datetime.date(2000, 1, 1), "is a date, and must be a text; put it in quotes"),
        ("nginx_acme_profile", None, 'is nothing, and must be a text; take the line out for the default, or write ""'),
        ("release_lock_wait", None, "is nothing, and must be a whole number, 0 or more; take the line out for the default"),
        ("redis_settings", "maxclients 5", "is a text, and must be a dictionary"),
        ("postgresql_tasks_max", -1, "must be a whole number, 0 or more"),
        ("nginx_proxy_read_timeout", " 60", "must be a whole number"),
        ("nginx_proxy_read_timeout", 60.0, "is a decimal, and must be a whole number"),
        ("release_small_table_mb", "6_4", "must be a whole number"),
        ("watchdog_interval", "5s", "is a text, and must be a number, 0 or more"),
        ("redis_appendonly", "ture", "is a text, and must be true or false"),
        ("common_firewall_enabled", "", "must be true or false"),
        ("pitr_base_schedule", "daily\nExecStart=/bin/x", "holds a line break"),
        ("redis_settings", {"maxclients": "5\nmaxmemory 1gb"}, "holds a line break"),
        ("nginx_health_networks", ["10.0.0.0/8;\u2028"], "holds a line break or another control character"),
        ("podman_min_version", 5.1, "not read as it is written"),
    ],
)
def test_unfit(name, value, says):
    (line,) = lines(**{name: value})
    assert line.startswith(name) and says in line, line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nginx_trusted_proxies", ["10.0.0.0/8"]), ("watchdog_interval", "2.5"), ("watchdog_interval", 2), ("redis_appendonly", "No"), ("redis_appendonly", 1),
        ("nginx_acme_profile", ""), ("postgresql_memory", 2048), ("common_login_banner", "Two\nlines"), ("celery_memory", None),
        ("common_sysctl_overrides", {"net.ipv4.tcp_syncookies": None}), ("celery_workers", [{"name": "celery-worker"}]),
        # of what the role itself has yet to say
        ("celery_workers", "{{ celery_anything }}"),
    ],
)  # fmt: skip
def test_fit(name, value):
    assert lines(**{name: value}) == []


def test_no_value_is_shown():
    assert "geheim" not in str(lines(celery_flower_password=["geheim"], backup_passphrase="geheim\n", redis_password={"geheim": 1}))


@pytest.mark.parametrize("role", CHECKED)
def test_defaults_are_fit(role):
    """What is written there is what an inventory may write."""
    given = {key: value for key, value in variables(role, **GIVEN).items() if key.startswith(f"{role}_")}
    assert lines(**variables(role, **GIVEN) | given) == []


def test_it_is_asked_of_every_role_before_any_begins():
    text = (ROOT / "playbooks/tasks/check_inventory.yml").read_text()
    (task,) = [task for task in yaml.safe_load(text) if task["name"].startswith("Every input is of its type")]
    assert [role for role in CHECKED if f"'{role}'" not in task["vars"]["__check_roles"]] == ["certificate"]


@pytest.mark.parametrize("name", ["senex_redis_cache_instance", "senex_database_superuser", "senex_home"])
def test_shared_inputs(name):
    values = variables("common", **{**GIVEN, "senex_redis_password": "r" * 20, name: "a\nb"})
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "__check_shapes" in task.get("vars", {}))
    templar = Templar(loader=DataLoader(), variables=values | trusted(task["vars"]))
    (line,) = templar.template(trusted("{{ __check_types }}"))
    assert line.startswith(f"{name}: is a text, and must be ")


FORMS = [
    ("nginx", {"nginx_trusted_proxies": ["10.0.0.0/8", "lb.senex.test"]}, "nginx_trusted_proxies: lb.senex.test is neither an address nor a network"),
    ("nginx", {"nginx_health_networks": ["10.0.0.0/255.0.0.0"]}, "nginx_health_networks: 10.0.0.0/255.0.0.0 is neither"),
    ("nginx", {"nginx_rate_limit_exempt_networks": ["10.0.0.1-10.0.0.9"]}, "nginx_rate_limit_exempt_networks: 10.0.0.1-10.0.0.9 is neither"),
    ("nginx", {"nginx_login_paths": ["accounts/login/"]}, "nginx_login_paths: each is the beginning of a path"),
    ("nginx", {"nginx_api_paths": ['/api"']}, "nginx_api_paths: each is the beginning of a path"),
    ("nginx", {"nginx_proxy_connect_timeout": "0"}, "nginx_proxy_connect_timeout: 0 is too small"),
    ("nginx", {"nginx_upstream_keepalive": 0}, "nginx_upstream_keepalive: 0 is too small"),
    ("nginx", {"nginx_worker_connections": 1}, "nginx_worker_connections: 1 is too small; write 64 or more"),
    ("nginx", {"nginx_static_directory": "/srv/my files"}, "nginx_static_directory: must be an absolute path"),
    ("nginx", {"nginx_static_immutable_pattern": '"'}, "nginx_static_immutable_pattern: holds a double quote"),
    ("nginx", {"nginx_web_hosts": ["elsewhere"], "groups": GIVEN["groups"] | {"all": ["one"]}}, "nginx_web_hosts: elsewhere is no host of the inventory"),
    ("nginx", {"nginx_status_port": 80}, "nginx_status_port: 80 is no free port"),
]


@pytest.mark.parametrize(("role", "inputs", "says"), FORMS, ids=[f"{' '.join(inputs)}" for _, inputs, _ in FORMS])
def test_form(role, inputs, says):
    assert refusal(role, **inputs).startswith(says) and "\n" not in refusal(role, **inputs), refusal(role, **inputs)
