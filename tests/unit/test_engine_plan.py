"""What a part needs: which unit restarts when what it reads has changed, and which does not."""

import http.server
import os
import subprocess
import threading
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_plan
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import QUADLET_DIRECTORY, UNIT_DIRECTORY, Component, make_plan
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest, WantedFile
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

WEB = """\
[Container]
Image=registry/app:1
ContainerName=web
EnvironmentFile=%h/config/env
Volume=%h/config/web:/etc/web:ro
Secret=web_password,type=mount
"""
DATABASE = "[Container]\nImage=registry/db:1\nVolume=%h/config/db.conf:/etc/db.conf\n"


class Host(ServiceUser):
    """A service user whose commands are answered from attributes."""

    def __init__(self, home):
        self.name, self.uid, self.gid, self.home = "me", os.geteuid(), os.getegid(), str(home)
        self.runtime = "/run/user/0"
        self.images = {"registry/app:1": "id-app", "registry/db:1": "id-db"}
        self.secrets, self.states, self.ill, self.calls = {}, {}, set(), []

    def run(self, argv, check=True, stdin=None, extra=None, timeout=900, exact=False):
        self.calls.append(argv)
        return subprocess.CompletedProcess(argv, 0, "", "")

    def image_ids(self, references):
        return {name: self.images[name] for name in references if name in self.images}

    def secret_values(self, names):
        return {name: self.secrets[name] for name in names if name in self.secrets}

    def unit_states(self, units):
        return {unit: {"ActiveState": "active", **self.states.get(unit, {})} for unit in units}

    def unhealthy(self):
        return self.ill


class World:
    """A part that is in place on a host, to change one thing of it."""

    def __init__(self, home, state):
        self.host, self.state = Host(home), str(state)
        self.texts = {"db.container": DATABASE, "web.container": WEB}
        self.configuration = {"config/env": b"A=1", "config/web/a.conf": b"a", "config/db.conf": b"d", "config/nobody.conf": b"n"}
        self.secrets = {"web_password": "pw-of-the-web"}
        self.units = [{"name": "db.service"}, {"name": "web.service"}]
        self.directories, self.no_restart = [], frozenset()
        self.manifest = Manifest("component", self.state)

    def path(self, name):
        directory = QUADLET_DIRECTORY if name.endswith(".container") else UNIT_DIRECTORY if "." in name and "/" not in name else ""
        return os.path.join(self.host.home, directory, name)

    def component(self):
        files = {**{name: text.encode() for name, text in self.texts.items()}, **self.configuration}
        owned = (self.host.uid, self.host.gid)
        return Component("component", [WantedFile(self.path(name), content, 0o644, *owned) for name, content in files.items()],
                    self.directories, dict(self.secrets), list(self.units), no_restart=self.no_restart)  # fmt: skip

    def plan(self):
        return make_plan(self.component(), self.manifest, self.host)

    def apply(self):
        plan = self.plan()
        fileset.install(plan.changes)
        self.host.secrets.update(self.secrets)
        component = self.component()
        self.manifest.files = [item.path for item in component.files]
        self.manifest.secrets, self.manifest.units = list(self.secrets), [unit["name"] for unit in self.units]
        self.manifest.started, self.manifest.repairs = dict(plan.fingerprints), plan.repairs
        self.manifest.save()
        return self

    def acts(self):
        return [(item["verb"], item["name"]) for item in self.plan().act]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(quadlet_plan, "SETTLE_SECONDS", 0)


@pytest.fixture
def world(tmp_path):
    (tmp_path / "home").mkdir()
    return World(tmp_path / "home", tmp_path / "state").apply()


def test_a_part_in_place_needs_nothing(world):
    assert world.plan().empty and world.plan().sentences() == []


def test_on_a_bare_host_everything_is_in_the_plan(tmp_path):
    world = World(tmp_path, tmp_path / "state")
    world.host.images, world.directories = {}, [{"path": str(tmp_path / "data")}]
    world.host.states = {"db.service": {"ActiveState": "inactive"}, "web.service": {"ActiveState": "inactive"}}
    plan = world.plan()
    assert plan.pull == ["registry/app:1", "registry/db:1"] and plan.reload and len(plan.changes) == 6
    assert world.acts() == [("start", "db.service"), ("start", "web.service")] and plan.secrets == {"web_password": "pw-of-the-web"}
    assert plan.sentences()[0].startswith("create directory") and "pw-of-the-web" not in str(plan.sentences())


def change_text(world):
    world.texts["web.container"] += "Exec=other\n"


def change_environment(world):
    world.configuration["config/env"] = b"A=2"


def change_file_in_a_mounted_directory(world):
    world.configuration["config/web/a.conf"] = b"b"


def add_file_to_a_mounted_directory(world):
    world.configuration["config/web/b.conf"] = b"b"


def change_secret(world):
    world.secrets["web_password"] = "another-password"


