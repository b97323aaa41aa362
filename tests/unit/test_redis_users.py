"""Who may log in to Redis and what they may call, as the role renders it; and whether somebody still logs in as before there were names."""

import os
import re
import subprocess

import pytest
from rendered import ROLES, Renderer, action, component, loaded, value, variables
from test_rendered_units import BASE
from watched import senex_ops

assert senex_ops  # on the path by that
from senex_ops import checks_redis  # noqa: E402

OFF = ["off", "~*", "&*", "+@all"]  # with rights, for Redis loads its log as this user
CACHE = {"senex_redis_cache_instance": True}
KEPT = {"senex_host_snapshot": {"installed": ["redis"], "unchanged": {}}}


def users(**inputs):
    """{name: rules} of the file that the server includes."""
    text = component("redis", **BASE, **inputs)[1]["secrets"][0]["value"]
    return {line.split()[1]: line.split()[2:] for line in text.splitlines()}


def test_the_application_has_a_name_and_no_administrative_command():
    found = users()
    assert set(found) == {"senex", "default"} and found["default"] == OFF
    rules = [word for word in found["senex"] if not word.startswith("#")]
    assert rules == ["on", "~*", "&*", "+@all", "-@admin", "-@dangerous", "+flushdb", "+keys"], "what is given comes after what is taken"
    assert BASE["senex_redis_password"] not in str(found) and sum(word.startswith("#") for word in found["senex"]) == 1
    assert users(redis_application_commands=["info", "slowlog|get"])["senex"][-3:-1] == ["+info", "+slowlog|get"]


def test_both_passwords_are_taken_while_it_is_rotated():
    rotation = {"senex_rotation": {"redis_password": {"stage": "accept", "other": "another-password"}}}
    assert sum(word.startswith("#") for word in users(**rotation)["senex"]) == 2
    assert value("senex", "senex_redis_url", **BASE, **rotation) == "redis://senex:another-password@redis:6379"


@pytest.mark.parametrize(
    ("inputs", "default"),
    [
        ({}, "off"),
        (KEPT, "as the application"),
        ({"senex_host_snapshot": {"installed": ["redis", "redis_named"], "unchanged": {}}}, "off"),
        ({"senex_host_snapshot": {"installed": ["postgresql"], "unchanged": {}}}, "off"),
        ({"__redis_host_snapshot": {"installed": ["redis"]}}, "as the application"),
        ({"senex_redis_user": "default"}, "as the application"),
    ],
    ids=["nobody looked", "from before there were names", "named", "a new host", "its own look", "an application that sends no name"],
)
def test_who_sends_no_name(inputs, default):
    found = users(**inputs)
    if default == "off":
        assert found["default"] == OFF
    else:
        assert "-@admin" in found["default"] and found["default"] == found.get("senex", found["default"])


def test_nobody_but_the_server_has_a_password_in_its_container():
    for name, files in (("redis", component("redis", **BASE)[0]), ("redis-cache", component("redis", "redis-cache", **BASE, **CACHE)[0])):
        text = files[f"{name}.container"][0]
        assert [line for line in text.splitlines() if line.startswith("Secret=")] == ["Secret=redis_auth,type=mount,uid=999,gid=999,mode=0400"]
        assert "include /tmp/operator.conf" in files[f"config/{name}/redis.conf"][0]


def test_each_start_makes_the_operator_a_password(tmp_path):
    script = (
        component("redis", **BASE, redis_appendonly=False)[0]["config/redis/start.sh"][0].replace("/tmp/", f"{tmp_path}/").replace("cd /data", f"cd {tmp_path}")
    )
    seen = set()
    for _ in range(2):
        subprocess.run(["sh", "-c", script.replace("exec redis-server", "exec true")], check=True)
        word = (tmp_path / "operator").read_text()
        (tmp_path / "check").write_text(word)
        digest = subprocess.run(["sha256sum", tmp_path / "check"], capture_output=True, text=True, check=True).stdout.split()[0]
        operator, watchdog = (tmp_path / "operator.conf").read_text().splitlines()
        assert operator == f"user operator on ~* &* +@all #{digest}"
        assert watchdog.startswith("user _watchdog on ~* +info ") and watchdog.endswith(f" #{digest}")
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("operator", "operator.conf")} == {0o600}
        seen.add(word)
    assert len(seen) == 2 and all(len(word) == 64 for word in seen)


