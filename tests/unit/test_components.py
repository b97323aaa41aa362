"""The registry of components, and that what it says is so."""

import itertools
import re
import sys

import pytest
import yaml
from ansible.plugins.loader import lookup_loader
from ansible_collections.senex.trader.plugins.filter import operations, rotation, sizing
from ansible_collections.senex.trader.plugins.filter.checking import input_problems
from ansible_collections.senex.trader.plugins.filter.checking_groups import group_problems
from ansible_collections.senex.trader.plugins.plugin_utils import components
from controller import ROOT
from patterns import whole
from rendered import ROLES, loaded, value

KNOWN = components.registry()
# The first ones. What is derived of these is as hosts were deployed by before there was a registry; others may come
FIRST = {name: KNOWN[name] for name in ("common", "podman", "postgresql", "redis", "django", "celery", "nginx", "pitr", "backup", "watchdog")}
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue_of_collection"]
SEARCH = {
    "groups": {"search": "any"}, "phase": 2, "image": {"variable": "search_image", "input": "search_image"}, "memory": {"search": {"share": 512, "least": 128}},
    "ports": [{"port": 7700, "address": "search_publish_address", "clients": ["django"]}],
}  # fmt: skip


def with_search():
    given = yaml.safe_load(components.REGISTRY.read_text())["senex_components"]
    return components.parsed({**{name: given[name] for name in FIRST}, "search": SEARCH})


def test_what_is_derived_of_it_is_what_was_written_by_hand():
    assert components.component_groups(FIRST) == {
        "podman": ["postgresql", "redis", "web", "celery", "celery_beat"], "postgresql": ["postgresql"], "redis": ["redis"], "django": ["web"],
        "celery": ["celery", "celery_beat"], "nginx": ["nginx"], "pitr": ["postgresql"], "backup": ["backup"], "watchdog": ["watchdog"],
    }  # fmt: skip
    assert list(components.component_groups(FIRST)) == ["podman", "postgresql", "redis", "django", "celery", "nginx", "pitr", "backup", "watchdog"]
    assert components.hosts_pattern(components=FIRST) == "postgresql:redis:web:celery:celery_beat:nginx:backup:watchdog"
    assert components.hosts_pattern("podman", components=FIRST) == "postgresql:redis:web:celery:celery_beat"
    assert components.hosts_pattern("django", "celery") == "web:celery:celery_beat"
    planned = {name: (one.share, one.least, one.most) for name, one in components.planned_memory(components=FIRST).items()}
    assert planned == {"postgresql": (2048, 384, None), "redis": (1024, 192, None), "web": (1024, 384, None), "worker": (1536, 384, None),
                       "beat": (512, 160, 512)}  # fmt: skip
    counts = components.every_group(FIRST).items()
    assert [group for group, count in counts if count == "exactly_one"] == ["postgresql"]
    assert [group for group, count in counts if count == "at_most_one"] == ["redis", "celery_beat"]
    assert [group for group, count in counts if count == "one_or_more"] == ["web", "nginx"]


def test_variables_of_playbooks_and_roles_have_it():
    assert value("senex", "lookup('senex.trader.component_groups')", groups={"monitoring": ["one"], "logs": ["one"]}) == components.component_groups()
    everywhere = {name: ["one"] for name in components.every_group()}
    assert value("senex", "lookup('senex.trader.component_hosts')", groups=everywhere) == components.hosts_pattern()
    assert value("senex", "lookup('senex.trader.component_hosts', 'pitr', 'django')") == "postgresql:web"
    here = loaded(ROOT / "playbooks/vars/components.yml")
    given = {name: one for name, one in here.items() if name.startswith("__")}
    assert value("senex", "__components_on_host", **given, group_names=["web", "watchdog"]) == ["podman", "django", "operator_cli", "watchdog"]


def test_operations_over_all_hosts_know_every_group():
    assert list(operations.EVERYBODY) == list(components.every_group())


