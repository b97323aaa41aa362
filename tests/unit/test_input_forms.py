"""Inputs of the right type that are no path, no address, no time: each role says so before it changes anything."""

from dataclasses import fields

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from rendered import ROLES, trusted, value, variables
from test_common_preflight import refusals
from test_input_checks import GIVEN, message_of, refusal
from watched import settings  # noqa: F401  (its module finds the watchdog's)

from senex_ops import config  # isort: skip
from test_unfit_inputs import MAIL

FORMS = [
    ("nginx", {"nginx_trusted_proxies": ["10.0.0.0/8", "lb.senex.test"]}, "nginx_trusted_proxies: lb.senex.test is neither an address nor a network"),
    ("nginx", {"nginx_health_networks": ["10.0.0.0/255.0.0.0"]}, "nginx_health_networks: 10.0.0.0/255.0.0.0 is neither"),
    ("nginx", {"nginx_rate_limit_exempt_networks": ["10.0.0.1-10.0.0.9"]}, "nginx_rate_limit_exempt_networks: 10.0.0.1-10.0.0.9 is neither"),
    ("nginx", {"nginx_login_paths": ["accounts/login/"]}, "nginx_login_paths: each is the beginning of a path"),
    ("nginx", {"nginx_api_paths": ['/api"']}, "nginx_api_paths: each is the beginning of a path"),
    ("nginx", {"nginx_proxy_connect_timeout": "0"}, "nginx_proxy_connect_timeout: 0 is too small"),
    ("nginx", {"nginx_upstream_keepalive": 0}, "nginx_upstream_keepalive: 0 is too small"),
    ("nginx", {"nginx_worker_connections": 1}, "nginx_worker_connections: 1 is too small; write 64 or more"),
    ("nginx", {"nginx_static_directory": "/srv/my files"}, "nginx_static_directory: '/srv/my files' is no absolute path"),
    ("nginx", {"nginx_static_immutable_pattern": '"'}, "nginx_static_immutable_pattern: holds a double quote"),
    ("nginx", {"nginx_web_hosts": ["elsewhere"], "groups": GIVEN["groups"] | {"all": ["one"]}}, "nginx_web_hosts: elsewhere is no host of the inventory"),
    ("nginx", {"nginx_web_base_port": 0}, "nginx_web_base_port: 0 is too small"),
    ("nginx", {"nginx_source_connection_burst": 0}, "nginx_source_connection_rate, nginx_source_connection_burst: the firewall knows no such limit"),
    ("nginx", {"nginx_source_connection_rate": 2000000}, "nginx_source_connection_rate, nginx_source_connection_burst: the firewall knows no"),
    ("nginx", {"nginx_status_port": 80}, "nginx_status_port: 80 is no free port"),
    ("postgresql", {"postgresql_data_directory": ""}, "postgresql_data_directory: '' is empty; write a directory below senex_home"),
    ("postgresql", {"postgresql_socket_directory": "run/my sockets"}, "postgresql_socket_directory: 'run/my sockets' has a character in it"),
    ("postgresql", {"postgresql_publish_address": "db.senex.test"}, "postgresql_publish_address: 'db.senex.test' is no IPv4 address"),
    ("postgresql", {"postgresql_tls_names": []}, "postgresql_tls_names: nothing is no name or address of the server"),
    ("postgresql", {"postgresql_tls_names": ["postgres", "10.0.0.300"]}, "postgresql_tls_names: 10.0.0.300 is no name or address of the server"),
    ("postgresql", {"postgresql_tls_names": ["my server"]}, "postgresql_tls_names: my server is no name or address of the server"),
    ("postgresql", {"postgresql_image": "postgres:17 "}, "postgresql_image: 'postgres:17 ' is no image"),
    ("postgresql", {"postgresql_settings": {"shared_preload_libraries": ["a", "b"]}}, "postgresql_settings: shared_preload_libraries must be a text"),
    ("postgresql", {"postgresql_settings": {"work mem": 1}}, "postgresql_settings: work mem is no name of a setting"),
    ("postgresql", {"postgresql_user": "pg_senex"}, "postgresql_database, postgresql_databases, postgresql_user"),
    ("postgresql", {"postgresql_databases": [{"name": "senex"}]}, "postgresql_databases: a name is there twice"),
    ("postgresql", {"postgresql_extensions": ['x"; drop']}, "postgresql_extensions, postgresql_databases: x"),
    ("postgresql", {"postgresql_stop_timeout": 0}, "postgresql_stop_timeout: 0 is too small"),
    ("postgresql", {"postgresql_max_connections": "3"}, "postgresql_max_connections: 3 is too small"),
    ("postgresql", {"postgresql_tasks_max": 100}, "postgresql_tasks_max: 100 is too small; write 232 or more"),
    ("redis", {"redis_data_directory": "."}, "redis_data_directory: '.' has . or .. as a part; write"),
    ("redis", {"redis_data_directory": "data/postgres/redis"}, "redis_data_directory: data/postgres/redis is, holds or lies in"),
    ("redis", {"redis_data_directory": "data"}, "redis_data_directory: data is, holds or lies in"),
    ("redis", {"redis_data_directory": "data/media/redis"}, "redis_data_directory: data/media/redis is, holds or lies in data/media"),
    ("redis", {"redis_data_directory": "run"}, "redis_data_directory: run is, holds or lies in postgresql_socket_directory (run/postgresql)"),
    ("postgresql", {"postgresql_data_directory": "data"}, "postgresql_data_directory: data is, holds or lies in data/media"),
    ("postgresql", {"postgresql_data_directory": "backups/postgresql"}, "postgresql_data_directory: backups/postgresql is, holds"),
    ("postgresql", {"postgresql_socket_directory": "data/postgres"}, "postgresql_data_directory: data/postgres is, holds or lies in"),
    ("pitr", {"pitr_directory": "data/postgres/barman"}, "pitr_directory: data/postgres/barman is, holds or lies in postgresql_data_directory (data/postgres)"),
    ("pitr", {"pitr_directory": "wal", "pitr_status_directory": "wal/status"}, "pitr_directory: wal is, holds or lies in pitr_status_directory"),
    ("redis", {"redis_publish_address": "fd00::1"}, "redis_publish_address: 'fd00::1' is no IPv4 address"),
    ("redis", {"redis_settings": {"slowlog-max-len": None}}, "redis_settings, redis_cache_settings: slowlog-max-len is no directive"),
    ("redis", {"redis_cache_settings": {"hz 10 #": 5}}, "redis_settings, redis_cache_settings: hz 10 # is no directive"),
    ("redis", {"redis_tasks_max": 4}, "redis_tasks_max: 4 is too small"),
    ("django", {"django_health_alive_path": "health"}, "django_health_alive_path: 'health' is no path"),
    ("django", {"django_media_directory": "/app/media:ro"}, "django_media_directory: '/app/media:ro' is no absolute path"),
    ("django", {"django_stop_timeout": "0"}, "django_stop_timeout: 0 is too small"),
    ("celery", {"senex_celery_queues": ["celery", "a b"]}, "celery_workers, senex_celery_queues: a b is no name of a queue"),
    ("celery", {"celery_flower_user": "a:b"}, "celery_flower_user: 'a:b' is no user"),
    ("celery", {"celery_flower_enabled": True, "celery_flower_password": 12345}, "celery_flower_password: Flower is never without"),
    ("backup", {"backup_redis_directory": "../redis"}, "backup_redis_directory: '../redis' has . or .. as a part"),
    ("backup", {"backup_offsite_check_subset": "a tenth"}, "backup_offsite_check_subset: a tenth is no part"),
    ("backup", {"backup_offsite_keep": {"daily": "x", "weekly": 3}}, "backup_offsite_keep: each must be a number"),
    (
        "postgresql",
        {"postgresql_tls_directory": "/opt/senex-trader/config/postgresql/tls"},
        "postgresql_tls_directory: /opt/senex-trader/config/postgresql/tls",
    ),
    ("pitr", {"pitr_server": "barman"}, "pitr_server: barman is no name"),
    ("pitr", {"pitr_wal_interval": 0}, "pitr_wal_interval: 0 is too small"),
    ("pitr", {"pitr_base_schedule": ""}, "pitr_base_schedule: '' is no time"),
    ("pitr", {"pitr_drill_schedule": "every Sunday"}, "pitr_drill_schedule: 'every Sunday' is no time"),
    ("backup", {"backup_media_schedule": "often"}, "backup_media_schedule: 'often' is no time"),
    ("backup", {"backup_offsite_schedule": "*-*-* 25:10"}, "backup_offsite_schedule: '*-*-* 25:10' is no time"),
    ("podman", {"podman_network_name": "my net"}, "podman_network_name, podman_network_unit"),
    ("podman", {"podman_denied_addresses": ["fe80::1%eth0"]}, "podman_denied_addresses, podman_allowed_addresses: fe80::1%eth0"),
    ("podman", {"podman_min_version": ""}, "podman_min_version is ''"),
    ("watchdog", {"watchdog_alive_path": "health"}, "watchdog_alive_path: 'health' is no path"),
]


