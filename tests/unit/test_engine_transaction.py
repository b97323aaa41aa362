"""One part brought to its state: the order of things, and what comes back when a unit does not come up."""

import os
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check, quadlet_rollback
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import Component
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError, secret_words
from ansible_collections.senex.trader.plugins.module_utils.host import confined, image_origin
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_gate
from test_engine_plan import Host, World

PASSWORD = "s3cr3t-éä$% =x"


class Machine(Host):
    """A host that keeps secrets, pulls images, records what systemctl was asked, and fails where a test says so."""

    def __init__(self, home):
        super().__init__(home)
        self.log, self.refuse, self.unpullable = [], set(), set()

    def check_manager(self):
        pass

    def podman_version(self):
        return (5, 4, 2)

    def run(self, argv, check=True, stdin=None, extra=None, timeout=900, exact=False):
        result = super().run(argv, check, stdin, extra, timeout)
        words = [word for word in argv[1:] if not word.startswith("--")]
        if words[0] == "pull":
            if words[1] in self.unpullable:
                result.returncode, result.stderr = 125, "manifest unknown"
            else:
                self.images[words[1]] = f"id of {words[1]}"
        if words[0] != "show":
            self.log.append(" ".join(words))
        text = self.texts().get(words[-1].replace(".service", ".container"), "")
        if words[0] in ("start", "restart") and any(bad in text for bad in self.refuse):
            result.returncode, result.stderr = 1, "Job failed"
        if check and result.returncode:
            raise CommandError(argv, result)
        return result

    def texts(self):
        directory = os.path.join(self.home, ".config/containers/systemd")
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return {name: open(os.path.join(directory, name)).read() for name in names}  # noqa: SIM115

    def set_secret(self, name, value):
        self.log.append(f"secret {name}")
        self.secrets.pop(name, None)
        if value is not None:
            self.secrets[name] = value


class Live(World):
    """A part in place on such a host."""

    def __init__(self, home, state):
        super().__init__(home, state)
        self.host = Machine(home)
        self.secrets["web_password"] = PASSWORD

    def transaction(self, present=True):
        return Transaction(self.component(), self.host, present, Manifest("component", self.state), unit_ready=traffic_gate.unit_ready)

    def run(self, check=False, present=True):
        self.host.log.clear()
        return self.transaction(present).run(check)

    def seen(self):
        """All that a run may change."""
        files = {}
        for place in (self.host.home, self.state):
            for directory, _, names in os.walk(place):
                for name in names:
                    with open(os.path.join(directory, name), "rb") as handle:
                        files[os.path.join(directory, name)] = handle.read()
        return files, dict(self.host.secrets)


@pytest.fixture(autouse=True)
def quiet_host(monkeypatch):
    """No generator and no journal here; both have tests on a host."""
    monkeypatch.setattr(quadlet_check, "problems", lambda user, units, version: [])
    monkeypatch.setattr(quadlet_rollback, "journal", lambda unit, uid, since: f"journal of {unit}: password is {PASSWORD}")


@pytest.fixture
def live(tmp_path):
    (tmp_path / "home").mkdir()
    world = Live(tmp_path / "home", tmp_path / "state")
    world.host.states = {name: {"ActiveState": "inactive"} for name in ("db.service", "web.service")}
    world.run()
    world.host.states = {}
    return world


def test_first_pull_then_files_then_units_in_order(tmp_path):
    (tmp_path / "home").mkdir()
    world = Live(tmp_path / "home", tmp_path / "state")
    world.host.images = {}
    world.host.states = {name: {"ActiveState": "inactive"} for name in ("db.service", "web.service")}
    answer = world.run()
    assert answer["changed"]
    assert [line for line in world.host.log if not line.startswith("reset-failed")] == [
        "pull registry/app:1", "pull registry/db:1", "secret web_password", "daemon-reload", "start db.service", "start web.service",
    ]  # fmt: skip
    world.host.states = {}
    assert world.run() == {"changed": False, "plan": [], "diff": []} and world.host.log == []


def test_check_mode_says_the_same_and_touches_nothing(live):
    live.texts["web.container"] += "Exec=other\n"
    live.configuration["config/env"] = b"A=2"
    before = live.seen()
    told = live.run(check=True)
    assert live.seen() == before and live.host.log == [] and told["changed"]
    assert live.run()["plan"] == told["plan"]


def test_a_unit_that_does_not_come_up_gives_everything_back(live):
    before = live.seen()
    live.configuration.update({"config/env": b"A=2", "config/db.conf": b"e"})
    live.secrets["web_password"] = "another password"
    live.texts["web.container"] += "Exec=broken\n"
    live.texts["new.container"] = "[Container]\nImage=registry/app:1\n"
    live.units.append({"name": "new.service"})
    live.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError) as refused:
        live.run()
    assert live.seen() == before
    reload = live.host.log.index("daemon-reload", live.host.log.index("daemon-reload") + 1)
    assert live.host.log.index("stop web.service") < reload
    assert [line for line in live.host.log[reload:] if line.startswith("restart")] == ["restart db.service", "restart web.service"]
    assert "new.service" not in " ".join(live.host.log)
    message = str(refused.value)
    assert "web.service did not come up" in message and "journal of web.service" in message and "running again: db.service, web.service" in message


