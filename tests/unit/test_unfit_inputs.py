"""Inputs of roles of a wrong type or form, as playbooks/tasks/check_inventory.yml refuses them before the first change."""

import datetime
import re

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.senex.trader.plugins.lookup import unfit_inputs
from rendered import ROLES, trusted, variables
from test_input_checks import GIVEN, message_of, refusal
from watched import settings  # noqa: F401  (its module finds the watchdog's)

ROOT = ROLES.parent
MAIL = {"senex_admin_email": "ops@senex.test"}
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
        ("release_lock_wait", None, "is nothing, and must be a whole number, 0 to 4294967295; take the line out for the default"),
        ("redis_settings", "maxclients 5", "is a text, and must be a dictionary"),
        ("postgresql_tasks_max", -1, "must be a whole number, 0 to 4294967295"),
        ("nginx_proxy_read_timeout", " 60", "must be a whole number"),
        ("nginx_proxy_read_timeout", 60.0, "is a decimal, and must be a whole number"),
        ("release_small_table_mb", "6_4", "must be a whole number"),
        ("celery_flower_port", 70000, "is a number, and must be a port, 65535 at most"),
        ("watchdog_smtp_port", "100000", "is a text, and must be a port, 65535 at most"),
        ("watchdog_interval", "5s", "is a text, and must be a number, 0 to 4294967295"),
        ("redis_appendonly", "ture", "is a text, and must be true or false"),
        ("common_firewall_enabled", "", "must be true or false"),
        ("pitr_base_schedule", "daily\nExecStart=/bin/x", "holds a line break"),
        ("redis_settings", {"maxclients": "5\nmaxmemory 1gb"}, "holds a line break"),
        ("nginx_health_networks", ["10.0.0.0/8;\u2028"], "holds a line break or another control character"),
        ("podman_min_version", 5.1, "not read as it is written"),
        ("postgresql_memory", "25%", "is a text, and must be a size, such as 512M or 2G, or a number of MB"),
        ("redis_cache_maxmemory", "1,5G", "is a text, and must be a size"),
        ("pitr_drill_memory", "", "is a text, and must be a size"),
        ("celery_memory", [512], "is a list, and must be a size"),
        # A worker would take from c, e, l, r and y, and PostgreSQL be asked for an extension p
        ("celery_workers", [{"name": "celery-worker", "queues": "celery"}], "number 1.queues: is a text, and must be a list"),
        ("postgresql_databases", [{"name": "more", "extensions": "pg_trgm"}], "number 1.extensions: is a text, and must be a list"),
        ("postgresql_databases", [{"name": "more", "extensions": None}], "number 1.extensions: is nothing, and must be a list"),
        ("postgresql_databases", [{"name": "more", "extensions": [["pg_trgm"]]}], "number 1.extensions, number 1: is a list, and must be a text"),
        ("common_firewall_rules", [{"port": 80}, {"port": [443]}], "number 2.port: is a list, and must be a text"),
        ("celery_workers", [{"name": "celery-worker", "queues": ["celery"], "concurrency": "8.5"}], "number 1.concurrency: is a text, and must be a whole"),
        ("celery_workers", [{"name": "celery-worker"}], "number 1: has no queues"),
        ("celery_workers", [{"name": "celery-worker", "queues": ["celery"], "instance": 3}], "number 1.instance: there is no such key; there are name,"),
    ],
)
def test_unfit(name, value, says):
    (line,) = lines(**{name: value})
    assert line.startswith(name) and says in line, line


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("redis_maxmemory_policy", "lru", "must be one of: noeviction"),
        ("nginx_tls_mode", "selfsigned", "must be one of: letsencrypt, ownca, provided, upstream"),
        ("common_firewall_rules", [{"port": "8443", "protocol": "sctp"}], "must be one of: tcp, udp, got: sctp"),
        ("common_firewall_rules", [{"protocol": "udp"}], "has no port"),
        ("celery_workers", [{"name": "celery-worker", "queues": ["celery"], "colour": "red"}], "colour"),
    ],
)
def test_of_the_right_type_and_still_not_as_specified(name, value, says):
    (line,) = lines(**{name: value})
    assert name in line and says in line, line


