"""Roles exporters and monitoring: their files pass the checks that they pass on a host, and who is not monitored has nothing of it."""

import base64
import re
import shlex
import subprocess

import pytest
import yaml
from rendered import ROLES, Renderer, action, value, variables

HOST = {"inventory_hostname": "one", "group_names": ["postgresql", "redis", "web", "nginx", "monitoring"], "hostvars": {"one": {}}}
GROUPS = {name: ["one"] for name in ("all", "postgresql", "redis", "web", "celery", "nginx", "watchdog", "monitoring")}
PASSWORD = "p\"\\ $%'x0123456789"
GIVEN = {
    **HOST, "groups": GROUPS, "senex_metrics_password": PASSWORD, "senex_domain": "www.example.com", "senex_celery_queues": ["celery", "a b"],
    "senex_admin_email": "ops@example.com", "senex_memory_mb": 8192, "senex_environment": "production",
}  # fmt: skip
# Prometheus on the host of the site, servers on others
ADDRESSES = {"one": "10.0.0.5", "two": "10.0.0.6", "three": "10.0.0.7"}
SEVERAL = {
    "groups": {"web": ["one"], "postgresql": ["two"], "redis": ["three"], "nginx": ["one", "three"], "monitoring": ["one"]},
    "hostvars": {name: {"senex_private_address": address} for name, address in ADDRESSES.items()},
}
MAIL = {"senex_email": {"host": "mail.example.com", "port": 587, "use_tls": True, "host_user": "u", "host_password": "secret", "from": "a@example.com"}}


def installed(role, **given):
    """{dest: text} of what it puts in place."""
    values = variables(role, **given)
    items = action(Renderer, {}, values, ROLES / role).rendered(list(value(role, f"__{role}_files | senex.trader.chosen", **given)), values)
    return {item["dest"]: base64.b64decode(item["content"]).decode() for item in items}


TWO = {"inventory_hostname": "two", "group_names": ["postgresql"]}
OPENSSL = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a"]


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
    assert list(jobs) == ["exporters", "monitoring", "nginx", "postgresql", "redis", "alertmanager", "probe-site"]
    targets = [target for job in jobs.values() for one in job["static_configs"] for target in one["targets"]]
    assert all("127.0.0.1" in target for target in targets) and "https://127.0.0.1/health/simple/" in targets
    assert not any("tls_config" in job for job in jobs.values()), "what is on the loopback needs none, and nobody's certificate"
    assert PASSWORD not in text and all(job["basic_auth"]["password_file"] == f"{tmp_path}/password" for job in jobs.values())


def test_other_hosts_are_read_by_tls_and_the_site_is_asked_at_each_nginx(tmp_path):
    text = template("monitoring", "prometheus.yml.j2", **SEVERAL, __monitoring_place=str(tmp_path), release_websocket_path="/ws/a b")
    (tmp_path / "rules.yml").write_text("groups: []\n")
    (tmp_path / "password").write_text(PASSWORD)
    subprocess.run(["openssl", *OPENSSL, "-keyout", "key", "-out", "ca.crt"], check=True, cwd=tmp_path, capture_output=True)
    done = checked(tmp_path, "promtool", "check", "config", "prometheus.yml", prometheus=text)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
    read = {(one["labels"]["__scheme__"], *one["targets"]) for name in ("exporters", "postgresql", "redis", "nginx") for one in jobs[name]["static_configs"]}
    others = {f"10.0.0.{host}:{port}" for host, port in ((6, 9100), (6, 9187), (7, 9100), (7, 9121), (7, 9113))}
    assert read == {("https", one) for one in others} | {("http", "127.0.0.1:9100"), ("http", "127.0.0.1:9113")}
    assert jobs["postgresql"]["tls_config"]["ca_file"] == f"{tmp_path}/ca.crt" and "insecure" not in text
    asked = {target: one["labels"]["host"] for name in ("probe-site", "probe-websocket") for one in jobs[name]["static_configs"] for target in one["targets"]}
    assert asked == {
        "https://127.0.0.1/health/simple/": "one", "https://127.0.0.1/health/": "one", "127.0.0.1:443": "one",
        "https://10.0.0.7/health/simple/": "three", "https://10.0.0.7/health/": "three", "10.0.0.7:443": "three",
    }  # fmt: skip
    files = [one["dest"] for one in value("monitoring", "__monitoring_files", **GIVEN | MAIL | SEVERAL, senex_ca_certificate="x")]
    alone = [one["dest"] for one in value("monitoring", "__monitoring_files", **GIVEN | MAIL)]
    assert sorted(set(files) - set(alone)) == ["/etc/senex-trader/metrics/ca.crt"]


def test_a_websocket_is_asked_for_where_it_is_known_where_one_is():
    modules = yaml.safe_load(template("monitoring", "blackbox.yml.j2", release_websocket_path="/ws/echo/"))["modules"]
    *lines, answer = modules["websocket"]["tcp"]["query_response"]
    assert [one["send"] for one in lines][:2] == ["GET /ws/echo/ HTTP/1.1\r", "Host: www.example.com\r"] and lines[-1] == {"send": "\r"}
    assert all(one["send"].count("\r") == 1 and one["send"].endswith("\r") for one in lines)
    assert re.match(answer["expect"], "HTTP/1.1 101 Switching Protocols") and not re.match(answer["expect"], "HTTP/1.1 403 Forbidden")
    assert list(yaml.safe_load(template("monitoring", "blackbox.yml.j2"))["modules"]) == ["site"]


