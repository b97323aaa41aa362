"""Volumes and processes that an application has besides (senex_application_volumes, senex_application_processes)."""

import pytest
import yaml
from ansible_collections.senex.trader.plugins.action import application
from ansible_collections.senex.trader.plugins.filter import application_parts as parts
from ansible_collections.senex.trader.plugins.filter import sizing
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.host import owned
from ansible_collections.senex.trader.plugins.module_utils.release import application_units
from controller import ROOT
from rendered import component, value, variables
from test_input_checks import GIVEN, refusal, said
from watched import SETTINGS, config

from senex_ops import command  # isort: skip

HOST = {**GIVEN, "senex_secret_key": "k", "senex_field_encryption_key": "f", "senex_ca_certificate": "c", "inventory_hostname": "one"}
ALL = {name: ["one"] for name in ("postgresql", "redis", "web", "celery", "celery_beat", "nginx")}
BARE = {name: ["one"] for name in ("postgresql", "web", "nginx")}
FEED = {"name": "feed", "command": ["manage", "feed"]}
INDEX = {"name": "index", "mount": "/app/index"}
TAKEN = {"/app/media": "media"}


# -- what is refused


@pytest.mark.parametrize(
    ("volume", "says"),
    [
        ({}, ["has no name", "has no mount"]),
        ({**INDEX, "path": "/x"}, ["there is no key path; there are name, mount"]),
        ({**INDEX, "name": "../x"}, ["name: '../x' is no name"]),
        ({**INDEX, "name": "Index"}, ["name: 'Index' is no name"]),
        ({**INDEX, "mount": "app/index"}, ["mount: 'app/index' is no absolute path"]),
        ({**INDEX, "mount": "/app/../etc"}, ["mount: '/app/../etc' is no absolute path"]),
        ({**INDEX, "mount": "/app/index:rw"}, ["mount: '/app/index:rw' is no absolute path"]),
        ({**INDEX, "mount": "/"}, ["mount: '/' is no absolute path"]),
        ({**INDEX, "mount": "/app/index/"}, ["mount: '/app/index/' is no absolute path"]),
        ({**INDEX, "mount": "/tmp/x"}, ["mount: /tmp/x and /tmp would cover each other"]),
        ({**INDEX, "mount": "/var/tmp"}, ["mount: /var/tmp and /var/tmp would cover each other"]),
        ({**INDEX, "mount": "/run/secrets"}, ["/run/secrets and /run would cover each other"]),
        ({**INDEX, "mount": "/app"}, ["/app and /app/media would cover each other; django_media_directory is there"]),
        ({**INDEX, "mount": "/app/media/x"}, ["/app/media/x and /app/media would cover each other"]),
        ({**INDEX, "mount": "/var/lib/celery-beat"}, ["would cover each other"]),
        ({**INDEX, "parts": ["web", "feeed"]}, ["parts: feeed is none of web, worker, beat, feed"]),
        ({**INDEX, "parts": []}, ["parts: it is none of"]),
        ({**INDEX, "parts": "web"}, ["parts: it is none of"]),
        ({**INDEX, "read_only": "ja"}, ["read_only: must be true or false"]),
        ({**INDEX, "backup": 2}, ["backup: must be true or false"]),
    ],
)
def test_volumes_that_cannot_be(volume, says):
    found = parts.volume_problems([volume], [FEED], {"django_media_directory": "/app/media"})
    assert len(found) == len(says) and all(text in line for text, line in zip(says, found, strict=True)), found
    assert all(line.startswith("senex_application_volumes, number 1") for line in found)


def test_volumes_that_can_be():
    good = [INDEX, {"name": "models", "mount": "/srv/models-v2/.cache", "parts": ["web", "feed"], "read_only": "yes", "backup": False}]
    assert (
        parts.volume_problems(good, [FEED], {"x": "/app/media"}) == [] == parts.volume_problems([{**INDEX, "mount": "/app/mediathek"}], [], {"x": "/app/media"})
    )


def test_a_volume_is_copied_on_every_host_that_has_it_or_not_at_all():
    """Copies are made beside those of media: on web hosts that are in the group backup."""
    kept = {**INDEX, "backup": True}
    one = {**ALL, "backup": ["one"]}
    assert parts.volume_problems([kept], [FEED], {}, one) == []
    (line,) = parts.volume_problems([kept], [], {}, {**one, "celery": ["two"]})
    assert line.startswith("senex_application_volumes, number 1.backup: two would have the volume and make no copy of it")
    assert parts.volume_problems([{**kept, "parts": ["web"]}], [], {}, {**one, "celery": ["two"]}) == []
    assert len(parts.volume_problems([{**kept, "parts": ["feed"]}], [FEED], {}, {**one, "celery": ["two"]})) == 1
    assert len(parts.volume_problems([{**kept, "parts": ["web"]}], [], {}, ALL)) == 1, "nothing is copied without the group backup"
    assert parts.volume_problems([{**kept, "backup": False}], [], {}, ALL) == []
    assert parts.volume_problems([kept], [{**FEED, "group": ["celery"]}], {}, one) == [], "what is wrong there is said of the process"


