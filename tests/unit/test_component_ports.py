"""Each host opens a port to the hosts whose components need it, and to no others."""

import pytest
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.senex.trader.plugins.filter.firewall import firewall_nameless, firewall_wanted
from ansible_collections.senex.trader.plugins.lookup.component_ports import private_address
from rendered import value
from test_common_preflight import HOST, refusals
from test_filters_firewall import SSH, WEB, ufw

TWO = {"postgresql": ["one"], "redis": ["one"], "web": ["one", "two"], "celery": ["one"], "celery_beat": ["one"], "nginx": ["one"]}
ADDRESSES = {"one": "10.0.0.5", "two": "10.0.0.6", "three": "10.0.0.7"}
PUBLISHED = {"postgresql_publish_address": "{{ senex_private_address }}", "redis_publish_address": "{{ senex_private_address }}"}


def ports(which, host, groups, hostvars=None, **inputs):
    known = {name: {"senex_private_address": address, **(hostvars or {}).get(name, {})} for name, address in ADDRESSES.items()}
    mine = [group for group, hosts in groups.items() if host in hosts]
    given = {"groups": groups, "group_names": mine, "inventory_hostname": host, "hostvars": known, "senex_private_address": ADDRESSES[host], **inputs}
    return value("common", f"query('senex.trader.component_ports', '{which}')", **given)


def shown(found):
    return [f"{one['port']} {one['from']}" for one in found]


def test_one_host_needs_nothing_of_others():
    alone = {name: ["one"] for name in TWO}
    assert ports("hosts", "one", alone, **PUBLISHED) == [] and ports("hosts", "one", alone) == []


@pytest.mark.parametrize("host", ["one", "two", "three"])
def test_the_host_that_reads_metrics_reaches_the_exporters_of_each_other_one(host):
    """Its own are on the loopback; who has no server has one exporter, and PostgreSQL is not published for it."""
    groups = {"postgresql": ["two"], "redis": ["one"], "web": ["one"], "nginx": ["three"], "monitoring": ["one"]}
    opened = {"one": [], "two": ["9187 10.0.0.5", "9100 10.0.0.5"], "three": ["9113 10.0.0.5", "9100 10.0.0.5"]}
    without = {name: hosts for name, hosts in groups.items() if name != "monitoring"}
    before = shown(ports("hosts", host, without))
    assert [one for one in shown(ports("hosts", host, groups)) if one not in before] == opened[host]
    assert shown(ports("hosts", host, groups, exporters_address="127.0.0.1")) == before


def test_everybody_reaches_nginx_and_nothing_else():
    assert ports("world", "one", TWO) == [{"port": "80"}, {"port": "443"}]
    assert ports("world", "two", TWO) == []
    assert ports("world", "three", {**TWO, "backup": ["three"]}) == []


def test_two_web_hosts():
    """The same from the groups and the addresses as where docs/user/deploy.md had them published by hand."""
    for given in (PUBLISHED, {}):
        assert shown(ports("hosts", "one", TWO, **given)) == ["5432 10.0.0.6", "6390 10.0.0.6"]
    assert shown(ports("hosts", "two", TWO, senex_web_instances=2)) == ["8001:8002 10.0.0.5"]
    assert shown(ports("hosts", "two", TWO, senex_web_instances=1, senex_web_base_port=9001)) == ["9001 10.0.0.5"]


def test_what_is_not_published_is_not_opened():
    nowhere = {"postgresql_publish_address": "", "redis_publish_address": ""}
    assert ports("hosts", "one", TWO, **nowhere) == []
    assert shown(ports("hosts", "one", TWO, **{**nowhere, "redis_publish_address": "10.0.0.5"})) == ["6390 10.0.0.6"]
    assert ports("hosts", "one", TWO, **{**nowhere, "redis_publish_address": "127.0.0.1"}) == []
    assert ports("hosts", "two", TWO, senex_web_address="127.0.0.1") == []


