"""What others print: no more of it than fits, no longer than it may take, and nothing in it that a screen would obey."""

import ast
import concurrent.futures
import http.client
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import rendered
import yaml
from ansible_collections.senex.trader.plugins.filter.status import printable
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check, quadlet_plan
from ansible_collections.senex.trader.plugins.module_utils.host import bounded, service_user, untrusted
from ansible_collections.senex.trader.plugins.module_utils.postgresql import pre_deploy
from ansible_collections.senex.trader.plugins.module_utils.release import component_apply, release_steps, traffic_gate, traffic_probe
from ansible_collections.senex.trader.plugins.modules import postgresql_upgrade
from test_bounded import door as door  # noqa: F401  (a fixture)
from test_redis_repair import program as redis_repair
from watched import config as watched_config
from watched import host, settings

from senex_ops import delivery, jobs, remediation, service  # isort: skip

ROOT = Path(__file__).parents[2]
ENDLESS = ("sh", "-c", "exec cat /dev/zero")
RED = "\x1b[31mred\x9b\u202e\r"


@pytest.fixture
def user(monkeypatch):
    """A service user who is whoever runs the test."""
    name = service_user.pwd.getpwuid(os.getuid()).pw_name
    return service_user.ServiceUser(name, "/")


# Which words
def test_lines_stay_lines_and_nothing_else_stays():
    assert untrusted.lines(f"one\ttwo\n{RED}\n\x00") == "one     two\n?[31mred??\n?"
    assert untrusted.lines("a" * 50 + "b" * 50, 20) == "a" * 10 + "\n…\n" + "b" * 10


def test_what_goes_into_the_watchdogs_log_is_printable():
    said = host.Ended(1, "", f"no bus {RED}").said
    assert said.isprintable() and said.startswith("no bus ?[31m")
    refused = type("Refusing", (), {"units": lambda *_: (_ for _ in ()).throw(OSError(f"the user manager does not answer: {said}"))})()
    assert remediation.attempt(refused, None, None, remediation.Remediation("web-1", "user", "web-1.service"), False, 0).decision.why.isprintable()


@pytest.mark.parametrize("first", [b"HTTP/1.1 500 \x1b[2J\x9bno\r\n", b"\x1b[2J\x9bno\r\n", b"HTTP/\x1b[2J 200 OK\r\n"])
def test_a_first_line_of_http_is_shown_as_text(door, first):  # noqa: F811
    port, told = door
    told["pieces"] = [first + b"\r\n"]
    seen = traffic_probe.ask({"address": "127.0.0.1", "port": port, "domain": "x", "plain": True, "timeout": 2}, "/")
    silent = quadlet_plan._wrong_answer({"url": f"http://127.0.0.1:{port}/"})
    assert seen.isprintable() and silent.isprintable() and "[2J" in seen + silent
    try:
        assert bounded.fetch(f"http://127.0.0.1:{port}/", {}, 2).reason.isprintable()
    except http.client.HTTPException as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("field", ["failed", "requests", "saved", "slowest", "began"])
@pytest.mark.parametrize("value", ["3", [1], {}, True, None, float("nan"), 10**400])
def test_the_prober_says_numbers_or_nothing(field, value):
    assert field not in traffic_probe.latest(json.dumps({"failures": [], field: value}).encode())


def test_the_prober_says_printable_lines():
    found = traffic_probe.latest(json.dumps({"failed": 1, "failures": [RED, {"a": RED}, "x" * 999], "more": RED}).encode())
    assert found.keys() == {"failed", "failures"} and all(one.isprintable() and len(one) <= traffic_probe.LONGEST for one in found["failures"])
    assert traffic_probe.latest(b"[" * 30_000) == traffic_probe.latest(b'{"failures": "x"}') == {}


def test_one_that_says_nothing_good_does_not_break_a_release(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic_gate, "PROBE_SECONDS", 0)
    monkeypatch.setattr(traffic_gate.fileset, "own_ground", lambda paths: None)
    state = tmp_path / "prober.json"
    state.write_text(json.dumps({"failed": 2.0, "failures": 7}))
    unit = {"traffic_gate": {"results_file": str(state), "max_failed": 0}}
    assert "2.0 of 0 requests" in traffic_gate.traffic_gate_error(unit)
    traffic_gate.exclude_expected_downtime(unit)
    state.write_text(json.dumps({"failed": "x"}))
    assert traffic_gate.traffic_gate_error(unit) == ""