def test_no_role_is_checked_against_its_specification_a_second_time():
    """A task of 0.1 s for each role, which said what this lookup says."""
    specs = {role: yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"] for role in CHECKED}
    assert {role: list(spec) for role, spec in specs.items() if list(spec) != ["main"]} == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nginx_trusted_proxies", ["10.0.0.0/8"]), ("watchdog_interval", "2.5"), ("watchdog_interval", 2), ("redis_appendonly", "No"), ("redis_appendonly", 1),
        ("nginx_acme_profile", ""), ("postgresql_memory", 2048), ("redis_memory", "1.5G"), ("celery_flower_memory", 256),
        ("common_login_banner", "Two\nlines"), ("celery_memory", None),
        ("common_sysctl_overrides", {"net.ipv4.tcp_syncookies": None}), ("postgresql_databases", [{"name": "more"}]),
        ("celery_workers", [{"name": "celery-worker", "queues": ["celery"]}, {"name": "celery-worker-b", "queues": ["mail"], "instances": "2"}]),
        ("common_firewall_rules", [{"port": 443, "from": "10.0.0.0/8"}, {"port": "8000:8010", "protocol": "udp"}]),
        # of what the role itself has yet to say
        ("celery_workers", "{{ [{'name': 'celery-worker', 'queues': celery_queues}] }}"), ("postgresql_tuning_memory_mb", "{{ ansible_facts.memtotal_mb }}"),
        ("nginx_ipv6", "{{ __nginx_has_ipv6 }}"), ("django_drain_timeout", "{{ nginx_health_burst }}"),
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
    (task,) = [task for task in yaml.safe_load(text) if task["name"].startswith("Check the types of inputs")]
    asked = re.search(r"\*\((.*)\)\) }}", task["vars"]["__check_roles"])[1]
    assert sorted(Templar(loader=DataLoader(), variables={}).template(trusted("{{ " + asked + " }}"))) == CHECKED


@pytest.mark.parametrize("name", ["senex_redis_cache_instance", "senex_database_superuser", "senex_home"])
def test_shared_inputs(name):
    values = variables("common", **{**GIVEN, "senex_redis_password": "r" * 20, name: "a\nb"})
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "__check_shapes" in task.get("vars", {}))
    templar = Templar(loader=DataLoader(), variables=values | trusted(task["vars"]))
    (line,) = templar.template(trusted("{{ __check_types }}"))
    assert line.startswith(f"{name}: is a text, and must be ")


@pytest.mark.parametrize(("size", "good"), [("2G", True), (1536, True), ("50%", False), ("1,5G", False), ([512], False)])
def test_shared_sizes(size, good):
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "__check_shapes" in task.get("vars", {}))
    shapes = {"senex_memory_overrides": task["vars"]["__check_shapes"]["senex_memory_overrides"]}
    values = trusted({"values": {"senex_memory_overrides": {"web": size}}, "shapes": shapes, "__check_plan": task["vars"]["__check_plan"], "group_names": []})
    found = Templar(loader=DataLoader(), variables=values).template(trusted("{{ values | senex.trader.shape_problems(shapes) }}"))
    assert found == [] if good else found[0].startswith("senex_memory_overrides.web: is a ") and "must be a size" in found[0]


FOREIGN = "; a name that is not this collection's goes into senex_foreign_variables"


