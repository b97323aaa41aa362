"""Logs of every host in one place: who may send, where it ends up, what goes when there is no room, and how it is read."""

import asyncio
import datetime
import importlib.machinery
import importlib.util
import json
import os
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import watched  # noqa: F401  (the programs of the host are found)
from ansible_collections.senex.trader.plugins.plugin_utils import components
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rendered import value

from senex_ops import command, logs_of_hosts  # isort: skip

ROOT = Path(__file__).parents[2]
DAY = 86400
GROUPS = {"web": ["app"], "nginx": ["app"], "postgresql": ["db"], "redis": ["db"], "watchdog": ["app", "db"]}
KEPT = {**GROUPS, "logs": ["app"]}
HOSTVARS = {"app": {"senex_private_address": "10.0.0.5"}, "db": {"senex_private_address": "10.0.0.6"}}


def program():
    loader = importlib.machinery.SourceFileLoader("log_receiver", str(ROOT / "roles/logs/files/log-receiver"))
    spec = importlib.util.spec_from_loader("log_receiver", loader)
    made = importlib.util.module_from_spec(spec)
    loader.exec_module(made)
    return made


receiver = program()


# -- where it is


def told(role, expression, host="app", groups=KEPT, **more):
    mine = [group for group, hosts in groups.items() if host in hosts]
    return value(role, expression, **{"groups": groups, "group_names": mine, "inventory_hostname": host, "hostvars": HOSTVARS, **HOSTVARS[host], **more})


def test_without_the_group_no_host_has_anything_of_it():
    for groups in (GROUPS, {**GROUPS, "logs": []}):
        assert components.groups_of("log_upload", inventory=groups) == []
        assert {"logs", "log_upload"}.isdisjoint(components.here(["web", "postgresql"], inventory=groups))
        assert told("senex", "query('senex.trader.component_ports', 'hosts')", "app", groups) == []
    assert {"logs", "log_upload"} <= set(components.here(["web", "logs"], inventory=KEPT)) and "log_upload" in components.here(["redis"], inventory=KEPT)


def test_the_port_is_open_at_the_private_address_for_the_hosts_that_send():
    assert [one for one in told("senex", "query('senex.trader.component_ports', 'hosts')") if one["port"] == "19532"] == [
        {"port": "19532", "from": "10.0.0.6", "host": "db"}
    ]
    assert told("logs", "logs_address") == "10.0.0.5" == told("log_upload", "__log_upload_address", "db")
    one = {"logs": ["app"], "web": ["app"], "nginx": ["app"]}
    assert told("logs", "logs_address", "app", one) == "127.0.0.1" == told("log_upload", "__log_upload_address", "app", one)
    assert told("senex", "query('senex.trader.component_ports', 'hosts')", "app", one) == []


def test_each_host_has_a_certificate_that_says_who_it_is_and_the_receiver_its_address():
    assert told("log_upload", "log_upload_tls_names", "db") == ["logs.db"]
    assert told("log_upload", "log_upload_tls_names") == ["logs.app", "10.0.0.5"] == told("logs", "logs_tls_names")
    found = told("logs", "__logs_configuration")
    assert found["hosts"] == {"logs.app": "app", "logs.db": "db"} and (found["days"], found["host_bytes"]) == (90, 4 << 30)
    json.dumps(found)
    long = "h" * 70
    assert value("senex", "__senex_logs_names", inventory_hostname=long, groups={**KEPT}, hostvars=HOSTVARS) == ["logs." + "h" * 59]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"logs_address": "0.0.0.0"}, "logs_address: 0.0.0.0 is every address"),  # noqa: S104  (it is refused)
        ({"logs_address": "127.0.0.1"}, "logs_address: 127.0.0.1 is on the loopback, where db do not reach it"),
        ({"logs_directory": "/srv/logs"}, "logs_directory: /srv/logs is not directly below /var/log"),
        ({"logs_days": 0}, "logs_days: 0"),
        ({"logs_host_max_use": "10M"}, "logs_host_max_use: 10M is too little"),
        ({"logs_keep_free": "1M"}, "logs_keep_free: 1M is too little"),
        ({"logs_memory": "8M"}, "logs_memory: 8M is too little"),
        ({}, ""),
    ],
)
def test_inputs_are_judged(given, says):
    found = told("logs", "__logs_problems", **given)
    assert [line[: len(says)] for line in found] == ([says] if says else [])