# Whom a host asks before the first deployment
@pytest.mark.parametrize("token", [b"[]", b"7", b"[" * 60_000])
def test_a_registry_that_gives_no_token_is_a_finding(monkeypatch, token):
    answers = iter([(401, {"www-authenticate": 'Bearer realm="https://x/"'}, b""), (200, {}, token)])
    monkeypatch.setattr(preflight, "fetch", lambda *_, **__: next(answers))
    assert preflight.image("r.acme.io/a:1", {}, "senex_image_tag")["level"] == "FAIL"


def test_findings_of_the_world_are_printable_lines():
    found = preflight.finding(f"image {RED}", "FAIL", f"says {RED}\nOK all well", RED)
    assert all(word.isprintable() for word in found.values())


def test_what_the_application_says_of_its_migrations_is_printable(user, monkeypatch):
    plan = {"pending": [{"name": f"app.0001{RED}", "unsafe": [f"{RED}\nreleased"], "atomic": True}], "due": {RED: 3}}
    monkeypatch.setattr(user, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, f"{release_steps.MARK}{json.dumps(plan)}\n", ""))
    container = {"network": "x", "unit": "[Container]\nImage=x\nExec=m shell\n", "timeout": 1}
    found = release_steps.plan(user, container, "")
    (one,) = found["pending"]
    assert one["name"].isprintable() and one["unsafe"][0].isprintable() and one["atomic"] is True and list(found["due"].values()) == [3]
    assert all(name.isprintable() for name in found["due"])


GOOD = {"path": "/opt/senex-trader/backups/postgresql/pre-deploy-2026-01-02-030405.sql.gz", "bytes": 7, "sha256": "0" * 64}
BAD = [{"path": RED}, {"path": "/x/y.sql.gz"}, {"path": f"/{RED}/{os.path.basename(GOOD['path'])}"}, {"path": 7}, {"bytes": "7"}, {"sha256": RED}]


@pytest.mark.parametrize("said", [*({**GOOD, **one} for one in BAD), [GOOD], {}])
def test_a_dump_in_a_record_is_one(user, monkeypatch, said):
    monkeypatch.setattr(pre_deploy.untrusted, "kind", lambda *_: "file")
    monkeypatch.setattr(user, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, f"{json.dumps(GOOD)}\n", ""))
    assert pre_deploy.dump(user, "a", "b", "/x", 1, "postgres")["path"] == GOOD["path"]
    monkeypatch.setattr(user, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, f"{json.dumps(said)}\n", ""))
    with pytest.raises(OSError, match="does not say what it made"):
        pre_deploy.dump(user, "a", "b", "/x", 1, "postgres")


def test_a_dump_is_in_the_databases_own_encoding(user, monkeypatch):
    """Who owns the database may have set another one for its sessions, in which a restore does not take a dump."""
    made = []
    monkeypatch.setattr(pre_deploy.untrusted, "kind", lambda path: "directory" if path == "/x" else "")
    monkeypatch.setattr(user, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, "LATIN1\n", ""))
    monkeypatch.setattr(user, "does", lambda _function, _directory, argv, *_, **__: made.extend(argv) or GOOD)
    assert pre_deploy.dump(user, "a", "b", "/x", 1, "postgres")["path"] == GOOD["path"] and "--encoding=LATIN1" in made


@pytest.mark.parametrize("said", ["2026-01-02 03:04:05.678901+00'; reboot #", RED, "", "2026-01-02 03:04:05.678901+00\nx"])
def test_a_moment_that_a_person_may_give_to_a_restore_is_one(user, monkeypatch, said):
    monkeypatch.setattr(user, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, "2026-01-02 03:04:05.678901+00\n", ""))
    assert pre_deploy.restore_point(user, "a", "b", "n", "postgres")["restore_point_at"] == "2026-01-02 03:04:05.678901+00"
    monkeypatch.setattr(user, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, said, ""))
    with pytest.raises(OSError, match="no time"):
        pre_deploy.restore_point(user, "a", "b", "n", "postgres")