def test_a_name_that_no_role_has():
    names = ["nginx_rate_limit_enabled", "nginx_ipv6", "senex_web_instance", "my_nginx_ipv7", "redis_max_memory", "nginx_office_network", "senex_colour"]
    assert unfit_inputs.unknown(names, CHECKED) == [
        f"nginx_office_network: no role has an input of this name{FOREIGN}",
        f"nginx_rate_limit_enabled: no role has an input of this name, and nginx_rate_limits_enabled is one{FOREIGN}",
        f"redis_max_memory: no role has an input of this name, and redis_maxmemory is one{FOREIGN}",
        f"senex_colour: no role has an input of this name{FOREIGN}",
        f"senex_web_instance: no role has an input of this name, and senex_web_instances is one{FOREIGN}",
    ]
    assert len(unfit_inputs.unknown(names, CHECKED, ["nginx_*", "senex_colour"])) == 2


def test_a_name_of_earlier_versions():
    former = unfit_inputs.former()
    gone = next(name for name, now in former.items() if not now)
    assert unfit_inputs.unknown(["pitr_owner", gone], CHECKED) == [
        f"{gone}: is no input any more; nothing took its place, so remove it",
        "pitr_owner: is no input any more; senex_database_user took its place, so remove it",
    ]
    inputs = {name for role in CHECKED for name in unfit_inputs.options(role)} | set(unfit_inputs.shared())
    assert {name for name, now in former.items() if name in inputs or now and now not in inputs} == set(), "no chain, and nothing that is an input again"
    assert list(former) == sorted(former)


def test_names_of_the_playbooks_own_are_no_mistakes():
    """What inventories and command lines are told to say, with the names that are fixed by the engine."""
    begins = "|".join((*CHECKED, "senex"))
    texts = [path.read_text() for folder in ("roles", "playbooks", "inventory", "molecule") for path in (ROOT / folder).rglob("*.yml")]
    texts += [path.read_text() for path in (ROOT / "docs").rglob("*.md")]
    names = {name for text in texts for name in re.findall(rf"\b(?:{begins})_[a-z0-9_]+(?==|:)", text)}
    planned = {"django_socket_activation"}  # a design of later versions has it
    assert len(names) > 400 and unfit_inputs.unknown(names - set(unfit_inputs.former()) - planned, CHECKED) == []


def test_what_an_inventory_may_say_is_an_input():
    """Without the names that the collection's own tasks use beside the inputs."""
    begins = "|".join((*CHECKED, "senex"))
    places = [*(ROOT / "inventory").rglob("*.yml"), *(ROOT / "molecule").rglob("molecule.yml")]
    names = {name for path in places for name in re.findall(rf"(?m)^ *((?:{begins})_[a-z0-9_]+):", path.read_text())}
    names |= {name for path in (ROOT / "docs").rglob("*.md") for name in re.findall(rf"-e \W?((?:{begins})_[a-z0-9_]+)=", path.read_text())}
    inputs = {name for role in CHECKED for name in unfit_inputs.options(role)} | set(unfit_inputs.shared())
    assert len(names) > 50 and names - inputs == {"celery_beat", "django_image_tag"}, "a group, and what deploy.yml alone is told"


def test_it_is_asked_before_there_are_facts():
    values = variables("senex", **{**GIVEN, "ansible_facts": {}, "senex_private_address": "{{ ansible_host | default(inventory_hostname) }}"})
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "__check_shapes" in task.get("vars", {}))
    templar = Templar(loader=DataLoader(), variables=values | trusted(task["vars"]))
    assert templar.template(trusted("{{ __check_types + __check_roles }}")) == []


def of_the_check(**inputs):
    """What the check of all inputs says of their types."""
    values = variables("senex", **{**GIVEN, "senex_redis_password": "r" * 20, **inputs})
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "__check_shapes" in task.get("vars", {}))
    templar = Templar(loader=DataLoader(), variables=values | trusted(task["vars"]))
    return templar.template(trusted("{{ __check_types }}")), templar.template(trusted("{{ __check_asked }}")), task["vars"]["__check_shapes"]


