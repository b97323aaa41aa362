"""What a changed input does to a running stack under load: what it touches restarts, what is refused changes nothing."""

import http.client
import itertools
import json
import re
import shutil
import subprocess
import threading

import pytest
from load import Load
from stack import HOME, ROOT, Https, environment, wait


@pytest.fixture
def edited(tmp_path):
    """edited(path, old, new): a copy of the collection in which one file reads differently."""

    def make(path, old, new):
        tree = tmp_path / "tree"
        leave = shutil.ignore_patterns(".git", "artifacts", "tests", "molecule", "__pycache__", ".venv")
        shutil.copytree(ROOT, tree, symlinks=True, ignore=leave)
        text = (tree / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has no line {old!r}: this test has to follow"
        (tree / path).write_text(text.replace(old, new, 1), encoding="utf-8")
        return tree

    return make


def refused(stack, before, run, *words):
    """One message with these words, and the files of the host as they were: the units that moved."""
    files, starts = before
    assert run.code != 0, f"the run was not refused: {run.plan}"
    assert len(run.errors) == 1, f"{len(run.errors)} messages: {run.errors}"
    for word in words:
        assert word in run.errors[0], run.errors[0]
    now = stack.files()
    assert not {path for path in {*files, *now} if files.get(path) != now.get(path)}
    return stack.moved(starts)


def test_a_postgresql_setting_restarts_postgresql_alone(restored, figure):
    stack, starts, data = restored, restored.starts(), restored.data()
    stack.parts = "postgresql"
    rows = json.loads(stack.get("/api/rows/")[1])["count"]
    stack.post("/api/rows/", {})
    run = stack.play(variables={"postgresql_settings": {"log_min_duration_statement": "7s"}}).expect()
    figure("PostgreSQL setting: wall", run.wall)
    figure("PostgreSQL setting: site healthy after the run", wait(stack.healthy, 60, "health after a restart of the database"))
    assert run.plan == [f"install {HOME}/config/postgresql/postgresql.conf", "restart postgres.service (what it reads has changed)"]
    # Beat ends by itself where a connection takes longer than the 3 s that the application gives it, and systemd starts it again
    assert [unit for unit in stack.moved(starts) if unit != "celery-beat"] == ["postgres"]
    assert stack.user("podman", "exec", "postgres", "psql", "-U", "senex", "-d", "senex", "-Atc", "show log_min_duration_statement").strip() == "7s"
    assert json.loads(stack.get("/api/rows/")[1])["count"] == rows + 1
    assert stack.data() == data
    stack.task_runs()


def test_an_nginx_value_is_a_reload(restored, figure):
    stack, starts, (main, workers) = restored, restored.starts(), restored.nginx()
    stack.parts = "nginx"
    name, wanted = "Strict-Transport-Security", 40_000_000
    assert str(wanted) not in stack.header(name)
    with Load(stack) as load:
        run = stack.play(tags="nginx", variables={"nginx_hsts_max_age": wanted}).expect()
        wait(lambda: str(wanted) in stack.header(name), 5, "the new header")
    figure("nginx value: failed", len(load.failures), f"of {load.requests} requests, {load.reconnects} reconnects")
    load.expect_none_failed()
    assert run.plan == ["install /etc/nginx/conf.d/senex-site.conf", "reload nginx.service"]
    assert not stack.moved(starts)
    now_main, now_workers = stack.nginx()
    assert now_main == main
    assert now_workers - workers, "the workers are the old ones"


def test_a_reload_ends_no_request(stack):
    """POSTs over connections that clients keep open, with files in between: nobody repeats those."""
    asset = re.search(r'(?:href|src)="(/static/[^"]+)"', stack.get("/")[1])[1]
    ended, answers, failures = threading.Event(), [], []

    def client():
        connection, turns = None, itertools.cycle([("GET", asset), ("POST", "/lean/"), ("GET", "/health/simple/"), ("POST", "/lean/")])
        while not ended.wait(0.05):
            connection = connection or Https(stack.address, stack.context)
            try:
                method, path = next(turns)
                connection.request(method, path, body=b"x=1" if method == "POST" else None)
                answer = connection.getresponse()
                answer.read()
                answers.append(answer.status)
                connection = None if answer.will_close else connection
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                connection = None

    clients = [threading.Thread(target=client, daemon=True) for _ in range(16)]
    for thread in clients:
        thread.start()
    for _ in range(3):
        stack.sh("systemctl reload nginx.service")
    ended.set()
    for thread in clients:
        thread.join(timeout=30)
    assert len(answers) > 300 and set(answers) <= {200, 429}  # one address asks all of it
    assert not failures, f"{len(failures)} of {len(failures) + len(answers)}: {set(failures)}"
    assert stack.ssh("ls /run/senex.trader/nginx-closing").returncode != 0, "clients are told for good"


@pytest.mark.faults
def test_an_nginx_value_that_nginx_refuses(stack):
    before, workers = (stack.files(), stack.starts()), stack.nginx()
    run = stack.play(tags="nginx", variables={"nginx_proxy_connect_timeout": "2x"})
    assert not refused(stack, before, run, "nginx", "proxy_connect_timeout")
    assert stack.nginx() == workers
    assert stack.healthy()


def test_a_part_comes_and_goes_and_leaves_no_trace(restored, figure):
    stack, starts, files, data = restored, restored.starts(), restored.files(), restored.data()
    run = stack.play(tags="celery", variables={"celery_flower_enabled": True}).expect()
    figure("Flower enabled: wall", run.wall)
    assert stack.user("systemctl", "--user", "is-active", "celery-flower.service").strip() == "active"
    unit, settings = f"{HOME}/.config/containers/systemd/celery-flower.container", f"{HOME}/config/celery/flower.env"
    assert set(stack.files()) - set(files) == {unit, settings}
    assert not stack.moved(starts)
    stack.play(tags="celery").expect()
    assert stack.user("systemctl", "--user", "show", "-p", "LoadState", "--value", "celery-flower.service").strip() == "not-found"
    assert "celery-flower" not in stack.user("podman", "ps", "--all", "--format", "{{.Names}}")
    assert stack.files() == files
    assert stack.data() == data
    assert not stack.moved(starts)


def test_a_broken_unit_template_is_refused_before_anything_stops(stack, edited):
    tree = edited("roles/django/templates/web.container.j2", "[Container]\n", "[Container]\nMemory=1G\nNonsense=yes\n")
    before = stack.files(), stack.starts()
    with Load(stack) as load:
        run = stack.play(root=tree, tags="django")
    assert not refused(stack, before, run, "web-1.container", "Nonsense")
    load.expect_none_failed()


@pytest.mark.faults
def test_another_tag_is_not_released_by_the_way(stack):
    before = stack.files(), stack.starts()
    run = stack.play(variables={"senex_image_tag": "2"})
    assert not refused(stack, before, run, "playbooks/deploy.yml -i", "-e django_image_tag=2", "Nothing was changed")
    assert not stack.play(tags="redis", variables={"senex_image_tag": "2"}).errors, "what does not replace it goes on"


WITHOUT_RELEASE = {"senex_image_without_release": True}


@pytest.mark.faults
def test_an_image_tag_that_does_not_exist(stack):
    before = stack.files(), stack.starts()
    with Load(stack) as load:
        run = stack.play(tags="django", variables={"senex_image_tag": "no-such-tag", **WITHOUT_RELEASE})
    assert not refused(stack, before, run, "senex/demo:no-such-tag", "cannot be pulled")
    load.expect_none_failed()


@pytest.mark.faults
def test_an_image_whose_health_never_comes_up(restored, figure):
    stack, before = restored, (restored.files(), restored.starts())
    with Load(stack) as load:
        run = stack.play(tags="django", variables={"senex_image_tag": "broken", "django_start_timeout": 20, **WITHOUT_RELEASE})
        wait(lambda: "web-1" in stack.instance(1), 10, "instance 1 with the old image")
    figure("image that never gets healthy: wall", run.wall)
    figure("image that never gets healthy: failed", len(load.failures), f"of {load.requests} requests")
    words = ("web-1.service did not come up", "Last lines of web-1.service", "The files from before are back")
    assert refused(stack, before, run, *words) == ["web-1"]
    assert "health" in run.output
    assert json.loads(stack.instance(2))["version"] == "1"
    assert {version for *_, version in load.answers} == {"1"}, "requests reached an instance that was not healthy"
    load.expect_none_failed()
    assert not stack.inactive()


def test_the_playbook_that_people_run_says_what_is_wrong(stack):
    """The tests above read JSON; a person reads this."""
    command = stack.command(variables={"senex_image_tag": "no-such-tag", **WITHOUT_RELEASE}, tags="django")
    plain = {**environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
    done = subprocess.run(command, cwd=ROOT, env=plain, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "no-such-tag cannot be pulled, nothing was changed or stopped" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
