"""Inputs that a container, its image or a server refuses, or takes for something else: told before the first change."""

import pytest
import yaml
from ansible.parsing.splitter import parse_kv
from ansible_collections.senex.trader.plugins.filter.checking import input_problems
from nginx_door import rendered
from rendered import ROLES, component, trusted, variables
from test_input_checks import GIVEN, message_of, refusal
from test_unfit_inputs import MAIL, lines

NONE_SUCH = "is no image; write its whole name in small letters"


@pytest.mark.parametrize(
    ("role", "inputs", "says"),
    [
        ("postgresql", {"postgresql_image": "https://docker.io/library/postgres:17"}, f"postgresql_image: 'https://docker.io/library/postgres:17' {NONE_SUCH}"),
        ("postgresql", {"postgresql_image": "postgres:17-alpine"}, f"postgresql_image: 'postgres:17-alpine' {NONE_SUCH}"),
        ("redis", {"redis_image": "library/redis:7"}, f"redis_image: 'library/redis:7' {NONE_SUCH}"),
        ("redis", {"redis_image": "docker.io/library/Redis:7"}, f"redis_image: 'docker.io/library/Redis:7' {NONE_SUCH}"),
        ("django", {"senex_image": "Demo"}, f"django_image: 'registry.senex.test/senex/Demo:1' {NONE_SUCH}"),
        ("celery", {"senex_image": "demo:2"}, f"celery_image: 'registry.senex.test/senex/demo:2:1' {NONE_SUCH}"),
        ("redis", {"redis_publish_address": "999.1.1.1"}, "redis_publish_address: '999.1.1.1' is no IPv4 address"),
        ("django", {"django_bind_address": "10.0.0.256"}, 'django_bind_address (senex_private_address): "10.0.0.256" is no IPv4 address'),
        ("postgresql", {"postgresql_container_uid": 0}, "postgresql_container_uid: 0 is no user of a rootless container"),
        ("postgresql", {"postgresql_container_uid": 1000680000}, "postgresql_container_uid: 1000680000 is no user of a rootless container"),
        ("redis", {"redis_container_uid": "70000"}, "redis_container_uid: 70000 is no user of a rootless container"),
        ("redis", {"redis_maxmemory": 0}, "redis_maxmemory: 0 is too little, and 0 would be no limit for Redis"),
        ("redis", {"senex_redis_cache_instance": True, "redis_cache_maxmemory": "0M"}, "redis_cache_maxmemory: 0M is too little"),
        ("celery", {"celery_beat_memory": 0}, "celery_beat_memory: 0 is too little for Beat"),
        ("celery", {"celery_flower_enabled": True, "celery_flower_password": "f" * 20, "celery_flower_memory": "1M"}, "celery_flower_memory: 1M is too little"),
        ("postgresql", {"postgresql_tls_directory": "/etc/senex-trader/../../opt/senex-trader/tls"}, "postgresql_tls_directory: '/etc/senex-trader/../../opt"),
        ("django", {"django_media_directory": "/app/../media"}, "django_media_directory: '/app/../media' is no absolute path"),
        ("postgresql", {"postgresql_initdb_args": "--locale-provider=icu --icu-locale='de"}, "postgresql_initdb_args: no closing quotation"),
        ("postgresql", {"postgresql_max_connections": 0}, "postgresql_max_connections: 0 is too small"),
        ("postgresql", {"postgresql_max_connections": 300000, "postgresql_tasks_max": 0}, "postgresql_max_connections: 300000 is too large"),
        ("pitr", {"pitr_directory": "backups/my archive"}, "pitr_directory: 'backups/my archive' has a character in it"),
        ("pitr", {"pitr_status_directory": "backups/%h"}, "pitr_status_directory: 'backups/%h' has a character in it"),
        ("pitr", {"pitr_database": "sennex"}, "pitr_database: sennex is no database of role postgresql; those are senex, postgres"),
        ("pitr", {"pitr_packages": ["barman postgresql-client"]}, "pitr_packages: each must be the name of a package"),
        ("podman", {"podman_packages_extra": ["-y"]}, "podman_packages_extra: each must be the name of a package"),
        ("podman", {"podman_seccomp_allow": ["SYS_PTRACE"]}, "podman_seccomp_allow: each must be the name of a system call"),
        ("podman", {"senex_dns_options": ["timeout:1 attempts:5"]}, "senex_dns_options: each must be one option"),
    ],
)
def test_what_a_container_cannot_be(role, inputs, says):
    found = refusal(role, group_names=["postgresql"], **inputs).splitlines()
    assert [line[: len(says)] for line in found] == [says], found


