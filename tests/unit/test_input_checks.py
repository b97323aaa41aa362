"""What is refused before the first change: the assertions as they stand in check.yml of the roles and in playbooks/tasks, against wrong inputs."""

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from provided import pair
from rendered import ROLES, trusted, variables

FAILS = "senex.trader.fail_on_problems"
DOMAIN = "demo.senex.test"
GIVEN = {
    "senex_domain": DOMAIN, "senex_registry": "registry.senex.test/senex", "senex_image": "demo", "senex_image_tag": "1", "nginx_tls_mode": "ownca",
    "senex_celery_queues": ["celery", "accounts", "trading", "services"],
    "senex_redis_password": "r" * 20, "senex_database_password": "d" * 20,
    "groups": {name: ["one"] for name in ("postgresql", "redis", "web", "celery", "celery_beat", "nginx", "backup", "watchdog")},
}  # fmt: skip


def said(path, values):
    """The message of the one task that refuses in a file of tasks; nothing where nothing is wrong."""
    (task,) = [task for task in yaml.safe_load(path.read_text(encoding="utf-8")) if "ansible.builtin.assert" in task or FAILS in task]
    return message_of(task, values)


def message_of(task, values):
    templar = Templar(loader=DataLoader(), variables=values | trusted(task.get("vars", {})))
    if not templar.template(trusted("{{ (" + task.get("when", "true") + ") | bool }}")):
        return ""
    if FAILS in task:
        found = templar.template(trusted(task[FAILS]["problems"]))
        heading = [templar.template(trusted(task[FAILS]["heading"]))] if "heading" in task[FAILS] else []
        return "\n".join(heading + found) if found else ""
    check = task["ansible.builtin.assert"]
    holds = templar.template(trusted("{{ (" + check["that"] + ") | bool }}"))
    return "" if holds else templar.template(trusted(check["fail_msg"]))


def refusal(role, **inputs):
    return said(ROLES / role / "tasks/check.yml", variables(role, **{**GIVEN, **inputs}))


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/tasks/check.yml")), ids=lambda path: path.parts[-3])
def test_inputs_are_checked_before_anything_else(path):
    first, *_ = yaml.safe_load(path.with_name("main.yml").read_text(encoding="utf-8"))
    name = path.parts[-3]
    # Of several tasks that a run skips, one asks
    kind = "include" if len(yaml.safe_load(path.read_text(encoding="utf-8"))) > 1 and name != "common" else "import"
    assert first[f"ansible.builtin.{kind}_tasks"] == "check.yml" and first.get("when", "") in ("", f"'{name}' not in senex_checked | default([])")


@pytest.mark.parametrize("role", ["postgresql", "redis", "django", "celery", "nginx", "backup"])
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
        ("postgresql", {"postgresql_settings": {"work_mem": "64MB"}}, ["postgresql_memory: 2048 MB", "1GB and 1152 MB of shared memory", "work_mem"]),
        ("postgresql", {"postgresql_shared_memory": "256M"}, ["postgresql_shared_memory: 256 MB", "384 MB"]),
        ("postgresql", {"postgresql_parallel_queries": "0"}, ["postgresql_parallel_queries: 0", "1 or more"]),
        (
            "celery", {"senex_celery_visibility_timeout": "14400", "celery_prefetch_multiplier": "4"},
            ["senex_celery_visibility_timeout: 14400", "4 (celery_prefetch_multiplier)"],
        ),
        ("celery", {"groups": {"celery_beat": ["one", "elsewhere"]}}, ["celery_beat: one, elsewhere", "exactly one host may run Beat"]),
        ("redis", {"redis_health_interval": 2}, ["redis_health_interval: 2 s", "use 3 or more"]),
        ("django", {"django_health_interval": "2"}, ["django_health_interval: 2 s", "use 3 or more"]),
        ("celery", {"celery_health_interval": 1}, ["celery_health_interval: 1 s", "use 3 or more"]),
        ("postgresql", {"postgresql_health_interval": 0}, ["postgresql_health_interval: 0 s", "use 3 or more"]),
    ],
    ids=["no web instance", "a rate that is none", "eviction of queued tasks", "a queue that nobody takes from", "memory of parallel queries",
         "no room for one parallel query", "no parallel query", "tasks that wait in a worker", "two schedulers",
         *(f"checks of {role} that systemd refuses" for role in ("redis", "django", "celery", "postgresql"))],
)  # fmt: skip
def test_refused(role, inputs, words):
    message = refusal(role, **inputs)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message, "one mistake, one line"