def test_the_redis_of_the_cache_has_a_port_of_its_own():
    found = ports("hosts", "one", TWO, senex_redis_cache_instance=True, senex_redis_cache_tls_port=6399)
    assert shown(found) == ["5432 10.0.0.6", "6390 10.0.0.6", "6399 10.0.0.6"]


def test_without_tls_redis_is_reached_until_the_clients_of_an_earlier_version_have_moved():
    before = {"senex_host_snapshot": {"installed": ["redis", "redis_named"]}, "senex_redis_cache_instance": True}
    assert shown(ports("hosts", "one", TWO, **before))[1:] == [f"{port} 10.0.0.6" for port in (6390, 6391, 6379, 6380)]
    before["senex_host_snapshot"]["installed"].append("redis_encrypted")
    assert shown(ports("hosts", "one", TWO, **before))[1:] == ["6390 10.0.0.6", "6391 10.0.0.6"]


def test_every_host_of_its_own():
    groups = {"postgresql": ["one"], "redis": ["one"], "web": ["two"], "celery": ["three"], "celery_beat": ["three"], "nginx": ["three"]}
    assert shown(ports("hosts", "one", groups)) == ["5432 10.0.0.6", "5432 10.0.0.7", "6390 10.0.0.6", "6390 10.0.0.7"]
    assert shown(ports("hosts", "two", groups)) == ["8001:8002 10.0.0.7"]
    elsewhere = {**groups, "celery": ["one"], "celery_beat": ["one"]}
    assert shown(ports("hosts", "two", elsewhere)) == ["8001:8002 10.0.0.7"], "workers have nothing to ask of web instances"
    assert ports("hosts", "three", groups) == [] and len(ports("world", "three", groups)) == 2


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ({"senex_database_host": "pooler.senex.test"}, ["6390 10.0.0.6"]),  # it goes elsewhere
        ({"senex_database_host": "10.0.0.5"}, ["5432 10.0.0.6", "6390 10.0.0.6"]),  # the same, said
    ],
)
def test_a_client_that_the_inventory_sends_elsewhere(given, opened):
    for address in ({}, {"postgresql_publish_address": "10.0.0.5"}):
        assert shown(ports("hosts", "one", TWO, {"two": given}, **address)) == opened


def test_a_url_of_redis_says_where_it_goes():
    urls = {"redis://:x@elsewhere:6379": [], "redis://:x@10.0.0.5:6379": ["6390 10.0.0.6"], "redis://:x@10.0.0.55:6379": [], "redis://:x@110.0.0.5:6379": []}
    for url, opened in urls.items():
        given = {"two": {"senex_redis_url": url, "senex_database_host": "pooler.senex.test"}}
        for address in ({}, {"redis_publish_address": "10.0.0.5"}):
            assert shown(ports("hosts", "one", TWO, given, **address)) == opened


def test_without_a_private_address_a_host_is_known_by_its_own():
    given = {"hostvars": {"one": {}, "two": {"ansible_host": "192.0.2.6"}}, "postgresql_publish_address": "10.0.0.5"}
    values = {"groups": TWO, "group_names": ["postgresql"], "inventory_hostname": "one", **given}
    assert shown(value("common", "query('senex.trader.component_ports', 'hosts')", **values)) == ["5432 192.0.2.6"]


def test_what_is_made_of_facts_that_nobody_has_asked_for_changes_nothing():
    """As of a host that --limit leaves out: its rule stays, and none is made of another address."""

    class Limited(dict):
        def get(self, name, default=None):
            raise AnsibleUndefinedVariable("'ansible_facts' is undefined")

    hostvars = {"one": {}, "two": Limited(senex_private_address="{{ ansible_facts.default_ipv4.address }}", ansible_host="192.0.2.6")}
    assert private_address(hostvars, "two") == ""
    unknown = [{"port": "5432", "from": "", "host": "two"}]
    own = [SSH, "allow tcp 5432 10.0.0.6", "allow tcp 6390 10.0.0.6"]
    assert firewall_wanted(ufw(own=own), [22], [], [], unknown) == [SSH, "allow tcp 5432 10.0.0.6"]
    assert firewall_nameless(unknown, own) == [] and "two has none" in firewall_nameless(unknown, [SSH])[0]


