"""What somebody changed by hand is put back on disk, and told to all that may have read it meanwhile."""
# ruff: noqa: F811 - a fixture that comes from another file is named like what is imported

import datetime
import os
import socket
import ssl
import threading

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_plan, system_transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import make_plan
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_restart import RollingRestart
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import SystemComponent, SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from nginx_door import pair
from test_engine_system import component, run, system  # noqa: F401 - fixtures
from test_engine_transaction import Killed, live, quiet_host  # noqa: F401 - fixtures

RELOAD = "systemctl try-reload-or-restart nginx.service"


def removed(path):
    path.unlink()


def edited(path):
    path.write_text("PasswordAuthentication yes")


def opened(path):
    path.chmod(0o666)


@pytest.mark.parametrize("hand", [edited, removed, opened])
def test_a_program_hears_of_its_file_that_was_put_back(system, component, tmp_path, hand):
    """It may have read what lay there: somebody edited sshd's file, reloaded it, and passwords stayed on under a green run."""
    run(component(site="a"))
    system.log.clear()
    hand(tmp_path / "etc" / "site")
    (line, reload) = run(component(site="a"))["plan"]
    assert line.startswith(f"install {tmp_path}/etc/site (changed by hand since 20") and reload == "reload nginx.service"
    assert system.log == ["nginx -t", RELOAD] and not run(component(site="a"))["changed"]


def test_what_a_new_version_changes_is_nobodys_hand(system, component):
    run(component(site="a"))
    assert "by hand" not in str(run(component(site="b"))["plan"])


def test_a_run_killed_between_file_and_reload_is_finished(system, component, tmp_path, monkeypatch):
    run(component(site="a"))
    edited(tmp_path / "etc" / "site")

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SystemTransaction, "_run_handlers", killed)
        with pytest.raises(Killed):
            run(component(site="a"))
    system.log.clear()
    run(component(site="a"))
    assert RELOAD in system.log


def test_a_manifest_of_before_tells_its_programs_too(system, component, tmp_path):
    run(component(site="a"))
    before = Manifest("nginx", str(tmp_path / "state"))
    before.written = {}
    before.save()
    edited(tmp_path / "etc" / "site")
    system.log.clear()
    assert "by hand" not in str(run(component(site="a"))["plan"]), "nobody knows"
    assert RELOAD in system.log


@pytest.fixture
def door(tmp_path):
    """Something that hands out a certificate, by whatever its context has read."""
    old, new = (pair(tmp_path, name, "www.senex.test") for name in ("old", "new"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old["nginx_tls_certificate"], old["nginx_tls_private_key"])
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                try:
                    context.wrap_socket(client, server_side=True).close()
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1], old["nginx_tls_certificate"], new["nginx_tls_certificate"]
    listening.close()


def test_a_certificate_that_was_written_and_not_read_is_read(system, door):
    """Whoever was killed between the two, this collection or certbot's hook, left no other trace."""
    port, old, new = door

    def wanted(file, at=port):
        handler = {"unit": "nginx.service", "action": "reload", "serves": {"file": file, "port": at, "name": "www.senex.test"}}
        return SystemComponent("nginx", handlers={"web": handler})

    run(wanted(old))
    system.log.clear()
    assert not run(wanted(old))["changed"] and system.log == []
    assert run(wanted(new))["plan"] == ["reload nginx.service"] and system.log == [RELOAD]
    system.log.clear()
    assert not run(wanted(new + ".absent"))["changed"] and not run(wanted(new, at=1))["changed"], "who does not answer is not asked"


class Disk:
    """So full that nothing new is written, from a moment on."""

    def __init__(self, monkeypatch):
        self.full, real = False, os.fsync
        monkeypatch.setattr(fileset, "stage", lambda path, content, owner, stage=fileset.stage: stage(path, content, owner) if not self.full else self.no())
        self.real = real

    @staticmethod
    def no():
        raise OSError(28, "No space left on device")


def test_the_reason_outlives_a_put_back_on_a_full_disk(system, component, tmp_path, monkeypatch):
    """The file from before is written over where the new one lies, and a new file goes: neither takes room."""
    run(component(site="a"))
    disk = Disk(monkeypatch)
    tell = SystemTransaction._run_handlers

    def fills(self, names):
        disk.full = True
        return tell(self, names)

    monkeypatch.setattr(SystemTransaction, "_run_handlers", fills)
    system.refuse = ("try-reload",)
    with pytest.raises(system_transaction.ApplyError, match="failed: line 3: no\n.*The files from before are back"):
        run(component(site="bb", other="new"))
    assert (tmp_path / "etc" / "site").read_text() == "a" and not (tmp_path / "etc" / "other").exists()
    disk.full = False
    system.refuse = ()
    monkeypatch.setattr(SystemTransaction, "_run_handlers", tell)
    assert run(component(site="a"))["changed"], "a manifest that could not be put back makes the next run look again"
    assert not run(component(site="a"))["changed"]