@pytest.mark.parametrize("name", [name for name, one in KNOWN.items() if one.where != "every_host"])
def test_site_has_a_play_for_each_component_in_their_order(name):
    mine = [play for play in whole("site") if name in play.get("tags", []) and f"'name': 'senex.trader.{name}'" in str(play.get("tasks"))]
    assert mine, f"playbooks/site.yml has no play with the tag {name}"
    assert mine[0]["hosts"] == components.hosts_pattern(name)
    # Where the role of another component brings it in any case, its own play is for its tag alone
    brings = [role for role in KNOWN if "never" in mine[0]["tags"] and f"name: senex.trader.{name}\n" in (ROLES / role / "tasks/main.yml").read_text()]
    others = [set(play["tags"]) for play in whole("site") if f"'name': 'senex.trader.{(brings or [''])[0]}'" in str(play.get("tasks"))]
    assert {f"phase{number}" for number in range(KNOWN[name].phase, 4)} <= (others[0] if others else set(mine[0]["tags"]))
    assert not brings or KNOWN[brings[0]].groups == KNOWN[name].groups and set(mine[0]["tags"]) == {name, "never"}


@pytest.mark.parametrize("name", [name for name, one in KNOWN.items() if one.where != "every_host"])
def test_a_run_brings_each_component_once(name):
    """By its own play, or by the role that imports it; nginx has a play before the others for a host that cannot hold requests yet."""
    roles = {name, *(role for role in KNOWN if f"name: senex.trader.{name}\n" in (ROLES / role / "tasks/main.yml").read_text())}
    words = [f"{{'name': 'senex.trader.{role}', 'rolespec_validate'" for role in roles]
    tasks = [task for play in whole("site") if "never" not in play.get("tags", []) for task in play.get("tasks", [])]
    assert len([task for task in tasks if "when" not in task and any(word in str(task) for word in words)]) == 1


def test_plays_are_in_the_order_of_the_registry():
    tags = [name for play in whole("site") for name in play.get("tags", [])[:1] if name in components.component_groups()]
    assert list(dict.fromkeys(tags)) == list(components.component_groups())


@pytest.mark.parametrize("name", list(KNOWN))
def test_each_has_a_role(name):
    assert (ROLES / name / "tasks/main.yml").exists() and (ROLES / name / "meta/argument_specs.yml").exists()


@pytest.mark.parametrize("name", list(KNOWN))
def test_each_name_of_a_variable_is_one(name):
    one = KNOWN[name]
    ports = [word for port in one.ports for word in (port.port, port.count, port.address, port.only, *port.elsewhere)]
    images = [one.image.variable, one.image.input, one.image.unless] if one.image else []
    data_of = [one.data.begin, *one.data.variables] if one.data else []
    known = {*loaded(ROLES / "senex/defaults/main.yml"), *loaded(ROLES / name / "defaults/main.yml")}
    assert [word for word in (*ports, *images, *one.certificates, *data_of) if isinstance(word, str) and word and word not in known] == []


@pytest.mark.parametrize("name", list(KNOWN))
def test_each_unit_is_one_of_its_role(name):
    """By the part of its name that no input decides."""
    files = [path for kind in ("tasks", "vars", "templates", "defaults") for path in (ROLES / name / kind).glob("*")]
    text = "\n".join(f"{path.name}\n{path.read_text()}" for path in files)
    assert [unit for unit in (*KNOWN[name].user_units, *KNOWN[name].system_units) if re.split(r"[*.]", unit)[0] not in text] == []


def test_what_the_watchdog_asks_is_in_it():
    checks = set()
    for path in ROLES.glob("*/files/senex_ops/*.py"):
        checks |= set(re.findall(r'\bCheck\("([^"]+)"', path.read_text()))
    assert {check for one in KNOWN.values() for check in one.checks} <= checks


def test_every_job_of_the_backups_belongs_to_a_component():
    own = loaded(ROLES / "backup/vars/main.yml")["__backup_own"]
    registered = [job.job for _, job in components.copying_jobs("backup") if job.schedule]
    assert sorted(job for one in KNOWN.values() for job in one.backups.get("backup", ())) == sorted([*own, *registered])
    modules = {path.stem for path in (ROLES / "backup/files/senex_backup").glob("*.py")}
    assert {job.job for _, job in components.copying_jobs("backup")} <= modules, "a module of that name"


def test_every_secret_that_can_be_rotated_belongs_to_a_component():
    assert sorted(secret for one in KNOWN.values() for secret in one.secrets) == sorted(CATALOGUE)
    for one in KNOWN.values():
        for secret, made in one.secrets.items():
            assert CATALOGUE[secret]["vault"] == f"vault_{secret}" and bool(CATALOGUE[secret].get("given")) is (made in ("given", "optional")), secret
            touched = {name for stage in CATALOGUE[secret]["stages"].values() for name in stage}
            assert one.name in touched and touched <= set(itertools.chain(*rotation.PLAYS.values())), secret


# -- one more component


