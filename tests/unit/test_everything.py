"""What removal of everything takes, and what it leaves, by the manifests of a host."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.engine import everything
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest

HOME = "/opt/senex-trader"
ROOT = Path(__file__).parents[2]
SHOWN = """Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp comment 'senex.trader'
ufw allow 80/tcp comment 'senex.trader'
ufw allow from 10.0.0.5 to any port 5432 proto tcp comment 'senex.trader'
ufw allow 8080/tcp comment 'mine'
ufw allow 9090/tcp
"""


def manifest(directory, name, files=(), units=(), secrets=()):
    made = Manifest(name, str(directory))
    made.files, made.units, made.secrets = list(files), list(units), list(secrets)
    made.save()


@pytest.fixture
def host(tmp_path):
    manifest(tmp_path, "common", ["/etc/sysctl.d/60-senex.conf", "/etc/systemd/system/swapfile.swap"])
    manifest(tmp_path, "watchdog", ["/etc/systemd/system/senex-watchdog.service", "/usr/local/lib/senex-trader/senex-watchdog"])
    manifest(tmp_path, "podman-system", ["/etc/systemd/system/user@987.service.d/senex.conf"])
    for name in ("postgresql", "podman", "django", "celery", "redis"):
        manifest(tmp_path, name, [f"{HOME}/.config/containers/systemd/{name}.container"], [f"{name}.service"])
    manifest(tmp_path, "something-new", [f"{HOME}/config/new"])
    return everything.Host("no-such-user", HOME, str(tmp_path))


def test_who_serves_goes_before_what_it_stands_on(host):
    assert host.of_user == ["celery", "django", "redis", "postgresql", "something-new", "podman"]
    assert host.of_system == ["watchdog", "podman-system", "common"]


def test_units_of_the_system_are_those_whose_file_is_ours(host):
    """A drop-in for somebody else's unit makes it none of ours."""
    assert host.system_units() == ["senex-watchdog.service", "swapfile.swap"]


def test_what_a_drop_in_alone_keeps_closed_stops_with_it(tmp_path):
    """As its package has it, it listens at every address."""
    names = ("prometheus.service", "prometheus-alertmanager.service")
    manifest(tmp_path, "monitoring", ["/etc/senex-trader/metrics/web.yml", *(f"/etc/systemd/system/{name}.d/senex.conf" for name in names)])
    manifest(tmp_path, "nginx", ["/etc/systemd/system/nginx.service.d/senex.conf"])
    assert everything.Host("no-such-user", HOME, str(tmp_path)).system_units() == list(names)


def test_what_the_application_stands_on_stops_behind_it(tmp_path, monkeypatch):
    """PgBouncer ran on with a configuration that was gone, and the next start of the host brought it as its package has it."""
    manifest(tmp_path, "pgbouncer", ["/etc/senex-trader/pgbouncer.ini", "/etc/systemd/system/pgbouncer.service.d/senex.conf"])
    manifest(tmp_path, "watchdog", ["/etc/systemd/system/senex-watchdog.service"])
    host = everything.Host("no-such-user", HOME, str(tmp_path))
    told = []
    monkeypatch.setattr(everything, "command", lambda argv: told.append(argv) or subprocess.CompletedProcess(argv, 0, "", ""))
    transaction = SimpleNamespace(run=lambda check: told.append(["removed"]))
    monkeypatch.setattr(everything, "SystemTransaction", lambda *_, **__: transaction)
    for name in ("restore_originals", "remove_made"):
        monkeypatch.setattr(everything, name, lambda: [])
    assert host.stop_system() == ["senex-watchdog.service"] and "pgbouncer.service" in host.system_units()
    told.clear()
    host.remove_system()
    assert told[:2] == [["systemctl", "disable", "--now", "pgbouncer.service"], ["removed"]]


def test_each_unit_of_a_package_that_a_role_has_a_drop_in_for_is_stopped_with_it():
    """nginx has a step of its own in the playbook; the user manager's and journald's go on."""
    own = {
        path.parts[-3] for path in (ROOT / "roles").glob("*/vars/main.yml") if "/etc/systemd/system/" in path.read_text() and ".service.d" in path.read_text()
    }
    assert own - {"nginx", "podman", "common"} == set(everything.CLOSED_BY_US)
    pooler = yaml.safe_load((ROOT / "roles/pgbouncer/vars/main.yml").read_text())
    assert pooler["__pgbouncer_keys"] in everything.MADE


