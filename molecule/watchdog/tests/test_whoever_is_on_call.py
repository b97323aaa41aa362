"""The command of whoever is on call, status and doctor, beside a real stack."""

import json
import re
import shlex
import time

import pytest
from parts import SYSTEMCTL, eventually


def status(host):
    """Exit status, and findings by key."""
    done = host.run("senex status --json")
    return done.rc, {one["key"]: one for one in json.loads(done.stdout)["findings"]}


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ("senex psql -Atc 'select 40 + 2'", "42"),
        ("echo 'select 40 + 3;' | senex psql -At", "43"),
        ("senex redis-cli ping", "PONG"),
        ("senex shell web-1 -c 'echo $INSTANCE'", "web-1"),
        ("senex manage shell -v 0 -c 'print(6 * 7)'", "42"),
    ],
)
def test_it_gets_into_every_container(host, words, out):
    assert host.check_output(words).strip() == out


def test_exit_codes_pass_through(host):
    assert host.run("senex shell web-1 -c 'exit 7'").rc == 7
    assert host.run("senex manage nonsense").rc == 1
    assert host.run("senex psql -v ON_ERROR_STOP=1 -c 'select nonsense'").rc == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("senex restart nonsense", "there is no part 'nonsense' on this host; there are postgres, redis, "),
        ("senex pitr list", "/opt/senex-trader/bin/pitr is not installed: run the playbook"),
        ("senex watchdog pause soon", "'soon' is no duration; write such as 90s, 30m or 2h"),
    ],
)
def test_what_it_cannot_do_it_says(host, words, says):
    done = host.run(words)
    assert done.rc == 1
    assert says in done.stderr


def test_logs_show_the_part_and_no_other(host):
    host.check_output("senex psql -c 'select nonsense_of_postgres' || true")
    eventually(lambda: "nonsense_of_postgres" in host.check_output("senex logs postgres -n 20"))
    assert "nonsense_of_postgres" not in host.check_output("senex logs redis web -n 200")


def test_restart_waits_until_the_part_is_ready(host, watched):
    before = watched.web[0].pid
    assert "ready" in host.check_output("senex restart web-1")
    assert watched.alive(8001)
    assert watched.web[0].pid != before


def test_bash_completes_parts(host):
    done = host.check_output("bash -c '. /etc/bash_completion.d/senex; COMP_WORDS=(senex restart we); COMP_CWORD=2; _senex; echo ${COMPREPLY[@]}'")
    assert done.split() == ["web-1", "web-2", "web"]


def test_status_of_a_whole_stack_is_healthy(host, watched):
    watched.calm()
    code, found = status(host)
    assert code == 0, found
    names = "public application containers dns database redis queues beat units memory release time reboot settings backups watchdog"
    assert {"web web-1", "web web-2", *names.split()} <= set(found)
    assert {one["key"] for one in found.values() if one["level"] == "FAIL"} == set()


def test_status_warns_of_what_overrides_a_setting(host):
    """And not of a command that failed, whoever ran it."""
    other = "/etc/systemd/journald.conf.d/zz-other.conf"
    host.check_output(f"printf '[Journal]\nStorage=volatile\n' >{other}; systemd-run --quiet --unit=typo false; systemd-run --quiet --user -M senex@ false")
    try:
        code, found = status(host)
        assert code == 0, found
        setting = found["setting journald.conf Storage"]
        assert setting["level"] == "WARN" and f"is volatile, not persistent; {other} sets it" in setting["says"]
        assert "settings" not in found and not [key for key in found if key.startswith("unit ")]
    finally:
        host.run(f"rm {other}; systemctl reset-failed; {SYSTEMCTL} reset-failed")
    assert status(host)[1]["settings"]["level"] == "OK"


def test_the_watchdog_itself_reads_them(watched):
    """From its sandbox, in which the kernel's settings are read-only."""
    assert [line for line in watched.log("settings: ") if "cannot be read" in line] == []


def test_status_shows_what_is_broken(host, watched):
    """Redis away, tasks in a queue that nobody reads, a reboot due: each its line, and the exit status."""
    host.check_output("senex watchdog pause 5m; touch /run/reboot-required; echo linux-image >/run/reboot-required.pkgs")
    host.check_output(f"{SYSTEMCTL} stop celery-worker.service; for i in $(seq 120); do echo LPUSH trading x; done | senex redis-cli -n 2 >/dev/null")
    try:
        code, found = status(host)
        assert code == 2
        assert {found[key]["level"] for key in ("queues", "reboot", "watchdog")} == {"WARN"}
        assert "trading 120" in found["queues"]["says"] and "linux-image" in found["reboot"]["says"]
        assert found["unit celery-worker.service"]["level"] == "FAIL"
        host.check_output(f"{SYSTEMCTL} stop redis.service")
        code, found = status(host)
        assert code == 2
        assert {found[key]["level"] for key in ("unit redis.service", "redis", "application")} == {"FAIL"}
    finally:
        host.check_output(f"{SYSTEMCTL} start redis.service; senex redis-cli -n 2 del trading; {SYSTEMCTL} start celery-worker.service")
        host.check_output("rm /run/reboot-required*; senex watchdog resume")
    watched.calm(120)