def test_the_cache_has_an_instance_of_its_own_where_it_is_asked_for():
    files, arguments = component("redis", "redis-cache", **BASE, **CACHE)
    text, conf = files["redis-cache.container"][0], files["config/redis-cache/redis.conf"][0]
    assert "ContainerName=redis-cache" in text and ":/data" not in text and [unit["name"] for unit in arguments["units"]] == ["redis-cache.service"]
    for line in ("maxmemory-policy allkeys-lru", 'save ""', "appendonly no", "maxmemory 384mb", "dir /tmp"):
        assert f"\n{line}\n" in conf, line
    queue = component("redis", **BASE, **CACHE)[0]["config/redis/redis.conf"][0]
    for line in ("maxmemory-policy noeviction", "appendonly yes", "maxmemory 256mb"):
        assert f"\n{line}\n" in queue, line
    assert "maxmemory-policy volatile-lru\n" in component("redis", **BASE)[0]["config/redis/redis.conf"][0], "who does not ask keeps what they have"


@pytest.mark.parametrize(
    ("inputs", "cache", "broker"),
    [
        ({}, "redis:6379", "redis:6379"),
        (CACHE, "redis-cache:6379", "redis:6379"),
        ({**CACHE, "senex_redis_host": "10.0.0.9"}, "10.0.0.9:6380", "10.0.0.9:6379"),
    ],
)
def test_the_application_is_told_of_the_cache(inputs, cache, broker):
    told = value("senex", "senex_application_environment", **BASE, **inputs)
    login = f"redis://senex:{BASE['senex_redis_password']}@"
    assert told["REDIS_URL"] == f"{login}{cache}/0"
    others = [told[name] for name in ("CHANNELS_REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")]
    assert others == [f"{login}{broker}/{number}" for number in (1, 2, 3)]


ENVIRONMENTS = {
    "web-1": '["A=1","REDIS_URL=redis://senex:pw@redis:6379/0","X=redis"]',
    "web-2": '["A=1","CELERY_BROKER_URL=redis://:pw%40x@10.0.0.5:6379/2"]',
    "own": '["BROKER=rediss://:pw@elsewhere/0"]',
    "cached": '["REDIS_URL=redis://senex:pw@redis-cache:6379/0"]',
    "cached-elsewhere": '["REDIS_URL=redis://senex:pw@10.0.0.5:6380/0"]',
}
CLIENTS = """\
id=3 addr=10.89.0.4:1 laddr=10.89.0.2:6379 fd=8 name= events=r cmd=brpop user=senex redir=-1 resp=2
id=4 addr=10.89.0.5:2 laddr=10.89.0.2:6379 fd=9 name= events=r cmd=get user=default redir=-1 resp=2
id=5 addr=10.89.0.6:3 laddr=10.89.0.2:6379 fd=7 name= events=r cmd=NULL user=default redir=-1 resp=2
"""