@pytest.mark.parametrize("host", ["one", "two"])
def test_exporters_listen_for_another_host_by_tls_alone(tmp_path, host):
    given = GIVEN | SEVERAL | {"inventory_hostname": host, "group_names": ["postgresql"], "senex_memory_mb": 8192}
    away, place = host != "one", f"{tmp_path}/exporters"
    assert value("exporters", "exporters_address", **given) == (ADDRESSES["two"] if away else "127.0.0.1")
    web = value("exporters", "__exporters_web | to_nice_yaml", **given, __exporters_certificate=place, __exporters_key_copy=f"{place}.key")
    assert ("tls_server_config" in web) is away and "basic_auth_users" in web
    subprocess.run(["openssl", *OPENSSL, "-keyout", f"{place}.key", "-out", f"{place}.crt"], check=True, capture_output=True)
    done = checked(tmp_path, "promtool", "check", "web-config", "web.yml", web=web)
    assert done.returncode == 0, done.stdout + done.stderr
    everything = {"postgresql": [host], "redis": [host], "nginx": [host], "monitoring": ["one"]}
    assert set(value("exporters", "__exporters_handlers", **given)) == set(value("exporters", "__exporters_units", **given)), "another's is no unit here"
    units = {dest: text for dest, text in installed("exporters", **given | {"groups": everything}).items() if dest.endswith("/senex.conf")}
    assert len(units) == 4
    for dest, unit in units.items():
        assert f"listen-address={ADDRESSES['two'] if away else '127.0.0.1'}:" in unit
        assert ("ExecStartPre=+/usr/bin/mv -f /run/senex-exporters/key-%N /run/senex-exporters/key\n" in unit) is away
        assert ("-tls-server-cert-file=/etc/senex-trader/tls/exporters.crt" in unit) is (away and "redis" in dest)
        assert all(line.endswith("\\") for line in unit.partition("ExecStart=/")[2].partition("\nRestart=")[0].partition("\nExecStartPre")[0].splitlines()[:-1])
    assert value("exporters", "__exporters_sign_due", **given, senex_ca_certificate="x") is away


def test_servers_take_the_hash_and_it_is_that_of_the_password(tmp_path):
    text = value("exporters", "__exporters_web | to_nice_yaml", **GIVEN)
    done = checked(tmp_path, "promtool", "check", "web-config", "web.yml", web=text)
    assert done.returncode == 0, done.stdout + done.stderr
    (hashed,) = yaml.safe_load(text)["basic_auth_users"].values()
    assert hashed.startswith("$2b$04$") and hashed == value("exporters", "__exporters_web", **GIVEN)["basic_auth_users"]["metrics"]
    other = value("exporters", "__exporters_web", **GIVEN | SEVERAL | TWO)["basic_auth_users"]["metrics"]
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
    assert read["REDIS_USER"] == "_metrics" and not [name for name in read if "KEYS" in name]


def test_the_exporter_of_redis_may_read_no_key():
    rules = value("redis", "__redis_metrics_rules", **GIVEN, senex_redis_password="x" * 12)
    assert rules.split()[:-1] == ["on", "+info", "+ping", "+select"]


@pytest.mark.parametrize("role,name", [("redis", "__redis_users"), ("nginx", "nginx_status_port"), ("watchdog", "__watchdog_metrics")])
def test_who_is_not_monitored_has_nothing_of_it(role, name):
    alone = {group: hosts for group, hosts in GROUPS.items() if group != "monitoring"}
    without = value(role, name, **GIVEN | {"groups": alone, "senex_redis_password": "x" * 12, "senex_host_snapshot": {"installed": []}})
    assert {"nginx_status_port": 0, "__watchdog_metrics": {}}.get(name, without) == without and "_metrics" not in str(without)
    assert value(role, name, **GIVEN | {"senex_redis_password": "x" * 12, "senex_host_snapshot": {"installed": []}}) != without


@pytest.mark.parametrize(
    "more,says",
    [
        (SEVERAL, ""),
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
    [
        ({"exporters_address": "192.0.2.1"}, "exporters_address: 192.0.2.1 is not on the loopback, where Prometheus on this host reads"),
        ({"exporters_memory": "8M"}, "exporters_memory: 8M"),
        ({}, ""),
        (SEVERAL | TWO, ""),
        (SEVERAL | TWO | {"exporters_address": "127.0.0.1"}, "exporters_address: 127.0.0.1 is on the loopback, where one, the host of the group monitoring,"),
        (SEVERAL | TWO | {"exporters_address": "::"}, "exporters_address: '::' is every address"),
        (SEVERAL | TWO | {"exporters_tls_names": ["two"]}, "exporters_tls_names: lacks 10.0.0.6 (exporters_address)"),
    ],
)
def test_inputs_of_the_exporters_are_judged(more, says):
    found = value("exporters", "__exporters_input_rules | senex.trader.rule_problems", **GIVEN | more)
    assert [line[: len(says)] for line in found] == ([says] if says else [])
