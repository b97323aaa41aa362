"""Files of state bear damage, a full disk, a clock that is set and a host that starts anew; what will be done is written before it is done."""

import json
import os
import time
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import payload
from ansible_collections.senex.trader.plugins.module_utils.engine.unchanged import unchanged_components
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import LEASE, LOCK, RECORDS, Ledger, LockHeld, LockLost
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_gate
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from watched import GOOD, Fake, config, host, settings

from senex_ops import checks_certificates, checks_host, checks_release, checks_site, command, decide, remediation, service  # isort: skip

SILENT = host.Answer(0, "no answer within 4 s", "", 4.0)
WHO = {"id": "a", "what": "deploy of a", "who": "anna@desk"}


def full(*_arguments, **_options):
    raise OSError(28, "No space left on device")


# --- The watchdog's limit of restarts


def made(tmp_path, fake=None):
    for name in ("state", "run"):
        (tmp_path / name).mkdir(exist_ok=True)
    one = service.Watchdog(settings(restart={"pause": 1.0}), config.Secrets(), fake or Fake(), str(tmp_path / "state"), str(tmp_path / "run"))
    one.load()
    return one


@pytest.fixture
def life(monkeypatch, tmp_path):
    """One life of the watchdog after the other, in the same directories."""
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / "deploy.lock"))
    monkeypatch.setattr(checks_release, "BOOT", str(tmp_path / "boot"))
    monkeypatch.setattr(remediation, "PAUSE", str(tmp_path / "paused"))
    monkeypatch.setattr(remediation, "is_cpu_bound", lambda *_: False)
    lives = []

    def begin(fake=None):
        lives.append(made(tmp_path, fake))
        return lives[-1]

    yield begin
    for one in lives:
        one.pool.shutdown()


def fails(watchdog, now, times=3):
    for moment in range(times):
        watchdog._take_web("web-1.service", SILENT, now + moment)
    if watchdog.cure:
        watchdog.cure[2].exception(30)


class Raises(Fake):
    """A manager that answers something that nobody foresaw."""

    def kill_container(self, name):
        raise RuntimeError("what is this")


def test_a_restart_is_remembered_by_the_next_life_though_this_one_never_saw_its_end(life):
    """Six lives that each ended in the middle of a cure restarted six times, and the seventh knew nothing."""
    now = 1_000_000.0
    for number in range(settings().restart.per_hour):
        watchdog = life()
        fails(watchdog, now)
        assert len([words for words in watchdog.host.done if words[:1] == ("systemctl",)]) == 1, number
        now += 400
    watchdog = life()
    fails(watchdog, now)
    watchdog._take_cure(now)
    assert watchdog.parts["web-1"].escalated and watchdog.host.done == []


def test_a_cure_that_raises_counts_and_is_told(life):
    watchdog = life(Raises())
    fails(watchdog, 1000.0)
    watchdog._take_cure(1003.0)
    assert watchdog.parts["web-1"].restarts == [1003.0] and watchdog.parts["web-1"].failures == 0
    watchdog.save()
    assert any("did not come up" in line and "RuntimeError: what is this" in line for line in watchdog.notices.lines)
    assert life().parts["web-1"].restarts == [1003.0], "once"


def test_a_disk_that_is_full_counts_in_memory_and_where_nothing_is_written_nothing_restarts(life, tmp_path):
    watchdog = life()
    (tmp_path / "state").rmdir()
    fails(watchdog, 1000.0)
    watchdog._take_cure(1003.0)
    assert json.loads((tmp_path / "run/restarts.spare.json").read_text()) and life().parts["web-1"].restarts == [1003.0]
    watchdog = life()
    watchdog._keep({"web-1": [1003.0, 1400.0]})
    assert not (tmp_path / "run/restarts.spare.json").exists() and len(life().parts["web-1"].restarts) == 2, "the disk has room again"
    watchdog = life()
    for directory in ("state", "run"):
        for path in (tmp_path / directory).iterdir():
            path.unlink()
        (tmp_path / directory).rmdir()
    fails(watchdog, 9000.0)
    watchdog._take_cure(9003.0)
    assert watchdog.host.done == [] and "written down nowhere" in watchdog.held["web-1"]


