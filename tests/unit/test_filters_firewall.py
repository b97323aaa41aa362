"""What a host keeps closed is not opened without being asked for."""

import pytest
from ansible_collections.senex.trader.plugins.filter.firewall import (
    firewall_admitted,
    firewall_blocked,
    firewall_closed,
    firewall_first,
    firewall_late,
    firewall_outside,
    firewall_wanted,
)

WEB = [{"port": 80}, {"port": 443}]
BOTH = ["allow tcp 80 any", "allow tcp 443 any"]
SSH = "allow tcp 22 any"
OFFICE = "allow any 22 192.0.2.0/24"


def ufw(*rules, own=(), narrow=(), up=True):
    return {"active": up, "denies_incoming": up, "rules": [*rules, *own], "own_rules": list(own), "narrow": list(narrow)}


@pytest.mark.parametrize(
    ("host", "sources", "wanted"),
    [
        (ufw(up=False), [], [SSH]),  # a bare host
        (ufw(OFFICE, narrow=["any 22"]), [], []),  # the office alone: it stays so
        (ufw(OFFICE, narrow=["any 22"], up=False), [], []),  # also where the firewall is not up yet
        (ufw("allow tcp 443 any"), [], []),  # up, and ssh comes in by what is no plain rule (a VPN's interface)
        (ufw(OFFICE, SSH, narrow=["any 22"]), [], [SSH]),  # everybody may: by somebody else's rule
        (ufw(OFFICE, own=[SSH], narrow=["any 22"]), [], [SSH]),  # or by one of an earlier run, which takes nobody's way in
        (ufw(OFFICE, own=[SSH], narrow=["any 22"]), ["192.0.2.0/24"], ["allow tcp 22 192.0.2.0/24"]),  # closed again where that is asked for
        (ufw(own=["allow tcp 22 10.0.0.0/8"]), [], ["allow tcp 22 10.0.0.0/8"]),  # sources of an earlier run
        (ufw(OFFICE, narrow=["any 22"]), ["any"], [SSH]),  # opened where that is asked for
        (ufw(up=False), ["10.1.2.3/8", "192.0.2.7/32"], ["allow tcp 22 10.0.0.0/8", "allow tcp 22 192.0.2.7"]),  # as ufw writes them
    ],
)
def test_ssh(host, sources, wanted):
    assert firewall_wanted(host, [22], sources, WEB) == [*wanted, *BOTH]


def test_every_port_of_sshd_is_open_where_one_is():
    assert firewall_wanted(ufw(SSH), [22, 2222], [], []) == [SSH, "allow tcp 2222 any"]


@pytest.mark.parametrize(
    ("host", "rules", "wanted"),
    [
        (ufw("allow tcp 443 192.0.2.7", SSH, narrow=["tcp 443"]), WEB, ["allow tcp 80 any"]),  # somebody narrowed it
        (ufw("allow tcp 80,443 192.0.2.7", SSH, narrow=["tcp 80,443"]), WEB, []),
        (ufw(SSH, narrow=["any 400:500"]), WEB, ["allow tcp 80 any"]),
        (ufw(SSH, narrow=["udp 443"]), WEB, BOTH),
        (ufw(SSH, "allow tcp 443 any", narrow=["tcp 443"]), WEB, BOTH),
        (ufw(SSH, narrow=["tcp 443"]), [{"port": 443, "from": "any"}], ["allow tcp 443 any"]),  # asked for
        (ufw(SSH, narrow=["tcp 443"]), [{"port": 443, "action": "deny"}], ["deny tcp 443 any"]),
        (ufw(SSH, own=["allow tcp 443 10.0.0.0/8"]), WEB, BOTH),  # the variable had a source, and has none now
        (ufw(SSH), [{"port": "8000:8010", "protocol": "udp", "from": "10.9.8.0/24"}], ["allow udp 8000:8010 10.9.8.0/24"]),
    ],
)
def test_other_ports(host, rules, wanted):
    assert firewall_wanted(host, [22], [], rules) == [SSH, *wanted]


LIMIT = "limit tcp 22 any"