@pytest.fixture
def ask(tmp_path):
    """The script on a host with a service user, with programs in the place of the host's."""

    def write(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(host="two", containers=ENVIRONMENTS, inputs=None, **programs):
        shown = "\n".join(f"{name} {text}" for name, text in containers.items())
        write("id", "echo 987")
        write("systemctl", "exit 0")
        write("systemd-run", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
        (tmp_path / "shown").write_text(shown + "\n")
        (tmp_path / "clients").write_text(CLIENTS)
        write("podman", f"case $1 in ps) echo {' '.join(containers)};; inspect) cat {tmp_path}/shown;; exec) cat {tmp_path}/clients;; esac")
        for name, text in programs.items():
            write(name, text)
        values = variables("redis", **BASE, __redis_host=host, **{**KEPT, **(inputs or {})})
        script = action(Renderer, {}, values, ROLES / "redis")._render("before.sh.j2", values)
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, env={"PATH": path}, check=False)
        return done.returncode, done.stdout.splitlines()

    return run


def test_containers_that_send_no_name_are_found_and_nothing_of_what_they_send(ask):
    code, lines = ask()
    assert (code, lines) == (0, ["unnamed web-2", "unnamed own", "cache cached", "cache cached-elsewhere"])


def test_the_host_of_redis_tells_who_is_logged_in_so(ask):
    code, lines = ask(host="one", containers={"web-1": ENVIRONMENTS["web-1"]})
    assert (code, lines) == (0, ["unnamed a connection from 10.89.0.5:2"]), "who has only knocked is nobody"


def test_containers_that_reach_another_host_without_tls_are_found(ask):
    old, new = "CELERY_BROKER_URL=redis://senex:x@10.0.0.7:6379/2", "CELERY_BROKER_URL=rediss://senex:x@10.0.0.7:6390/2?ssl_cert_reqs=required"
    containers = {"web-1": f'["A=1","{old}"]', "web-2": f'["A=1","{new}"]', "db": '["POSTGRES_DB=senex"]'}
    published = {"redis_publish_address": "10.0.0.7"}
    assert ask(containers=containers, inputs=published) == (0, ["plain web-1"])
    assert ask(host="one", containers={"web-1": containers["web-1"]}, inputs={**published, "inventory_hostname": "one"})[1] == [
        "unnamed a connection from 10.89.0.5:2"
    ], "on its own host nothing leaves the host"
    moved = {"senex_host_snapshot": {"installed": ["redis", "redis_named", "redis_encrypted"], "unchanged": {}}}
    assert ask(containers=containers, inputs={**published, **moved}) == (0, [])


@pytest.mark.parametrize(
    ("programs", "code"),
    [
        ({"podman": "exit 125"}, 1),
        ({"podman": "[ $1 = ps ] && echo one"}, 1),
        ({"systemd-run": "exit 1"}, 1),
        ({"id": "exit 1"}, 0),
        ({"systemctl": "exit 3"}, 0),
    ],  # fmt: skip
)
def test_a_host_that_cannot_tell_has_not_said_no(ask, programs, code):
    """Where there is no service user, or nothing of it runs, there is no container either."""
    assert ask(**programs) == (code, [])


def test_no_include_asks_for_what_it_sets_itself():
    """The variables of an include count in its own condition: one that sets what it asks for never runs, or always does."""
    wrong = []

    def look(path, tasks):
        for task in tasks if isinstance(tasks, list) else []:
            for key in ("block", "rescue", "always", "tasks", "pre_tasks"):
                look(path, task.get(key))
            if any(name.startswith("ansible.builtin.include") for name in task):
                asked = str(task.get("when", ""))
                wrong.extend(f"{path.name}: {name}" for name in task.get("vars", {}) if re.search(rf"\b{name}\b", asked))

    for path in [*ROLES.glob("*/tasks/*.yml"), *(ROLES.parent / "playbooks").rglob("*.yml")]:
        look(path, loaded(path))
    assert wrong == []
    assert "__redis_unnamed" not in " ".join(str(value) for value in loaded(ROLES / "redis/tasks/former.yml")[0]["vars"].values()), "nor by way of another"


SERVER = """#!/bin/sh
echo "server $*" >> "$LOG"
case "$*" in *--appendonly*) ;; *) exit 0 ;; esac
[ "$DAMAGED" = no ] || exit 1
touch "$BASE/loaded"
while [ -e "$BASE/loaded" ]; do /bin/sleep 0.05; done
"""
CLIENT = """#!/bin/sh
shift 2
[ "$1" = ping ] && { [ -e "$BASE/loaded" ] && echo PONG; exit 0; }
echo "asked $*" >> "$LOG"
[ "$1" = save ] && { [ "$FULL" = no ] && cp "$BASE/data/appendonlydir/tasks" "$BASE/data/dump.rdb" && echo OK || echo 'ERR disk full'; exit 0; }
rm -f "$BASE/loaded"
"""


@pytest.fixture
def switched(tmp_path):
    """What start.sh does with a log that is off now: three tasks in it, and a snapshot of before them."""
    (tmp_path / "data/appendonlydir").mkdir(parents=True)
    (tmp_path / "data/appendonlydir/tasks").write_text("three")
    (tmp_path / "data/dump.rdb").write_text("of long ago")
    text = component("redis", **BASE, redis_appendonly=False)[0]["config/redis/start.sh"][0]
    text = text.replace("/tmp/", f"{tmp_path}/").replace("cd /data", f"cd {tmp_path}/data")
    text = text.replace("/usr/local/etc/redis/bin/redis-cli", f"{tmp_path}/redis-cli")
    for name, script in (("redis-server", SERVER), ("redis-cli", CLIENT)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)

    def start(**failing):
        about = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASE": str(tmp_path), "LOG": str(tmp_path / "log"), "DAMAGED": "no", "FULL": "no", **failing}
        done = subprocess.run(["sh", "-c", text], env=about, capture_output=True, text=True, timeout=30, check=False)
        return done, (tmp_path / "log").read_text().splitlines()

    return tmp_path / "data", start


def test_a_log_that_is_switched_off_is_in_the_snapshot_first(switched):
    data, start = switched
    (data / "appendonlydir.off").mkdir()  # an earlier version's, which may hold what nothing else does
    done, log = start()
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in log] == ["/usr/local/etc/redis/redis.conf", "save", "shutdown", "/usr/local/etc/redis/redis.conf"]
    assert "--appendonly yes" in log[0] and "--port 0" in log[0], "nobody else reaches it"
    assert (data / "dump.rdb").read_text() == "three" and not (data / "appendonlydir").exists()
    (kept,) = data.glob("appendonlydir.off-*")
    assert (kept / "tasks").read_text() == "three" and (data / "appendonlydir.off").is_dir()
    assert start()[1][4:] == ["server /usr/local/etc/redis/redis.conf"], "once"


