"""The watchdog beside a real stack that is broken on purpose. Later tests find the restarts of the earlier ones in the log, and count from there."""

import json
import re
import shlex
import time

import pytest
from parts import HOME, SYSTEMCTL, eventually

WATCHDOG = "systemctl show senex-watchdog.service --property=MainPID --value"


def test_a_healthy_stack_is_left_alone(watched):
    """Since it was installed: nothing restarted, nobody told."""
    watched.host.check_output("systemctl is-active senex-watchdog.service")
    eventually(lambda: len(watched.lines("beats")) >= 2)
    assert watched.restarts == 0
    assert watched.mails == []


def test_its_secrets_are_roots_alone(host):
    assert host.file("/etc/senex-trader/watchdog.secrets.json").mode == 0o600
    assert host.run("runuser -u nobody -- grep -rls -e 'mail-password-[$]' -e secret-pat[h] /etc /opt /run /usr/local /var/log").stdout == ""
    assert "secret-path" not in host.check_output("cat /var/log/senextrader/watchdog.log")
    assert host.run("journalctl --no-pager -q | grep -a -e 'mail-password-[$]' -e /secret-pat[h]").stdout == ""


def test_what_root_runs_is_roots_and_has_one_owner(host):
    place = "/usr/local/lib/senex-trader"
    assert host.check_output(rf"find {place} /usr/local/bin/senex \( ! -user root -o -perm /022 \)") == ""
    owners = {name: json.loads(host.check_output(f"cat /var/lib/senex.trader/{name}.json"))["files"] for name in ("watchdog", "operator_cli", "host-library")}
    assert [name for name, files in owners.items() if "/usr/local/bin/senex" in files] == ["operator_cli"]
    assert f"{place}/senex_host/lock.py" in owners["host-library"] and host.run(f"ls {place}/senex_ops/untrusted.py").rc != 0


def test_its_unit_is_hardened(host):
    found = re.search(r"exposure level for senex-watchdog.service: ([0-9.]+)", host.run("systemd-analyze security --no-pager senex-watchdog.service").stdout)
    assert float(found[1]) <= 2.5


def test_a_hung_instance_is_cured_and_told_once(watched):
    web = watched.web[0]
    pid, before = web.pid, watched.restarts
    watched.host.check_output(f"kill -STOP {pid}")
    begin = time.monotonic()
    eventually(lambda: watched.restarts > before and watched.alive(8001), 45)
    print(f"cured in {time.monotonic() - begin:.1f} s")
    assert web.pid != pid
    (mail,) = eventually(lambda: watched.told("web-1", "restarted because", "OK "))
    assert mail["tls"] and mail["user"] == "watchdog" and mail["to"] == ["oncall@senex.test"]
    (hook,) = eventually(lambda: [one for one in watched.lines("hooks") if "web-1" in one["subject"]])
    assert hook["host"] == "molecule-watchdog" and any("restarted because" in line for line in hook["lines"])
    assert watched.restarts == before + 1
    assert len(watched.told("web-1")) == 1


def test_a_dead_port_is_cured(watched):
    """The unit is active and the container healthy, and the port on the host answers nothing."""
    before = watched.restarts
    watched.host.check_output(
        "for pid in $(cat /sys/fs/cgroup$(systemctl --user -M senex@ show web-2 --property=ControlGroup --value)/runtime/cgroup.procs); do "
        "grep -q rootlessport /proc/$pid/comm && kill -9 $pid; done; true"
    )
    assert not watched.alive(8002)
    eventually(lambda: watched.restarts > before and watched.alive(8002), 45)
    watched.calm()


def test_a_crashed_instance_is_left_to_systemd(watched):
    before = watched.restarts
    watched.web[0].kill()
    eventually(lambda: watched.alive(8001))
    assert watched.restarts == before
    watched.calm()