@pytest.mark.parametrize("trouble", [KeyError("ActiveState"), ValueError(f"invalid literal {RED}"), OSError("gone")])
def test_a_manager_that_answers_nonsense_does_not_end_the_watchdog(monkeypatch, trouble, tmp_path):
    dog = service.Watchdog(settings(), watched_config.Secrets(), None, str(tmp_path), str(tmp_path))
    future = concurrent.futures.Future()
    future.set_exception(trouble)
    dog.cure = (service.decide.Part("web-1"), "says", future, 0.0)
    dog._take_cure(0.0)
    assert dog.cure is None and dog.held["web-1"].isprintable()


def test_slack_takes_words_of_others_for_words(monkeypatch):
    sent = []
    monkeypatch.setattr(delivery, "fetch", lambda url, timeout, body, ca: sent.append(json.loads(body)["text"]))
    hook = watched_config.Webhook(format="slack")
    delivery.send_webhook(hook, "x", "<!channel>", ["<https://evil.example|senex doctor> & more"], {})
    assert sent == ["*&lt;!channel&gt;*\n&lt;https://evil.example|senex doctor&gt; &amp; more"]


def test_what_a_checker_of_redis_repeats_of_a_file_is_printable():
    assert redis_repair.run("printf", f"0x1: got {RED}\n\tx").stdout == "0x1: got ?[31mred??\n\tx"


def test_nobody_else_is_answered_by_the_watchdog(tmp_path):
    """What listens can be kept busy by every user of the host, and nobody would hear of what fails meanwhile."""
    before = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    dog = service.Watchdog(settings(), watched_config.Secrets(), None, str(tmp_path), str(tmp_path))
    mine = {link[8:-1] for name in os.listdir("/proc/self/fd") if (link := link_of(f"/proc/self/fd/{name}")).startswith("socket:[")}
    listens = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"}
    assert not (listens & mine) - before
    for _ in range(3):
        answer = dog.control.ask(5)
        assert answer.status == 200 and answer.seconds < 5
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        dog.control.ask(5)
    time.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) <= before