def test_volumes_do_not_cover_each_other():
    (line,) = parts.volume_problems([INDEX, {"name": "b", "mount": "/app/index/b"}])
    assert "number 2.mount: /app/index/b and /app/index would cover each other; the volume index is there" in line
    assert parts.volume_problems([INDEX, {**INDEX, "mount": "/b"}]) == ["senex_application_volumes: the name index is there twice; give each its own"]


@pytest.mark.parametrize(
    ("process", "says"),
    [
        ({}, ["has no name", "has no command"]),
        ({**FEED, "replicas": 2}, ["there is no key replicas"]),
        ({**FEED, "name": "feed_1"}, ["name: 'feed_1' is no name"]),
        ({**FEED, "name": "web"}, ["name: web begins with web, as other units do"]),
        ({**FEED, "name": "celery-worker"}, ["begins with celery"]),
        ({**FEED, "command": "manage feed"}, ["command: must be a list of words"]),
        ({**FEED, "command": ["manage", 5]}, ["command: must be a list of words"]),
        ({**FEED, "health_command": ["sh", "-c", "test -e /tmp/x"]}, ["health_command: a word has spaces"]),
        ({**FEED, "health_command": ["python3 x"]}, ["health_command: a word has spaces"]),
        ({**FEED, "count": 0}, ["count: must be a number of processes from 1 to 32"]),
        ({**FEED, "count": True}, ["count: must be a number"]),
        ({**FEED, "stop_timeout": "30s"}, ["stop_timeout: must be a number of seconds"]),
        ({**FEED, "stop_timeout": "030"}, ["stop_timeout: must be a number of seconds"]),
        ({**FEED, "count": "08"}, ["count: must be a number of processes"]),
        ({**FEED, "memory": "999999999999T"}, ["memory: must be a size"]),
        ({**FEED, "memory": "\u0662\u0665\u0666M"}, ["memory: must be a size"]),
        ({**FEED, "health_command": ["None"]}, ["health_command: Podman takes none for no check at all"]),
        ({**FEED, "memory": "lots"}, ["memory: must be a size such as 256M"]),
        ({**FEED, "memory": 16}, ["memory: must be a size"]),
        ({**FEED, "group": "nginx"}, ["group: must be one of web, celery, celery_beat"]),
        ({**FEED, "group": "redis"}, ["group: must be one of"]),
    ],
)
def test_processes_that_cannot_be(process, says):
    found = parts.process_problems([process], ALL)
    assert len(found) == len(says) and all(text in line for text, line in zip(says, found, strict=True)), found


def test_processes_that_can_be():
    good = {"name": "market-feed", "command": ["manage", "feed", "--every", "5 s"], "count": "3", "health_command": ["python3", "/app/ok.py"],
            "stop_timeout": 60, "memory": "256M", "group": "web"}  # fmt: skip
    assert parts.process_problems([good, FEED, {"name": "webhooks", "command": ["x"]}], ALL) == []
    assert parts.process_problems([FEED, FEED], ALL) == ["senex_application_processes: the name feed is there twice; give each its own"]
    (line,) = parts.process_problems([{**FEED, "group": "celery"}], BARE)
    assert "group: must be one of web, whose hosts" in line


@pytest.mark.parametrize("role", ["django", "celery"])
def test_roles_refuse_them_before_the_first_change(role):
    """With the mounts that the role has itself."""
    asked = {**HOST, "groups": {**ALL, "backup": ["one"]}}
    assert refusal(role, **{**asked, "senex_application_volumes": [INDEX], "senex_application_processes": [FEED]}) == ""
    own = {f"{role}_media_directory": "/app/uploads"}
    assert f"/app/uploads and /app/uploads would cover each other; {role}_media_directory is there" in refusal(
        role, **{**asked, **own, "senex_application_volumes": [{**INDEX, "mount": "/app/uploads"}]}
    )
    assert "senex_application_processes, number 1.count" in refusal(role, **{**asked, "senex_application_processes": [{**FEED, "count": 0}]})


# -- what is made of them


def made(role, groups=None, **inputs):
    """{name: text} of the units of a role, and its other arguments."""
    groups = ALL if groups is None else groups
    given = {**HOST, "groups": groups, "group_names": [name for name, hosts in groups.items() if "one" in hosts], **inputs}
    files, arguments = component(role, **given)
    return {dest: text for dest, (text, _) in files.items() if dest.endswith(".container")}, arguments