@pytest.mark.parametrize(
    ("host", "sources", "rules", "wanted"),
    [
        # Of a protocol, port and source ufw has one rule: an allow beside a limit would be there in every other run
        (ufw(up=False), [], [{"port": 22, "action": "limit"}], [LIMIT]),
        (ufw(own=[LIMIT]), [], [{"port": 22, "action": "limit"}], [LIMIT]),
        (ufw(SSH), ["any"], [{"port": 22, "action": "limit"}], [LIMIT]),
        (ufw(SSH), [], [{"port": 443}, {"port": 443, "action": "limit"}], [SSH, "limit tcp 443 any"]),
        # What somebody else limits or denies to everybody stays as it is, until it is asked for
        (ufw(LIMIT), [], [], []),
        (ufw(LIMIT), ["any"], [], []),
        (ufw(LIMIT), [], [{"port": 22, "action": "allow"}], [SSH]),
        (ufw("deny tcp 22 any", up=False), [], [], []),
        (ufw("deny tcp 22 any", up=False), ["any"], [], [SSH]),
        (ufw(SSH, "limit tcp 443 any"), [], WEB, [SSH, "allow tcp 80 any"]),
        (ufw(SSH, "deny tcp 443 any"), [], WEB, [SSH, "allow tcp 80 any"]),
        (ufw(SSH, "deny tcp 443 any"), [], [{"port": 443, "from": "any"}], [SSH, "allow tcp 443 any"]),
        (ufw(SSH, own=["deny tcp 443 any"]), [], WEB, [SSH, *BOTH]),  # ours, which the list does not have any more
    ],
)
def test_one_rule_for_a_place(host, sources, rules, wanted):
    assert firewall_wanted(host, [22], sources, rules) == wanted


def test_a_deny_does_not_stand_where_an_allow_stood():
    """ahead of those who are still to be let in."""
    wanted = ["allow tcp 443 10.0.0.0/8", "deny tcp 443 any"]
    assert firewall_late(ufw(SSH, own=BOTH) | {"late": []}, wanted) == ["allow tcp 443 any"]
    assert firewall_late(ufw(SSH, own=wanted) | {"late": []}, wanted) == []
    assert firewall_closed([SSH], ["deny tcp 22 any"], 22) == ["deny tcp 22 any"] and firewall_closed([SSH], wanted, 22) == []


def test_a_component_does_not_undo_a_limit():
    host, need = ufw(SSH, "limit tcp 5432 10.0.0.6"), [{"port": "5432", "from": "10.0.0.6", "host": "web"}]
    assert firewall_wanted(host, [22], [], [], need) == [SSH]
    assert firewall_wanted(ufw(SSH), [22], [], [], need) == [SSH, "allow tcp 5432 10.0.0.6"]


def test_who_would_be_shut_out():
    sources = firewall_admitted([OFFICE, "allow tcp 80 any", "deny tcp 22 any", "allow tcp 20:30 2001:db8::/32"], 22)
    assert sources == ["192.0.2.0/24", "2001:db8::/32"]
    assert firewall_outside(["192.0.2.9", "2001:db8::1%eth0", "198.51.100.1"], sources) == ["198.51.100.1"]
    assert firewall_outside(["198.51.100.1"], ["any"]) == []


BLOCK, BLOCK6 = "deny tcp 80 203.0.113.7", "reject tcp 80:90 2001:db8::/32"


def test_what_blocks_some_goes_before_what_lets_in():
    assert firewall_first([SSH, BLOCK, *BOTH, BLOCK6, "deny tcp 9000 any"]) == [BLOCK, BLOCK6]


@pytest.mark.parametrize(
    ("host", "late"),
    [
        (ufw(), []),  # not there yet
        (ufw(own=[BLOCK, BLOCK6]) | {"late": [BLOCK]}, [BLOCK]),
        (ufw(own=[BLOCK, BLOCK6]) | {"late": []}, []),
        (ufw(own=[BLOCK, BLOCK6]), [BLOCK, BLOCK6]),  # a host whose facts do not say it yet
        (ufw(own=[BLOCK]) | {"late": ["deny tcp 443 203.0.113.8", BLOCK6]}, []),  # somebody else's
    ],
)
def test_a_block_that_is_behind_is_found(host, late):
    assert firewall_late(host, [*BOTH, BLOCK, BLOCK6, "deny tcp 9000 any"]) == late


def test_whoever_runs_ansible_is_not_blocked():
    rules = ["deny any 1:65535 203.0.113.0/24", "deny tcp 80 198.51.100.1", "deny udp 22 198.51.100.1", "reject tcp 22 2001:db8::/32", "allow tcp 22 any"]
    assert firewall_blocked("203.0.113.7", 22, rules) == rules[:1] and firewall_blocked("198.51.100.1", 22, rules) == []
    assert firewall_blocked("2001:db8::1", 22, rules) == rules[3:4]