@pytest.mark.parametrize(("role", "inputs", "says"), FORMS, ids=[f"{' '.join(inputs)}" for _, inputs, _ in FORMS])
def test_form(role, inputs, says):
    assert refusal(role, **inputs).startswith(says) and "\n" not in refusal(role, **inputs), refusal(role, **inputs)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"common_ssh_sources": ["999.1.1.1"]}, "common_ssh_sources: 999.1.1.1 is neither"),
        ({"common_ssh_sources": ["10.0.0.0/64"]}, "common_ssh_sources: 10.0.0.0/64 is neither"),
        ({"common_firewall_rules": [{"port": 443, "from": "office.senex.test"}]}, "common_firewall_rules: from: office.senex.test is neither"),
        ({"common_firewall_rules": [{"port": 70000}]}, "common_firewall_rules: 70000 is no port"),
        ({"common_firewall_rules": [{"port": "8010:8000"}]}, "common_firewall_rules: 8010:8000 is no port"),
        ({"common_sysctl_overrides": {"vm swappiness": 1}}, "common_sysctl, common_sysctl_overrides: vm swappiness is no name"),
        ({"senex_user": "a" * 21}, f"senex_user is '{'a' * 21}', and {'a' * 21}-application beside it would be too long a name"),
        ({"common_admin_email": "ops@b\u00fccher.de"}, "senex_admin_email is 'ops@b\u00fccher.de', which is no e-mail address"),
        ({"common_unattended_upgrades_reboot_time": 240}, "common_unattended_upgrades_reboot_time is '240'"),
        ({"common_swap_file": "/swap file"}, "common_swap_file is '/swap file'"),
        ({"common_swap_mb": 512, "common_swap_file": "/opt/senex-trader/swap"}, "common_swap_file is '/opt/senex-trader/swap', below senex_home"),
    ],
)
def test_form_of_the_hosts(inputs, says):
    (line,) = refusals(**inputs)
    assert line.startswith(says), line