@pytest.mark.parametrize(
    ("role", "inputs"),
    [
        ("postgresql", {"postgresql_image": "registry.senex.test:5000/library/postgres@sha256:" + "0" * 64}),
        ("postgresql", {"postgresql_image": "localhost/postgres:17"}), ("redis", {"redis_image": "registry:5000/redis__x/a.b-c:7"}),
        ("django", {"senex_registry": "demo"}), ("redis", {"redis_publish_address": ""}), ("redis", {"redis_cache_maxmemory": 0}),
        ("celery", {"celery_flower_memory": 0}), ("podman", {"podman_seccomp_allow": ["io_uring_setup"], "senex_dns_options": ["use-vc", "ndots:2"]}),
        ("pitr", {"pitr_database": "reports", "postgresql_databases": [{"name": "reports"}], "group_names": ["postgresql"]}),
    ],
)  # fmt: skip
def test_what_it_can_be(role, inputs):
    assert refusal(role, **inputs) == ""


def test_an_empty_setting_of_redis_is_a_word():
    """`notify-keyspace-events ""` is how Redis has it off; without the quotes it does not start."""
    files, _ = component("redis", **GIVEN, redis_settings={"notify-keyspace-events": "", "maxclients": 5})
    (text,) = [text for dest, (text, _) in files.items() if dest.endswith("/redis.conf")]
    assert text.splitlines()[-2:] == ["maxclients 5", 'notify-keyspace-events ""']


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"nginx_source_requests": 65536}, "nginx_source_requests: 65536 is too large; write 65535 or less"),
        ({"nginx_source_websockets": "100000"}, "nginx_source_websockets: 100000 is too large"),
        ({"nginx_worker_connections": 2147483648}, "nginx_worker_connections: 2147483648 is too large"),
        ({"nginx_upstream_keepalive": 70000}, "nginx_upstream_keepalive: 70000 is too large; write 65535 or less"),
        ({"nginx_client_max_body_size": "9999999999999g"}, "nginx_client_max_body_size: is no size of nginx"),
        ({"nginx_api_rate": "99999999999999999999r/s"}, "nginx_api_rate: is no rate of nginx"),
        ({"nginx_content_security_policy": "x" * 4000}, "nginx_content_security_policy: has 4000 characters; write 3500 or less"),
        ({"nginx_static_immutable_pattern": "x" * 4000}, "nginx_static_immutable_pattern: has 4000 characters"),
        ({"nginx_client_max_body_size": "1073741824"}, ""),
        ({"nginx_client_max_body_size": "300m", "senex_tmp_size": "512M"}, "nginx_client_max_body_size: 300m does not fit twice into senex_tmp_size (512M)"),
        ({"nginx_client_max_body_size": "256m", "senex_tmp_size": "512M"}, ""),
        ({"nginx_web_base_port": 65535}, "nginx_web_base_port + nginx_web_instances: 65537 is too large"),
        ({"nginx_static_immutable_pattern": "(hash"}, "nginx_static_immutable_pattern: is no regular expression"),
        ({"nginx_acme_ca_certificate": "/etc/ssl/authority.pem"}, "nginx_acme_ca_certificate: is no PEM certificate"),
        ({"nginx_content_security_policy": "default-src 'self' $HOST"}, "nginx_content_security_policy: has a $ before what is no variable of nginx"),
        ({"nginx_permissions_policy": "payment=$"}, "nginx_permissions_policy: has a $ before"),
        ({"nginx_web_hosts": []}, "nginx_web_hosts: is empty"),
        ({"nginx_media_directory": "/srv/../etc"}, "nginx_media_directory: '/srv/../etc' is no absolute path"),
        ({"nginx_acme_profile": ".."}, "nginx_acme_profile: .. is no name of a profile"),
        ({"nginx_content_security_policy": "connect-src wss://$host ${scheme}://x $http_x_y"}, ""),
        ({"nginx_static_directory": "", "nginx_source_requests": 0, "nginx_static_immutable_pattern": r"\.[0-9a-f]{8,}\.[^/]+$"}, ""),
    ],
)
def test_what_nginx_does_not_start_with(inputs, says):
    found = refusal("nginx", **inputs)
    assert found.startswith(says) and "\n" not in found and bool(found) == bool(says), found