def test_a_component_that_comes_takes_nothing_from_hosts_that_do_not_have_it():
    known = with_search()
    assert components.planned_memory([], known) == components.planned_memory([], FIRST)
    assert list(components.planned_memory(["search"], known)) == [*components.planned_memory([], FIRST), "search"]
    assert components.hosts_pattern(components=known).endswith(":watchdog:search")
    assert components.hosts_pattern("podman", components=known) == "postgresql:redis:web:celery:celery_beat:search"
    assert group_problems({"search": []}, {"search": "any"}) == []


def test_what_has_to_run_follows_from_it():
    """As role watchdog had it, by groups; what is watched by other names, or now and then, is not in it."""
    groups = {name: ["one"] for name in ("postgresql", "redis", "web", "celery", "nginx")}
    found = value("senex", "lookup('senex.trader.component_watch')", groups=groups, senex_redis_cache_instance=False)
    assert found["system_units"] == ["nginx.service"]
    assert found["units"] == ["postgres.service", "redis.service"] and set(found["jobs"]) >= {"dump", "redis", "media", "offsite-wal", "wal", "drill"}
    assert {"common", "podman", "redis", "pitr"} <= set(found["components"]) and "backup" not in found["components"]
    found = value("senex", "lookup('senex.trader.component_watch')", groups={"celery_beat": ["one"], "redis": ["one"]}, senex_redis_cache_instance=True)
    assert found["units"] == ["redis.service", "redis-cache.service", "celery-beat.service"]
    units = {"user": ["search.service", "search.timer", {"unit": "search-old.service", "watched": False}]}
    known = components.parsed({"search": SEARCH | {"units": units, "ports": []}})
    assert [one.unit for one in components.watched_units(["search"], known)] == ["search.service"] and components.watched_units(["web"], known) == []


def test_its_copies_need_no_other_list(monkeypatch):
    job = {"job": "search", "what": "a copy of the index", "schedule": "*-*-* 03:00:00 UTC", "days": 9, "max_age": 90000}
    given = yaml.safe_load(components.REGISTRY.read_text())["senex_components"]
    more = components.parsed({**given, "search": SEARCH | {"units": {"user": ["search.service"]}, "backups": {"backup": [job]}}})
    monkeypatch.setattr(components, "registry", lambda: more)
    for name in ("component_backups", "component_watch", "component_data"):
        plugin = lookup_loader.get(f"senex.trader.{name}")
        monkeypatch.setattr(sys.modules[type(plugin).__module__], "registry", lambda: more, raising=False)
    about = {"groups": {"search": ["one", "two"], "backup": ["one"], "postgresql": ["one"]}, "senex_memory": {}, "vault_backup_passphrase": ""}
    asked = {name: value("backup", name, **about) for name in ("__backup_jobs", "__backup_directories", "__backup_settings", "__backup_all")}
    assert asked["__backup_jobs"] == ["dump", "search"] and asked["__backup_all"]["search"]["after"] == "search.service"
    assert asked["__backup_directories"][-1]["path"] == "backups/search"
    assert asked["__backup_directories"][-1]["data"]["witness"] == "config/backup/place-search"
    assert asked["__backup_settings"]["retention"]["search"] == {"days": 9} and asked["__backup_settings"]["jobs"]["search"] == {"max_age": 90000}
    other = {"search": {"days": 3, "max_age": 5}}
    asked = value("backup", "__backup_settings", **about, backup_overrides=other)
    assert asked["retention"]["search"] == {"days": 3} and asked["jobs"]["search"] == {"max_age": 5}
    assert "search" in value("senex", "lookup('senex.trader.component_watch').jobs")
    places = {one["component"]: one["directories"] for one in value("senex", "query('senex.trader.component_data')", senex_home="/h")}
    assert places["backup"][-1] == "/h/backups/search"