def test_what_cannot_be_put_back_is_said_beside_the_reason(system, component, tmp_path, monkeypatch):
    run(component(site="a"))
    system.refuse = ("try-reload",)

    def no(*_):
        Disk.no()

    monkeypatch.setattr(fileset, "put_back", no)
    with pytest.raises(system_transaction.ApplyError, match="failed: line 3: no\nNot all is back as it was .*No space left"):
        run(component(site="b"))
    assert Manifest("nginx", str(tmp_path / "state")).unfinished


# --- Units of the system that the next boot would not bring


@pytest.mark.parametrize(
    ("state", "asked"), [("disabled", []), ("enabled-runtime", []), ("masked", ["", "--runtime "]), ("masked-runtime", ["", "--runtime "])]
)
def test_a_unit_that_is_not_there_after_a_boot_is_repaired_and_told(system, component, monkeypatch, state, asked):
    run(component(site="a"))
    system.log.clear()
    real = system.__call__
    with monkeypatch.context() as patch:
        changed = f"ActiveState=active\nUnitFileState={state}\nConditionResult=yes\n"
        patch.setattr(system_transaction, "command", lambda argv: type(real(argv))(argv, 0, changed, "") if "show" in argv else real(argv))
        assert run(component(site="a"))["plan"] == [f"enable and start nginx.service (it is {state})"]
    assert system.log == [*[f"systemctl unmask {how}nginx.service" for how in asked], "nginx -t", "systemctl enable --now nginx.service"]


# --- Units of the service user


def acts(live):
    return [line for line in live.run()["plan"] if line.startswith(("restart", "start"))]


@pytest.mark.parametrize(
    ("what", "restarted"),
    [("config/env", ["web.service"]), ("config/db.conf", ["db.service"]), ("config/nobody.conf", []), ("web.container", ["web.service"])],
)
@pytest.mark.parametrize("how", ["edited", "removed"])
def test_who_reads_what_was_put_back_starts_anew(live, what, restarted, how):
    live.run()
    path = live.path(what)
    if how == "removed":
        os.unlink(path)
    else:
        with open(path, "a") as handle:
            handle.write("# by hand\n")
    told = live.run()
    assert any(line.startswith(f"install {path} (changed by hand since 20") for line in told["plan"])
    assert [line.split()[1] for line in told["plan"] if line.startswith("restart")] == restarted
    assert not live.run()["changed"], "once"


def test_who_reads_a_secret_that_was_put_back_starts_anew(live):
    live.run()
    live.host.secrets["web_password"] = "of somebody"
    told = live.run()["plan"]
    assert told[0].startswith("set secret web_password (changed by hand since") and told[1].startswith("restart web.service") and not live.run()["changed"]
    live.no_restart = frozenset({"web_password"})
    live.run()
    live.host.secrets["web_password"] = "of somebody"
    assert acts(live) == [], "a script brings that one to what runs"


def test_readers_in_another_part_start_anew_too(live):
    """Their part finds the file as it should be: the part that has it came first."""
    live.run()
    other = Manifest("other", live.state)
    other.files = [live.path("config/shared")]
    with open(other.files[0], "w") as handle:
        handle.write("x")
    other.save()
    live.texts["web.container"] += "Volume=%h/config/shared:/etc/shared\n"
    live.run()
    assert not live.run()["changed"]
    other.repairs = {other.files[0]: 1}
    other.save()
    assert acts(live) == ["restart web.service (what it reads has changed)"] and not live.run()["changed"]


def test_a_run_killed_after_the_file_restarts_its_readers_in_the_next(live, monkeypatch):
    live.run()
    with open(live.path("config/env"), "w") as handle:
        handle.write("A=9")

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RollingRestart, "start_unit", die)
        with pytest.raises(Killed):
            live.run()
    assert "restart web.service" in str(live.run()["plan"])


def test_a_masked_container_and_a_disabled_timer_are_repaired_and_told(live):
    """Either is gone after the next boot, and runs until then."""
    live.texts["job.timer"] = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"
    live.texts["job.service"] = "[Service]\nExecStart=/bin/true\n"
    live.units.append({"name": "job.timer"})
    live.run()
    live.host.states = {
        "web.service": {"UnitFileState": "masked"},
        "job.timer": {"UnitFileState": "disabled"},
        "job.service": {"UnitFileState": "masked-runtime"},
        "db.service": {"UnitFileState": "generated"},
    }
    told = live.run()
    assert told["plan"] == ["unmask web.service (it is masked)", "unmask job.service (it is masked)", "enable job.timer (it is disabled)"]
    assert live.host.log == ["unmask web.service job.service"] * 2 + ["daemon-reload", "reenable job.timer"], "and nothing restarts"
    live.host.states = {"job.service": {"UnitFileState": "disabled"}}
    assert not live.run()["changed"], "a unit that nothing is to bring at boot"


def test_a_plan_of_nothing_counts_nothing(live):
    live.run()
    plan = make_plan(live.component(), Manifest("component", live.state), live.host)
    assert plan.empty and plan.repairs == {} and quadlet_plan.secret_key("x") == "secret x"
    assert datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d") in plan.since
