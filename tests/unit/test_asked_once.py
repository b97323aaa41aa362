"""What most runs skip is in a file that they skip as a whole: the one condition in front of it lets by whatever a task in it would do."""

import re
from pathlib import Path

import pytest
from rendered import loaded, value

ROLES = Path(__file__).parents[2] / "roles"
NAME = re.compile(r"\b(?:__)?(?:common|nginx|pitr|redis)_\w+")
FILES = [
    ("nginx", "present", "prepare"),
    ("pitr", "main", "prepare"),
    ("common", "main", "prepare"),
    ("common", "main", "settle"),
    ("redis", "finish", "former"),
]


def reached(role, text):
    """The names in an expression, and in what they are made of."""
    made, found, left = loaded(ROLES / role / "vars/main.yml"), set(), set(NAME.findall(text))
    while left - found:
        name = (left - found).pop()
        found.add(name)
        left |= set(NAME.findall(str(made.get(name, ""))))
    return found


@pytest.mark.parametrize(("role", "file", "skipped"), FILES)
def test_whoever_skips_a_file_asks_for_each_task_in_it(role, file, skipped):
    (asks,) = [task for task in loaded(ROLES / role / f"tasks/{file}.yml") if task.get("ansible.builtin.include_tasks") == f"{skipped}.yml"]
    known = reached(role, str(asks["when"]))
    for task in loaded(ROLES / role / f"tasks/{skipped}.yml"):
        if "block" not in task:
            # The host, and the first task of the file, are no reasons of their own
            assert set(NAME.findall(str(task["when"]))) - {"__common_host", "__pitr_apt"} <= known, task["name"]
    assert " and " not in str(asks["when"]) or role == "redis", "or one thing would keep from another"


FACTS = {"packages": ["nginx", "logrotate"], "nginx_version": "1.26.3", "openssl_version": "3.5.1"}


@pytest.mark.parametrize(
    ("name", "inputs", "due"),
    [
        ("install_due", {}, False),
        ("install_due", {"__nginx_facts": FACTS | {"packages": ["nginx"]}}, True),
        ("install_due", {"__nginx_facts": {}}, True),
        ("install_due", {"__nginx_others": {"skipped": True}}, False),
        ("install_due", {"__nginx_others": {"ours": False}}, True),
        ("build_unknown", {}, False),
        ("build_unknown", {"__nginx_facts": FACTS | {"openssl_version": ""}}, True),
        ("sign_due", {"nginx_tls_mode": "ownca", "__nginx_domains": ["a.example"], "senex_ca_certificate": "x"}, True),
        ("sign_due", {"nginx_tls_mode": "letsencrypt"}, False),
        ("placeholder_due", {"nginx_tls_mode": "letsencrypt", "__nginx_acme_good": "False"}, True),
        ("placeholder_due", {"nginx_tls_mode": "letsencrypt", "__nginx_acme_good": "True"}, False),
        ("placeholder_due", {"nginx_tls_mode": "ownca"}, False),
    ],
)
def test_what_nginx_stands_on(name, inputs, due):
    assert value("nginx", f"__nginx_{name}", **{"__nginx_facts": FACTS, "nginx_tls_mode": "ownca", **inputs}) is due


AS_LEFT = {"__common_facts": {"skipped": True, "changed": False}, "__common_files_result": {"changed": False}}


@pytest.mark.parametrize(
    ("inputs", "stale"),
    [
        ({}, False),
        ({"__common_apt": {"skipped": True, "changed": False}, "__common_timezone": {"skipped": True, "changed": False}}, False),
        ({"__common_facts": {"changed": False, "stdout": "{}"}}, True),
        ({"__common_apt": {"changed": True}}, True),
        ({"__common_timezone": {"changed": True}}, True),
        ({"__common_files_result": {"changed": True}}, True),
    ],
)
def test_the_facts_are_read_again_where_something_was_changed(inputs, stale):
    assert value("common", "__common_facts_stale", **{**AS_LEFT, **inputs}) is stale


@pytest.mark.parametrize(("found", "due"), [(None, True), ([], False), (["x"], True)])
def test_what_is_in_force_is_verified_where_nobody_has_looked_or_something_is_not(found, due):
    given = {} if found is None else {"senex_host_snapshot": {"in_force": found}}
    assert value("common", "__common_not_in_force", **given) is due


@pytest.mark.parametrize(
    ("installed", "separate", "left"),
    [(["redis", "redis-cache"], False, True), (["redis", "redis-cache"], True, False), (["redis"], False, False), ([], False, False)],
)
def test_a_redis_of_the_cache_is_left_where_none_is_wanted(installed, separate, left):
    given = {"senex_host_snapshot": {"installed": installed}, "senex_redis_cache_instance": separate}
    assert value("redis", "__redis_cache_left", **given) is left
