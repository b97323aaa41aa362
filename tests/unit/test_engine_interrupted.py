"""The engine where a run is killed, or what puts things back cannot."""

import os

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_install import Installation
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_restart import RollingRestart
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from test_engine_transaction import PASSWORD, Killed, Live, Machine, live, quiet_host  # noqa: F401  (fixtures)


def kill_points():
    return ["make_directory", "write:before", "write:after", "set_secret", "start_unit:1", "start_unit:2"]


@pytest.mark.parametrize("point", kill_points())
def test_a_killed_run_is_finished_by_the_next(live, monkeypatch, point):  # noqa: F811
    live.configuration.update({"config/env": b"A=2", "config/db.conf": b"e"})
    live.texts["web.container"] += "Exec=new\n"
    live.texts["job.timer"] = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"
    live.units.append({"name": "job.timer"})
    live.secrets["other"] = "another-secret"
    live.directories = [{"path": os.path.join(live.host.home, "data"), "mode": "0700"}]

    def die(*_arguments, **_keywords):
        raise Killed

    with monkeypatch.context() as patch:
        if point == "write:after":
            real = Installation.write
            patch.setattr(Installation, "write", lambda self, *arguments: (real(self, *arguments), die()))
        elif point.startswith("start_unit"):
            real, left = RollingRestart.start_unit, [int(point[-1])]

            def some(self, unit):
                left[0] -= 1
                return die() if left[0] < 0 else real(self, unit)

            patch.setattr(RollingRestart, "start_unit", some)
        else:
            name = point.split(":")[0]
            patch.setattr(Installation if name == "write" else Machine, name, die)
        with pytest.raises(Killed):
            live.run()
    assert live.run()["changed"] and "daemon-reload" in live.host.log and "reenable job.timer" in live.host.log
    assert live.host.secrets["other"] == "another-secret" and os.path.isdir(live.directories[0]["path"])
    assert not live.run()["changed"], "the run after that changes nothing"
    live.texts.pop("job.timer")
    live.units.pop()
    live.run()
    assert not os.path.exists(live.path("job.timer")) and "disable job.timer" in live.host.log


def test_files_killed_half_way_are_finished_with_a_reload(live, monkeypatch):  # noqa: F811
    """Everything is on disk and systemd has not read it: only the manifest knows."""
    live.texts["web.container"] += "Exec=new\n"
    real = Machine.systemctl

    def systemctl(self, *arguments, **keywords):
        if arguments[0] == "daemon-reload":
            raise Killed
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Machine, "systemctl", systemctl)
        with pytest.raises(Killed):
            live.run()
    live.run()
    assert live.host.log.index("daemon-reload") < live.host.log.index("restart web.service")


def test_a_put_back_that_cannot_put_back_goes_on_and_says_so(live, monkeypatch):  # noqa: F811
    live.texts["web.container"] += "Exec=broken\n"
    live.secrets["web_password"] = "another password"
    live.host.refuse = {"Exec=broken"}

    def full(changes):
        raise OSError("No space left on device")

    monkeypatch.setattr(fileset, "put_back", full)
    with pytest.raises(ApplyError, match="Not all is back as it was .No space left.*NOT running: web.service"):
        live.run()
    assert live.host.secrets["web_password"] == PASSWORD
    assert Manifest("component", live.state).unfinished


@pytest.mark.parametrize("room", ["of the old one", "none"])
def test_a_manifest_that_cannot_be_written_says_nothing_untrue_of_a_unit(live, monkeypatch, room):  # noqa: F811
    """The first of two was up with the new state, and was put back on a disk that was full by then: the next run took it for started with the new state."""
    live.run()
    live.secrets["web_password"] = "another password"
    live.texts["db.container"] += "Environment=A=2\n"
    live.texts["web.container"] += "Environment=A=2\n"
    place, plain = Manifest("component", live.state).path, fileset.swap
    full = []

    def swap(files):
        if any(path == place for path, *_ in files):
            if "restart db.service" in live.host.log:
                full.append(True)
            if len(full) > 1 and (room == "none" or os.path.exists(place)):  # the first unit is noted, the second is not
                raise OSError(28, "No space left on device")
        return plain(files)

    live.host.log.clear()
    with monkeypatch.context() as patch:
        patch.setattr(fileset, "swap", swap)
        with pytest.raises(ApplyError, match="No space left"):
            live.run()
    assert len(full) > 1
    live.host.log.clear()
    live.run()
    assert {"restart db.service", "restart web.service"} <= set(live.host.log), live.host.log


def test_a_run_that_is_killed_while_it_puts_back_takes_nobody_for_started(live, monkeypatch):  # noqa: F811
    live.run()
    live.secrets["web_password"] = "another password"
    for name in ("db", "web"):
        live.texts[f"{name}.container"] += "Environment=A=2\n"

    def silent(_transaction, unit, *_words, **_more):
        if unit["name"] == "web.service":
            raise OSError("it does not answer")

    def killed(_changes):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RollingRestart, "restart_drained", silent)
        patch.setattr(fileset, "put_back", killed)
        with pytest.raises(KeyboardInterrupt):
            live.run()
    assert not Manifest("component", live.state).started.keys() & {"db.service", "web.service"}
