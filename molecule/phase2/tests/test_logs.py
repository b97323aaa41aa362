"""The journals of the three hosts on the one of the group logs: what arrives, who may send, and what a flood or a receiver that is away takes of it."""

import secrets
import time

import pytest
from parts import RUN

PORT = 19532
SENT = "curl -sS -m 5 --cacert /etc/senex-trader/tls/ca.crt -H 'Content-Type: application/vnd.fdo.journal' --data-binary @/root/line"


def lines(site, host, *words):
    """What the command shows of a host, on the one that has all."""
    return site.app.sh(f"senex logs --host {host.name} {' '.join(words)}").splitlines()


def arrived(site, host, wanted, *words):
    """The wanted words that no line has; empty as soon as all are there."""
    end = time.monotonic() + 25
    while True:
        there = "\n".join(lines(site, host, *words))
        missing = [word for word in wanted if word not in there]
        if not missing or time.monotonic() > end:
            return missing
        time.sleep(0.5)


def said(host, container, script):
    host.sh(f"{RUN} podman exec {container} sh -c '{script} >/proc/1/fd/1'")


@pytest.fixture(scope="module")
def mark():
    return f"mark-{secrets.token_hex(6)}"


def test_a_line_of_a_container_of_each_host_is_found_by_its_name(site, mark):
    containers = dict(zip(site.hosts, ("web-1", "postgres", "redis"), strict=True))
    for host, container in containers.items():
        said(host, container, f'printf "{mark} of {host.name}\\033[2J\\n"')
    for host, container in containers.items():
        assert arrived(site, host, [f" {host.name} {container}["], container, "-n", "5") == []
        (line,) = [line for line in lines(site, host, container, "-n", "200") if mark in line]
        assert line.endswith(f"{mark} of {host.name}?[2J") and f" {host.name} " in line
    everywhere = site.app.sh("senex logs web postgres redis --host all --since -5min -n 100000").splitlines()
    assert [line.rpartition(" of ")[2] for line in everywhere if mark in line] == [f"{host.name}?[2J" for host in site.hosts], "in the order of time"


def test_nobody_without_a_hosts_certificate_sends_or_reads(site, mark):
    """And who has one sends in its own name alone, whatever the line says."""
    moment, key = int(time.time() * 1e6), "/etc/senex-trader/tls/"
    fields = (f"__REALTIME_TIMESTAMP={moment}", "_BOOT_ID=0123456789abcdef0123456789abcdef", "_HOSTNAME=molecule-database", f"MESSAGE={mark} forged")
    site.queue.sh(f"printf '%s\\n' {' '.join(fields[:-1])} '{fields[-1]}' '' >/root/line")
    url = f"https://{site.app.address}:{PORT}/upload"
    for pair in ("", f"--key {key}redis.key --cert {key}redis.crt"):
        refused = site.queue.run(f"{SENT} {pair} {url}")
        assert refused.returncode and not refused.stdout, f"{pair}: {refused.stdout}"
    assert site.queue.sh(f"{SENT} --key {key}logs.key --cert {key}logs.crt {url}") == "OK.\n"
    (line,) = [line for line in site.app.sh("senex logs --host all -n 10000 --since -5min").splitlines() if f"{mark} forged" in line]
    assert " molecule-queue " in line and "molecule-database" not in line
    assert site.app.sh("ls /var/log/senex-hosts").split() == sorted(host.name for host in site.hosts)
    assert site.app.sh("stat -c '%a %U' /var/log/senex-hosts /var/log/senex-hosts/*").split("\n")[:-1] == ["750 systemd-journal-remote"] * 4
    assert site.queue.run("senex logs --host all").stderr.strip().endswith("this host keeps no journals of others; ask on the one of the group logs")
    for unit in ("senex-logs", "senex-log-upload"):
        assert float(site.app.sh(f"systemd-analyze security --no-pager {unit}.service | tail -n 1 | grep -oE '[0-9]+[.][0-9]'")) < 3


def test_while_the_receiver_is_away_no_line_is_lost(site, mark):
    site.app.sh("systemctl stop senex-logs.service")
    said(site.queue, "redis", f"for n in $(seq 300); do echo {mark}-away-$n-; done")
    time.sleep(3)
    site.app.sh("systemctl start senex-logs.service")
    assert arrived(site, site.queue, [f"{mark}-away-{number}-" for number in range(1, 301)], "redis", "-n", "1000") == []


def test_a_flood_of_one_container_loses_no_line_of_another(site, mark):
    flood = f"{RUN} podman exec web-1 sh -c 'yes {mark}-flood-{'x' * 60} | head -n 50000 >/proc/1/fd/1'"
    calm = f"{RUN} podman exec web-2 sh -c 'for n in $(seq 40); do echo {mark}-calm-$n-; sleep 0.05; done >/proc/1/fd/1'"
    site.app.sh(f"({flood}) & ({calm}); wait", 120)
    assert arrived(site, site.app, [f"{mark}-calm-{number}-" for number in range(1, 41)], "web-2", "-n", "1000") == []
    counted = f"senex logs web-1 --host {site.app.name} --since -10min -n 100000 | grep -c {mark}-flood"
    end = time.monotonic() + 30
    while int(site.app.run(counted).stdout) < 50000 and time.monotonic() < end:
        time.sleep(1)
    assert int(site.app.run(counted).stdout) >= 50000
    assert site.app.run("journalctl -q --since -5min -g 'Suppressed .* messages'").stdout == ""