def test_its_share_is_taken_where_it_runs(monkeypatch):
    monkeypatch.setattr(components, "registry", with_search)
    assert sizing.memory_plan(8192) == sizing.memory_plan(8192, groups=["web"])
    plan = sizing.memory_plan(8192, groups=["web", "search"])
    assert plan["search"] >= 128 and plan["web"] < sizing.memory_plan(8192)["web"] and sizing.memory_needed(["search", "web"]) == ["web", "search"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"groups": {"search": "any"}, "phase": 1, "port": 7700}, "search: there is no key port"),
        ({"phase": 1}, "search: needs groups, or where"),
        ({"where": "some", "phase": 1}, "search: needs groups, or where"),
        ({"groups": {"search": "two"}, "phase": 1}, "search: two; a group has exactly_one"),
        ({"groups": {"search": "any"}, "phase": 1, "secrets": {"search_key": "uuid"}}, "search_key: uuid; "),
        ({"groups": {"search": "any"}, "phase": 1, "memory": {"search": {"share": 1, "lest": 1}}}, "search.memory.search: there is no key lest"),
        ({"groups": {"a": "any", "b": "any"}, "phase": 1, "memory": {"search": {"share": 1, "least": 1}}}, "needs one of its groups: a, b"),
        ({"groups": {"search": "any"}, "phase": 1, "ports": [{"port": 1, "clients": ["djangoo"]}]}, "djangoo is none"),
        ({"groups": {"search": "any"}, "phase": 1, "ports": [{"port": 1}]}, "each needs clients"),
        ({"groups": {"search": "any"}, "phase": 1, "units": {"root": []}}, "search.units: there is no key root"),
        ({"groups": {"search": "any"}, "phase": 1, "units": {"user": [{"unit": "a.service", "when": "x"}]}}, "search.units.user: there is no key when"),
        ({"groups": {"search": "any"}, "phase": 1, "backups": {"backup": [{"job": "a", "days": 3}]}}, "a: needs what, schedule, days and max_age"),
    ],
)
def test_what_nobody_understands_is_refused(given, says):
    with pytest.raises(components.RegistryError, match=re.escape(says)):
        components.parsed({"search": given})


def test_a_group_has_one_rule():
    with pytest.raises(components.RegistryError, match="b: search is any here and exactly_one elsewhere"):
        components.every_group(components.parsed({"a": {"groups": {"search": "exactly_one"}, "phase": 1}, "b": {"groups": {"search": "any"}, "phase": 1}}))
    with pytest.raises(components.RegistryError, match="there is no component djago"):
        components.hosts_pattern("djago")


def test_the_list_of_all_groups_stands_nowhere_else():
    """A play for all hosts asks the registry."""
    listed = re.compile(r"postgresql[:, '\"]+redis[:, '\"]+web[:, '\"]+celery[:, '\"]+celery_beat[:, '\"]+nginx")
    places = ("playbooks/**/*.yml", "roles/**/*.yml", "plugins/**/*.py")
    found = {str(path.relative_to(ROOT)) for pattern in places for path in ROOT.glob(pattern) if listed.search(path.read_text())}
    assert found == set()


# -- what is there only where it is monitored


def test_what_reads_metrics_is_on_every_host_of_a_monitored_environment_and_of_no_other():
    alone, read = {"all": ["one", "two"], "web": ["one"], "redis": ["two"]}, {"all": ["one", "two"], "web": ["one"], "redis": ["two"], "monitoring": ["one"]}
    for groups, there in ((alone, []), ({**alone, "monitoring": []}, []), (read, ["redis", "web", "monitoring"])):
        assert [group for group in value("senex", "lookup('senex.trader.component_groups').exporters", groups=groups) if groups.get(group)] == there
        pattern = value("senex", "lookup('senex.trader.component_hosts', 'exporters')", groups=groups)
        assert pattern.split(":") == ([group for group in components.every_group() if group in groups] if there else ["all", "!all"])
        watch = value("senex", "lookup('senex.trader.component_watch')", groups=groups)
        assert ("exporters" in watch["components"]) is bool(there) is ("prometheus.service" in watch["system_units"])
    # A group that no inventory of before has is not asked for by name, of which Ansible would warn
    assert value("senex", "lookup('senex.trader.component_hosts', 'monitoring')", groups=alone) == "all:!all"
    assert value("senex", "lookup('senex.trader.component_hosts')", groups=alone) == "redis:web"


