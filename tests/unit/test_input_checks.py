"""What is refused before the first change: the assertions as they stand in check.yml of the roles and in playbooks/tasks, against wrong inputs."""

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from provided import pair
from rendered import ROLES, trusted, variables

DOMAIN = "demo.senex.test"
GIVEN = {
    "senex_domain": DOMAIN, "senex_registry": "registry.senex.test/senex", "senex_image": "demo", "senex_image_tag": "1", "nginx_tls_mode": "ownca",
    "senex_redis_password": "r" * 20, "senex_database_password": "d" * 20,
}  # fmt: skip


def said(path, values):
    """The message of the one assertion in a file of tasks; nothing where it holds."""
    tasks = yaml.safe_load(path.read_text(encoding="utf-8"))
    (task,) = [task for task in tasks if "ansible.builtin.assert" in task]
    templar = Templar(loader=DataLoader(), variables=values | trusted(task.get("vars", {})))
    check = task["ansible.builtin.assert"]
    holds = templar.template(trusted("{{ (" + check["that"] + ") | bool }}"))
    return "" if holds else templar.template(trusted(check["fail_msg"]))


def refusal(role, **inputs):
    return said(ROLES / role / "tasks/check.yml", variables(role, **{**GIVEN, **inputs}))


@pytest.mark.parametrize("role", ["redis", "django", "celery", "nginx"])
def test_what_is_right_is_not_refused(role):
    assert refusal(role) == ""


@pytest.mark.parametrize(
    ("role", "inputs", "words"),
    [
        ("django", {"senex_web_instances": 0}, ["senex_web_instances", "1 to 32"]),
        ("nginx", {"nginx_login_rate": "5 per minute"}, ["nginx_login_rate", "r/s"]),
        ("redis", {"redis_maxmemory_policy": "allkeys-lru"}, ["redis_maxmemory_policy", "queued", "volatile-lru"]),
        (
            "celery", {"celery_workers": [{"name": "celery-worker", "queues": ["celery"], "concurrency": 1}]}, ["celery_workers", "accounts", "trading"],
        ),
        ("celery", {"groups": {"celery_beat": ["one", "elsewhere"]}}, ["celery_beat: one, elsewhere", "exactly one host may run Beat"]),
    ],
    ids=["no web instance", "a rate that is none", "eviction of queued tasks", "a queue that nobody takes from", "two schedulers"],
)  # fmt: skip
def test_refused(role, inputs, words):
    message = refusal(role, **inputs)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message, "one mistake, one line"


def test_too_little_memory():
    message = said(ROLES.parent / "playbooks/tasks/check_host.yml", variables("common", **GIVEN, senex_memory_mb=1000))
    assert all(word in message for word in ("senex_memory_mb", "1000", "2 GB"))


@pytest.mark.parametrize(("role", "name", "value", "words"), [("postgresql", "postgresql_version", 12, "15, 16, 17")])
def test_a_choice_that_there_is_not(role, name, value, words):
    """As Ansible checks it before the role's own assertion."""
    spec = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    (message,) = ArgumentSpecValidator({name: {key: spec[name][key] for key in ("type", "choices")}}).validate({name: value}).error_messages
    assert name in message and str(value) in message and words in message


@pytest.mark.parametrize("fault", ["none", "unreadable", "mismatched", "expired", "of another name"])
def test_a_provided_certificate(tmp_path, fault):
    good = pair(tmp_path / "good", DOMAIN)
    inputs, words = {
        "none": (good, []),
        "unreadable": ({**good, "nginx_tls_certificate": "/nowhere/x.crt"}, ["nginx_tls_certificate", "/nowhere/x.crt", "controller"]),
        "mismatched": ({**pair(tmp_path / "other", DOMAIN), "nginx_tls_private_key": good["nginx_tls_private_key"]}, ["nginx_tls_private_key", "belong"]),
        "expired": (pair(tmp_path / "old", DOMAIN, days=-1), ["nginx_tls_certificate", "expired"]),
        "of another name": (pair(tmp_path / "name", "x.test"), ["nginx_tls_certificate", "x.test", DOMAIN]),
    }[fault]
    message = refusal("nginx", **inputs)
    assert bool(message) == (fault != "none")
    assert [word for word in words if word not in message] == [] and "\n" not in message, message
