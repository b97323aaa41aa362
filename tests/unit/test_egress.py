"""Where the service user's containers may connect to: what systemd is told, and what is refused before the first change."""

import base64

import pytest
from rendered import ROLES, Renderer, action, value, variables

METADATA = "169.254.169.254"
HOST = {"packages": [], "users": {}, "linger": [], "user_manager": {}}


def drop_in(**inputs):
    values = variables("podman", **inputs)
    (item,) = action(Renderer, {}, values, ROLES / "podman").rendered([{"src": "user.conf.j2", "dest": "/etc/systemd/system/x.conf"}], values)
    text = base64.b64decode(item["content"]).decode()
    found = [line.partition("=") for line in text.splitlines() if line.startswith("IPAddress")]
    return {key: words.split() for key, _, words in found}


def problems(resolvers=(), **inputs):
    facts = {"memtotal_mb": 7940, "distribution": "Debian", "distribution_version": "13", "ansible_local": {"senex": {**HOST, "resolvers": list(resolvers)}}}
    lines = value("podman", "__podman_preflight | senex.trader.rule_problems", ansible_facts=facts, **inputs)
    return [line for line in lines if "podman_denied_addresses" in line]


def test_metadata_services_are_out_of_reach_and_all_else_is_not():
    found = drop_in()
    assert set(found) == {"IPAddressDeny"} and {METADATA, "fd00:ec2::254", "100.100.100.200"} <= set(found["IPAddressDeny"])
    assert not [one for one in found["IPAddressDeny"] if "/" in one or one.startswith("169.254.1.")], "by link-local addresses pasta is asked for names"
    assert drop_in(podman_denied_addresses=[]) == {}


def test_a_list_of_what_is_allowed_denies_the_rest():
    found = drop_in(podman_allowed_addresses=["192.0.2.0/24", "2001:db8::/32"])
    assert found["IPAddressDeny"] == ["any"]
    assert found["IPAddressAllow"][0] == "localhost" and found["IPAddressAllow"][-2:] == ["192.0.2.0/24", "2001:db8::/32"]
    assert METADATA not in found["IPAddressAllow"] and "10.88.0.0/15" in found["IPAddressAllow"], "containers reach each other"


def test_a_manager_that_runs_is_held_to_them_without_a_restart():
    for inputs in ({}, {"podman_allowed_addresses": ["192.0.2.0/24"]}):
        words = value("podman", "__podman_hold", **inputs)
        assert words[-1] == f"IPAddressDeny={' '.join(drop_in(**inputs)['IPAddressDeny'])}" and "user@987.service" in words
        assert [word for word in words if word.startswith("IPAddressAllow=")] == [
            f"IPAddressAllow={' '.join(found)}" for key, found in drop_in(**inputs).items() if key == "IPAddressAllow"]  # fmt: skip
    assert value("podman", "__podman_hold", podman_denied_addresses=[])[-1] == "user@987.service", "the shell then does nothing"


@pytest.mark.parametrize("wrong", ["metadata.example.com", "10.0.0.0/33", "any", "", "169.254.169.254 ", 7, "10.0.0.1-10.0.0.9"])
def test_what_is_no_address_would_be_left_out_by_systemd_and_is_refused(wrong):
    for name in ("podman_denied_addresses", "podman_allowed_addresses"):
        (said,) = problems(**{name: ["10.0.0.0/8", "2001:db8::1", wrong]})
        assert str(wrong) in said and "10.0.0.0/8," not in said


def test_the_hosts_resolver_is_not_taken_from_containers():
    (said,) = problems([METADATA])
    assert METADATA in said and "resolver" in said
    assert problems([METADATA], podman_denied_addresses=["100.100.100.200"]) == []
    assert problems([METADATA], podman_allowed_addresses=[METADATA]) == [], "what is allowed wins"
    assert problems(["9.9.9.9"]) == problems() == []