@pytest.mark.faults
def test_an_instance_that_crashes_at_each_start_is_told_once(watched):
    """systemd starts it again and again, which no restart of the watchdog's would do better."""
    watched.calm(90)  # a trouble that is open already is not told a second time
    drop_in, before = f"{HOME}/.config/containers/systemd/web-1.container.d", watched.restarts

    def since(kind, seen=0):
        """How many notices of web-1 there are; the tests before this one made some too."""
        return len(watched.told(f"{kind:4}  web web-1")) - seen

    failed, well = since("FAIL"), since("OK")
    watched.host.check_output(f"mkdir -p {drop_in} && printf '[Container]\\nExec=false\\n' >{drop_in}/crash.conf && chown -R senex: {drop_in}")
    try:
        watched.host.check_output(f"{SYSTEMCTL} daemon-reload; {SYSTEMCTL} restart --no-block web-1.service")
        eventually(lambda: since("FAIL", failed), 45)
        eventually(lambda: watched.log("web-1: no restart: its unit is activating"), 45)
        failures = len(watched.log("web-1: failure"))
        eventually(lambda: len(watched.log("web-1: failure")) >= failures + 5, 45)
        assert watched.public(), "the other instance serves"
    finally:
        watched.host.check_output(f"rm -r {drop_in}; {SYSTEMCTL} daemon-reload")
    eventually(lambda: since("OK", well), 90)
    assert watched.restarts - before <= 1
    assert since("FAIL", failed) == 1
    watched.calm(90)


@pytest.mark.faults
def test_a_host_that_resolves_no_name_is_left_alone(watched):
    """Instances are asked at their addresses; a resolver that is away says nothing of them."""
    before, failures = watched.restarts, len(watched.log(": failure "))
    watched.host.check_output("cp /etc/resolv.conf /root/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf")
    try:
        assert watched.host.run("timeout 3 getent hosts registry.example.com").rc != 0
        time.sleep(18)  # three failures of an instance take 12 s, two of the network's resolver 14
    finally:
        watched.host.check_output("cat /root/resolv.conf >/etc/resolv.conf")
    assert watched.restarts == before
    assert len(watched.log(": failure ")) == failures


@pytest.mark.faults
def test_a_watchdog_without_cpu_blames_nobody(watched):
    """It is let run for half a second in three, while an instance hangs: that is found when it can judge again."""
    web, before = watched.web[0], watched.restarts
    pid, trouble = watched.host.check_output(WATCHDOG), len(watched.log("own trouble"))
    starve = f"while :; do kill -STOP {pid}; sleep 2.5; kill -CONT {pid}; sleep 0.5; done"
    watched.host.check_output(f"systemd-run --quiet --collect --unit=starve sh -c {shlex.quote(starve)}")
    try:
        eventually(lambda: len(watched.log("own trouble")) > trouble, 30)
        watched.host.check_output(f"kill -STOP {web.pid}")
        time.sleep(18)  # with a processor it is found in 12 s
        assert watched.restarts == before
        assert not watched.alive(8001)
    finally:
        watched.host.check_output(f"systemctl stop starve.service; kill -CONT {pid}")
    eventually(lambda: watched.restarts == before + 1 and watched.alive(8001), 60)
    assert watched.host.check_output(WATCHDOG) == pid, "it was ended for hanging"
    watched.calm()


def test_name_resolution_between_containers_comes_back(watched):
    before = watched.restarts
    watched.host.check_output("pkill -9 -u senex -x aardvark-dns")
    assert watched.web[1].script("getent hosts redis").rc != 0
    eventually(lambda: watched.restarts > before and watched.web[1].script("getent hosts redis").rc == 0, 60)
    watched.calm()


def test_database_down_is_told_and_restarts_nothing(watched):
    before = watched.restarts
    watched.host.check_output(f"{SYSTEMCTL} stop postgres.service")
    eventually(lambda: watched.told("FAIL  unit postgres.service") and watched.told("FAIL  application"), 45)
    assert watched.restarts == before
    watched.host.check_output(f"{SYSTEMCTL} start postgres.service")
    eventually(lambda: watched.told("OK    application") and watched.told("OK    unit postgres.service"), 45)
    assert watched.restarts == before


def test_nginx_down_is_started_again(watched):
    watched.host.check_output("systemctl kill --signal=KILL nginx.service; systemctl stop nginx.service; true")
    assert not watched.public()
    eventually(watched.public, 45)
    eventually(lambda: watched.told("DONE  nginx"))