def test_a_host_whose_name_is_no_directory_is_refused():
    (line,) = value("log_upload", "__log_upload_problems", inventory_hostname="a/../b", groups={}, hostvars={})
    assert line.startswith("inventory: the lines of a/../b would be in a directory")


# -- who may send


def certificate(directory, name, common, authority=None, usage=ExtendedKeyUsageOID.CLIENT_AUTH):
    """A key and a certificate by this authority; without one, an authority."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(authority[1].subject if authority else subject)
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    made = made.not_valid_after(now + datetime.timedelta(days=1)).add_extension(x509.BasicConstraints(not authority, None), True)
    if authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, usage]), False)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(common)]), False)
    signed = made.sign(authority[0] if authority else key, hashes.SHA256())
    (directory / f"{name}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (directory / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return key, signed


# In the place of journal-remote: it keeps what it gets, and says that it has
SINK = """#!{python}
import socket, sys
given = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
place = socket.socket(socket.AF_UNIX)
place.bind(given["listen-http"])
place.listen()
while True:
    here, _ = place.accept()
    with open(given["output"], "ab") as file:
        while data := here.recv(65536):
            file.write(data)
            file.flush()
            here.sendall(b"202")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = tmp_path_factory.mktemp("logs")
    ours, theirs = certificate(made, "ca", "ours"), certificate(made, "other", "ours")
    for name, common, authority, usage in (
        ("app", "logs.app", ours, ExtendedKeyUsageOID.CLIENT_AUTH), ("db", "logs.db", ours, ExtendedKeyUsageOID.CLIENT_AUTH),
        ("redis", "redis", ours, ExtendedKeyUsageOID.CLIENT_AUTH), ("server", "logs.db", ours, ExtendedKeyUsageOID.SERVER_AUTH),
        ("stranger", "logs.db", theirs, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):  # fmt: skip
        certificate(made, name, common, authority, usage)
    (made / "sink").write_text(SINK.format(python=sys.executable))
    (made / "sink").chmod(0o755)
    return made


async def sent(place, who, port):
    """What is answered to who sends with this certificate."""
    context = ssl.create_default_context(cafile=str(place / "ca.crt"))
    context.check_hostname = False
    if who:
        context.load_cert_chain(place / f"{who}.crt", place / f"{who}.key")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"lines of " + who.encode())
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(100), 10)
        writer.close()
    except (OSError, ssl.SSLError):
        return b""
    return answer


def test_a_host_is_who_its_certificate_says_and_nobody_else_may_send(place, tmp_path, monkeypatch):
    monkeypatch.setattr(receiver, "PROGRAM", str(place / "sink"))
    monkeypatch.setattr(receiver, "say", lambda text: None)
    settings = {"directory": str(tmp_path), "hosts": {"logs.app": "app", "logs.db": "db"}}

    async def all_of_them():
        this = receiver.Receiver(settings, str(tmp_path))
        context = receiver.context(str(place / "ca.crt"), str(place / "app.crt"), str(place / "app.key"))
        listens = receiver.listening("127.0.0.1", 0)
        async with await asyncio.start_server(this.serve, sock=listens, ssl=context):
            port = listens.getsockname()[1]
            answers = {who: await sent(place, who, port) for who in ("app", "db", "redis", "server", "stranger", "")}
        for sink in this.sinks.values():
            await sink.end()
        return answers

    answers = asyncio.run(all_of_them())
    assert answers == {"app": b"202", "db": b"202", "redis": b"", "server": b"", "stranger": b"", "": b""}
    kept = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.glob("*/*.journal")}
    now = receiver.period(datetime.datetime.now().timestamp())
    assert kept == {f"app/{now}.journal": "lines of app", f"db/{now}.journal": "lines of db"}


