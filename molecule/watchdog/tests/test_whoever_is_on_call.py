"""The command of whoever is on call, status and doctor, beside a real stack."""

import json

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
        ("senex restart nonsense", "there is no part 'nonsense' on this host; there are postgres, redis, web-1"),
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
    names = "public application containers dns database redis queues beat units memory release time reboot backups watchdog"
    assert {"web web-1", "web web-2", *names.split()} <= set(found)
    assert {one["key"] for one in found.values() if one["level"] == "FAIL"} == set()


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


def test_doctor_names_cause_and_cure(host, watched):
    """Lingering off, subordinate ids gone, a key that the generator refuses, a stranger at a port, a registry that is away: all at once."""
    odd = "/opt/senex-trader/.config/containers/systemd/odd.container"
    host.check_output(
        "senex watchdog pause 5m; cp -a /etc/subuid /root/subuid; sed -i /^senex:/d /etc/subuid;"
        f"printf '[Container]\\nImage=x\\nNoSuchKey=1\\n' >{odd}; {SYSTEMCTL} stop web-2.service; cp -a /etc/senex-trader/watchdog.json /root/;"
        "sed -i s/registry.senex.test:5000/registry.senex.test:5999/ /etc/senex-trader/watchdog.json;"
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
            f"cp -a /root/watchdog.json /etc/senex-trader/watchdog.json; {SYSTEMCTL} start web-2.service; senex watchdog resume"
        )
    watched.calm()
    assert host.run("senex doctor").rc == 0
