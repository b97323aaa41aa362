"""etcd: who is a member, who is let in, what is refused, and when a member without its data may start."""

import os
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.filter.topology import component_addresses
from ansible_collections.senex.trader.plugins.plugin_utils import components
from rendered import ROLES, Renderer, action, value, variables

GROUPS = {"postgresql": ["db"], "redis": ["a"], "web": ["a"], "celery": ["b"], "nginx": ["a"], "etcd": ["a", "b", "c"]}
HOSTVARS = {host: {"senex_private_address": f"10.0.0.{number}"} for number, host in enumerate(("a", "b", "c", "db"), 1)}
HERE = {"inventory_hostname": "b", "group_names": ["celery", "etcd"], "groups": GROUPS, "hostvars": HOSTVARS, "senex_private_address": "10.0.0.2",
        "senex_environment": "test", "senex_ca_certificate": "CA"}  # fmt: skip


def rendered(name, **more):
    values = variables("etcd", **{**HERE, **more})
    return action(Renderer, {}, values, ROLES / "etcd")._render(name, values)


def environment(**more):
    return dict(line.split("=", 1) for line in rendered("etcd.env.j2", **more).splitlines() if line and not line.startswith("#"))


def test_without_the_group_no_host_has_anything_of_it():
    groups = {name: hosts for name, hosts in GROUPS.items() if name != "etcd"}
    assert components.hosts_pattern("etcd", inventory=groups) == components.NOWHERE and "etcd" not in components.here(["postgresql"], inventory=groups)
    assert [one for one in ports("db", groups) if one["port"] in ("2379", "2380")] == []


def ports(host, groups=GROUPS):
    mine = [name for name, hosts in groups.items() if host in hosts]
    address = HOSTVARS[host]["senex_private_address"]
    return value("etcd", "query('senex.trader.component_ports', 'hosts')",
                 **{**HERE, "groups": groups, "group_names": mine, "inventory_hostname": host, "senex_private_address": address})  # fmt: skip


def test_members_are_reached_by_each_other_and_clients_by_the_databases():
    assert sorted((one["port"], one["host"]) for one in ports("b")) == [("2379", "a"), ("2379", "c"), ("2379", "db"), ("2380", "a"), ("2380", "c")]


def test_each_member_knows_the_others_and_nobody_comes_in_without_a_certificate():
    told = environment()
    assert told["ETCD_INITIAL_CLUSTER"] == "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380,c=https://10.0.0.3:2380" and told["ETCD_NAME"] == "b"
    assert [one for key, one in told.items() if key.endswith("URLS") and "http:" in one] == []
    assert told["ETCD_CLIENT_CERT_AUTH"] == told["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    names = value("etcd", "etcd_tls_names", **HERE)
    assert names[0] == told["ETCD_PEER_CERT_ALLOWED_CN"] and "10.0.0.2" in names


def test_an_address_of_the_inventorys_own_is_told_to_all():
    moved = {**HOSTVARS, "c": {**HOSTVARS["c"], "etcd_address": "10.9.9.9"}}
    assert component_addresses("etcd", GROUPS, moved) == {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.9.9.9"}
    assert "c=https://10.9.9.9:2380" in environment(hostvars=moved)["ETCD_INITIAL_CLUSTER"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"groups": {**GROUPS, "etcd": ["a", "b"]}}, "inventory: the group etcd has 2 hosts (a, b)"),
        ({"groups": {**GROUPS, "postgresql": ["b"]}}, "inventory: b is in the groups etcd and postgresql"),
        ({"groups": {**GROUPS, "postgresql": ["b"]}, "etcd_beside_postgresql": True}, ""),
        ({"etcd_address": "127.0.0.1"}, "etcd_address: 127.0.0.1 is no address at which"),
        ({"etcd_address": "0.0.0.0"}, "etcd_address: 0.0.0.0 is no address at which"),  # noqa: S104  (it is refused)
        ({"etcd_election_timeout": 400}, "etcd_election_timeout: 400 ms"),
        ({"etcd_memory": "64M"}, "etcd_memory: 64M is too little"),
    ],
)
def test_wrong_inputs(given, said):
    found = value("etcd", "__etcd_problems", **{**HERE, **given})
    assert (len(found) == 1 and found[0].startswith(said)) if said else found == [], found


@pytest.mark.parametrize(("installed", "at_once"), [((True, True, True), 1), ((True, True, False), 0), ((False, False, False), 0)])
def test_members_that_are_there_are_changed_one_by_one(installed, at_once):
    """And those that begin wait for each other, so all of them start."""
    there = {host: {**HOSTVARS[host], "senex_host_snapshot": {"installed": ["etcd"] if one else []}} for host, one in zip("abc", installed, strict=True)}
    assert int(value("etcd", "__etcd_at_once", **{**HERE, "hostvars": {**HOSTVARS, **there}})) == at_once


@pytest.fixture
def member(tmp_path):
    """What says whether a member may start, with a mark of its own."""
    text = (ROLES / "etcd/files/etcd-member").read_text(encoding="utf-8").replace("/var/lib/senex.trader", str(tmp_path))

    def asked(verb, state="new"):
        settings = {**os.environ, "ETCD_DATA_DIR": str(tmp_path / "data"), "ETCD_INITIAL_CLUSTER_STATE": state}
        return subprocess.run(["sh", "-c", text, "etcd-member", verb], env=settings, capture_output=True, text=True, check=False)

    return asked


def test_a_member_whose_data_is_gone_does_not_begin_anew(member, tmp_path):
    assert member("before").returncode == 0, "the first time"
    (tmp_path / "data/member").mkdir(parents=True)
    assert member("after").returncode == member("before").returncode == 0
    (tmp_path / "data/member").rmdir()
    refused = member("before")
    assert refused.returncode == 1 and f"{tmp_path}/data is empty" in refused.stderr
    assert member("before", "existing").returncode == 0, "the others have added it again"