def test_a_unit_that_does_not_come_up_is_told_with_its_image(live, monkeypatch):
    """Of the unit that failed, and when all others serve again: the registry is not waited for meanwhile."""
    asked = []
    monkeypatch.setattr(image_origin, "sentence", lambda _user, image: asked.append((image, list(live.host.log))) or "Its image: x")
    live.texts["web.container"] = live.texts["web.container"].replace("registry/app:1", "registry/app:2") + "Exec=broken\n"
    live.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match=r"running again: web.service\.\nIts image: x\nLast lines of web.service"):
        live.run()
    ((image, log),) = asked
    assert image == "registry/app:2" and log[-1] == "restart web.service"


def test_a_new_unit_that_does_not_come_up_is_stopped_and_gone(live):
    before = live.seen()
    live.texts["new.container"] = "[Container]\nImage=registry/app:1\nExec=broken\n"
    live.units.append({"name": "new.service"})
    live.host.states["new.service"] = {"ActiveState": "inactive"}
    live.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError):
        live.run()
    assert live.seen() == before and [line for line in live.host.log if not line.startswith("image ")][-1] == "stop new.service"


def test_what_ran_before_this_collection_runs_again_after_a_failed_take_over(tmp_path):
    (tmp_path / "home").mkdir()
    world = Live(tmp_path / "home", tmp_path / "state")
    place = world.path("web.container")
    os.makedirs(os.path.dirname(place))
    with open(place, "w") as handle:
        handle.write("by hand")
    world.host.secrets["web_password"] = "of old"
    before = world.seen()
    world.texts["web.container"] += "Exec=broken\n"
    world.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="running again: db.service, web.service"):
        world.run()
    assert world.seen() == before


def test_a_unit_taken_away_comes_back_when_another_one_fails(live):
    live.texts.pop("db.container")
    live.units.pop(0)
    live.texts["web.container"] += "Exec=broken\n"
    live.host.refuse = {"Exec=broken"}
    before = live.seen()
    with pytest.raises(ApplyError):
        live.run()
    assert live.seen() == before and "stop db.service" in live.host.log and "restart db.service" in live.host.log


def test_a_one_shot_that_fails_leaves_what_runs_alone(live):
    before = live.seen()
    live.texts["release.container"] = "[Container]\nImage=registry/app:1\nExec=broken\n"
    live.units.insert(0, {"name": "release.service", "run_once_key": "2"})
    live.texts["web.container"] += "Exec=new\n"
    live.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="release.service did not come up"):
        live.run()
    assert live.seen() == before and not any("web.service" in line or "db.service" in line for line in live.host.log)


def test_an_image_that_cannot_be_pulled_changes_nothing(live):
    before = live.seen()
    live.texts["web.container"] = live.texts["web.container"].replace("app:1", "app:nope")
    live.host.unpullable = {"registry/app:nope"}
    with pytest.raises(ApplyError, match="registry/app:nope cannot be pulled, nothing was changed or stopped;.*manifest unknown"):
        live.run()
    assert live.seen() == before and live.host.log == ["pull registry/app:nope"]


def test_units_that_the_host_refuses_change_nothing(live, monkeypatch):
    before = live.seen()
    monkeypatch.setattr(quadlet_check, "problems", lambda user, units, version: [f"{name}: no" for name in units])
    live.texts["web.container"] += "Memory=1G\n"
    with pytest.raises(ApplyError, match=r"nothing was changed:\n  db.container: no\n  web.container: no"):
        live.run()
    assert live.seen() == before and live.host.log == []


def test_a_guard_that_finds_something_else_stops_everything(live):
    guard = os.path.join(live.host.home, "data", "VERSION")
    transaction = live.transaction()
    transaction.work.component.preconditions = [{"file": guard, "content": "16", "message": "version: data is of FOUND"}]
    assert not transaction.run(check=False)["changed"]
    os.mkdir(os.path.dirname(guard))
    with open(guard, "w") as handle:
        handle.write("15\n")
    with pytest.raises(ApplyError, match="version: data is of 15$"):
        transaction.run(check=False)


