"""An inventory lists groups and addresses alone: who is published where, and what is refused, follows."""

from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.senex.trader.plugins.filter.environments import environment_groups
from ansible_collections.senex.trader.plugins.filter.topology import component_alone, reach_problems
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_keys import check_unit
from rendered import component, value
from test_rendered_units import BASE, SECRET

ONE = {name: ["app"] for name in ("postgresql", "redis", "web", "celery", "celery_beat", "nginx", "backup", "watchdog")}
PHASE2 = {"web": ["app"], "nginx": ["app"], "postgresql": ["db"], "redis": ["queue"], "celery": ["queue"], "celery_beat": ["queue"], "watchdog": ["app", "db"]}
ADDRESSES = {"app": "10.0.0.5", "db": "10.0.0.6", "queue": "10.0.0.7"}


def hostvars(**given):
    return {name: {"senex_private_address": address, **given.get(name, {})} for name, address in ADDRESSES.items()}


def told(role, expression, host, groups=PHASE2, known=None, **inputs):
    known = hostvars() if known is None else known
    mine = [group for group, hosts in groups.items() if host in hosts]
    return value(role, expression, **{"groups": groups, "group_names": mine, "inventory_hostname": host, "hostvars": known, **known[host], **inputs})


def test_servers_are_published_where_their_clients_are_elsewhere():
    assert told("postgresql", "postgresql_publish_address", "db") == "10.0.0.6"
    assert told("postgresql", "postgresql_tls_names", "db") == ["postgres", "localhost", "10.0.0.6"]
    assert told("redis", "redis_publish_address", "queue") == "10.0.0.7"


@pytest.mark.parametrize("role", ["postgresql", "redis"])
def test_one_host_publishes_nothing(role):
    assert told(role, f"{role}_publish_address", "app", ONE) == ""
    assert told(role, f"{role}_publish_address", "app", {**ONE, "watchdog": ["app", "db"], "nginx": ["app", "queue"]}) == "", "these are no clients"


def test_what_the_inventory_says_wins():
    assert told("redis", "redis_publish_address", "queue", redis_publish_address="192.0.2.7") == "192.0.2.7"
    assert told("redis", "redis_publish_address", "queue", redis_publish_address="") == ""


def test_who_is_sent_to_another_server_is_no_client():
    pooled = hostvars(app={"senex_database_host": "pooler.senex.test"}, queue={"senex_database_host": "pooler.senex.test"})
    assert told("postgresql", "postgresql_publish_address", "db", known=pooled) == ""
    one = hostvars(app={"senex_database_host": "pooler.senex.test"})
    assert told("postgresql", "postgresql_publish_address", "db", known=one) == "10.0.0.6", "the workers are"


def addresses(host, **inputs):
    """{variable: address of Redis, taken apart} as the application gets them."""
    found = told("django", "senex_redis_addresses", host, **{**BASE, **inputs})
    return {name: urlsplit(one) for name, one in found.items()}


def test_what_the_application_is_told():
    hosts = [(told("django", "senex_database_host", host), told("django", "senex_redis_host", host)) for host in ("app", "queue")]
    assert hosts == [("10.0.0.6", "10.0.0.7"), ("10.0.0.6", "redis")]


def test_redis_of_another_host_is_verified_and_that_of_the_same_is_plain():
    for use, one in addresses("app", senex_redis_cache_instance=True).items():
        assert (one.scheme, one.hostname, one.port) == ("rediss", "10.0.0.7", 6391 if use == "cache" else 6390)
        assert parse_qs(one.query) == {"ssl_cert_reqs": ["required"], "ssl_ca_certs": ["/run/senex/ca.crt"]}
    for use, one in addresses("queue", senex_redis_cache_instance=True).items():
        assert (one.scheme, one.hostname, one.port, one.query) == ("redis", "redis-cache" if use == "cache" else "redis", 6379, "")
    assert {one.netloc for one in addresses("app", groups=ONE).values()} == {f"senex:{SECRET}@redis:6379"}


