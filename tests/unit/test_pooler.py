"""PgBouncer beside the application: sizes, what the application is told, what PostgreSQL lets in, and the client of its console."""

import importlib.machinery
import importlib.util
import socket
import struct
import threading

import pytest
from ansible_collections.senex.trader.plugins.filter import pooling
from controller import ROOT
from rendered import ROLES, Renderer, action, component, value, variables

USUAL = {"max_connections": 200, "reserved": 30, "poolers": 1, "instances": 2, "per_instance": 10, "workers": 4}
GROUPS = {"postgresql": ["one"], "redis": ["one"], "web": ["one", "two"], "celery": ["two"], "celery_beat": ["two"], "nginx": ["one"]}
POOLED = {**GROUPS, "pgbouncer": ["two"]}
SECRETS = {"senex_domain": "shop.test", "senex_registry": "registry.test", "senex_image_tag": "1.0", "senex_secret_key": "k" * 50,
           "senex_database_password": "p" * 20, "senex_redis_password": "r" * 20, "senex_ca_certificate": "CA"}  # fmt: skip
TWO = {**SECRETS, "inventory_hostname": "two", "group_names": ["celery", "celery_beat", "web"],
       "hostvars": {"one": {"senex_private_address": "10.0.0.5"}, "two": {"senex_private_address": "10.0.0.6"}},
       "senex_private_address": "10.0.0.6"}  # fmt: skip
ADDRESS = {"senex_extra_environment": {"DATABASE_URL": "{{ senex_database_url }}"}}


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, {"share": 168, "pool": 24, "reserve": 6}),
        ({"poolers": 4}, {"share": 40, "pool": 24, "reserve": 6}),
        ({"poolers": 8}, {"share": 19, "pool": 15, "reserve": 3}),  # a fifth stays free for another role
        ({"instances": 0, "workers": 1}, {"share": 168, "pool": 5, "reserve": 1}),
        ({"instances": 16, "workers": 32, "max_connections": "300"}, {"share": 268, "pool": 192, "reserve": 48}),
        ({"max_connections": 20}, {"share": 0, "pool": 1, "reserve": 0}),
    ],
)
def test_sizes(changes, sizes):
    assert pooling.pooler_sizes({**USUAL, **changes}) == sizes


@pytest.mark.parametrize("poolers", range(1, 30))
def test_all_poolers_together_leave_what_is_reserved(poolers):
    found = pooling.pooler_sizes({**USUAL, "poolers": poolers, "instances": 30})
    assert poolers * (found["share"] + pooling.OWN) <= 170 and found["pool"] + found["reserve"] <= max(found["share"], 1)
    assert bool(pooling.pooler_problems({**USUAL, "poolers": poolers})) is (found["share"] < 5)


def test_too_few_connections_are_said_with_how_many_would_do():
    (said,) = pooling.pooler_problems({**USUAL, "poolers": 10, "max_connections": 80})
    assert said.startswith("postgresql_max_connections: 80") and said.endswith("it must be 100 or more")
    assert pooling.pooler_problems({**USUAL, "poolers": 10, "max_connections": 100}) == []


def told(groups, **more):
    return value("senex", "senex_application_environment", **{**TWO, "groups": groups, **more})


def test_without_the_group_nothing_is_otherwise():
    plain = told(GROUPS)
    assert (plain["DB_HOST"], plain["DB_PORT"], plain["DB_SSLMODE"]) == ("10.0.0.5", 5432, "verify-full") and "DB_DISABLE_SERVER_SIDE_CURSORS" not in plain
    assert told({**GROUPS, "pgbouncer": ["one"]}) == plain == told({**GROUPS, "pgbouncer": []})
    for role in ("postgresql", "django", "celery"):
        files, _ = component(role, **{**TWO, "groups": GROUPS})
        assert not [dest for dest, (text, _) in files.items() if "pgbouncer" in text or ".direct" in dest + text or "ssl_ca_file" in text], role


def test_the_application_is_led_to_the_pooler_of_its_host():
    pooled, plain = told(POOLED), told(GROUPS)
    changed = {name: one for name, one in pooled.items() if plain.get(name) != one}
    assert changed == {"DB_HOST": "pgbouncer", "DB_PORT": 6432, "DB_SSLMODE": "disable", "PGSSLMODE": "disable", "DB_DISABLE_SERVER_SIDE_CURSORS": "True"}
    assert "@pgbouncer:6432/" in value("senex", "senex_database_url", **{**TWO, "groups": POOLED})
    assert told(POOLED, pgbouncer_state="absent") == plain
    files, _ = component("celery", **{**TWO, "groups": POOLED})
    assert "PodmanArgs=--add-host=pgbouncer:host-gateway" in files["celery-worker.container"][0]