def test_quiet_troubles_are_told_with_what_to_do(watched):
    """Disk, certificate, timer, backup, the lock of a dead release: all at once, and a digest of them, not a flood."""
    host = watched.host
    watched.calm()
    mails = len(watched.mails)
    long_ago = time.time() - 7200
    stale = {"job": "dump", "result": "ok", "finished": "2020-01-01T00:00:00+00:00", "max_age_seconds": 90000, "bytes": 1}
    failed = {"job": "media", "result": "failed", "finished": "2020-01-01T00:00:00+00:00", "error": "the disk of the archive is full"}
    lock = {"id": "x", "what": "deploy of 2", "who": "somebody", "since": long_ago, "renewed": long_ago, "step": "web"}
    # Made beside and renamed: the watchdog may look at any moment, and what it tells of a file that is half written it does not tell again
    made, aside = f"{HOME}/backups/made", "/root/old.crt"
    host.check_output(
        f"mkdir -p {made} && openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -out {aside} -subj /CN=old"
        " -not_before 20200101000000Z -not_after 20200201000000Z 2>&1"
    )
    for path, one in ((f"{made}/dump.json", stale), (f"{made}/media.json", failed), ("/var/lib/senex.trader/deploy.lock.new", lock)):
        host.check_output(f"printf %s '{json.dumps(one)}' >{path}")
    # It fails once: were it started again and again, it would be well for moments between, which is told each time
    host.check_output(
        "printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n' >/etc/systemd/system/nightly.service;"
        "printf '[Timer]\\nOnActiveSec=1s\\nAccuracySec=100ms\\n' >/etc/systemd/system/nightly.timer;"
        "systemctl daemon-reload"
    )
    host.check_output(
        f"fallocate -l 8M /mnt/small/full || true; mv {aside} /root/certificates/ && systemctl start nightly.timer"
        f" && mv {made} {HOME}/backups/status && cd /var/lib/senex.trader && mv deploy.lock.new deploy.lock"
        f" && mkdir -p /run/senex.trader/out && touch -d '1 hour ago' /run/senex.trader/out/127.0.0.1:8001 && {SYSTEMCTL} mask web-2.service"
    )
    for words in (
        ("FAIL  disk /mnt/small", "100 % full", "senex prune-images --keep 1"),
        ("FAIL  certificate /root/certificates/old.crt", "expired"),
        ("FAIL  unit nightly.service", "reset-failed"),
        ("FAIL  backup dump", "last done"),
        ("FAIL  backup media", "the disk of the archive is full"),
        ("FAIL  release", "deploy of 2 by somebody"),
        ("WARN  rotation 127.0.0.1:8001", "gets no requests since", "run site.yml"),
        ("WARN  unit web-2.service", "runs and is masked", "unmasks it"),
    ):
        eventually(lambda words=words: watched.told(*words), 90)
    mine = ("disk /mnt/small", "old.crt", "nightly.service", "backup dump", "backup media", "  release:")
    told = [mail for mail in watched.mails[mails:] if any(word in mail["body"] for word in mine)]
    assert len(told) < 6, told
    host.check_output(
        "systemctl stop nightly.timer nightly.service; systemctl reset-failed nightly.service;"
        f" rm -r /mnt/small/full /root/certificates/old.crt /var/lib/senex.trader/deploy.lock /etc/systemd/system/nightly.* {HOME}/backups/status;"
        f" systemctl daemon-reload; rm /run/senex.trader/out/127.0.0.1:8001; {SYSTEMCTL} unmask web-2.service"
    )
    eventually(lambda: watched.told("OK    disk /mnt/small") and watched.told("OK    release"), 45)
    watched.calm(90)


def test_nothing_is_restarted_during_a_release(watched):
    web, now = watched.web[1], time.time()
    lock = {"id": "x", "what": "deploy of 2", "who": "somebody", "since": now, "renewed": now, "step": "web"}
    watched.host.check_output(f"printf %s '{json.dumps(lock)}' >/var/lib/senex.trader/deploy.lock")
    eventually(lambda: watched.state()["release"])
    before, failures = watched.restarts, len(watched.log("web-2: failure"))
    pid = web.pid
    watched.host.check_output(f"kill -STOP {pid}")
    eventually(lambda: watched.log("web-2: no restart: a release is under way"), 30)
    assert len(watched.log("web-2: failure")) >= failures + 3
    assert watched.restarts == before
    watched.host.check_output("rm /var/lib/senex.trader/deploy.lock")
    eventually(lambda: watched.alive(8002), 60)
    watched.calm()