@pytest.mark.parametrize(
    "inputs",
    [
        {"senex_redis_url": "redis://:x@10.0.0.7:6379"},
        {"senex_redis_host": "stunnel.senex.test"},
        {"senex_redis_host": "stunnel.senex.test", "senex_redis_port": 6380},
    ],
)
def test_an_address_that_the_inventory_gives_stays_as_it_is(inputs):
    for one in addresses("app", **inputs).values():
        assert (one.scheme, one.port, one.query) == ("redis", inputs.get("senex_redis_port", 6379), "")


def test_redis_has_a_certificate_where_it_listens_for_others():
    assert told("redis", "redis_tls_names", "queue") == ["redis", "redis-cache", "localhost", "10.0.0.7"]
    for host, groups, count in (("queue", PHASE2, 3), ("app", ONE, 1)):
        assert len(told("redis", "__redis_secrets", host, groups, **BASE)) == count


def test_a_good_inventory_is_not_refused():
    assert reach_problems(PHASE2, hostvars()) == [] and reach_problems(ONE, {"app": {}}) == []
    by_hand = {**hostvars(), "db": {"postgresql_publish_address": "10.0.0.6", "ansible_host": "10.0.0.6"}}
    assert reach_problems(PHASE2, by_hand) == [], "as inventories had it before"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"ansible_host": "192.0.2.6"}, "is not in the inventory"),
        ({"senex_private_address": "db.internal"}, "'db.internal' is no IPv4 address"),
        ({"senex_private_address": "127.0.0.1"}, "is loopback"),
    ],
)
def test_a_host_that_others_must_reach_needs_an_address(known, said):
    (line,) = reach_problems(PHASE2, {**hostvars(), "db": known})
    assert line.startswith(f"senex_private_address: of db {said}, and app, queue reach postgresql here; write")


def test_metrics_are_read_at_addresses_of_the_inventory():
    monitored = {**PHASE2, "monitoring": ["app"]}
    assert reach_problems(monitored, hostvars()) == []
    (line,) = reach_problems({"web": ["app"], "nginx": ["db"], "monitoring": ["app"]}, {**hostvars(), "db": {"ansible_host": "192.0.2.6"}})
    assert line.startswith("senex_private_address: of db is not in the inventory, and app reach exporters here; write")


def test_prometheus_on_a_host_of_its_own_reads_all_others_and_nobody_reads_there():
    groups = environment_groups(["app"], celery=True, beat=True, services="own", monitoring=True)
    assert groups["monitoring"] == ["own-monitoring"] and groups["backup"] == ["app", "own-database", "own-queue"], "it has no data to copy"
    assert groups["watchdog"] == ["app", "own-database", "own-queue", "own-monitoring"]
    known = {host: {"senex_private_address": f"10.0.0.{number}"} for number, host in enumerate(groups["watchdog"], 5)}
    assert reach_problems(groups, known) == []
    listens = {host: told("exporters", "exporters_address", host, groups, known) for host in known}
    assert listens == {"app": "10.0.0.5", "own-database": "10.0.0.6", "own-queue": "10.0.0.7", "own-monitoring": "127.0.0.1"}
    with_it_at_home = environment_groups(["app"], celery=True, beat=False, monitoring=True)
    assert with_it_at_home["monitoring"] == ["app"] and environment_groups(["app"], True, True, services="own")["monitoring"] == []


def test_a_client_needs_one_too():
    (line,) = reach_problems(PHASE2, {**hostvars(), "app": {"ansible_host": "192.0.2.5"}})
    assert line.startswith("senex_private_address: of app is not in the inventory, and it reaches postgresql of db, it reaches redis of queue; write")


def test_what_is_made_of_facts_that_nobody_has_asked_for_is_not_judged():
    class Limited(dict):
        def get(self, name, default=None):
            raise AnsibleUndefinedVariable("'ansible_facts' is undefined")

    assert reach_problems(PHASE2, {**hostvars(), "db": Limited(senex_private_address="{{ ansible_facts.default_ipv4.address }}")}) == []