# -- what goes when there is no room


def filled(directory, name, size, last):
    path = Path(directory, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (last, last))
    return path


def full(number, first, began):
    return f"20260101@{'a' * 32}-{number:016x}-{int(first * 1e6):016x}.journal" if began else f"20260101@{int(first * 1e6):016x}-{'b' * 16}.journal~"


def settings(place, **more):
    return {"directory": str(place), "hosts": {"logs.app": "app", "logs.db": "db"}, "days": 90, "host_bytes": 1 << 40, "keep_free": 0, **more}


def names(place):
    return sorted(str(path.relative_to(place)) for path in place.glob("*/*"))


NOW = 1_800_000_000.0


def test_lines_are_kept_for_their_days_and_a_quiet_hosts_go_too(tmp_path):
    filled(tmp_path, "app/20260101.journal", 10, NOW - 91 * DAY)
    filled(tmp_path, "db/20260801.journal", 10, NOW - 89 * DAY)
    filled(tmp_path, "db/" + full(1, NOW - 99 * DAY, False), 10, NOW - 98 * DAY)
    filled(tmp_path, "app/notes.txt", 10, NOW - 999 * DAY)
    filled(tmp_path, f"app/{receiver.period(NOW)}.journal", 10, NOW - 95 * DAY)
    receiver.prune(settings(tmp_path), NOW)
    assert names(tmp_path) == sorted(["app/notes.txt", f"app/{receiver.period(NOW)}.journal", "db/20260801.journal"])


def test_a_flood_goes_before_the_days_before_it_and_one_host_pushes_out_no_others_lines(tmp_path):
    calm = [filled(tmp_path, "app/" + full(number, NOW - (9 - number) * DAY, True), 8192, NOW - (8 - number) * DAY) for number in range(3)]
    flood = [filled(tmp_path, "app/" + full(10 + number, NOW - 900 + number * 60, True), 8192, NOW - 840 + number * 60) for number in range(3)]
    other = filled(tmp_path, "db/" + full(1, NOW - 80 * DAY, True), 8192, NOW - 79 * DAY)
    assert receiver.prune(settings(tmp_path, host_bytes=4 * 8192), NOW) == [str(path) for path in flood[:2]]
    assert receiver.prune(settings(tmp_path, host_bytes=2 * 8192), NOW) == [str(flood[2]), str(calm[0])]
    assert other.exists() and calm[1].exists() and calm[2].exists()


def test_where_the_disk_is_full_who_has_the_most_loses_and_what_is_written_to_stays(tmp_path):
    filled(tmp_path, "db/" + full(1, NOW - 3 * DAY, True), 8192, NOW - 2 * DAY)
    large = [filled(tmp_path, "app/" + full(number, NOW - (9 - number) * DAY, True), 8192, NOW - (8 - number) * DAY) for number in range(3)]
    room = iter([0, 0, 100])
    assert receiver.prune(settings(tmp_path, keep_free=50), NOW, lambda place: next(room)) == [str(large[0]), str(large[1])]
    written = filled(tmp_path, f"db/{receiver.period(NOW)}.journal", 99999, NOW)
    receiver.prune(settings(tmp_path, keep_free=50), NOW, lambda place: 0)
    assert written.exists()


def test_a_file_is_begun_each_week():
    assert receiver.period(NOW) == receiver.period(NOW + DAY) or receiver.period(NOW + DAY) == receiver.period(NOW + 2 * DAY)
    assert len({receiver.period(NOW + day * DAY) for day in range(70)}) in (10, 11)
    assert receiver.FORM.fullmatch(f"{receiver.period(NOW)}.journal")


# -- how it is read


def entry(**fields):
    return logs_of_hosts.shown(1_764_486_000_123_456, "app", fields)