@pytest.mark.parametrize("name", ["restore_fetch", "upgrade_back", "rotate_retired", "restore_without_keys", "release_take_over", "senex_new_media"])
def test_yes_or_no_of_a_playbook_is_one(name):
    assert of_the_check()[0] == of_the_check(**{name: "yes"})[0] == of_the_check(**{name: True})[0] == []
    for wrong in ("ja", "ture", "", ["true"]):
        (line,) = of_the_check(**{name: wrong})[0]
        assert line.startswith(f"{name}: is ") and line.endswith("must be true or false")


def test_every_yes_or_no_is_looked_at():
    """Those that a run gives by -e, and those of the shared inputs; `bool` takes every other word for no."""
    texts = [path.read_text() for pattern in ("playbooks/**/*.yml", "roles/*/tasks/*.yml", "roles/*/vars/*.yml") for path in ROOT.glob(pattern)]
    read = {name for text in texts for name in re.findall(r"\b(\w+)(?:', default=false\)| \| default\(false\)) \| bool", text)}
    ours = {
        "backup_switch_queue",
        "checksums_goes",
        "move_goes",
        "validate_moved",
        "upgrade_goes",
        "validate_release_history",
        "validate_for_upgrade",
        "name",
        "__redis_plain_closed",
    }  # set by playbooks themselves
    screens = {"golive_json", "golive_notice", "preflight_json", "status_json"}  # of playbooks that change nothing
    _, asked, shapes = of_the_check()
    assert len(read) > 10 and read - ours - screens - set(asked) == set()
    shared = yaml.safe_load((ROOT / "roles/senex/defaults/main.yml").read_text())
    assert {name for name, value in shared.items() if isinstance(value, bool)} <= set(shapes)


def test_words_of_commands_as_they_are_written(tmp_path):
    """0010 is read as 8, which names no migration, and 0600 seconds as 384."""
    path = tmp_path / "vars.yml"
    path.write_text(
        "django_release_commands: [[migrate, trading, 0010], [check, 5]]\nsenex_conn_max_age: 0600\nsenex_celery_queues: [celery, 007]\n"
        "senex_image_commands: {web: [daphne, -p, 0110], celery-worker: [worker, 8], celery-beat: [beat, true], manage: [manage, {a: 1}]}\n"
    )
    given = DataLoader().load_from_file(str(path), trusted_as_template=True)
    found = of_the_check(**given)[0] + Templar(loader=DataLoader(), variables=given).template(trusted("{{ query('senex.trader.unfit_inputs', 'django') }}"))
    assert sorted(line.partition(": ")[::2] for line in found) == [
        ("django_release_commands, number 1, number 3", misread_words := "is an unquoted number that is not read as it is written; put it in quotes"),
        ("senex_celery_queues, number 2", misread_words),
        ("senex_conn_max_age", misread_words),
        ("senex_image_commands.celery-beat, number 2", "is true or false, and must be a text; put it in quotes"),
        ("senex_image_commands.manage, number 2", "is a dictionary, and must be a text"),
        ("senex_image_commands.web, number 3", misread_words),
    ]


def of_the_shared(**inputs):
    """What the check of the shared inputs says, without that of the roles."""
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "__check_shapes" in task.get("vars", {}))
    given = {**GIVEN, "senex_environment": "shop", "senex_secret_key": "k" * 60, "senex_ca_certificate": "c", **inputs}
    return message_of({**task, "vars": {**task["vars"], "__check_roles": []}}, variables("senex", **given)).splitlines()[1:]