def leasts(kind):
    """Names and smallest values as the watchdog itself has them."""
    return {one.name: one.metadata["least"] for one in fields(kind) if "least" in one.metadata}


@pytest.mark.parametrize("kind", [config.Probe, config.Restart, config.Limits, config.Notify, config.Mail, config.Broker, config.Config])
def test_what_the_watchdog_would_refuse_is_refused_before(kind):
    """It would end, when all has been put in place, and speak of keys of its file."""
    inputs = {
        "interval": "interval", "timeout": {config.Probe: "timeout", config.Restart: "restart_timeout", config.Mail: "smtp_timeout"}.get(kind),
        "failures": "failures", "dns_interval": "dns_interval", "slow_interval": "slow_interval", "disk_warn": "disk_warn_percent",
        "disk_fail": "disk_fail_percent", "nginx_errors": "nginx_errors", "beat_silence": "beat_max_silence", "wal_lag": "wal_lag_seconds",
        "wal_kept": "wal_kept_mb", "per_hour": "messages_per_hour", "retry": "retry_seconds", "heartbeat_interval": "heartbeat_interval",
        "queue_limit": "queue_limit", "image_age": "image_age_days",
    }  # fmt: skip
    for name, least in leasts(kind).items():
        if least > 0 and name not in ("reminder", "visibility_timeout") and (kind, name) != (config.Restart, "per_hour"):
            wrong = {f"watchdog_{inputs[name]}": least - 0.1 if least < 1 else least - 1}
            assert f"watchdog_{inputs[name]}" in refusal("watchdog", **MAIL, **wrong), wrong