def move_image(world):
    world.host.images["registry/app:1"] = "id-app-2"


def change_files_of_both(world):
    world.configuration.update({"config/env": b"A=2", "config/db.conf": b"e"})


def change_what_nobody_reads(world):
    world.configuration["config/nobody.conf"] = b"m"


def change_database(world):
    world.configuration["config/db.conf"] = b"e"


@pytest.mark.parametrize(
    ("change", "restarted"),
    [
        (change_text, ["web.service"]),
        (change_environment, ["web.service"]),
        (change_file_in_a_mounted_directory, ["web.service"]),
        (add_file_to_a_mounted_directory, ["web.service"]),
        (change_secret, ["web.service"]),
        (move_image, ["web.service"]),
        (change_database, ["db.service"]),
        (change_files_of_both, ["db.service", "web.service"]),
        (change_what_nobody_reads, []),
    ],
)
def test_only_readers_of_what_changed_restart_in_order(world, change, restarted):
    change(world)
    assert world.acts() == [("restart", name) for name in restarted]
    world.apply()
    assert world.plan().empty


def test_a_file_that_another_part_has_changed_restarts_its_reader(world):
    """The .env that web and workers share: whoever writes it, the other notices."""
    other = Manifest("other", world.state)
    other.files = [os.path.join(world.host.home, "config/web/shared.conf")]
    other.save()
    world.apply()
    with open(other.files[0], "w") as handle:
        handle.write("new")
    assert world.acts() == [("restart", "web.service")] and world.plan().changes == []


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ({"ActiveState": "inactive"}, "start"),
        ({"ActiveState": "failed"}, "start"),
        ({"ActiveState": "activating", "SubState": "start-post"}, "start"),  # joins the start that goes on, and waits
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "restart"),
        ({"ActiveState": "deactivating"}, "restart"),
        ({"ActiveState": "active"}, None),
    ],
)
def test_what_does_not_run_is_brought_up(world, state, verb):
    world.host.states["web.service"] = state
    assert world.acts() == ([(verb, "web.service")] if verb else [])


@pytest.mark.parametrize(
    ("with_what", "verb"),
    [("as is wanted", "start"), ("something else", "restart")],
)
def test_a_start_that_a_killed_run_began_goes_on_only_with_what_is_wanted(world, with_what, verb):
    wanted = world.manifest.started["web.service"]
    world.manifest.started["web.service"] = quadlet_plan.START_UNCONFIRMED + (wanted if with_what == "as is wanted" else "else")
    world.host.states["web.service"] = {"ActiveState": "activating", "SubState": "start-post"}
    assert world.acts() == [(verb, "web.service")]


def test_a_unit_that_runs_with_nobody_knows_what_is_restarted(world):
    world.manifest.started["web.service"] = quadlet_plan.START_UNCONFIRMED + world.manifest.started["web.service"]
    assert world.acts() == [("restart", "web.service")]


def test_a_unit_that_comes_up_by_itself_meanwhile_is_no_difference(world, monkeypatch):
    monkeypatch.setattr(quadlet_plan, "SETTLE_SECONDS", 10)
    world.host.states["web.service"] = {"ActiveState": "activating", "SubState": "auto-restart"}
    monkeypatch.setattr(quadlet_plan.time, "sleep", lambda _seconds: world.host.states.clear())
    assert world.acts() == []


def test_an_unhealthy_container_is_restarted(world):
    world.host.ill = {"web"}
    assert world.acts() == [("restart", "web.service")]


def test_a_unit_that_does_not_answer_is_restarted(world, monkeypatch):
    monkeypatch.setattr(quadlet_plan, "answers", lambda unit, patience=0: "http://x answers 503" if unit["name"] == "web.service" else "")
    (item,) = world.plan().act
    assert item["name"] == "web.service" and "503" in item["why"]


def test_a_url_that_nobody_serves_is_no_answer():
    assert "answers nothing" in quadlet_plan.answers({"readiness_probe": {"url": "http://127.0.0.1:1/"}})
    assert quadlet_plan.answers({"name": "x"}) == ""