NAMED = {"ansible_run_tags": ["redis", "celery"], "redis_state": "absent", "celery_state": "absent"}
THEIR_REDIS = {"groups": {"web": ["one"], "postgresql": ["one"], "redis": []}, "senex_redis_host": "mq.senex.test"}
ADDRESSES = {"cache": "redis://mq:1/0", "channels": "redis://mq:1/1", "broker": "redis://mq:1/2", "results": "redis://mq:1/3"}


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"senex_redis_addresses": {"cache": "redis://mq:1/0"}}, "senex_redis_addresses: has no channels, broker, results"),
        ({"senex_redis_addresses": "redis://mq:1/0"}, "senex_redis_addresses: is a text, and must be a dictionary"),
        ({"senex_redis_addresses": ADDRESSES}, ""),
        # A run of everything would end the database first, and go on with those that ask it
        (
            {"postgresql_state": "absent"},
            "postgresql_state: absent would take postgresql from django, celery, which this run puts in place after it; to remove",
        ),
        ({"redis_state": "absent", "ansible_run_tags": ["phase1"]}, "redis_state: absent would take redis from django, celery"),
        ({"django_state": "absent"}, "django_state: absent would take django from nginx"),
        ({**NAMED, "ansible_run_tags": ["celery"]}, "redis_state: absent would take redis from django, celery"),
        (NAMED, ""),
        ({"postgresql_state": "absent", "group_names": ["web"]}, ""),
        ({"pitr_state": "absent", "backup_state": "absent", "celery_state": "absent", "postgresql_state": "present"}, ""),
        ({"senex_django_settings_module": "shop/settings.py"}, "senex_django_settings_module: 'shop/settings.py' is no module; write it with dots"),
        ({"senex_django_settings_module": "shop.settings.py"}, "senex_django_settings_module: 'shop.settings.py' is no module"),
        ({"senex_django_settings_module": "shop.settings production"}, "senex_django_settings_module: "),
        ({"senex_django_settings_module": "_shop2.settings.pyramid"}, ""),
        ({"senex_ca_path_in_container": "certs/ca.crt"}, "senex_ca_path_in_container: 'certs/ca.crt' is no absolute path"),
        ({"senex_database_port": 0}, "senex_database_port: 0 is too small"),
        ({"senex_tmp_size": "0"}, "senex_tmp_size: 0 is too small"),  # no limit at all to the kernel
        ({"senex_tmp_size": "50%"}, "senex_tmp_size: is a text, and must be a size"),
        ({"senex_tmp_size": "1G", "nginx_client_max_body_size": "lots"}, ""),
        ({"senex_redis_cache_port": "0"}, "senex_redis_cache_port: 0 is too small"),
        (
            {"senex_application_secrets": ["stripe_key", "my-key", "vault_x", "schl\u00fcssel"]},
            "senex_application_secrets: my-key, vault_x, schl\u00fcssel is no name",
        ),
        ({**THEIR_REDIS, "senex_redis_ca_certificate": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----"}, "senex_redis_ca_certificate: is given"),
        ({**THEIR_REDIS, "senex_redis_cache_host": "cache.senex.test"}, "senex_redis_cache_host: is for the second Redis"),
        (THEIR_REDIS, ""),
        (
            {
                "senex_secret_files": True,
                "senex_application_secrets": ["pem"],
                "vault_pem": "a" * 9 + "\n",
                "senex_extra_environment": {"P": "{{ vault_pem }}"},
            },
            "",
        ),
    ],
)
def test_shared_inputs_that_are_taken_and_break_later(inputs, says):
    found = of_the_shared(**inputs)
    assert len(found) == bool(says) and (not says or found[0].startswith(says)), found


def test_numbers_of_processes_as_they_are_written(tmp_path):
    """030 is read as 24, in a list of dictionaries too."""
    path = tmp_path / "vars.yml"
    path.write_text("senex_application_processes:\n  - {name: feed, command: [x], stop_timeout: 030, count: 2}\n  - {memory: 0512}\n")
    given = DataLoader().load_from_file(str(path), trusted_as_template=True)
    found = of_the_check(**given)[0]
    assert [line.partition(":")[0] for line in found] == [f"senex_application_processes, number {key}" for key in ("1.stop_timeout", "2.memory")]