def test_what_is_read_follows_from_the_inventory():
    groups = {"web": ["one"], "postgresql": ["two"], "redis": ["one"], "nginx": ["one"], "monitoring": ["one"]}
    hostvars = {"one": {}, "two": {"senex_private_address": "192.0.2.2"}}
    found = value("senex", "query('senex.trader.component_metrics')", groups=groups, inventory_hostname="one", hostvars=hostvars)
    assert [(one["component"], one["host"], f"{one['scheme']}://{one['address']}:{one['port']}") for one in found] == [
        ("postgresql", "two", "https://192.0.2.2:9187"), ("redis", "one", "http://127.0.0.1:9121"), ("nginx", "one", "http://127.0.0.1:9113"),
        ("exporters", "two", "https://192.0.2.2:9100"), ("exporters", "one", "http://127.0.0.1:9100"), ("monitoring", "one", "http://127.0.0.1:9090"),
    ]  # fmt: skip
    hostvars["two"]["exporters_address"] = "192.0.2.3"
    (one,) = value("senex", "query('senex.trader.component_metrics')", groups=groups, inventory_hostname="one", hostvars=hostvars)[:1]
    assert one["address"] == "192.0.2.3", "where the inventory says that they listen"
    assert components.metrics_targets({"web": ["one"], "nginx": ["one"]}) == [("nginx", "one", 9113)]


# -- images, new inventories


def images(*groups, **inputs):
    given = {"group_names": list(groups), "postgresql_image": "pg:15", "redis_image": "redis:7", "senex_image_reference": "r/senex:1", "senex_image_from": ""}
    return [(one["reference"], one["input"]) for one in value("senex", "query('senex.trader.component_images')", **given | inputs)]


def test_preflight_asks_for_the_images_of_a_host():
    """As it did before there was a registry, by groups."""
    assert images("postgresql") == [("pg:15", "postgresql_image")] and images("nginx", "backup") == []
    assert images("web", "celery", "celery_beat") == [("r/senex:1", "senex_image_tag")] == images("celery_beat")
    assert images("postgresql", "redis", "web") == [("pg:15", "postgresql_image"), ("redis:7", "redis_image"), ("r/senex:1", "senex_image_tag")]
    assert images("redis", "web", senex_image_from="podman") == [("redis:7", "redis_image")]


@pytest.mark.parametrize("name", ["demo", "staging", "production"])
def test_the_inventories_have_every_group(name):
    found = yaml.safe_load((ROOT / f"inventory/{name}/hosts.yml").read_text())["all"]["children"]
    assert [group for group, count in components.every_group().items() if group not in found and count in ("exactly_one", "one_or_more")] == []
    assert set(components.every_group(FIRST)) <= set(found) <= set(components.every_group())


# -- secrets


def test_new_secrets_are_new_each_time_and_of_their_kind():
    """As playbooks/vars/secrets.yml had them, name by name."""
    one, two = (value("senex", "lookup('senex.trader.new_secrets')", groups={}) for _ in range(2))
    names = {"secret_key", "field_encryption_key", "database_password", "redis_password", "flower_password", "backup_passphrase"}
    assert set(one) == set(two) >= {f"vault_{name}" for name in names} and not set(one.values()) & set(two.values())
    assert len(set(one.values())) == len(one)
    kinds = {f"vault_{name}": "fernet" if made == "fernet" else "secret_key" if made == "django" else "secret" for each in KNOWN.values()
             for name, made in each.secrets.items()}  # fmt: skip
    assert [problem for name, new in one.items() for problem in input_problems({kinds[name]: {name: new}})] == []
    assert len(one["vault_redis_password"]) == 40 and len(one["vault_secret_key"]) == 64
    given = value("senex", "query('senex.trader.new_secrets', 'given')")
    usual = [f"vault_{name}" for name in ("registry_password", "email_host_password")]
    assert [name for name in given if name in usual] == usual


# -- data


REGISTERED = [f"backups/{job.job}" for _, job in components.copying_jobs("backup") if job.schedule]


def data(**inputs):
    found = value("senex", "query('senex.trader.component_data')", senex_home="/srv/senex", **inputs)
    return {one["component"]: (one["begin"], [path.removeprefix("/srv/senex/") for path in one["directories"]]) for one in found if one["component"] in FIRST}


def test_where_data_is():
    """As playbooks/validate.yml had it."""
    assert data() == {
        "postgresql": ("postgresql_new_cluster", ["data/postgres"]), "redis": ("redis_new_data", ["data/redis"]), "django": ("senex_new_media", ["data/media"]),
        "celery": ("senex_new_media", ["data/media"]), "pitr": ("pitr_new_archive", ["backups/barman"]),
        "backup": ("backup_new_place", ["backups", "backups/postgresql", "backups/redis", "backups/media", *REGISTERED]),
    }  # fmt: skip
    assert data(redis_data_directory="cache")["redis"][1] == ["cache"] and data(senex_database_directory="db")["postgresql"][1] == ["db"]
    assert data(postgresql_data_directory="pg", senex_database_directory="db")["postgresql"][1] == ["pg"]