def test_the_loop_outlives_what_nobody_foresaw(life, monkeypatch):
    watchdog = life()
    monkeypatch.setattr(watchdog.notices, "message", lambda *_: 1 / 0)
    watchdog.jobs = []
    watchdog.tick()


def test_a_way_out_that_fails_loses_nobody_elses_message(life):
    watchdog, put = life(), []
    broken, good = (
        type("Channel", (), {"label": name, "put": what})
        for name, what in (("mail", lambda self, message: 1 / 0), ("hook", lambda self, message: put.append(message)))
    )
    watchdog.channels = [broken(), good()]
    watchdog.notices.event("DONE  x", 1000.0)
    watchdog._out(2000.0)
    assert put[0]["lines"] == ["DONE  x"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", '"x"', "null", '{"restarts": []}', '{"restarts": {"web-1": "x"}}', '{"restarts": {"web-1": ["x", null, 999000.0]}, "notices": 5}',
     '{"restarts": {"web-1": [999000.0]}, "notices": {"open": {"x": {"level": 1}}}}', "[" * 9999],
)  # fmt: skip
def test_a_damaged_state_hinders_no_restart(life, tmp_path, text):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.json").write_text(text)
    watchdog = life()
    fails(watchdog, 1_000_000.0)
    assert [words for words in watchdog.host.done if words[:1] == ("systemctl",)], watchdog.cure
    assert watchdog.parts["web-1"].restarts[:-1] == ([999000.0] if "999000.0" in text else [])


# --- The lock of a release


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(release_record, "BOOT", str(tmp_path / "run/boot"))
    monkeypatch.setattr(checks_release, "BOOT", str(tmp_path / "run/boot"))
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / LOCK))
    return Ledger(str(tmp_path))


def seen():
    return checks_release.read_release(None, None)


DAMAGED = [
    "", "{", "null", "[]", "5", "{}", '{"id": "a"}', '{"id": 1, "since": 1, "renewed": 1}', '{"id": "a", "since": "x", "renewed": null}',
    '{"id": "a", "since": 1, "renewed": 1, "about": 5}', '{"id": "a", "since": 1, "renewed": true}', "[" * 9999,
    '{"id": "a", "since": 1, "renewed": 9, "boot": "x"}', '{"id": "a", "since": 1, "renewed": 9, "boot": 5, "uptime": 9}',
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_lock_is_somebodys_until_its_lease_ends(ledger, tmp_path, text):
    file = tmp_path / LOCK
    file.write_text(text)
    assert "damaged" in ledger.holder()["what"]
    with pytest.raises(LockHeld, match="lock is damaged by somebody"):
        ledger.begin(WHO)
    with pytest.raises(LockLost, match="damaged"):
        ledger.renew("a", "web")
    assert not controller.dead(ledger.holder())
    old = time.time() - LEASE - 10
    os.utime(file, (old, old))
    assert ledger.begin(WHO)["id"].startswith("damaged") and ledger.renew("a", "web") is None


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '{"renewed": "x"}', '{"renewed": null}', "[" * 9999])
def test_the_watchdog_waits_beside_a_damaged_lock_no_longer_than_beside_another(ledger, tmp_path, text):
    file = tmp_path / LOCK
    file.write_text(text)
    assert checks_release.under_way(seen(), time.time())
    os.utime(file, (1, 1))
    assert not checks_release.under_way(seen(), time.time())
    (found,) = checks_release.judge_release(seen(), settings(), time.time())
    assert found.level == "FAIL" and "stale" in found.says


def test_a_start_of_the_host_ends_the_blindness_of_its_watchdog(ledger, tmp_path, monkeypatch):
    """It waited for half an hour beside a release that the start had cut off."""
    ledger.begin(WHO)
    assert checks_release.under_way(seen(), time.time())
    (tmp_path / "run/boot").unlink()
    assert not checks_release.under_way(seen(), time.time())
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: 20.0)
    assert "cut off by a start of this host 20 s ago" in checks_release.judge_release(seen(), settings(), time.time())[0].says
    with pytest.raises(LockHeld):
        ledger.begin({**WHO, "id": "b"})
    ledger.renew("a", "web")
    assert checks_release.under_way(seen(), time.time()), "a controller that goes on says so"


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_set_neither_keeps_a_lock_nor_frees_it(ledger, monkeypatch, days):
    ledger.begin(WHO)
    real, uptime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(time, "time", lambda: real + days * 86400)
    with pytest.raises(LockHeld):
        ledger.begin({**WHO, "id": "b"})
    assert checks_release.under_way(seen(), time.time())
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: uptime + LEASE + 1)
    assert not checks_release.under_way(seen(), time.time()) and ledger.begin({**WHO, "id": "b"})["id"] == "a"