def test_what_a_run_is_told_as_it_is_written(tmp_path):
    """Of a file that -e names: 1.10 would be the release 1.1, and a moment without quotes lose what it says of its zone."""
    path = tmp_path / "vars.yml"
    path.write_text("django_image_tag: 1.10\nrelease: 2026.10\nrestore_copy: 00123456\nrestore_to: 2026-11-21 12:00:00+02:00\nrestore_dump: 17\n")
    given = DataLoader().load_from_file(str(path), trusted_as_template=True)
    found = {line.partition(":")[0]: line for line in of_the_check(**given)[0]}
    assert set(found) == {"django_image_tag", "restore_copy", "restore_to"} and all("quotes" in line for line in found.values()), found
    assert of_the_check(django_image_tag="1.10", restore_copy="00123456", restore_to="2026-11-21 12:00:00+02:00")[0] == []
    plays = yaml.safe_load((ROOT / "playbooks/rollback.yml").read_text())
    (task,) = [task for play in plays for task in play.get("pre_tasks", []) if "__rollback_problems" in task.get("vars", {})]
    assert message_of(task, trusted({})) == message_of(task, trusted({"release": "2026.10"})) == ""
    assert message_of(task, trusted({"release": given["release"]})) == "release: is a decimal, and must be a text; put it in quotes"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["shell", "--verbosity", 0], ""),
        ([], "rotate_reencrypt_command: is not set; give the words"),
        ("reencrypt_fields", "rotate_reencrypt_command: is a text, and must be a list (a text each); give the words"),
        ({"manage": "reencrypt_fields"}, "rotate_reencrypt_command: is a dictionary, and must be a list"),
        (["reencrypt", {"a": 1}], "rotate_reencrypt_command, number 2: is a dictionary, and must be a text"),
    ],
)
def test_what_encrypts_fields_anew_is_a_command(command, says):
    """A text was refused when the servers had both keys already: Ansible cannot add it to a list."""
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/rotate_plan.yml").read_text())
    (task,) = [inner for task in tasks for inner in task.get("block", []) if "rotate_reencrypt_command" in str(inner.get("ansible.builtin.assert"))]
    message = message_of(task, trusted({"rotate_reencrypt_command": command, "rotate_names": ["field_encryption_key"]}))
    assert message.startswith(says) and bool(message) == bool(says), message


@pytest.mark.parametrize("name", ["senex_redis_cache_port", "senex_database_port", "senex_web_base_port"])
def test_shared_ports(name):
    """Podman refuses it when the unit starts, after others were changed."""
    assert of_the_check(**{name: "65535"})[0] == []
    assert of_the_check(**{name: 70000})[0] == [f"{name}: is a number, and must be a port, 65535 at most"]
    email = {"host": "mx", "port": "70000", "use_tls": True, "host_user": "", "host_password": "", "from": "a@b"}
    assert of_the_check(senex_email=email)[0] == ["senex_email.port: is a text, and must be a port, 65535 at most"]


def test_lifetimes_are_compared_before_the_first_change():
    """Two roles include the one of certificates in the middle of a run."""
    task = yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text())[-1]
    assert task["ansible.builtin.include_role"] == {"name": "senex.trader.certificate", "tasks_from": "lifetime"}
    for days, good in ((299, False), ("300", False), ("301", True)):
        (check,) = yaml.safe_load((ROLES / "certificate/tasks/lifetime.yml").read_text())
        message = message_of(check, variables("certificate", certificate_days=days))
        assert message == ("" if good else f"certificate_days: {days} is not more than certificate_renew_days (300), so each run would renew it")


def test_names_of_a_certificate():
    assert refusal("postgresql", postgresql_tls_names=["postgres", "DNS:db_1.senex.test", "IP:10.0.0.5", "fd00::5", "*.senex.test"]) == ""


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"senex_image_from": ""}, ""),
        ({"senex_image_from": "docker"}, ""),
        ({"senex_image_from": __file__}, ""),
        ({"senex_image_from": "/nowhere/app.tar"}, "senex_image_from: /nowhere/app.tar is no file of this machine"),
        ({"senex_image_from": "podmn"}, "senex_image_from: podmn is no file of this machine"),
        # what brings no image
        ({"senex_image_from": "/nowhere/app.tar", "ansible_run_tags": ["redis"]}, ""),
    ],
)
def test_an_archive_of_an_image_is_there(inputs, says):
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/check_site.yml").read_text())
    (task,) = [task for task in tasks if "senex_image_from" in str(task.get("ansible.builtin.assert"))]
    message = message_of(task, variables("senex", **{**GIVEN, "ansible_run_tags": ["all"], **inputs}))
    assert message.startswith(says) and bool(message) == bool(says), message