def server(host="db", groups=PHASE2, known=None, **inputs):
    """Unit, postgresql.conf and pg_hba.conf of PostgreSQL on a host."""
    known = hostvars() if known is None else known
    mine = [group for group, hosts in groups.items() if host in hosts]
    files, _ = component(
        "postgresql",
        **{
            **BASE,
            "groups": groups,
            "group_names": mine,
            "inventory_hostname": host,
            "hostvars": known,
            "postgresql_host_network": True,
            **known[host],
            **inputs,
        },
    )
    return tuple(files[name][0] for name in ("postgres.container", "config/postgresql/postgresql.conf", "config/postgresql/pg_hba.conf"))


def admitted(rules):
    """From where a password lets one in."""
    return [line.split()[3] for line in rules.splitlines() if line.endswith("scram-sha-256")]


def test_postgresql_on_a_host_of_its_own_is_in_the_network_of_the_host():
    """So its log and its rules have the clients' own addresses."""
    unit, settings, rules = server()
    assert unit_text.values(unit, "Container", "Network") == ["host"]
    assert not unit_text.values(unit, "Container", "PublishPort") and not unit_text.values(unit, "Container", "DNSOption")
    assert "listen_addresses = '127.0.0.1, 10.0.0.6'" in settings.splitlines()
    assert admitted(rules) == ["127.0.0.1/32", "10.0.0.6/32", "10.0.0.5/32", "10.0.0.7/32"]
    assert check_unit(unit, "postgres.container", (4, 9, 3)) == []
    assert all(" -h 10.0.0.6 " in one for key in ("HealthCmd", "HealthStartupCmd") for one in unit_text.values(unit, "Container", key))


def test_it_is_published_unless_the_inventory_says_so():
    unit, settings, rules = server(postgresql_host_network=False)
    assert unit_text.values(unit, "Container", "Network") == ["senex-network.network"]
    assert unit_text.values(unit, "Container", "PublishPort") == ["10.0.0.6:5432:5432"]
    assert "listen_addresses = '*'" in settings.splitlines() and admitted(rules) == ["all"]


def test_containers_of_the_same_host_need_the_way_to_it():
    assert component_alone("postgresql", PHASE2, "db", ["postgresql", "pitr"])
    assert not component_alone("postgresql", {**PHASE2, "celery": ["db"]}, "db"), "workers beside it"
    assert not component_alone("postgresql", PHASE2, "db", ["postgresql", "django"]), "web instances from before"


OWN = ["allow tcp 22 any", "allow tcp 5432 10.0.0.99"]  # of the collection's last run; that host is no client any more


def facts_with(*rules):
    return {
        "memtotal_mb": 7940,
        "distribution": "Debian",
        "distribution_version": "13",
        "ansible_local": {"senex": {"ufw": {"rules": [*rules, *OWN], "own_rules": OWN}}},
    }


@pytest.mark.parametrize(
    ("inputs", "others"),
    [
        (
            {"ansible_facts": facts_with("allow tcp 5432 10.0.0.5", "allow any 5000:6000 10.9.0.0/24", "deny tcp 5432 10.0.0.8")},
            ["10.9.0.0/24"],
        ),
        ({"common_firewall_rules": [{"port": "443"}, {"port": 5432, "from": "10.9.0.9"}]}, ["10.9.0.9/32"]),
        ({"common_firewall_rules": [{"port": "5432"}]}, None),
        ({"common_firewall_enabled": "false"}, None),
        ({"known": hostvars(app={"senex_private_address": ""})}, None),
    ],
    ids=["a rule of the host", "a rule of the inventory", "a rule for everybody", "no firewall", "an address that is not known now"],
)
def test_who_comes_through_the_firewall_is_not_turned_away_behind_it(inputs, others):
    """An existing host may be asked by more than its environment, and nothing else says by whom."""
    own = ["127.0.0.1/32", "10.0.0.6/32", "10.0.0.5/32", "10.0.0.7/32"]
    assert admitted(server(**inputs)[2]) == (["all"] if others is None else own + others)


def test_who_else_comes_to_postgresql_is_told():
    assert admitted(server(postgresql_client_addresses=["10.0.0.5", "10.1.0.0/24", "fd00::5"])[2])[2:] == ["10.0.0.5/32", "10.1.0.0/24", "fd00::5/128"]
    assert admitted(server(postgresql_client_addresses=[])[2]) == ["all"]