def link_of(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


@pytest.mark.parametrize("trouble", ["start", "answer"])
def test_the_watchdog_notices_that_it_cannot_ask(tmp_path, monkeypatch, trouble):
    dog = service.Watchdog(settings(), watched_config.Secrets(), None, str(tmp_path), str(tmp_path))
    if trouble == "start":
        monkeypatch.setattr(jobs.threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
    else:
        monkeypatch.setattr(jobs.Own, "_answer", staticmethod(lambda theirs: time.sleep(1)))
    answer = dog.control.ask(0.2)
    assert answer.status == 0 and answer.error
    dog._take_control(answer, 0)
    assert dog.starved


# Facts
@pytest.fixture(scope="module")
def fact(tmp_path_factory):
    path = tmp_path_factory.mktemp("facts") / "senex_fact.py"
    path.write_text(rendered.value("common", "__common_fact_script"))
    made = {"__name__": "senex_fact"}
    exec(compile(path.read_text(), str(path), "exec"), made)  # noqa: S102
    return made


@pytest.mark.parametrize("date", ["Bad time value", "", "Jan 99 00:00:00 2026 GMT"])
def test_a_certificate_made_by_hand_does_not_end_the_facts(fact, date):
    assert fact["parse_certificate"](f"notAfter={date}\nsha256 Fingerprint=AA\n") is None


def test_who_listens_is_named_by_printable_letters(fact, monkeypatch):
    texts = {"/proc/net/tcp": "0: 0100007F:01BB 00000000:0000 0A 0 0 0 0 0 77 1\n"}
    monkeypatch.setitem(fact, "system_text", lambda path: texts.get(path, f"ngi{RED}" if path.endswith("/comm") else ""))
    monkeypatch.setattr(fact["glob"], "iglob", lambda pattern: ["/proc/7/fd/3"])
    monkeypatch.setattr(fact["os"], "readlink", lambda link: "socket:[77]")
    assert fact["listening"]()["443"].isprintable()


# What Ansible puts on the screen as it is: the messages of modules, and of fail and assert
def test_no_module_ends_with_the_words_of_others():
    bare = []
    for path in sorted((ROOT / "plugins/modules").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "fail_json":
                message = next(word.value for word in call.keywords if word.arg == "msg")
                words = {node.id for node in ast.walk(message) if isinstance(node, ast.Name)}
                if words & {"error", "said", "answer", "result"} and not ast.unparse(message).startswith("untrusted.lines("):
                    bare.append(f"{path.name}: {ast.unparse(message)}")
    assert bare == []


def tasks_of(found):
    if isinstance(found, list):
        for one in found:
            yield from tasks_of(one)
    elif isinstance(found, dict):
        yield found
        for name in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
            yield from tasks_of(found.get(name, []))


def test_no_task_ends_with_the_words_of_others():
    bare, seen = [], 0
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        for task in tasks_of(yaml.safe_load(path.read_text())):
            shown = task.get("ansible.builtin.fail") or task.get("ansible.builtin.assert") or task.get("senex.trader.fail_on_problems")
            if not shown:
                continue
            texts = [str(shown.get("msg", "")), str(shown.get("fail_msg", "")), *map(str, (task.get("vars") or {}).values())]
            for said in re.findall(r"\{[{%].*?[}%]\}", "\n".join(texts), re.DOTALL):
                if re.search(r"(\.|attribute=')(stderr|stdout)\b", said) and not re.search(r"\{%-? *(for|if|set keyed)", said):
                    seen += 1
                    bare += [f"{path.relative_to(ROOT)}: {said}"] if "senex.trader.printable" not in said else []
    assert seen > 10 and bare == []
    assert "senex.trader.printable" in yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_certbot_said"]
    assert printable(f"a\n{RED}") == "a\n?[31mred??"


@pytest.mark.parametrize("name", ["restore_plan", "restore_files_plan"])
def test_no_command_to_be_pasted_holds_more_than_a_name(name):
    aside = """x"'; reboot '"""
    plan = {"aside": aside, "database": "senex", "dump": "x", "name": "x"}
    (task,) = [one for one in yaml.safe_load((ROOT / f"roles/backup/tasks/{name}.yml").read_text()) if one["name"] == "Continue with the confirmed restore"]
    inputs = {"__backup_plan": plan, "senex_database_superuser": "postgres", "senex_user": "senex", "backup_restore_kind": "media"}
    shown = rendered.value("backup", "afterwards", afterwards=task["vars"]["__backup_afterwards"], **inputs)
    pasted = [line for line in shown if "reboot" in line and re.search("senex psql|podman unshare|-e restore", line)]
    assert pasted
    for line in pasted:
        command = re.search(r"senex psql.*|podman unshare[^(]*|-e restore.*", line)[0]
        script = f"reboot() {{ echo REBOOTED; }}; senex() {{ :; }}; podman() {{ :; }}; : {command}"
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        assert "REBOOTED" not in said.stdout and said.returncode == 0, line


def leaves(value):
    """Every text in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] if isinstance(value, str) else [text for item in inner for text in leaves(item)]


# What is shown when all went well: a callback may print it as it is
def test_no_plan_is_shown_with_the_words_of_others():
    bare, seen = [], 0
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        for task in tasks_of(yaml.safe_load(path.read_text())):
            shown = str((task.get("ansible.builtin.debug") or {}).get("msg", ""))
            # Lines that are chosen are in the variables of the task. What is taken apart first is shown by its fields
            chosen = leaves(task.get("vars")) if "senex.trader.chosen" in shown else []
            texts = [shown, *(text for text in chosen if not text.endswith("| from_json }}"))]
            # By the name of what is registered: the rest of an expression may be our own
            for text in texts:
                for said in re.findall(r"(?:\bstdout(?:_lines)?\b|\.(?:now|source)\b(?! if)|\.stderr\b)[^+,:]*", text):
                    seen += 1
                    bare += [f"{path.relative_to(ROOT)}: {said}"] if "senex.trader.printable" not in text.partition(said)[2] + said else []
    assert seen > 7 and bare == []


# Of a plan: every field of it, whatever is in the others
PLANNED = {name: RED for name in ("dump", "made", "rows", "tables", "source", "restored", "database", "aside", "path", "holds", "directory", "name")}
PLANNED |= {"database_bytes": 1, "now": [RED], "roles": [RED], "others": [RED]}


@pytest.mark.parametrize(
    ("role", "file", "task", "inputs"),
    [
        ("backup", "restore_plan", "Show the result", {"__backup_list": {"stdout_lines": [RED]}}),
        ("backup", "restore_queue", "Show the result", {"__backup_queue": {"rc": 0}, "backup_queue": {"now": [RED]}, "senex_redis_cache_instance": False}),
        ("pitr", "restore_prepare", "Show what was found in the copy", {"__pitr_copy": {"stdout_lines": [RED]}}),
        ("pitr", "restore_switch", "Show where the previous data is", {"__pitr_exchange": {"stdout": RED}, "senex_user": "senex"}),
        ("backup", "restore_plan", "Show the plan", {"__backup_planned": {"stdout_lines": [json.dumps(PLANNED)]}, "restore_dump": "newest"}),
        ("backup", "restore_files_plan", "Show the plan", {"__backup_planned": {"stdout_lines": [json.dumps(PLANNED)]}, "backup_restore_kind": "media"}),
        ("redis", "former", "Show what is left", {"__redis_still": [RED], "__redis_still_cached": [RED], "__redis_still_plain": [RED]}),
        ("backup", "manual", "Show what was made", {"__backup_made": {"results": [{"stdout_lines": [RED]}]}}),
    ],
)
def test_what_programs_of_the_service_user_say_is_printable(role, file, task, inputs):
    (one,) = [one for one in tasks_of(yaml.safe_load((ROOT / f"roles/{role}/tasks/{file}.yml").read_text())) if one.get("name") == task]
    shown = rendered.value(role, "shown", shown=one["ansible.builtin.debug"]["msg"], **(one.get("vars") or {}), **inputs)
    assert all(line.isprintable() for line in ([shown] if isinstance(shown, str) else shown)) and "?[31mred" in str(shown)


def test_the_plan_of_an_upgrade_is_printable(monkeypatch):
    monkeypatch.setattr(postgresql_upgrade, "ServiceUser", lambda *_: type("User", (), {"check_manager": lambda self: None})())
    monkeypatch.setattr(postgresql_upgrade, "Upgrade", lambda *_: None)
    monkeypatch.setattr(postgresql_upgrade, "wanted_of", lambda *_: None)
    monkeypatch.setattr(postgresql_upgrade.upgrade_plan, "plan", lambda *_: {"way": "back", "lines": [f"  table {RED}: 3 rows before"]})
    given = {"step": "plan", "user": "x", "home": "/x", "cluster": {}, "id": "", "back": True}
    assert postgresql_upgrade.step(given)["plan"] == {"way": "back", "lines": ["  table ?[31mred???: 3 rows before"]}
    monkeypatch.setattr(postgresql_upgrade.upgrade_plan, "plan", lambda *_: {"way": "finish"})
    assert postgresql_upgrade.step(given)["plan"] == {"way": "finish"}


def test_unit_files_of_any_number_and_name_give_a_message_that_can_be_read():
    """The service user's own are looked at with those of a part, and a refusal names them."""
    units = {f"{number}\nok: all well.container": "x\n" * 30_000 for number in range(300)}
    found = quadlet_check.problems(None, units, (5, 4, 2))
    assert 100 <= len(found) <= 130 and not any("\n" in line for line in found) and all(line.endswith(("files", "looked at", "section")) for line in found)


def test_what_a_script_in_a_container_has_changed_is_a_printable_line(user, monkeypatch):
    said = subprocess.CompletedProcess((), 0, f"changed: role {RED}\nelse\nchanged: {'x' * 500}\n", "")
    monkeypatch.setattr(user, "podman", lambda *_words, **_more: said)
    found = component_apply.run_post_start(user, {"container": "postgres", "script": "", "redact": [], "error_prefix": ""})
    assert found == ["role ?[31mred??", "x" * 200]