def test_a_lock_of_an_earlier_version_is_judged_by_the_time_of_day(ledger, tmp_path):
    now = time.time()
    for renewed, holds in ((now - 60, True), (now - LEASE - 60, False)):
        (tmp_path / LOCK).write_text(json.dumps({**WHO, "since": renewed, "renewed": renewed, "step": "web"}))
        assert checks_release.under_way(seen(), now) == holds == (release_record.outlived(ledger.holder()) < 0)


def test_a_full_disk_at_the_end_keeps_no_lock_and_loses_no_record(ledger, tmp_path, monkeypatch):
    ledger.begin(WHO)
    ledger.finish("a", {"result": "succeeded", "tag": "1"})
    ledger.begin({**WHO, "id": "b"})
    with monkeypatch.context() as patch:
        patch.setattr(fileset, "stage", full)
        assert ledger.finish("b", {"result": "succeeded", "tag": "2"})
    assert ledger.holder() is None and [one["tag"] for one in ledger.records()] == ["1", "2"]


def test_where_not_even_a_line_has_room_the_lock_goes_and_that_is_said(ledger, tmp_path, monkeypatch):
    ledger.begin(WHO)
    (tmp_path / RECORDS).write_text('{"id": "z"}\n')
    with monkeypatch.context() as patch:
        patch.setattr(fileset, "stage", full)
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="the lock is given up, and .*releases.jsonl takes no record of deploy of a: No space left"):
            ledger.finish("a", {"result": "succeeded"})
    assert ledger.holder() is None and (tmp_path / RECORDS).read_text() == '{"id": "z"}\n'


def test_records_of_any_damage_are_left_out(ledger, tmp_path):
    (tmp_path / RECORDS).write_text('5\n[]\n{"tag": "1"}\n{"id": 1}\n{"id": "a"}\n')
    assert ledger.records() == [{"id": "a"}]
    ledger.begin({**WHO, "id": "b"})
    assert ledger.finish("b", {"result": "succeeded"})


# --- Other files


def test_a_pause_that_a_clock_set_back_would_make_last_is_over(life, tmp_path, capsys):
    life()
    command.watchdog(None, None, type("Options", (), {"verb": "pause", "duration": "30m"}))
    now = time.time()
    assert remediation.paused_until(now) > now
    assert not remediation.paused_until(now - 86400) and not (tmp_path / "paused").exists()
    for text in ("", "{", "[]", '{"until": "x"}', '{"until": 1e300}', '{"until": NaN}'):
        (tmp_path / "paused").write_text(text)
        assert remediation.paused_until(now) == 0.0, text
    (tmp_path / "paused").write_text(json.dumps({"until": now + 60}))
    assert remediation.paused_until(now) == now + 60, "of an earlier version"


@pytest.mark.parametrize("text", ["", "5", "[]", "{}", '{"data": 5}', '{"digest": "x", "data": {"component": "web", "files": [], "home": "/x"}}',
                                  '{"digest": "x", "data": {"component": "web", "files": [5], "user": "nobody", "home": "/x"}}',
                                  '{"digest": "x", "data": {"component": "web", "files": 5}}'])  # fmt: skip
def test_what_was_kept_of_a_part_may_be_damaged(tmp_path, text):
    (tmp_path / "web.last").write_text(text)
    assert unchanged_components(str(tmp_path)) == {} and not payload.is_applied({"component": "web"}, str(tmp_path))


def test_what_is_forgiven_may_be_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic_gate, "PROBE_SECONDS", 0)
    file = tmp_path / "prober.json"
    file.write_text('{"requests": 9, "failed": 2}')
    (tmp_path / f"prober.json{traffic_gate.EXPECTED_DOWNTIME}").write_text("x")
    assert "2 of 9" in traffic_gate.traffic_gate_error({"traffic_gate": {"results_file": str(file), "max_failed": 1}})