def test_a_release_goes_past_it():
    """By what differs alone, addresses of the inventory's own making too."""
    files, _ = component("django", **{**TWO, **ADDRESS, "groups": POOLED})
    unit = files["release.container"][0].splitlines()
    ways = [line.partition("=")[2] for line in unit if line.startswith("EnvironmentFile=")]
    (direct, item), (own, _) = files[ways[1]], files[ways[0]]
    assert len(ways) == 2 and item["secret"] and "@pgbouncer:6432/" in own
    lines = dict(line.split("=", 1) for line in direct.splitlines())
    assert set(lines) == {"DB_HOST", "DB_PORT", "DB_SSLMODE", "PGSSLMODE", "DATABASE_URL"}
    assert lines["DB_HOST"] == "10.0.0.5" and "@10.0.0.5:5432/" in lines["DATABASE_URL"] and "sslmode=verify-full" in lines["DATABASE_URL"]
    assert all(ways[1] not in text for dest, (text, _) in files.items() if dest.startswith("web-"))


def problems(**more):
    return value("pgbouncer", "__pgbouncer_problems", **{**TWO, "group_names": ["pgbouncer", "web"], "groups": POOLED, **more})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"groups": {**POOLED, "web": ["one"], "celery": ["one"], "celery_beat": ["one"]}}, "inventory: two is in the group pgbouncer and in none of web"),
        (
            {"groups": {**POOLED, "postgresql": []}, "senex_database_host": "db.test"},
            "inventory: the group pgbouncer has hosts and the database is a server of",
        ),
        ({"groups": {**POOLED, "postgresql": ["two"]}}, "postgresql_publish_address: PgBouncer on two"),
        ({"groups": {**POOLED, "postgresql": ["two"]}, "postgresql_publish_address": "10.0.0.6"}, ""),
        ({"pgbouncer_listen_address": "127.0.0.1"}, "pgbouncer_listen_address: 127.0.0.1"),
        ({"pgbouncer_listen_address": "0.0.0.0"}, "pgbouncer_listen_address: 0.0.0.0"),  # noqa: S104  (it is refused)
        ({"pgbouncer_pool_size": 169}, "pgbouncer_pool_size: 169 is more than"),
        ({"pgbouncer_databases": ["shop"]}, "pgbouncer_databases: lacks senex_database_name (senex)"),
        ({"pgbouncer_databases": ["senex", "a b"]}, "pgbouncer_databases: a b is no name"),
        ({"pgbouncer_max_clients": 0}, "pgbouncer_max_clients: 0"),
        ({"senex_database_max_connections": 36}, "postgresql_max_connections: 36, less"),
        ({**ADDRESS, "senex_secret_files": "true"}, "senex_secret_files: DATABASE_URL has the address"),
        ({**ADDRESS, "senex_secret_files": ["SECRET_KEY"]}, ""),
    ],
)
def test_wrong_inputs(given, said):
    found = problems(**given)
    assert (len(found) == 1 and found[0].startswith(said)) if said else found == [], found


def rendered(name, **more):
    values = variables("pgbouncer", **{**TWO, "groups": POOLED, **more})
    return action(Renderer, {}, values, ROLES / "pgbouncer")._render(name, values)


def test_the_configuration_names_no_secret_and_fits_its_limits():
    text = rendered("pgbouncer.ini.j2")
    assert "senex = host=10.0.0.5 port=5432 dbname=senex auth_dbname=senex_pooler" in text and SECRETS["senex_database_password"] not in text
    assert "server_tls_sslmode = verify-full" in text and "auth_type = scram-sha-256" in text and "pool_mode = transaction" in text
    assert "LimitNOFILE=1680" in rendered("pgbouncer.service.conf.j2")  # 1000 clients, 168 servers, and what it has besides


