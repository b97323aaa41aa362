"""What the watchdog's checks read, of programs and managers that answer as they like."""

import os
import pwd
import shutil
import ssl
import subprocess
import time

import pytest
from watched import Fake, host, settings

from senex_ops import checks_certificates, checks_containers, checks_host, checks_redis  # isort: skip
from senex_ops import doctor  # isort: skip
from senex_ops.findings import FAIL, OK, WARN, Check  # isort: skip
from test_watchdog_checks import NOT_OURS, NOW, units


@pytest.mark.parametrize(
    ("answer", "overdue", "waiting"),
    [
        (host.Ended(0, '3\n4\nheld 2 [["5.25","2027-01-15T08:00:00+00:00","a.b"]]\n', ""), 2, [["5.25", "2027-01-15T08:00:00+00:00", "a.b"]]),
        (host.Ended(1, "3\n4\nERR unknown command 'EVAL'\n", ""), 0, []),
    ],
    ids=["with EVAL", "without"],
)
def test_redis_is_read_as_redis_cli_prints_it(answer, overdue, waiting):
    fake = Fake()
    fake.ended = {
        "inside redis redis-cli --user _watchdog -e -n 2": answer,
        "inside redis redis-cli --user _watchdog -e": host.Ended(0, "# Memory\r\nused_memory:5\r\nerrorstat_NOAUTH:count=1\r\n", ""),
    }
    found = {"info": {"used_memory": "5", "errorstat_NOAUTH": "count=1"}, "queues": {"celery": 3, "trading": 4}, "overdue": overdue, "waiting": waiting}
    assert checks_redis.read_redis(fake, settings()) == found


@pytest.mark.parametrize("refused", [host.Ended(0, "NOAUTH Authentication required.\n", "AUTH failed: WRONGPASS"), host.Ended(1, "", "AUTH failed: WRONGPASS")])
def test_no_script_runs_as_who_may_do_everything(refused):
    """Also where Redis was started before the watchdog had a user of its own."""
    fake, asked = Fake(), []

    def inside(_container, *words, stdin=None, **_):
        asked.append((words, stdin))
        if "--user" in words:
            return refused
        return host.Ended(0, "used_memory:5\n" if stdin == "INFO\n" else "3\n4\n", "")

    fake.inside = inside
    assert checks_redis.read_redis(fake, settings()) == {"info": {"used_memory": "5"}, "queues": {"celery": 3, "trading": 4}, "overdue": 0, "waiting": []}
    assert [words for words, stdin in asked if "EVAL" in stdin] == [("redis-cli", "--user", "_watchdog", "-e", "-n", "2")]


def test_a_redis_that_does_not_answer_is_told():
    fake = Fake()
    fake.ended = {
        "inside redis redis-cli --user _watchdog -e -n 2": host.Ended(1, "", "Connection refused"),
        "inside redis redis-cli --user _watchdog -e": host.Ended(0, "a:5", ""),
    }
    with pytest.raises(OSError, match="Connection refused"):
        checks_redis.read_redis(fake, settings())


@pytest.mark.parametrize(
    ("said", "damaged"),
    [
        ("Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup of your AOF file", "appendonly.aof.1.incr.aof"),
        ("Unexpected end of file reading the append only file appendonly.aof.2.incr.aof. You can: 1) Make", "appendonly.aof.2.incr.aof"),
        ("Unknown command 'SXT' reading the append only file appendonly.aof.1.incr.aof", "appendonly.aof.1.incr.aof"),
        ("[offset 0] Checking RDB file appendonlydir/appendonly.aof.1.base.rdb", "appendonly.aof.1.base.rdb"),
        ("Fatal error loading the DB, check server logs. Exiting.", "its log or its snapshot"),
        ("Bad file format reading the append only file a.aof: x\nServer initialized\nReady to accept connections", ""),
        ("Can't open the configuration file", ""),
    ],
)
def test_a_redis_that_cannot_read_its_files_names_the_damaged_one(said, damaged):
    fake = Fake()
    fake.ended = {"inside redis": host.Ended(125, "", "no container with name redis"), "journalctl": host.Ended(0, f"Server initialized\n{said}\n", "")}
    if damaged:
        assert checks_redis.read_redis(fake, settings()) == {"damaged": damaged}
        return
    with pytest.raises(OSError, match="no container with name redis"):
        checks_redis.read_redis(fake, settings())