@pytest.fixture
def site():
    """A web server that answers with the number in the path, or sends its visitor on."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(int(self.path.strip("/")))
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        ([{"path": 200}, {"path": 201}], "/201 answers 201"),
        ([{"path": 200}, {"path": 201, "status": 201}], ""),
        ([{"path": 200}, {"path": 404, "status_below": 500}, {"path": 499, "status_below": 500}], ""),
        ([{"path": 200}, {"path": 500, "status_below": 500}], "/500 answers 500"),
        ([{"path": 302, "status_below": 500}], ""),
        ([{"path": 302}], "/302 answers 302"),
    ],
)
def test_every_url_has_to_answer(site, wanted, wrong):
    told = quadlet_plan.answers({"readiness_probe": [{**one, "url": f"{site[0]}{one['path']}"} for one in wanted]})
    assert wrong in told and bool(told) == bool(wrong)
    assert len(site[1]) == len(wanted)


def test_a_url_of_after_the_start_is_asked_then_alone(site):
    unit = {"readiness_probe": [{"url": f"{site[0]}200"}, {"url": f"{site[0]}500", "status_below": 500, "startup_only": True}]}
    assert quadlet_plan.answers(unit) == "" and site[1] == ["/200"]
    assert "answers 500" in quadlet_plan.answers(unit, started=True)


@pytest.fixture
def once(world):
    world.texts["release.container"] = "[Container]\nImage=registry/app:1\nEnvironmentFile=%h/config/env\n"
    world.units.insert(1, {"name": "release.service", "run_once_key": "1"})
    world.host.states["release.service"] = {"ActiveState": "inactive"}
    return world


def test_a_one_shot_runs_once_for_its_key_image_and_unit(once):
    assert ("run", "release.service") in once.acts()
    once.apply()
    assert once.plan().empty
    change_environment(once)
    assert once.acts() == [("restart", "web.service")]
    once.apply()
    move_image(once)
    assert once.acts() == [("run", "release.service"), ("restart", "web.service")]
    once.apply().units[1]["run_once_key"] = "2"
    assert once.acts() == [("run", "release.service")]


def test_a_unit_that_went_is_stopped_and_its_file_removed(world):
    del world.texts["web.container"]
    world.units.pop()
    plan = world.plan()
    assert plan.stop == ["web.service"] and plan.act == [] and plan.reload
    assert [(change.path, change.after) for change in plan.changes] == [(world.path("web.container"), None)]
    assert plan.sentences() == [f"remove {world.path('web.container')}", "stop web.service"]


def test_what_another_part_has_as_well_stays(world):
    other = Manifest("other", world.state)
    other.files, other.secrets = [world.path("config/env"), world.path("config/db.conf")], ["web_password"]
    other.save()
    world.secrets.clear()
    del world.configuration["config/env"], world.configuration["config/nobody.conf"]
    plan = world.plan()
    assert [os.path.basename(change.path) for change in plan.changes] == ["nobody.conf"] and plan.secrets == {}


def test_a_live_secret_is_set_and_restarts_nothing(world):
    world.no_restart = frozenset({"web_password"})
    world.apply()
    world.host.secrets["web_password"] = "another"
    plan = world.plan()
    assert plan.secrets == {"web_password": "pw-of-the-web"} and plan.act == []


def test_a_secret_that_went_is_removed(world):
    world.secrets.clear()
    world.texts["web.container"] = WEB.replace("Secret=web_password,type=mount\n", "")
    assert world.plan().secrets == {"web_password": None} and world.plan().old_secrets == {"web_password": "pw-of-the-web"}


def test_after_a_run_that_was_cut_short_systemd_reads_its_units_again(world):
    world.manifest.unfinished = True
    plan = world.plan()
    assert plan.reload and not plan.empty and plan.sentences() == ["finish what an earlier run began and did not end"]


def test_an_image_is_pulled_only_where_it_is_missing(world):
    del world.host.images["registry/db:1"]
    assert world.plan().pull == ["registry/db:1"]


def test_a_unit_outside_the_unit_directories_is_no_unit():
    assert quadlet_plan.is_unit(f"/h/{QUADLET_DIRECTORY}/x.container") and quadlet_plan.is_unit(f"/h/{UNIT_DIRECTORY}/x.timer")
    assert not quadlet_plan.is_unit("/h/config/x.container") and not quadlet_plan.is_unit(f"/h/{QUADLET_DIRECTORY}/.env")
    assert not quadlet_plan.is_unit(f"/h/{UNIT_DIRECTORY}/x.container")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root waits for somebody else")
def test_a_directory_that_never_answers_is_not_waited_for(monkeypatch, tmp_path):
    """Whoever owns a home may mount a file system there of which nobody ever says anything."""
    for above in tmp_path.parents:
        if above.stat().st_uid == 0 and str(above).startswith("/tmp/"):  # noqa: S108
            above.chmod(above.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 65534, 65534)
    (tmp_path / "mounted").mkdir()

    def silent(call):
        def asked(path, *arguments, **more):
            if str(path).endswith("mounted"):
                time.sleep(8)
            return call(path, *arguments, **more)

        return asked

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, silent(getattr(os, name)))
    monkeypatch.setattr(untrusted, "PATIENCE", 0.5)
    host = Host(tmp_path)
    host.uid = host.gid = 65534
    manifest = Manifest("x", str(tmp_path / "manifests"))
    began = time.monotonic()
    with pytest.raises(OSError, match="no answer within"):
        make_plan(Component("x", directories=[{"path": str(tmp_path / "mounted")}]), manifest, host)
    assert time.monotonic() - began < 5