def test_postgresql_lets_in_the_hosts_of_the_group_alone():
    long = "w" * 80
    files, _ = component("postgresql", **{**TWO, "inventory_hostname": "one", "groups": {**POOLED, "pgbouncer": ["two", long]}})
    rules = [line.split() for line in files["config/postgresql/pg_hba.conf"][0].splitlines() if not line.startswith("#")]
    of_pooler = [rule for rule in rules if '"pgbouncer"' in rule]
    assert [rule[1] for rule in of_pooler] == ["postgres", "all"] and of_pooler[0][4:] == ["cert", "map=poolers"] and of_pooler[1][4] == "reject"
    assert rules.index(of_pooler[1]) < next(number for number, rule in enumerate(rules) if rule[4:] == ["scram-sha-256"])
    names = [line.split()[1].strip('"') for line in files["config/postgresql/pg_ident.conf"][0].splitlines() if line.startswith("poolers")]
    assert names == ["pgbouncer.two", "pgbouncer." + "w" * 54] and max(map(len, names)) == 64
    assert value("pgbouncer", "pgbouncer_tls_names[0]", **{**TWO, "groups": POOLED}) == names[0]


# -- the console


def console():
    loader = importlib.machinery.SourceFileLoader("pgbouncer_console", str(ROOT / "roles/pgbouncer/files/pgbouncer-console"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Pooler:
    """What PgBouncer says at its socket: a paused database or none, and transactions that end or not."""

    def __init__(self, path, paused="no", stuck=False, login=b""):
        self.path, self.paused, self.stuck, self.login, self.asked = str(path), paused, stuck, login, []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.server.accept()
            stream = connection.makefile("rb")
            stream.read(struct.unpack("!I", stream.read(4))[0] - 4)
            ready = b"Z" + struct.pack("!I", 5) + b"I"
            connection.sendall(self.login or b"R" + struct.pack("!II", 8, 0) + ready)
            if self.login:
                connection.shutdown(socket.SHUT_RDWR)
                continue
            head = stream.read(5)
            if not head:
                continue
            query = stream.read(struct.unpack("!I", head[1:])[0] - 4).rstrip(b"\0").decode()
            self.asked.append(query)
            if query == "PAUSE" and self.stuck:
                continue
            if self.paused == {"PAUSE": "yes", "RESUME": "no"}.get(query):
                connection.sendall(b"E" + struct.pack("!I", 20) + b"Malready so....\0" + ready)
                continue
            self.paused = {"PAUSE": "yes", "RESUME": "no"}.get(query, self.paused)
            connection.sendall((self.rows() if query.startswith("SHOW") else b"") + ready)

    def rows(self):
        names = b"".join(name + b"\0" + bytes(18) for name in (b"key", b"value", b"note"))
        values = b"".join(struct.pack("!I", len(one)) + one for one in (b"paused", self.paused.encode())) + struct.pack("!i", -1)
        return b"".join(kind + struct.pack("!IH", len(body) + 6, 3) + body for kind, body in ((b"T", names), (b"D", values)))


def test_the_console_reads_rows(tmp_path):
    Pooler(tmp_path / "s")
    module = console()
    rows = module.Console(str(tmp_path / "s"), 2).ask("SHOW STATE")
    assert rows == [{"key": "paused", "value": "no", "note": ""}]
    assert module.table(rows) == "key     value  note\npaused  no"


def test_a_pause_and_its_end(tmp_path):
    """What PgBouncer refuses, as a second pause, is told and changes nothing."""
    there, module = Pooler(tmp_path / "s"), console()
    door = module.Console(there.path, 2)
    assert module.pause(door).startswith("paused") and there.paused == "yes"
    with pytest.raises(module.ConsoleError, match="already"):
        module.pause(door)
    assert there.paused == "yes" and "RESUME" not in there.asked
    assert module.resume(door) == "resumed" and there.paused == "no"
    with pytest.raises(module.ConsoleError, match="already"):
        module.resume(door)


def test_a_transaction_that_does_not_end_leaves_nobody_waiting(tmp_path):
    there, module = Pooler(tmp_path / "s", stuck=True), console()
    with pytest.raises(module.ConsoleError, match="nothing waits any more"):
        module.pause(module.Console(there.path, 0.2))
    assert there.asked[-1] == "RESUME"


@pytest.mark.parametrize(
    ("login", "said"),
    [(b"R" + struct.pack("!II", 8, 10), "asks for a password"), (b"E" + struct.pack("!I", 20) + b"Mlogin rejected\0", "login rejected"), (b"R", "closed")],
)
def test_a_console_that_is_not_opened_is_told(tmp_path, login, said):
    there, module = Pooler(tmp_path / "s", login=login), console()
    with pytest.raises(module.ConsoleError, match=said):
        module.Console(there.path, 2).ask("SHOW POOLS")


def test_no_console_is_told(tmp_path):
    module = console()
    with pytest.raises(module.ConsoleError, match="No such file"):
        module.Console(str(tmp_path / "none"), 1).ask("SHOW POOLS")