# --- What no check knew


def rotation(tmp_path, monkeypatch, *out, release=None):
    monkeypatch.setattr(checks_site, "CONTRACT", str(tmp_path / "upstream.json"))
    monkeypatch.setattr(checks_site, "CLOSING", str(tmp_path / "closing"))
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / LOCK))
    servers = ["127.0.0.1:8001", "127.0.0.1:8002"]
    (tmp_path / "upstream.json").write_text(json.dumps({"version": 1, "servers": servers, "hosts": [], "flags": str(tmp_path / "out")}))
    (tmp_path / "out").mkdir(exist_ok=True)
    for name, seconds in out:
        (tmp_path / "out" / name).touch()
        os.utime(tmp_path / "out" / name, (time.time() - seconds,) * 2)
    return [(one.level, one.key) for one in checks_site.judge_rotation(checks_site.read_rotation(None, None), settings(), time.time())]


@pytest.mark.parametrize(
    ("out", "found"),
    [
        ([], [("OK", "rotation")]),
        ([("127.0.0.1:8001", 60)], [("OK", "rotation")]),
        ([("127.0.0.1:8001", 3600)], [("WARN", "rotation 127.0.0.1:8001")]),
        ([("127.0.0.1:8001", 3600), ("127.0.0.1:8002", 3600)], [("FAIL", "rotation 127.0.0.1:8001"), ("FAIL", "rotation 127.0.0.1:8002")]),
        ([("127.0.0.1", 3600)], [("FAIL", "rotation 127.0.0.1")]),
        ([("127.0.0.1:8001", -3600)], [("WARN", "rotation 127.0.0.1:8001")]),
    ],
)
def test_a_server_that_a_killed_run_left_out_is_told(tmp_path, monkeypatch, out, found):
    assert rotation(tmp_path, monkeypatch, *out) == found


def test_during_a_release_a_server_may_be_out(tmp_path, monkeypatch):
    (tmp_path / LOCK).write_text(json.dumps({"renewed": time.time()}))
    assert rotation(tmp_path, monkeypatch, ("127.0.0.1:8001", 3600)) == [("OK", "rotation")]
    (tmp_path / "closing").touch()
    os.utime(tmp_path / "closing", (1, 1))
    assert rotation(tmp_path, monkeypatch) == [("WARN", "nginx reload")]
    (tmp_path / "upstream.json").write_text("{")
    with pytest.raises(OSError, match=r"cannot be read \(JSONDecodeError\): run site.yml"):
        checks_site.read_rotation(None, None)
    (tmp_path / "upstream.json").unlink()
    assert checks_site.judge_rotation(checks_site.read_rotation(None, None), settings(), time.time())[0].level == "OK"


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"UnitFileState": "masked"}, "masked"),
        ({"UnitFileState": "masked-runtime"}, "masked"),
        ({"UnitFileState": "disabled"}, "not enabled"),
        ({"UnitFileState": "enabled-runtime"}, "not enabled"),
        ({"UnitFileState": "disabled", "TriggeredBy": "ssh.socket"}, ""),
        ({"UnitFileState": "generated"}, ""),
        ({"UnitFileState": "static"}, ""),
    ],
)
def test_a_unit_that_runs_and_the_next_start_does_not_bring_is_told(state, says):
    fake = Fake()
    fake.states["nginx.service"] = fake.states["web-1.service"] = state
    found = checks_host.judge_units(checks_host.read_units(fake, settings()), settings(), 0)
    assert [one.key for one in found if one.level == "WARN"] == (["unit web-1.service", "unit nginx.service"] if says else [])
    assert all(says in one.says for one in found)


def test_a_certificate_that_nginx_has_not_read_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(checks_certificates, "OF_NGINX", str(tmp_path / "*.crt"))
    wrap = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n".format
    (tmp_path / "ownca.crt").write_text(wrap("bmV3") + wrap("Y2E="))
    now = time.time()
    assert checks_certificates.unread(wrap("bmV3"), now + 90) == "" and checks_certificates.unread(wrap("b2xk"), now) == "", "a reload takes some seconds"
    assert checks_certificates.unread(wrap("b2xk"), now + 90) == str(tmp_path / "ownca.crt")
    (tmp_path / "ownca.crt").unlink()
    assert checks_certificates.unread(wrap("b2xk"), now + 90) == ""