MANY = {
    "redis": (
        {"redis_maxmemory_policy": "allkeys-lru", "redis_maxmemory": "1G", "redis_password": "short", "redis_save": "often", "redis_databases": 3,
         "redis_settings": {"maxmemory-policy": "allkeys-lru"}, "senex_redis_user": "operator", "redis_application_commands": ["INFO", "get #x"],
         "senex_redis_cache_instance": True, "redis_cache_memory": "320M", "redis_cache_maxmemory": "300M"},
        [
            "redis_maxmemory_policy: allkeys-lru evicts queued Celery tasks",
            "redis_maxmemory: 1024 MB leaves no room for the fork",
            "redis_password: shorter than 12 characters",
            "redis_save: often is not pairs",
            "redis_databases: 3 is too few",
            "redis_settings, redis_cache_settings: maxmemory-policy is not for it to set",
            'senex_redis_user: "operator" is no name for the application',
            "redis_cache_maxmemory: 300 MB leaves no room within redis_cache_memory (320 MB)",
            "redis_application_commands: each is a command in small letters",
        ],
    ),
    "django": (
        {"senex_image_tag": "latest", "senex_web_instances": 40, "senex_web_base_port": 80, "django_bind_address": "::", "django_memory": "300M",
         "django_release_commands": [[]], "senex_secret_key_fallbacks": ["one,two"]},
        [
            'senex_image_tag: "latest" pins no release',
            "senex_web_instances: 40 is not a number of web instances",
            "senex_web_base_port: 80 leaves no room",
            'django_bind_address: "::" would show the application on every address',
            'django_bind_address (senex_private_address): "::" is no IPv4 address',
            "django_memory: 300M for 40 instances leaves less than 128 MB each",
            "django_release_commands: each command is a list of words",
            "senex_secret_key_fallbacks: one of the keys holds a comma",
        ],
    ),
    "celery": (
        {"celery_workers": [{"name": "trading", "queues": ["trading"], "concurrency": 0}, {"name": "trading", "queues": ["celery"]}],
         "celery_memory": "200M", "celery_stop_timeout": 5, "celery_task_time_limit": 7200, "celery_task_soft_time_limit": 8000,
         "senex_celery_visibility_timeout": 7200,
         "celery_beat_max_silence": 10, "celery_flower_enabled": True, "celery_flower_password": "short"},
        [
            "celery_workers: no worker takes from accounts, services",
            "celery_workers: two workers have the same name",
            "celery_workers: a name must be celery-worker",
            "celery_workers: concurrency is the number of tasks at a time",
            "celery_memory: 200M for 2 workers leaves less than 192 MB each",
            "celery_stop_timeout: 5 s gives a running task no time",
            "senex_celery_visibility_timeout: 7200 s is not above",
            "celery_task_soft_time_limit: 8000 s is not between",
            "celery_beat_max_silence: 10 s is too short",
            "celery_flower_password: Flower is never without a password",
        ],
    ),
    "backup": (
        {"backup_daily_days": 0, "backup_heartbeat_urls": {"dumps": "x"}, "backup_offsite_repository": "/somewhere"},
        [
            "backup_daily_days: must be 1 or more",
            "backup_heartbeat_urls: dumps is no job",
            "backup_heartbeat_urls: each must be an address",
            "backup_offsite_repository: /somewhere must be such as s3:https://",
            "backup_passphrase: needed with backup_offsite_repository",
            "backup_offsite_access_key, backup_offsite_secret_key: needed with backup_offsite_repository",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("role", MANY)
def test_all_that_is_wrong_comes_at_once(role):
    inputs, sentences = MANY[role]
    lines = refusal(role, **inputs).splitlines()
    assert [one for one in sentences if not any(line.startswith(one) for line in lines)] == [], lines
    assert len(lines) == len(sentences), "nothing else is wrong"


def test_too_little_memory():
    message = said(ROLES.parent / "playbooks/tasks/check_host.yml", variables("common", **GIVEN, senex_memory_mb=1000))
    assert all(word in message for word in ("senex_memory_mb", "1000", "2 GB"))


@pytest.mark.parametrize(
    ("memory", "says"),
    [
        ({"web": "900M"}, "senex_memory: has no postgresql, redis, worker, beat, redis_maxmemory; it takes the place of the whole plan"),
        ({"web": [900]}, "senex_memory.web: is a list, and must be a size"),
        ("4G", "senex_memory: is a text, and must be a dictionary"),
        ({"website": 900}, "senex_memory.website: there is no such key"),
        ({"postgresql": 900, "redis": 300, "redis_maxmemory": 150, "web": "1G", "worker": 900, "beat": 200}, ""),
    ],
)
def test_a_plan_of_memory_is_whole(memory, says):
    message = said(ROLES.parent / "playbooks/tasks/check_host.yml", variables("common", **GIVEN, senex_memory=memory))
    assert says in message and bool(message) == bool(says), message


@pytest.mark.parametrize(("tag", "good"), [("2026.11.21", True), ("sha256:" + "0" * 64, True), ("latest", False), ("", False), ("a b", False)])
def test_a_release_is_pinned(tag, good):
    _whole, _look, play, *_ = yaml.safe_load((ROLES.parent / "playbooks/deploy.yml").read_text(encoding="utf-8"))
    (task,) = [task for task in play["pre_tasks"] if task["name"] == "Check that a tag is given"]
    message = message_of(task, trusted({"django_image_tag": tag}))
    assert (message == "") is good and (good or ("django_image_tag" in message and "pinned" in message))


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


def test_a_home_that_holds_no_images():
    other = {"key": "cores", "level": "FAIL", "says": "x", "do": ""}
    tried = {"findings": [other, {"key": "storage", "level": "FAIL", "says": "/opt is on nfs4", "do": "do this"}]}
    assert refusal("podman", __podman_tried=tried) == "senex_home: /opt is on nfs4; right is do this."
    assert refusal("podman", __podman_tried={"skipped": True}) == refusal("podman") == ""


@pytest.mark.parametrize("inputs", [{"senex_database_user": "postgres"}, {"senex_database_superuser": "senex"}, {"postgresql_archive_role": "postgres"}])
def test_the_application_is_not_the_superuser(inputs):
    assert "three roles, so write three names" in refusal("postgresql", **inputs)


READ = {"group_names": ["monitoring", "nginx", "postgresql", "redis", "web"], "groups": {**GIVEN["groups"], "monitoring": ["one"]}}
KEEPS = {"group_names": ["logs", "nginx", "redis", "web"]}
POOLED = {"group_names": ["nginx", "pgbouncer", "postgresql", "redis", "web"]}


def of_the_host(**inputs):
    """What the parts of a host cannot have together."""
    given = {**GIVEN, "senex_private_address": "10.0.0.5", **inputs}
    return said(ROLES.parent / "playbooks/tasks/check_host.yml", variables("senex", **given)).split("\n")[1:]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, []),
        ({"celery_flower_enabled": True, "celery_flower_port": "8002"}, ["celery_flower_port: port 8002 is that of senex_web_base_port on this host already"]),
        ({"celery_flower_enabled": False, "celery_flower_port": 8002}, []),
        ({"nginx_status_port": 5555, "celery_flower_enabled": True}, ["celery_flower_port: port 5555 is that of nginx_status_port"]),
        ({"nginx_status_port": 8001}, ["senex_web_base_port: port 8001 is that of nginx_status_port"]),
        ({"redis_publish_address": "10.0.0.5", "senex_redis_cache_instance": True, "senex_redis_cache_tls_port": 6390},
         ["senex_redis_cache_tls_port: port 6390 is that of senex_redis_tls_port"]),
        ({"redis_publish_address": "10.0.0.5", "senex_redis_cache_instance": True, "senex_redis_cache_tls_port": 443},
         ["senex_redis_cache_tls_port: port 443 is that of nginx"]),
        # The second web instance, beside the pooler
        ({**POOLED, "senex_web_address": "10.0.0.5", "senex_web_base_port": 6431}, ["senex_pooler_port: port 6432 is that of senex_web_base_port on"]),
        ({**POOLED, "senex_pooler_port": 443}, ["senex_pooler_port: port 443 is that of nginx on this host already"]),
        ({**POOLED, "senex_web_base_port": 6431}, []),
        ({"senex_web_address": "10.0.0.5", "senex_web_base_port": 6431}, []),
        # The same number at another address
        ({"redis_publish_address": "10.0.0.5", "senex_web_base_port": 6378}, []),
        ({"senex_database_port": 5433}, ["senex_database_port: 5433 is the port of no server here; the container on this host listens at 5432"]),
        ({"senex_redis_port": "6380"}, ["senex_redis_port: 6380 is the port of no server here"]),
        ({"senex_database_port": 6432, "senex_database_host": "pooler.senex.test"}, []),
        # What a monitored host has: only where there is monitoring, at the address where it is read
        ({"senex_web_base_port": 9187}, []),
        ({**READ, "senex_web_base_port": 9187}, ["senex_web_base_port: port 9187 is that of the exporter of postgresql on this host already"]),
        ({**READ, "senex_web_base_port": 9186}, ["senex_web_base_port: port 9187 is that of the exporter of postgresql on this host already"]),
        ({**READ, "exporters_address": "10.0.0.5", "senex_web_base_port": 9187}, []),
        ({**READ, "senex_web_base_port": 9090}, ["senex_web_base_port: port 9090 is that of the exporter of monitoring"]),
        ({**KEEPS, "senex_logs_port": 6390, "redis_publish_address": "10.0.0.5"}, ["senex_redis_tls_port: port 6390 is that of senex_logs_port on this host"]),
        ({**KEEPS, "senex_logs_port": 6390, "logs_address": "10.0.0.9", "redis_publish_address": "10.0.0.5"}, []),
    ],
)  # fmt: skip
def test_ports_of_one_host(inputs, says):
    found = of_the_host(**inputs)
    assert [line[: len(said)] for line, said in zip(found, says, strict=True)] == says, found


def test_what_is_published_has_an_address_of_the_host():
    facts = {"memtotal_mb": 7940, "all_ipv4_addresses": ["10.0.0.5", "172.31.0.9"]}
    assert of_the_host(ansible_facts=facts, redis_publish_address="10.0.0.5", postgresql_publish_address="172.31.0.9") == []
    (line,) = of_the_host(ansible_facts=facts, redis_publish_address="198.51.100.7")
    assert line.startswith("senex_private_address, postgresql_publish_address, redis_publish_address: 198.51.100.7 is no address of this host")
    floating = {"common_sysctl_overrides": {"net.ipv4.ip_nonlocal_bind": 1}}
    assert of_the_host(ansible_facts=facts, redis_publish_address="198.51.100.7", **floating) == []