# -- among the rules of the operator


NEEDED = [{"port": "5432", "from": "10.0.0.6", "host": "two"}, {"port": "8001:8002", "from": "10.0.0.7", "host": "three"}]


def test_rules_that_were_written_by_hand_stay_as_they_are():
    by_hand = [*WEB, {"port": 5432, "from": "10.0.0.6"}, {"port": "8001:8002", "from": "10.0.0.7"}]
    before = firewall_wanted(ufw(SSH), [22], [], by_hand)
    assert firewall_wanted(ufw(SSH), [22], [], by_hand, NEEDED) == before
    assert firewall_wanted(ufw(SSH), [22], [], WEB, NEEDED) == before


def test_the_operator_has_the_last_word():
    for action in ("deny", "reject"):
        wanted = firewall_wanted(ufw(SSH), [22], [], [{"port": 5432, "from": "10.0.0.6", "action": action}], NEEDED[:1])
        assert wanted == [SSH, f"{action} tcp 5432 10.0.0.6"]
    assert firewall_wanted(ufw(SSH), [22], [], [{"port": 5432, "action": "deny"}], NEEDED[:1])[1] == "deny tcp 5432 any", "the first that fits decides"


def test_a_name_is_no_rule_and_is_said():
    named = [{"port": "5432", "from": "db.senex.test", "host": "two"}]
    assert firewall_wanted(ufw(SSH), [22], [], [], named) == [SSH]
    (line,) = firewall_nameless(named, [SSH])
    assert line.startswith("senex_private_address: two has db.senex.test") and "port 5432" in line
    assert firewall_nameless(named, ["allow tcp 5432 10.0.0.0/24"]) == [] and firewall_nameless(NEEDED, []) == []


def test_it_is_said_before_the_first_change():
    hostvars = {"one": {}, "two": {"ansible_host": "two.senex.test"}}
    given = {"groups": TWO, "group_names": list(TWO), "hostvars": hostvars, "senex_private_address": "10.0.0.5",
             "postgresql_publish_address": "10.0.0.5", "redis_publish_address": ""}  # fmt: skip
    (line,) = refusals(**given)
    assert line.startswith("senex_private_address: two has two.senex.test")
    assert refusals(**given, common_firewall_rules=[{"port": 5432, "from": "10.0.0.0/24"}]) == []
    assert refusals(**given, common_firewall_enabled=False) == []
    assert refusals({"ufw": {"rules": ["allow tcp 5432 10.0.0.0/24"]}}, **given) == []


def test_an_existing_host_keeps_its_rules():
    """One host, and two as they were written by hand."""
    own = [SSH, "allow tcp 80 any", "allow tcp 443 any"]
    facts = {**HOST, "ufw": ufw(own=own)}
    stale, missing = ("__common_firewall_stale", "__common_firewall_missing")
    assert value("common", stale, __common_host=facts) == value("common", missing, __common_host=facts) == []
    # A host without nginx no longer has its ports
    database = {"groups": {**TWO, "nginx": ["two"]}, "group_names": ["postgresql"], "hostvars": {"one": {}, "two": {}}}
    assert sorted(value("common", stale, __common_host=facts, **database)) == ["allow tcp 443 any", "allow tcp 80 any"]


def test_where_a_port_listens_is_asked_only_where_others_need_it():
    """The rules of common_firewall_rules are asked for many times a run."""
    alone = {name: ["one"] for name in TWO}
    unknown = {"postgresql_publish_address": "{{ nobody_knows }}", "redis_publish_address": "{{ nobody_knows }}", "senex_web_address": "{{ nobody_knows }}"}
    assert ports("hosts", "one", alone, **unknown) == []
    assert ports("world", "one", TWO, **unknown) == [{"port": "80"}, {"port": "443"}]
    with pytest.raises(AnsibleError, match="nobody_knows"):
        ports("hosts", "one", TWO, **unknown)