def mounts(text, place="data/volumes"):
    return [one.partition(f"{place}/")[2] for one in unit_text.values(text, "Container", "Volume") if f"/{place}/" in one]


def test_each_part_mounts_what_it_is_named_for():
    volumes = [INDEX, {"name": "models", "mount": "/srv/models", "parts": ["worker", "feed"], "read_only": True}]
    inputs = {"senex_application_volumes": volumes, "senex_application_processes": [FEED], "celery_flower_enabled": True, "celery_flower_password": "x" * 12}
    web, arguments = made("django", **inputs)
    both, index = ["index:/app/index", "models:/srv/models:ro"], ["index:/app/index"]
    assert mounts(web["web-1.container"]) == index == mounts(web["web-2.container"])
    assert mounts(web["release.container"]) == both, "what migrates may need each"
    work, of_celery = made("celery", **inputs)
    assert {name: mounts(text) for name, text in work.items()} == {
        "celery-worker.container": both, "celery-worker-next.container": both, "celery-beat.container": index, "celery-flower.container": index,
        "feed-1.container": both,
    }  # fmt: skip
    for found in (arguments, of_celery):
        mine = [one for one in found["directories"] if one["path"].startswith("data/volumes/")]
        assert [(one["path"], one["mode"], one["container_user"], one["data"]["begin"]) for one in mine] == [
            ("data/volumes/index", "0700", 1000, "senex_new_media"), ("data/volumes/models", "0700", 1000, "senex_new_media"),
        ]  # fmt: skip
    # Where copies are made: as common.py of role backup asks whether the disk is there
    assert [one["data"].get("witness") for one in arguments["directories"] if "volumes" in one["path"]] == [
        "config/django/volume-index", "config/django/volume-models",
    ]  # fmt: skip


def test_without_them_nothing_is_other_than_before():
    for role in ("django", "celery"):
        units, arguments = made(role)
        assert not any("data/volumes" in text for text in units.values())
        assert not [one for one in arguments["directories"] if "volumes" in one["path"]]
    assert value("senex", "senex_memory", **{**HOST, "senex_memory_mb": 8192}) == sizing.memory_plan(8192)


def test_no_removal_takes_volumes_along():
    assert "data/volumes" in owned.KEPT and f"{parts.PLACE}" == "data/volumes"


def test_a_process_is_a_unit_like_those_of_workers():
    inputs = {"senex_application_processes": [{**FEED, "count": 2, "stop_timeout": 90, "memory": "300M", "health_command": ["python3", "/app/ok.py"]}]}
    units, arguments = made("celery", **inputs)
    worker, text = units["celery-worker.container"], units["feed-2.container"]

    def get(of, section, key):
        return unit_text.values(of, section, key)

    same = {"Container": ("Image", "EnvironmentFile", "User", "ReadOnly", "Network", "DropCapability", "SeccompProfile"), "Service": ("Restart",),
            "Unit": ("After",), "Install": ("WantedBy",)}  # fmt: skip
    for section, key in ((section, key) for section, keys in same.items() for key in keys):
        assert get(text, section, key) == get(worker, section, key), key
    assert get(text, "Container", "Exec") == ['"manage" "feed"'] and get(text, "Container", "Environment") == ["INSTANCE=feed-2"]
    assert get(text, "Container", "HealthCmd") == ["python3 /app/ok.py"] and get(text, "Container", "HealthOnFailure") == ["kill"]
    assert get(text, "Service", "MemoryMax") == ["300M"] and get(text, "Service", "TimeoutStopSec") == ["100"] and "--stop-timeout=90" in text
    assert get(text, "Service", "ExecStartPost") == ["/usr/bin/podman wait --condition=healthy feed-2"]
    names = [one["name"] for one in arguments["units"]]
    assert names[-2:] == ["feed-1.service", "feed-2.service"]
    assert not [name for name in made("django", **inputs)[0] if name.startswith("feed")], "one role puts it in place"


def test_one_without_a_check_has_to_run_for_some_seconds():
    (text,) = [text for name, text in made("celery", senex_application_processes=[FEED])[0].items() if name == "feed-1.container"]
    assert unit_text.values(text, "Container", "HealthCmd") == [] and unit_text.values(text, "Service", "ExecStartPost") == ["/usr/bin/sleep 5"]


def test_processes_run_where_workers_do_or_beside_the_web_instances():
    inputs = {"senex_application_processes": [FEED, {**FEED, "name": "bot", "group": "web"}]}
    assert "feed-1.container" in made("celery", **inputs)[0] and "bot-1.container" in made("django", **inputs)[0]
    units, arguments = made("django", BARE, **inputs)
    assert {"feed-1.container", "bot-1.container"} <= set(units)
    names = [one["name"] for one in arguments["units"]]
    assert names.index("web.target") < names.index("feed-1.service")
    elsewhere = {**ALL, "celery": ["two"]}
    assert not [name for role in ("django", "celery") for name in made(role, elsewhere, **inputs)[0] if name.startswith("feed")]