@pytest.mark.parametrize(
    ("here", "wanted", "refused"),
    [
        ("K=old", "K=old,new", False),
        ("K=old,new", "K=new,old", False),
        ("K=new,old", "K=new", False),
        ("K=new", "K=new,former", False),
        ("A=1", "K=new", False),
        # From a vault that is older than the host, half of one, or a new one
        ("K=new", "K=old", True),
        ("K=new", "K=old,new", True),
        ("K=new,old", "K=old", True),
        ("A=1\nK=new\nKK=other", "KK=other\nK=other", True),
    ],
)
def test_a_key_takes_the_place_of_another_only_where_that_one_knows_it(live, here, wanted, refused):
    """And what is refused is not told."""
    live.configuration["config/env"] = f"{here}\n".encode()
    live.transaction().run(check=False)
    live.configuration["config/env"] = f"{wanted}\n".encode()
    transaction = live.transaction()
    (path,) = [item.path for item in transaction.work.component.files if item.path.endswith("config/env")]
    transaction.work.component.preconditions = [{"file": path, "keeps": "K", "message": "key: is another"}]
    before = Path(path).read_text()
    if refused:
        with pytest.raises(ApplyError, match="key: is another$"):
            transaction.run(check=False)
        assert Path(path).read_text() == before
    else:
        transaction.run(check=False)
        assert Path(path).read_text() == f"{wanted}\n"


def test_without_the_file_there_is_no_key_to_keep(live):
    live.configuration["config/env"] = b"K=new\n"
    transaction = live.transaction()
    (path,) = [item.path for item in transaction.work.component.files if item.path.endswith("config/env")]
    transaction.work.component.preconditions = [{"file": path, "keeps": "K", "message": "key: is another"}]
    assert transaction.run(check=False)["changed"]


class Killed(BaseException):
    """kill -9: no handler runs."""


def test_absent_removes_what_is_ours_and_keeps_data(live):
    data = os.path.join(live.host.home, "data")
    os.mkdir(data)
    with open(os.path.join(data, "rows"), "w") as handle:
        handle.write("precious")
    answer = live.run(present=False)
    assert answer["changed"] and "stop db.service" in live.host.log and "stop web.service" in live.host.log
    files, secrets = live.seen()
    assert [os.path.basename(path) for path in files] == ["rows"] and secrets == {}
    assert not live.run(present=False)["changed"]


def test_absent_where_nothing_is_asks_nothing_of_the_host(tmp_path):
    world = Live(tmp_path, tmp_path / "state")
    world.host.check_manager = lambda: pytest.fail("a host without the part needs no user manager")
    assert world.run(present=False) == {"changed": False, "plan": [], "diff": []}


def test_no_secret_is_in_what_a_run_says(live):
    live.secrets["web_password"] = "another-$ecret = 2"
    told = live.run()
    assert "another" not in str(told)
    live.texts["web.container"] += "Exec=broken\n"
    live.secrets["web_password"] = PASSWORD
    live.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError) as refused:
        live.run()
    assert PASSWORD not in str(refused.value) and "password is ********" in str(refused.value)


def test_what_counts_as_secret_in_a_secret_file(live):
    component = Component("p", live.component().files)
    component.files[0].secret = True
    component.files[0].content = b'DB_HOST=postgres\nDB_PASSWORD="hunter2hunter2"\nPORT=8000\nREDIS_URL=redis://:pw@redis/0\n'
    words = secret_words(component)
    assert {"hunter2hunter2", "redis://:pw@redis/0"} <= words and "postgres" not in words and not any(len(word) < 8 for word in words)


def test_a_filter_of_system_calls_that_is_not_there_stops_everything_before_the_first_change(live, tmp_path):
    """Podman says it of each container when the old one is gone. A release that comes before the run that brings the file meets this."""
    path = tmp_path / "seccomp.json"
    live.texts["web.container"] += f"SeccompProfile={path}\n"
    before = live.seen()
    assert live.run(check=True)["changed"], "what would be done is shown all the same"
    with pytest.raises(ApplyError, match=rf"{path} is not there, nothing was changed: role podman brings it"):
        live.run()
    assert live.seen() == before and live.host.log == []
    path.symlink_to("/dev/null")
    with pytest.raises(ApplyError, match="is not there"):
        live.run()
    path.unlink()
    path.write_text("{}")
    assert live.run()["changed"] and "restart web.service" in live.host.log


def test_programs_that_start_containers_themselves_are_not_installed_without_it(live, tmp_path, monkeypatch):
    """They would meet it when somebody needs a backup."""
    path = tmp_path / "seccomp.json"
    monkeypatch.setattr(confined, "SECCOMP", str(path))
    live.configuration["lib/program/confined.py"] = b"OPTIONS = ()"
    before = live.seen()
    with pytest.raises(ApplyError, match=rf"{path} is not there, nothing was changed: role podman brings it"):
        live.run()
    assert live.seen() == before
    path.write_text("{}")
    assert live.run()["changed"]


def test_a_filter_that_changed_restarts_what_runs_under_it(live, tmp_path):
    path = tmp_path / "seccomp.json"
    path.write_text("{}")
    other = Manifest("podman-system", live.state)
    other.files = [str(path)]
    other.save()
    live.texts["web.container"] += f"SeccompProfile={path}\n"
    live.run()
    assert not live.run()["changed"]
    path.write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
    assert live.run()["changed"]
    assert [line for line in live.host.log if line.startswith(("start", "restart"))] == ["restart web.service"]