@pytest.mark.faults
def test_mail_that_does_not_go_out_waits_and_blocks_nothing(watched):
    """Refused, then too slow, then nobody there: the message comes in the end, and instances are watched all the while."""
    host = watched.host
    watched.mode("refuse")
    host.check_output("fallocate -l 8M /mnt/small/full || true")
    eventually(lambda: any(one["mode"] == "refuse" for one in watched.lines("attempts")), 45)
    watched.mode("slow")
    eventually(lambda: any(one["mode"] == "slow" for one in watched.lines("attempts")), 45)
    host.check_output("systemctl stop receiver.service")
    eventually(lambda: watched.log("mail: not delivered, kept and tried again: [Errno 111]"), 45)
    before = watched.restarts
    host.check_output(f"kill -STOP {watched.web[0].pid}")
    eventually(lambda: watched.restarts > before and watched.alive(8001), 45)
    assert watched.state()["waiting"]["mail"]["messages"] >= 1
    host.check_output("rm /root/receiver/mode /mnt/small/full; systemctl start receiver.service")
    eventually(lambda: watched.told("FAIL  disk /mnt/small") and watched.told("DONE  web-1"), 60)
    eventually(lambda: watched.state()["waiting"]["mail"]["messages"] == 0, 60)
    watched.calm()


def test_a_watchdog_that_hangs_or_dies_comes_back(watched):
    host = watched.host
    for signal, seconds in (("KILL", 20), ("STOP", 60)):
        pid = host.check_output(WATCHDOG)
        host.check_output(f"kill -{signal} {pid}")
        begin = time.monotonic()
        running = "systemctl is-active senex-watchdog.service"
        eventually(lambda old=pid, ask=running: host.check_output(WATCHDOG) not in (old, "0") and host.run(ask).stdout == "active\n", seconds)
        print(f"{signal}: back in {time.monotonic() - begin:.1f} s")


@pytest.mark.faults
def test_what_restarts_do_not_cure_is_left_alone_and_said_once(watched):
    """A page that is always too late for the watchdog, however new the instance. One more restart within the hour is left to it."""
    host, path = watched.host, "/etc/senex-trader/watchdog.json"
    whole = json.loads(host.check_output(f"cat {path}"))
    limit = 1 + len(watched.state()["restarts"].get("web-2", []))
    web = {**whole["web"], "alive_path": "/api/slow/?seconds=30", "instances": whole["web"]["instances"][1:]}
    broken = {**whole, "restart": {**whole["restart"], "per_hour": limit, "pause": 0.0}, "web": web}
    before, given_up = watched.restarts, len(watched.log("web-2: given up"))
    try:
        host.check_output(f"cp -p {path} /root/whole.json && printf %s {shlex.quote(json.dumps(broken))} >{path} && systemctl restart senex-watchdog.service")
        eventually(lambda: len(watched.log("web-2: given up")) > given_up, 240)
        failures = len(watched.log("web-2: failure"))
        eventually(lambda: len(watched.log("web-2: failure")) >= failures + 4, 90)  # three would make another restart
        assert watched.restarts == before + 1
        assert len(watched.log("web-2: given up")) == given_up + 1
        assert len(json.loads(host.check_output("cat /var/lib/senex-watchdog/restarts.json"))["web-2"]) == limit
    finally:
        host.check_output(f"mv /root/whole.json {path} && systemctl restart senex-watchdog.service")
    watched.calm(90)


def test_a_wrong_configuration_is_refused_and_named(host):
    host.check_output("echo '{\"prob\": {}}' >/root/wrong.json")
    elsewhere = "-p TemporaryFileSystem=/etc/senex-trader -p BindReadOnlyPaths=/root/wrong.json:/etc/senex-trader/watchdog.json"
    result = host.run(f"systemd-run --quiet --pipe --wait --collect {elsewhere} /usr/local/lib/senex-trader/senex-watchdog --check")
    assert "/etc/senex-trader/watchdog.json: prob: no such key" in result.stderr
    assert result.rc == 78