def test_no_pattern_is_no_file_for_ever():
    """An empty one was found in each name, so that browsers kept every static file for a year."""
    assert "immutable" in rendered("maps.conf.j2") and "immutable" not in rendered("maps.conf.j2", nginx_static_immutable_pattern="")


BUCKET = {"backup_offsite_repository": "s3:https://s3.senex.test/bucket/path", "backup_passphrase": "p" * 20, "backup_offsite_access_key": "k",
          "backup_offsite_secret_key": "s"}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "inputs", "says"),
    [
        ("watchdog", {**MAIL, "watchdog_smtp_host": "mx.senex.test:587"}, "watchdog_smtp_host: 'mx.senex.test:587' is no server"),
        ("watchdog", {**MAIL, "senex_email": {"host": " mx", "port": 25, "use_tls": True, "host_user": "", "host_password": "", "from": "a@b.c"}},
         "watchdog_smtp_host: ' mx' is no server"),
        ("watchdog", {**MAIL, "watchdog_mail_to": ["ops@b\u00fccher.de"]}, "watchdog_mail_to, watchdog_mail_from: ops@b\u00fccher.de is no mail address"),
        ("watchdog", {**MAIL, "watchdog_mail_to": ["\u00f6ps+x@senex.test", "ops+x_y-z@xn--bcher-kva.de", "root@localhost"]},
         "watchdog_mail_to, watchdog_mail_from: \u00f6ps+x@senex.test is no mail"),
        ("nginx", {"nginx_tls_mode": "letsencrypt", "senex_admin_email": "ops@b\u00fccher.de"}, "nginx_acme_email (senex_admin_email): letsencrypt needs"),
        ("watchdog", {"watchdog_public_address": "www.senex.test"}, "watchdog_public_address: is no address"),
        ("watchdog", {"watchdog_web_address": "10.0.0.0.5"}, "watchdog_web_address: is no address"),
        ("watchdog", {"watchdog_extra_user_units": ["exporter"]}, "watchdog_extra_user_units, watchdog_extra_system_units: exporter is no unit"),
        ("watchdog", {"watchdog_extra_system_units": ["a.service b.service"]}, "watchdog_extra_user_units, watchdog_extra_system_units: a.service b.service"),
        ("watchdog", {"watchdog_disk_paths": ["srv/data", "/"]}, "watchdog_disk_paths: srv/data is no absolute path"),
        ("watchdog", {"watchdog_certificates": [""]}, "watchdog_certificates: nothing is no absolute path"),
        ("watchdog", {"watchdog_webhook_ca_file": "ca.pem"}, "watchdog_webhook_ca_file: ca.pem is no absolute path"),
        ("watchdog", {"watchdog_memory_warn_percent": "110"}, "watchdog_memory_warn_percent: 110 is too large"),
        ("backup", {**BUCKET, "backup_offsite_ca_certificate": "/etc/ssl/ca.pem"}, "backup_offsite_ca_certificate: is no PEM certificate"),
        ("backup", {**BUCKET, "backup_offsite_secret_key": "s "}, "backup_offsite_access_key, backup_offsite_secret_key: one of them holds a blank"),
        ("backup", {**BUCKET, "backup_offsite_host": ""}, "backup_offsite_host: is empty"),
        ("watchdog", {**MAIL, "watchdog_smtp_host": "fd00::25", "watchdog_public_address": "fd00::1"}, ""),
        ("watchdog", {"watchdog_extra_system_units": ["getty@tty1.service", r"srv-my\x2ddata.mount"], "watchdog_smtp_host": "mx:25"}, ""),
        ("backup", BUCKET, ""),
    ],
)  # fmt: skip
def test_what_would_be_found_by_who_is_on_call(role, inputs, says):
    found = refusal(role, **inputs)
    assert found.startswith(says) and "\n" not in found and bool(found) == bool(says), found