def test_rules_of_others_and_the_one_for_ssh_stay(host, monkeypatch):
    told = {"ufw": SHOWN, "/usr/sbin/sshd": "port 22\nlistenaddress 0.0.0.0:22\n"}
    monkeypatch.setattr(everything, "command", lambda argv: subprocess.CompletedProcess(argv, 0, told.get(argv[0], ""), ""))
    assert host.rules() == ["allow 80/tcp", "allow from 10.0.0.5 to any port 5432 proto tcp"]


def test_nothing_that_stays_is_in_what_goes(host):
    """No path of data is in any list by which something is removed."""
    assert not [place for place in everything.MADE if place.startswith((HOME, "/var/lib"))]
    assert {"data", "backups"} <= set(everything.DATA)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with data, and a place that root may write to."""
    (tmp_path / "home/data/postgres").mkdir(parents=True)
    (tmp_path / "home/data/postgres/PG_VERSION").write_text("15\n")
    monkeypatch.setattr(everything.fileset, "swap", lambda wanted: Path(wanted[0][0]).touch(mode=0o600))
    monkeypatch.setattr(everything.fileset, "own_ground", lambda paths: None)
    return tmp_path / "home"


def test_an_archive_is_compared_with_what_it_holds(home, tmp_path, monkeypatch):
    """And has its name only when it is whole: what a run left that was cut short or refused is not taken for one, and the next run takes its room."""
    target, part = tmp_path / "x.tar", tmp_path / everything.PART
    everything.archive(str(home), ["data"], str(target))
    listed = subprocess.run(["tar", "-tf", target], capture_output=True, text=True, check=True).stdout
    assert "data/postgres/PG_VERSION" in listed and target.stat().st_mode & 0o77 == 0 and not part.exists()
    target.unlink()
    run = subprocess.run

    def meddled(argv, **more):
        if "--compare" in argv:
            (home / "data/postgres/PG_VERSION").write_text("16\n")
        return run(argv, **more)

    monkeypatch.setattr(everything.subprocess, "run", meddled)
    with pytest.raises(OSError, match="is not what"):
        everything.archive(str(home), ["data"], str(target))
    with pytest.raises(OSError, match="tar ended with 2"):
        everything.archive(str(home), ["not-there"], str(target))
    assert part.exists() and not target.exists()


def test_an_archive_that_cannot_be_made_is_refused_before_anything_goes(home, tmp_path, monkeypatch):
    assert everything.no_room(str(home), str(tmp_path), 1) == ""
    assert "lies in" in everything.no_room(str(home), str(home / "data"), 1)
    assert "no directory" in everything.no_room(str(home), str(tmp_path / "missing"), 1)
    free = shutil.disk_usage(tmp_path).free
    assert "make room" in everything.no_room(str(home), str(tmp_path), free)
    (tmp_path / everything.PART).write_bytes(bytes(1 << 20))
    monkeypatch.setattr(everything.shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    assert everything.no_room(str(home), str(tmp_path), 900_000) == "", "what a killed run left makes room"


def test_data_is_found_without_the_account_and_where_inputs_have_put_it(home, tmp_path):
    """After a run that was killed between the account and the new name of the home."""
    (home / "elsewhere/redis").mkdir(parents=True)
    (tmp_path / "redis.data").write_text(json.dumps({f"{home}/elsewhere/redis": "filled", "/srv/other": "filled"}))
    host = everything.Host("no-such-user", str(home), str(tmp_path))
    assert host.data_names() == ["data", "elsewhere"]
    assert [one["path"] for one in host.data()] == [f"{home}/data", f"{home}/elsewhere"] and all(one["bytes"] > 0 for one in host.data())


def test_what_was_there_before_comes_back_where_nothing_took_its_place(tmp_path, monkeypatch):
    aside, place = tmp_path / "aside", tmp_path / "etc"
    place.mkdir()
    for name in ("one", "two"):
        (aside / str(place).lstrip("/")).mkdir(parents=True, exist_ok=True)
        (aside / str(place).lstrip("/") / name).write_text("before")
    (place / "two").write_text("now")
    monkeypatch.setattr(everything, "ASIDE", str(aside))
    assert everything.restore_originals() == [str(place / "one")]
    assert (place / "one").read_text() == "before" and (place / "two").read_text() == "now"