def test_the_files_that_count_are_those_of_the_service_user(tmp_path, monkeypatch):
    units = tmp_path / ".config/containers/systemd"
    units.mkdir(parents=True)
    for name in ("web-1.container", "senex-network.network", ".env", "notes.txt"):
        (units / name).touch()
    (units / "linked.container").symlink_to("/nowhere")  # cannot be read, and would be the first to be refused
    fake = Fake()
    fake.home = str(tmp_path)
    fake.ended = {"podman --version": host.Ended(0, "podman version 4.9.3\n", ""), "as_user": host.Ended(0, "", NOT_OURS)}
    monkeypatch.setattr(doctor, "GENERATORS", (str(units / "web-1.container"),))
    data = doctor.read_podman(fake, settings())
    assert data["ours"] == ["linked.container", "senex-network.network", "web-1.container"]
    assert [one.level for one in doctor.judge_podman(data, settings(), NOW)] == [OK]


@pytest.mark.parametrize(
    ("version", "installed", "programs", "levels"),
    [
        ("4.9.3", True, ["conmon", "slirp4netns"], [OK]),
        ("4.9.3", True, ["conmon"], [FAIL]),
        ("4.9.3", True, [], [OK]),
        ("5.4.2", True, ["conmon"], []),
        ("10.0.0", True, ["conmon"], []),
        ("5.4.2", False, ["conmon"], []),
        ("", True, ["conmon"], [FAIL]),
    ],
)
def test_the_way_out_is_looked_for_where_podman_does_not_look_after_it(tmp_path, monkeypatch, version, installed, programs, levels):
    monkeypatch.setattr(checks_containers, "SLIRP", str(tmp_path / "slirp4netns"))
    if installed:
        (tmp_path / "slirp4netns").touch()
    fake = Fake()
    fake.ended, fake.programs = {"podman --version": host.Ended(0, f"podman version {version}\n", "")}, programs
    (check,) = [one for one in checks_containers.CHECKS if one.name == "outside"]
    found = check.find(fake, settings(), NOW)
    assert [one.level for one in found] == levels
    assert levels != [FAIL] or not version or found[0].do.startswith("systemctl restart user@987.service;")
    assert installed or fake.done == [], "a host without the program is asked nothing more"


def test_programs_of_the_service_user_are_read_as_pgrep_prints_them(monkeypatch):
    asked = host.Host.__new__(host.Host)
    asked.uid, ended = 987, [host.Ended(0, "11 conmon\n12 conmon\n40 slirp4netns\n", ""), host.Ended(1, "", ""), host.Ended(1, "", "Failed to connect to bus")]
    monkeypatch.setattr(asked, "as_user", lambda *argv, **_: ended.pop(0), raising=False)
    assert asked.processes("conmon", "slirp4netns") == ["conmon", "slirp4netns"]
    assert asked.processes("conmon", "slirp4netns") == []
    with pytest.raises(OSError, match="Failed to connect to bus"):
        asked.processes("conmon", "slirp4netns")


def test_each_container_is_found_once_however_many_addresses_it_has():
    """getent has a line for each address, and an instance in two networks was said twice."""
    fake = Fake()
    found = "10.89.0.4       web-2.dns.podman web-2\n10.90.0.4       web-2.dns.podman web-2\n10.89.0.2       postgres.dns.podman\n"
    fake.ended["inside web-1 getent"] = host.Ended(0, found, "")
    (finding,) = checks_containers.judge_dns(checks_containers.read_dns(fake, settings()), settings(), NOW)
    assert finding.level == OK and finding.says == "web-1 finds web-2, postgres"


def test_a_unit_of_a_single_command_is_not_watched(monkeypatch):
    """What systemd-run made and what Podman makes for health checks; one that is gone meanwhile failed no more."""
    monkeypatch.setattr(host.pwd, "getpwnam", lambda name: type("Entry", (), {"pw_uid": 987, "pw_gid": 987}))
    transient = ["run-u12.service", "run-p7-i8.service", f"{'0a' * 32}-282c9873.service", "by-hand.service"]
    shown = {name: {"Id": name, "ActiveState": "failed", "Transient": "yes"} for name in transient}
    shown["nightly.service"] = {"Id": "nightly.service", "ActiveState": "failed", "Transient": "no"}
    shown["gone.service"] = {"Id": "gone.service", "ActiveState": "inactive"}
    here = host.Host("senex", "/nowhere")
    shown["nginx.service"] = {"Id": "nginx.service", "ActiveState": "active"}
    said = "\n\n".join("\n".join(f"{key}={value}" for key, value in state.items()) for state in shown.values())
    asked = []
    monkeypatch.setattr(here, "systemctl", lambda scope, *words, timeout=15: asked.append(words) or host.Ended(0, said, ""))
    states, failed = here.seen("system", ["nginx.service", "absent.service"])
    assert failed == ["nightly.service"] and list(states) == ["nginx.service"] and len(asked) == 1, "one process for all of it"