def test_a_state_is_present_or_absent():
    for role in ("watchdog", "backup", "nginx"):
        (line,) = lines(**{f"{role}_state": "removed"})
        assert "present, absent" in line


def test_a_mail_server_is_a_name_alone():
    (line,) = input_problems({"server": {"senex_email.host": "smtp://mx.senex.test", "other": "mx.senex.test", "none": "", "sixth": "::1"}})
    assert line.startswith("senex_email.host: 'smtp://mx.senex.test' is no server")


THEIRS = {"groups": {"web": ["one"], "redis": ["one"], "postgresql": []}, "senex_database_host": "db.senex.test"}


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"senex_environment": "../canary"}, "senex_environment: '../canary' is no name of an environment"),
        ({"senex_environment": "50%h"}, "senex_environment: '50%h' is no name of an environment"),
        ({"senex_private_address": "10.0.0.5:5432"}, "senex_private_address: '10.0.0.5:5432' is no server"),
        ({"senex_private_address": "10.0.0.5 "}, "senex_private_address: '10.0.0.5 ' is no server"),
        ({"senex_database_sslmode": "verify_full"}, "senex_database_sslmode: 'verify_full' is no mode of libpq"),
        ({"senex_database_host": "postgres://db.senex.test"}, "senex_database_host: 'postgres://db.senex.test' is no server"),
        ({"senex_postgresql_primary": "web-2", "groups": {"postgresql": ["db"]}}, "senex_postgresql_primary: web-2 is no host of the group postgresql"),
        ({"senex_redis_host": "redis.senex.test:6379"}, "senex_redis_host: 'redis.senex.test:6379' is no server"),
        ({"senex_redis_url": "redis://u:geheim@redis.senex.test:6379/0"}, "senex_redis_url, senex_redis_cache_url: each is an address such as"),
        ({"senex_redis_cache_url": "redis.senex.test:6379"}, "senex_redis_url, senex_redis_cache_url: each is an address such as"),
        ({"inventory_hostname": "web 1"}, "inventory: web 1 is no name of a host"),
        ({"inventory_hostname": "50%web"}, "inventory: 50%web is no name of a host"),
        ({"inventory_hostname": "fd00::5"}, ""),
        ({"senex_celery_queues": ["celery\n"]}, "senex_celery_queues, number 1: is a text, and must be a text in one line"),
        ({"senex_celery_queues": [True]}, "senex_celery_queues, number 1: is true or false, and must be a text in one line, not empty; put it in quotes"),
        ({"senex_dns_options": [""]}, "senex_dns_options, number 1: is a text, and must be a text in one line, not empty"),
        ({"senex_conn_max_age": None}, "senex_conn_max_age: is no number of seconds"),
        ({"senex_home": 7}, "senex_home: is a number, and must be a path"),
        ({"senex_django_settings_module": None}, "senex_django_settings_module: is nothing, and must be a text in one line"),
        ({"senex_web_address": []}, "senex_web_address: is a list, and must be a text in one line"),
        ({"senex_database_host": None}, "senex_database_host: is nothing, and must be"),
        ({"senex_conn_max_age": "10m"}, "senex_conn_max_age: is no number of seconds"),
        ({"senex_sentry_dsn": "o1.ingest.sentry.io/2"}, "senex_sentry_dsn: is no address"),
        ({"senex_redis_url": "rediss://redis.senex.test:6380", "senex_conn_max_age": "None", "senex_sentry_dsn": "https://k@o1.senex.test/2"}, ""),
        ({"senex_environment_names": {"DB_PASS": "X"}}, "senex_environment_names.DB_PASS: there is no such variable; there are "),
        ({"senex_environment_names": {"DB_PASSWORD": ["X"]}}, "senex_environment_names.DB_PASSWORD: is a list, and must be a text"),
        ({"senex_environment_names": {"DB_PASSWORD": "SHOP_PASSWORD"}, "senex_secret_files": "true"}, ""),
        ({"senex_secret_files": ["SHOP_PASSWORD"]}, "senex_secret_files: SHOP_PASSWORD is no variable of the application; there are "),
        ({"senex_extra_environment": {"A": "geheim\nb"}}, "senex_extra_environment.A: the value contains a newline"),
        ({"senex_extra_environment": {"A": "geheim\nb"}, "senex_secret_files": ["A"]}, ""),
        (THEIRS, "senex_database_ca_certificate: is missing, and senex_database_sslmode verify-full verifies"),
        ({**THEIRS, "senex_database_sslmode": "require"}, ""),
        ({**THEIRS, "senex_database_ca_certificate": "ca.pem"}, "senex_database_ca_certificate: is no PEM certificate"),
        ({"senex_redis_tls": True}, "senex_redis_tls: is for a Redis that is somebody else's server"),
        ({"senex_environment": 2026, "senex_private_address": "db_1.senex.test", "senex_database_sslmode": "require"}, ""),
    ],
)
def test_shared_inputs_in_names_and_addresses(inputs, says):
    tasks = yaml.safe_load((ROLES.parent / "playbooks/tasks/check_inventory.yml").read_text())
    (task,) = [task for task in tasks if "__check_shapes" in task.get("vars", {})]
    found = message_of(
        task, variables("senex", **{**GIVEN, "senex_private_address": "10.0.0.5", "senex_secret_key": "k", "senex_field_encryption_key": "f", **inputs})
    )
    assert [line[: len(says)] for line in found.splitlines()[1:]] == ([says] if says else []) and "geheim" not in found, found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("update_images_back", ["update_images_back: has no value"]),
        ("restore_dump=newest restore_fetch", ["restore_fetch: has no value"]),
        ("release_maintenance django_read_only", ["release_maintenance: has no value", "django_read_only: has no value"]),
        ("senex_redis_password=not geheim", ["-e: a word of it is no NAME=VALUE"]),
        ("update_images_back = true", ["update_images_back: has no value", "-e: a word of it is no NAME=VALUE"]),
        ("update_images_back=true restore_to='2026-11-21 12:00:00+00'", []),
    ],
)
def test_a_word_of_e_without_a_value(given, says):
    """What the command line makes of it is Ansible's own."""
    tasks = yaml.safe_load((ROLES.parent / "playbooks/tasks/check_inventory.yml").read_text())
    (task,) = [task for task in tasks if "__check_shapes" in task.get("vars", {})]
    known = {**GIVEN, "senex_private_address": "10.0.0.5", "senex_secret_key": "k", "senex_field_encryption_key": "f"}
    found = message_of(task, variables("senex", **{**known, **parse_kv(given)}))
    assert [line[: len(word)] for line, word in zip(found.splitlines()[1:], says, strict=True)] == says and "geheim" not in found, found