@pytest.mark.parametrize("failing", [{"DAMAGED": "yes"}, {"FULL": "yes"}])
def test_a_log_that_cannot_be_saved_is_not_switched_off(switched, failing):
    data, start = switched
    done, _log = start(**failing)
    assert done.returncode == 1 and "not switched off" in done.stderr
    assert (data / "dump.rdb").read_text() == "of long ago" and (data / "appendonlydir/tasks").exists()


@pytest.mark.parametrize(
    ("inputs", "refused"),
    [
        ({"redis_appendonly": False, "redis_save": ""}, True), ({"redis_appendonly": "no", "redis_save": ""}, True), ({"redis_save": ""}, False),
        ({"redis_appendonly": False}, False), ({"redis_appendonly": False, "redis_save": "", "redis_holds_broker": False}, False),
    ],
)  # fmt: skip
def test_a_queue_that_no_file_holds_is_refused(inputs, refused):
    task = loaded(ROLES / "redis/tasks/check.yml")[0]
    found = value("redis", "__redis_problems", **{**BASE, **task["vars"], **inputs})
    assert any("neither a log nor snapshots" in line for line in found) == refused


def test_the_watchdog_may_call_what_it_calls_and_nothing_else():
    rules = re.search(r"user _watchdog ([^#]*)#", component("redis", **BASE)[0]["config/redis/start.sh"][0])[1].split()
    called = {word.lower() for word in re.findall(r"redis\.p?call\('(\w+)'", checks_redis.HELD)}
    called |= {"info", "select", "llen", "eval", "command"}  # the last by redis-cli of itself
    assert {word for word in rules if word not in ("on", "~*")} == {f"+{word}" for word in called}