class Half(Fake):
    """A host on which one manager does not answer: its user has ended it, or lets it say more than anybody reads."""

    def __init__(self, silent):
        super().__init__()
        self.silent = silent

    def seen(self, scope, names):
        if scope == self.silent:
            raise OSError(f"the {scope} manager does not answer: printed more than 4194304 bytes")
        return super().seen(scope, names)


@pytest.mark.parametrize(("silent", "other"), [("user", "nginx.service"), ("system", "redis.service")])
def test_a_manager_that_does_not_answer_hides_nothing_of_the_other(silent, other):
    half = Half(silent)
    half.states[other] = {"ActiveState": "failed", "Result": "exit-code"}
    half.failures = [("system", "nightly.service"), ("user", "backup-dump.service")]
    found = {one.key: one.level for one in Check("units", checks_host.read_units, checks_host.judge_units).find(half, settings(), NOW)}
    foreign = "unit nightly.service" if silent == "user" else "user unit backup-dump.service"
    assert found == {f"manager of the {silent}": FAIL, f"unit {other}": FAIL, foreign: FAIL}


@pytest.mark.parametrize("since", ["", "never", "-1", "9" * 5000])
def test_what_a_manager_says_of_times_hides_no_unit(since):
    data = units(**{"web-1.service": {"ActiveState": "activating", "SubState": "start", "InactiveExitTimestampMonotonic": since}})
    data["system"]["nginx.service"] = {"ActiveState": "failed", "Result": "exit-code"}
    assert ("unit nginx.service", FAIL) in [(one.key, one.level) for one in checks_host.judge_units(data, settings(), NOW)]


def test_a_disk_that_cannot_be_asked_hides_no_other(tmp_path):
    """Whoever has the directory above it may put a link there that leads to itself, or a file."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    paths = [f"{tmp_path}/loop", f"{tmp_path}/file/data", "/"]
    found = Check("disk", checks_host.read_disk, checks_host.judge_disk).find(Fake(), settings(disks=paths), NOW)
    assert [(one.key, one.level) for one in found if "cannot be read" in one.says] == [(f"disk {path}", FAIL) for path in paths[:2]]
    assert [one.key for one in found if "free" in one.says] == ["disk /"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
@pytest.mark.parametrize("end", [b"991399999999Z", b"99xx01000000Z"])
def test_a_certificate_whose_end_is_no_time_hides_no_other(tmp_path, end):
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x", "-days", "2"]
    subprocess.run([*made, "-keyout", tmp_path / "key", "-out", tmp_path / "b.crt"], check=True, capture_output=True)
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "b.crt").read_text())
    place = der.index(b"\x17\x0d", der.index(b"\x17\x0d") + 2) + 2  # the second UTCTime
    (tmp_path / "a.crt").write_text(ssl.DER_cert_to_PEM_cert(der[:place] + end + der[place + len(end) :]))
    asked = host.Host(pwd.getpwuid(os.getuid()).pw_name, "/nowhere")
    checked = settings(certificates=[f"{tmp_path}/*.crt"], public=None)
    found = Check("certificates", checks_certificates.read_certificates, checks_certificates.judge_certificates).find(asked, checked, time.time())
    assert [(one.key, one.level) for one in found] == [(f"certificate {tmp_path}/a.crt", WARN), (f"certificate {tmp_path}/b.crt", OK)]
    assert "is no certificate" in found[0].says


def test_the_image_is_the_one_of_the_units_on_this_host(tmp_path):
    """A release writes units and leaves the watchdog's configuration as it is."""
    here = host.Host(pwd.getpwuid(os.getuid()).pw_name, str(tmp_path))
    units = tmp_path / ".config/containers/systemd"
    units.mkdir(parents=True)
    (units / "web-2.container").write_text("[Container]\n#Image=registry/app:0\nImage=registry/app:2\n", encoding="utf-8")
    (units / "odd.container").write_text("[Container]\nImage=--privileged\n", encoding="utf-8")
    assert here.unit_image(["web-1.service", "odd.service", "web-2.service"]) == "registry/app:2"
    assert here.unit_image(["web-1.service", "odd.service"]) == here.unit_image([]) == ""


def test_a_resolver_is_not_ended_where_none_can_be_started(tmp_path):
    here = host.Host(pwd.getpwuid(os.getuid()).pw_name, str(tmp_path))
    here.as_user = here.podman = None
    assert here.revive_resolver("senex", "").code == 1


def test_the_image_of_the_units_is_asked_of_the_registry():
    fake = Fake()
    fake.ended = {"podman search": host.Ended(0, "1\n", "")}
    assert doctor.read_image(fake, settings())["image"] == "registry/of-web-1.service:1"
    assert doctor.read_image(fake, settings(image_of=[])) == {"image": ""}