def test_numbers_for_texts_are_texts_to_the_watchdog():
    found = value("watchdog", "[__watchdog_configuration.environment, __watchdog_mail.user]", **GIVEN, senex_environment=2026, watchdog_smtp_user=17)
    assert found == ["2026", "17"]
    words = {**{name: [] for name in ("web", "celery-worker", "celery-beat")}, "manage": ["manage", 8]}
    inputs = {"senex_image_commands": words, "senex_celery_queues": ["celery", 7], "senex_network_name": 2026}
    found = value("watchdog", "__watchdog_configuration", **{**GIVEN, **inputs})
    assert [found["manage"], found["broker"]["queues"], found["network"]] == [["manage", "8"], ["celery", "7"], "2026"]


def test_numbers_as_they_are_written(tmp_path):
    """Where a template stands the number is not written at all."""
    path = tmp_path / "vars.yml"
    path.write_text(
        'postgresql_memory: "{{ 2 * 1024 }}"\nredis_memory: 010\npodman_min_version: 5.0\npitr_server: 5.10\nwatchdog_interval: 2.50\n'
        "postgresql_settings: {max_wal_senders: 012, hash_mem_multiplier: 1.50}\n"
    )
    given = DataLoader().load_from_file(str(path), trusted_as_template=True)
    text = "{{ query('senex.trader.unfit_inputs', 'postgresql', 'redis', 'podman', 'pitr', 'watchdog') }}"
    found = Templar(loader=DataLoader(), variables=given).template(trusted(text))
    assert [line.partition(":")[0] for line in found] == ["postgresql_settings.max_wal_senders", "redis_memory", "pitr_server"], found


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, ""),
        ({"release_probe_paths": ["health/"]}, "release_probe_paths: each must begin with a slash"),
        ({"release_probe_paths": []}, "release_probe_paths: each must begin with a slash, and there must be one"),
        ({"release_websocket_path": "ws/"}, "release_websocket_path: 'ws/' is no path"),
        ({"release_accepted_migrations": ["0007_name"]}, "release_accepted_migrations: 0007_name is no name of a migration"),
        ({"release_plan_timeout": "0"}, "release_plan_timeout: 0 is too small"),
        ({"release_pre_deploy_tasks": "hooks/pre.yml"}, "release_pre_deploy_tasks: 'hooks/pre.yml' is no absolute path; write such as"),
        ({"release_post_deploy_tasks": "/nowhere/post.yml"}, "release_post_deploy_tasks: there is no file /nowhere/post.yml on the controller"),
        ({"release_post_failure_tasks": "/"}, "release_post_failure_tasks: there is no file / on the controller"),
        ({"release_post_deploy_tasks": __file__}, ""),
    ],
)
def test_form_of_a_release(inputs, says):
    task, *_ = yaml.safe_load((ROLES.parent / "playbooks/release/begin.yml").read_text())
    message = message_of(task, variables("release", **GIVEN, **inputs))
    assert message.startswith(says) and bool(message) == bool(says), message