def test_a_line_is_of_the_host_that_has_sent_it_and_none_of_its_lines_is_another():
    assert entry(MESSAGE="hello", CONTAINER_NAME="web-1", _PID="7", _HOSTNAME="db").endswith(" app web-1[7]: hello")
    assert entry(MESSAGE="one\n2026-11-30T07:00:00 db sshd: two\x1b[2J", SYSLOG_IDENTIFIER="a b\x07\nc").split("\n")[0].endswith(" app a b? c: one")
    assert entry(MESSAGE="one\n2026-11-30T07:00:00 db sshd: two\x1b[2J").split("\n")[1:] == ["    2026-11-30T07:00:00 db sshd: two?[2J"]
    assert entry(MESSAGE=[104, 105, 27, 255], _COMM="x").endswith(" app x: hi?\ufffd")
    assert entry(MESSAGE=["one", "two"]).endswith(" app unknown: one two") and entry(MESSAGE=None).endswith(" app unknown: ")


def test_a_part_is_found_by_its_name_its_number_and_our_prefix(monkeypatch):
    there = {"CONTAINER_NAME": ["web-1", "web-2", "webshop", "celery-worker"], "USER_UNIT": ["web-1.service"],
             "_SYSTEMD_UNIT": ["senex-watchdog.service", "nginx.service"], "UNIT": []}  # fmt: skip
    journals = SimpleNamespace(uid=987, asked=lambda host, word: there[word.removeprefix("--field=")])

    def found(*parts):
        return logs_of_hosts.Journals.matches(journals, "app", list(parts))

    assert found("web") == ["CONTAINER_NAME=web-1", "_UID=987", "+", "CONTAINER_NAME=web-2", "_UID=987", "+", "USER_UNIT=web-1.service", "_UID=987"]
    assert found("watchdog", "nginx") == ["_SYSTEMD_UNIT=senex-watchdog.service", "+", "_SYSTEMD_UNIT=nginx.service"]
    assert found("celery") == [] and found("celery-worker") == ["CONTAINER_NAME=celery-worker", "_UID=987"]


def options(*words):
    return command.parser().parse_args(command.moments(["logs", *words]))


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(logs_of_hosts, "CONFIGURATION", str(tmp_path / "logs.json"))
    with pytest.raises(LookupError, match="this host keeps no journals of others"):
        logs_of_hosts.show(987, options("--host", "db"))
    with pytest.raises(LookupError, match="--follow is for the journal of this host"):
        logs_of_hosts.show(987, options("--host", "db", "-f"))
    (tmp_path / "logs.json").write_text(json.dumps({"directory": str(tmp_path), "hosts": {"logs.app": "app", "logs.db": "db"}}))
    monkeypatch.setattr(logs_of_hosts, "ACCOUNT", "root")
    with pytest.raises(LookupError, match="there is no host dbb in the inventory; there are app, db"):
        logs_of_hosts.show(987, options("--host", "dbb"))
    assert logs_of_hosts.Journals(987).chosen(["db", "db"]) == ["db"] and logs_of_hosts.Journals(987).chosen(["all"]) == ["app", "db"]
    assert logs_of_hosts.span(options("--since", "1 hour ago", "--until", "now")) == ["--since=1 hour ago", "--until=now"]
    assert logs_of_hosts.span(options("--since", "-5min", "--until", "-1min", "web")) == ["--since=-5min", "--until=-1min"]


def test_lines_of_several_hosts_come_in_the_order_of_time(monkeypatch, capsys):
    class Kept:
        def __init__(self, uid):
            pass

        chosen = staticmethod(lambda names: ["app", "db"])
        lines = staticmethod(lambda host, words: iter([(number, f"{number} {host}") for number in ((1, 4, 5) if host == "app" else (2, 3, 6))]))

    monkeypatch.setattr(logs_of_hosts, "Journals", Kept)
    assert logs_of_hosts.show(987, options("--host", "all", "-n", "4")) == 0
    assert capsys.readouterr().out.splitlines() == ["3 db", "4 app", "5 app", "6 db"]