def test_pauses_are_longest_a_day():
    assert remediation.LONGEST_PAUSE == 86400 and decide.recent([1.0, 5000.0, 9000.0], 8000.0) == [5000.0] and GOOD.status == 200


@pytest.mark.parametrize("lease", [0, 28800])
def test_after_a_start_a_lock_is_stale_when_it_keeps_nobody_out_any_more(ledger, tmp_path, monkeypatch, lease):
    """Its run may go on elsewhere: what is known is when the host started, how old the lock is, and for how long others are kept out."""
    ledger.begin({**WHO, **({"lease": lease} if lease else {})})
    (tmp_path / "run/boot").unlink()
    real, bears = time.time(), lease or LEASE
    for later, level in ((60, "WARN"), (bears - 60, "WARN"), (bears + 60, "FAIL")):
        monkeypatch.setattr(time, "time", lambda later=later: real + later)
        monkeypatch.setattr(time, "clock_gettime", lambda _clock, later=later: later - 30.0)
        (found,) = checks_release.judge_release(seen(), settings(), time.time())
        assert found.level == level and ("stale" in found.says) == (level == "FAIL") and "cut off by a start of this host" in found.says, found
        assert (level == "FAIL") == release_record.expired(ledger.holder()), "as whoever wants the lock is told"
    monkeypatch.setattr(time, "time", lambda: real - 86400)
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: bears + 60.0)
    assert checks_release.judge_release(seen(), settings(), time.time())[0].level == "FAIL", "a clock that was set back keeps no lock"


def test_records_of_which_a_line_was_cut_short(tmp_path, monkeypatch, capsys):
    """A power cut or a wild byte in the last one, and whoever is on call saw a traceback."""
    path = tmp_path / "releases.jsonl"
    path.write_bytes(b'{"tag": "1", "result": "ok"}\n{"tag": "2", "res\n\xff\n{"tag": "3\xff"}\n')
    monkeypatch.setattr(command, "RECORDS", str(path))
    assert command.releases(None, None, types.SimpleNamespace(lines=20)) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and " 1 " in said[0] and " 3" in said[1]
    assert command.releases(None, None, types.SimpleNamespace(lines=0)) == 0 and capsys.readouterr().out == ""


def released(number, tag, previous, migrations=()):
    return {"id": f"r{number}", "kind": "deploy", "what": f"deploy of {tag}", "who": "me", "tag": tag, "reference": f"image:{tag}", "result": "succeeded",
            "previous": {"tag": previous, "reference": f"image:{previous}"}, "migrations": list(migrations)}  # fmt: skip


@pytest.mark.parametrize(("wanted", "there", "says"), [
    ("", True, ["from 3 back to 2", "image image:2: on this host", "app.0003", "playbooks/rollback.yml -i inventory/test\n"]),
    ("1", False, ["from 3 back to 1", "image:1: not on this host", "app.0003, app.0002", "-i inventory/test -e release=1\n"]),
    ("9; reboot", True, []),
])  # fmt: skip
def test_a_rollback_is_told_and_not_made(tmp_path, monkeypatch, capsys, wanted, there, says):
    """By the same choice as the playbook's."""
    path = tmp_path / "releases.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (released(1, "2", "1", ["app.0002"]), released(2, "3", "2", ["app.0003"]))), encoding="utf-8")
    monkeypatch.setattr(command, "RECORDS", str(path))
    asked = []
    host = types.SimpleNamespace(podman=lambda *words: asked.append(words) or types.SimpleNamespace(code=0 if there else 1, said=""))
    if not says:
        with pytest.raises(LookupError, match="is no release of this environment"):
            command.rollback(host, settings(), types.SimpleNamespace(release=wanted))
        return
    assert command.rollback(host, settings(), types.SimpleNamespace(release=wanted)) == 0
    said = capsys.readouterr().out
    assert [words for words in says if words not in said] == [] and asked == [("image", "exists", f"image:{wanted or 2}")], said