def test_names_of_secrets_are_a_list():
    """A text was added to a list, and what Ansible says of that was hidden with the values."""
    (play,) = yaml.safe_load((ROOT / "playbooks/secrets.yml").read_text())
    names = [task["name"] for task in play["tasks"]]
    (task,) = [task for task in play["tasks"] if "__secrets_problems" in task.get("vars", {})]
    assert names.index(task["name"]) < names.index("Make the secrets")
    files = yaml.safe_load((ROOT / "playbooks/vars/secrets.yml").read_text())
    for given, says in (
        ([], ""),
        (["vault_x"], ""),
        ("vault_x", "is a text, and must be a list (a text in one line, not empty each)"),
        ([["x"]], "number 1: is a list"),
    ):
        message = message_of(task, trusted({**files, "secrets_given": given}))
        assert says in message and bool(message) == bool(says), message


@pytest.mark.parametrize(
    ("name", "value", "absent"),
    [
        ("celery_flower_password", "{{ vault_flower_pasword }}", "vault_flower_pasword"),
        ("common_time_servers", ["{{ my_clock }}"], "my_clock"),
        ("celery_workers", [{"name": "celery-worker", "queues": "{{ celery_quueues }}"}], "celery_quueues"),
        ("watchdog_smtp_password", "{{ vault_mail.password }}", "vault_mail"),
        ("backup_offsite_ca_certificate", "{{ senex_domain ~ storage_ca }}", "storage_ca"),
    ],
)
def test_what_is_made_of_a_name_that_nobody_has(name, value, absent):
    """Most are not used before a template, when parts before it have been changed."""
    (line,) = lines(**{name: value, "senex_domain": "demo.senex.test"})
    assert line.startswith(f"{name}: is made of {absent}, which is no variable; correct the name, or ")
    assert line.endswith("which makes secrets that are missing" if absent.startswith("vault_") else "give it a value")


def test_what_is_made_of_a_role_s_own_is_of_its_type_too():
    (line,) = lines(celery_workers=[{"name": "celery-worker", "queues": "{{ celery_queues }}", "concurrency": "8.5"}])
    assert line.startswith("celery_workers, number 1.concurrency: is a text, and must be a whole number")


def test_keys_of_a_dictionary_are_texts():
    """`on` is true without quotes, and what sorts keys ends on two kinds of them."""
    (line,) = lines(redis_settings={True: 1})
    assert line == "redis_settings: the key True is true or false, and must be a text; put it in quotes"
    (line,) = lines(common_sysctl_overrides={1: 1, "vm.swappiness": 5})
    assert line == "common_sysctl_overrides: the key 1 is a number, and must be a text; put it in quotes"


def test_a_path_is_a_text():
    assert lines(common_home=7) == ["common_home: is a number, and must be a path"]


def test_a_run_is_refused_where_two_hosts_have_one_address():
    task = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text()) if "group_problems" in str(task))
    groups = {name: ["one"] for name in ("postgresql", "redis", "celery", "celery_beat", "nginx")} | {"web": ["one", "two"]}
    for address, lines in (("10.0.0.5", 1), ("10.0.0.6", 0)):
        hostvars = {"one": {"senex_private_address": "10.0.0.5"}, "two": {"senex_private_address": address}}
        templar = Templar(loader=DataLoader(), variables=trusted({"groups": groups, "hostvars": hostvars, "problems": task["vars"]["__check_problems"]}))
        found = templar.template(trusted("{{ problems }}"))
        assert len(found) == lines and all("one, two have the same, 10.0.0.5" in line for line in found)