@pytest.mark.faults
def test_what_status_says_to_do_brings_names_back(host, watched):
    host.check_output("senex watchdog pause 5m; pkill -9 -u senex -x aardvark-dns")
    try:
        code, found = status(host)
        assert code == 2 and found["dns"]["level"] == "FAIL"
        host.check_output(found["dns"]["do"].partition(" starts it again")[0])
        assert status(host)[1]["dns"]["level"] == "OK"
    finally:
        host.check_output("senex watchdog resume")
    watched.calm()


@pytest.mark.faults
def test_doctor_sees_workers_that_do_not_keep_up_and_a_network_that_never_came(host, watched):
    """Tasks come for half a minute to a queue that nobody reads; nothing waits for the network's target at the moment."""
    push = "for i in $(seq 300); do echo LPUSH trading x x x x x x; sleep 0.1; done | senex redis-cli -n 2"
    host.check_output(f"senex watchdog pause 5m; {SYSTEMCTL} stop celery-worker.service; systemctl stop network-online.target")
    host.check_output(f"systemd-run --quiet --collect --unit=pusher sh -c {shlex.quote(push)}")
    try:
        eventually(lambda: int(host.check_output("senex redis-cli -n 2 llen trading").split()[-1]) > 10)
        said = host.run("senex doctor").stdout
        assert "queue growth" in said and "trading" in said
        assert "network-online.target is inactive" in said and "systemd-networkd-wait-online" in said
    finally:
        host.check_output("systemctl stop pusher.service; senex redis-cli -n 2 del trading; systemctl start network-online.target")
        host.check_output(f"{SYSTEMCTL} start celery-worker.service")
        host.check_output("senex watchdog resume")
    watched.calm(120)


def test_activity_names_who_holds_others_up(host, watched):
    """A session that is idle in its transaction: nothing runs that could be cancelled."""
    for unit, words in (
        ("holder", "(echo 'create table held (x int); begin; lock table held;'; sleep 600) | senex psql"),
        ("waiter", "sleep 2; senex psql -c 'insert into held values (1)'"),
    ):
        host.check_output(f"systemd-run --quiet --collect --unit={unit} sh -c {shlex.quote(words)}")
    try:
        said = eventually(lambda: (text := host.check_output("senex activity")) and "holds others up" in text and text, 40)
        assert "web-1" in said and "idle in transaction" in said and "insert into held" in said
        host.check_output(re.search(r"holds others up; (.+?) ends it", said)[1])
        assert eventually(lambda: host.check_output("senex psql -Atc 'select count(*) from held'").strip() == "1")
    finally:
        host.run("systemctl stop holder waiter; senex psql -c 'drop table held'")


def test_what_hangs_is_killed_at_once(host, watched):
    pid = watched.web[0].pid
    host.check_output("senex watchdog pause 5m")
    try:
        host.check_output(f"kill -STOP {pid}")
        begin = time.monotonic()
        assert "web-1.service: ready" in host.check_output("senex restart --now web-1")
        assert time.monotonic() - begin < 20 and watched.alive(8001) and watched.web[0].pid != pid
    finally:
        host.check_output("senex watchdog resume")
    watched.calm()


def test_doctor_names_cause_and_cure(host, watched):
    """Lingering off, subordinate ids gone, a key that the generator refuses, a stranger at a port, a registry that is away: all at once."""
    odd, web = (f"/opt/senex-trader/.config/containers/systemd/{name}.container" for name in ("odd", "web-1"))
    host.check_output(
        "senex watchdog pause 5m; cp -a /etc/subuid /root/subuid; sed -i /^senex:/d /etc/subuid;"
        f"printf '[Container]\\nImage=x\\nNoSuchKey=1\\n' >{odd}; {SYSTEMCTL} stop web-2.service; cp -a {web} /root/;"
        f"sed -i s/registry.senex.test:5000/registry.senex.test:5999/ {web};"
        "systemd-run --quiet --unit=stranger python3 -m http.server --bind 127.0.0.1 8002"
    )
    try:
        eventually(lambda: ":8002 " in host.check_output("ss -Hltn"))
        # No session of the user may begin or end meanwhile: logind would stop its manager
        done = host.run("mv /var/lib/systemd/linger/senex /root/; senex doctor; code=$?; mv /root/senex /var/lib/systemd/linger/; exit $code")
        assert done.rc == 2
        for words in (
            ("lingering", "loginctl enable-linger senex"),
            ("subuid", "/etc/subuid has no range for senex"),
            ("quadlet", "NoSuchKey"),
            ("port 8002", "is taken by python3"),
            ("image", "the registry does not answer"),
        ):
            assert all(word in done.stdout for word in words), (words, done.stdout)
    finally:
        host.check_output(
            f"cp -a /root/subuid /etc/subuid; rm {odd}; systemctl stop stranger.service;"
            f"cp -a /root/web-1.container {web}; {SYSTEMCTL} start web-2.service; senex watchdog resume"
        )
    watched.calm()
    assert host.run("senex doctor").rc == 0