def test_the_plan_has_memory_for_those_that_say_none():
    two = {**FEED, "count": 2}
    told = {**HOST, "senex_memory_mb": 8192, "groups": ALL, "group_names": list(ALL)}
    plan = value("senex", "senex_memory", **told, senex_application_processes=[two, {"name": "bot", "command": ["x"], "memory": 256}])
    assert plan == sizing.memory_plan(8192, processes=2) and plan["processes"] >= 2 * 128 and sum(plan.values()) - plan["redis_maxmemory"] == 8192
    units, _ = made("celery", senex_memory_mb=8192, senex_application_processes=[two])
    assert unit_text.values(units["feed-1.container"], "Service", "MemoryMax") == [f"{plan['processes'] // 2}M"]
    large = [{**FEED, "memory": "7G"}]
    text = said(ROOT / "playbooks/tasks/check_host.yml", variables("common", **{**told, "senex_application_processes": large}))
    assert "senex_application_processes" in text and "add up to" in text


def test_the_watchdog_knows_them():
    told = {**HOST, "groups": BARE, "group_names": list(BARE), "senex_application_processes": [{**FEED, "count": 2}]}
    found = value("watchdog", "__watchdog_configuration", **told)
    assert found["user_units"][-2:] == ["feed-1.service", "feed-2.service"]


def test_its_operators_name_all_of_a_process_as_they_name_all_web_instances():
    units = [*SETTINGS["user_units"], "feed-1.service", "feed-2.service", "bot-1.service"]
    told = config.build(config.Config, {**SETTINGS, "user_units": units})
    assert command.units_of(told, "feed") == [("user", "feed-1.service"), ("user", "feed-2.service")]
    assert [len(command.units_of(told, name)) for name in ("feed-2", "bot", "web", "web-1", "feed-1.service")] == [1, 1, 2, 1, 1]
    names = command.parts(told)
    assert {"feed", "feed-1", "bot", "web", "web-2"} < set(names) and len(names) == len(set(names))
    with pytest.raises(command.CliError, match="no part 'feeds' on this host; there are postgres, .*feed"):
        command.units_of(told, "feeds")


# -- an operation that the application rests for


class Units:
    """The service user's systemd, of which only lists are asked."""

    def __init__(self, *units):
        self.units, self.asked, self.stopped = units, [], []

    def systemctl(self, verb, *words, **_):
        if verb == "stop":
            self.stopped += words
        else:
            self.asked.append(words)
        return type("Done", (), {"returncode": 0, "stderr": "", "stdout": "".join(f"{unit} loaded\n" for unit in self.units)})()


def test_they_rest_with_the_application(tmp_path):
    user = Units("web-1.service", "feed-1.service", "feed-next-1.service", "feed-shell.service")
    place = str(tmp_path / "rests")
    assert application_units.stop_units(user, [], place=place, processes=["feed"]) == ["web-1.service", "feed-1.service"] == user.stopped
    assert "feed-*.service" in user.asked[0] and application_units.remembered(place) == ["web-1.service", "feed-1.service"]
    assert application_units.stop_units(Units("feed-1.service"), [], place=str(tmp_path / "none")) == []
    serves, rest = Units("web-1.service", "celery-worker.service", "feed-1.service"), str(tmp_path / "rest")
    assert application_units.stop_units(serves, [], place=rest, processes=["feed"], web=False) == ["celery-worker.service", "feed-1.service"] == serves.stopped


def test_the_action_names_them(monkeypatch):
    handed = {}
    monkeypatch.setattr(application.LockedAction, "run", lambda self, tmp=None, task_vars=None: handed.update(self._task.args) or {})
    plugin = application.ActionModule.__new__(application.ActionModule)
    plugin._task = type("Task", (), {"args": {"state": "stopped"}})()
    plugin._templar = type("Templar", (), {"template": staticmethod(lambda given: given)})()
    plugin.run(None, {"senex_application_processes": [FEED]})
    assert handed == {"state": "stopped", "processes": ["feed"]}


def test_whatever_is_given_is_read_without_a_crash():
    """The type is refused elsewhere, and the plan of memory is made before."""
    for wrong in (None, "feed", {"name": "x"}, ["feed"], [None], 5):
        assert parts.process_instances(wrong, ALL, list(ALL)) == [] == parts.volume_mounts(wrong, "/home") == parts.volume_problems(wrong)
    assert yaml.safe_load((ROOT / "plugins/filter/volume_problems.yml").read_text())["DOCUMENTATION"]["name"] == "volume_problems"
