"""Roles exporters and monitoring: their files pass the checks that they pass on a host, and who is not monitored has nothing of it."""

import shlex
import subprocess

import pytest
import yaml
from rendered import value

HOST = {"inventory_hostname": "one", "group_names": ["postgresql", "redis", "web", "nginx", "monitoring"], "hostvars": {"one": {}}}
GROUPS = {name: ["one"] for name in ("all", "postgresql", "redis", "web", "celery", "nginx", "watchdog", "monitoring")}
PASSWORD = "p\"\\ $%'x0123456789"
GIVEN = {
    **HOST, "groups": GROUPS, "senex_metrics_password": PASSWORD, "senex_domain": "www.example.com", "senex_celery_queues": ["celery", "a b"],
    "senex_admin_email": "ops@example.com", "senex_memory_mb": 8192, "senex_environment": "production",
}  # fmt: skip
MAIL = {"senex_email": {"host": "mail.example.com", "port": 587, "use_tls": True, "host_user": "u", "host_password": "secret", "from": "a@example.com"}}


def template(role, name, **given):
    return str(value(role, f"lookup('ansible.builtin.template', '{name}')", **GIVEN | MAIL | given))


def checked(tmp_path, *words, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.yml").write_text(text)
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)


def test_prometheus_takes_its_configuration(tmp_path):
    text = template("monitoring", "prometheus.yml.j2", __monitoring_place=str(tmp_path))
    (tmp_path / "rules.yml").write_text("groups: []\n")
    (tmp_path / "password").write_text(PASSWORD)
    done = checked(tmp_path, "promtool", "check", "config", "prometheus.yml", prometheus=text)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {job["job_name"]: job for job in yaml.safe_load(str(text))["scrape_configs"]}
    assert list(jobs) == ["exporters", "monitoring", "nginx", "postgresql", "redis", "alertmanager", "probe-instance", "probe-site"]
    targets = [target for job in jobs.values() for one in job["static_configs"] for target in one["targets"]]
    assert all("127.0.0.1" in target for target in targets) and "http://127.0.0.1:8001/health/simple/" in targets
    assert PASSWORD not in text and all(job["basic_auth"]["password_file"] == f"{tmp_path}/password" for job in jobs.values())


def test_servers_take_the_hash_and_it_is_that_of_the_password(tmp_path):
    text = value("exporters", "__exporters_web | to_nice_yaml", **GIVEN)
    done = checked(tmp_path, "promtool", "check", "web-config", "web.yml", web=text)
    assert done.returncode == 0, done.stdout + done.stderr
    (hashed,) = yaml.safe_load(text)["basic_auth_users"].values()
    assert hashed.startswith("$2b$04$") and hashed == value("exporters", "__exporters_web", **GIVEN)["basic_auth_users"]["metrics"]
    other = value("exporters", "__exporters_web", **GIVEN | {"inventory_hostname": "two"})["basic_auth_users"]["metrics"]
    assert other != hashed


@pytest.mark.parametrize(
    "more", [{}, {"senex_email": MAIL["senex_email"] | {"host_user": ""}}, {"senex_admin_email": ""}, {"watchdog_smtp_ca_file": "/etc/ca.crt"}]
)
def test_alertmanager_takes_its_configuration(tmp_path, more):
    text = value("monitoring", "__monitoring_alertmanager | to_nice_yaml", **GIVEN | MAIL | more)
    done = checked(tmp_path, "amtool", "check-config", "alertmanager.yml", alertmanager=text)
    assert done.returncode == 0, done.stdout + done.stderr
    (receiver,) = yaml.safe_load(text)["receivers"]
    mail = receiver.get("email_configs", [])
    assert [one["to"] for one in mail] == ([] if more == {"senex_admin_email": ""} else ["ops@example.com"])
    assert all(("auth_password" in one) is (more.get("senex_email") is None) for one in mail)


def test_the_exporter_of_redis_reads_any_password():
    """A unit's escapes are none in a file of its environment: there a quoted text is read as a shell does."""
    lines = [line for line in template("exporters", "redis.env.j2").splitlines() if not line.startswith("#")]
    read = dict(shlex.split(line)[0].split("=", 1) for line in lines)
    assert read["REDIS_PASSWORD"] == read["REDIS_EXPORTER_BASIC_AUTH_PASSWORD"] == PASSWORD
    assert read["REDIS_EXPORTER_CHECK_SINGLE_KEYS"] == "db2=celery,db2=a b" and read["REDIS_USER"] == "_metrics"


def test_a_queue_of_any_name_is_no_rule_of_redis():
    rules = value("redis", "__redis_metrics_rules", **GIVEN, senex_redis_password="x" * 12)
    assert rules.split()[:3] == ["on", "~celery", "~a?b"] and rules.split()[3:-1] == ["+info", "+ping", "+select", "+type", "+llen", "+memory|usage"]


@pytest.mark.parametrize("role,name", [("redis", "__redis_users"), ("nginx", "nginx_status_port"), ("watchdog", "__watchdog_metrics")])
def test_who_is_not_monitored_has_nothing_of_it(role, name):
    alone = {group: hosts for group, hosts in GROUPS.items() if group != "monitoring"}
    without = value(role, name, **GIVEN | {"groups": alone, "senex_redis_password": "x" * 12, "senex_host_snapshot": {"installed": []}})
    assert {"nginx_status_port": 0, "__watchdog_metrics": {}}.get(name, without) == without and "_metrics" not in str(without)
    assert value(role, name, **GIVEN | {"senex_redis_password": "x" * 12, "senex_host_snapshot": {"installed": []}}) != without


@pytest.mark.parametrize(
    "more,says",
    [
        ({"groups": {**GROUPS, "redis": ["two"]}, "hostvars": {"one": {}, "two": {}}}, "monitoring: Prometheus on one would have to read two"),
        ({"monitoring_smtp_security": "tls", "monitoring_smtp_port": 587}, "monitoring_smtp_port: 587; Alertmanager speaks TLS"),
        ({"monitoring_smtp_security": "none"}, "monitoring_smtp_security: none would send the password of u in the clear"),
        ({"monitoring_smtp_host": ""}, "monitoring_smtp_host: is empty"),
        ({"monitoring_interval": 1}, "monitoring_interval"),
        ({"monitoring_retention_size": "10M"}, "monitoring_retention_size: 10M is too little"),
        ({"monitoring_memory": "100M"}, "monitoring_memory: 100M is too little"),
        ({}, ""),
    ],
)
def test_inputs_are_judged(more, says):
    found = value("monitoring", "__monitoring_input_rules | senex.trader.rule_problems", **GIVEN | MAIL | more)
    assert [line[: len(says)] for line in found] == ([says] if says else [])


@pytest.mark.parametrize(
    "more,says",
    [({"exporters_address": "192.0.2.1"}, "exporters_address: 192.0.2.1 is not on"), ({"exporters_memory": "8M"}, "exporters_memory: 8M"), ({}, "")],
)
def test_inputs_of_the_exporters_are_judged(more, says):
    found = value("exporters", "__exporters_input_rules | senex.trader.rule_problems", **GIVEN | more)
    assert [line[: len(says)] for line in found] == ([says] if says else [])