@pytest.mark.parametrize(
    ("playbook", "given", "says"),
    [
        ("tasks/rotate_plan.yml", {"rotate_confirm": True, "rotate_retierd": True}, "rotate_retierd: is no variable"),
        (
            "tasks/rotate_plan.yml",
            {"rotate_confirm": True, "rotate_retired": True, "rotate_reencrypt_command": ["a"], "rotate_value_file": "x", "secret": "y"},
            "",
        ),
        ("upgrade_postgresql.yml", {"upgrade_confirm": True, "upgrade_bakc": True}, "upgrade_bakc: is no variable of an upgrade"),
        ("upgrade_postgresql.yml", {"upgrade_confirm": True, "upgrade_back": True}, ""),
    ],
)
def test_what_an_operation_is_told_it_knows(playbook, given, says):
    """A word that nobody knows left the default in force: a new key where the former ones were to be read again."""
    found = yaml.safe_load((ROLES.parent / "playbooks" / playbook).read_text())
    tasks = found if playbook.startswith("tasks") else [task for play in found for task in play.get("tasks", [])]
    (at,) = [number for number, task in enumerate(tasks) if task["name"].startswith("Check that the variables of")]
    message = message_of(tasks[at], trusted(given))
    assert at == 0 and message.startswith(says) and bool(message) == bool(says), message
