"""Rules of inputs, and the filters that they ask."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.rotation import rotation_made, rotation_rejected, rotation_supplied
from ansible_collections.senex.trader.plugins.filter.rules import (
    account_conflicts,
    buffer_problems,
    directories_above,
    hosts_without,
    listed_network_problems,
    names_below,
    nested_settings,
    no_host_paths,
    odd_directives,
    port_problems,
    rule_problems,
    site_problems,
    uncertified,
    uncovered_names,
    unwritable_sysctl,
    url_problems,
)
from ansible_collections.senex.trader.plugins.filter.status import preflight_hosts
from rendered import trusted, value


def test_what_does_not_hold_is_said_in_order():
    rules = [{"that": False, "message": "a"}, {"problems": ["b", "c"]}, {"that": True, "message": "d"}, {"that": [], "message": ["e", "f"]}]
    assert rule_problems(rules) == ["a", "b", "c", "e f"]
    assert rule_problems(rules, first=True) == ["a"] and rule_problems(rules[1:], first=True) == ["b", "c"]
    assert rule_problems([]) == []


@pytest.mark.parametrize("rule", [{"that": True}, {"ok": True, "otherwise": "x"}, {"that": True, "message": "x", "problems": []}, {}])
def test_a_rule_of_another_form_is_an_error(rule):
    with pytest.raises(AnsibleFilterError, match="a rule has that and message, or problems alone"):
        rule_problems([rule])


def test_a_message_is_made_where_its_rule_does_not_hold():
    """It may name what is not there elsewhere."""
    rules = [{"that": "{{ asked != '' }}", "message": "empty"}, {"that": "{{ asked == 'x' }}", "message": "asked: is {{ found_elsewhere.name }}"}]
    assert value("redis", "rules | senex.trader.rule_problems", rules=trusted(rules), asked="x") == []
    assert value("redis", "rules | senex.trader.rule_problems(first=true)", rules=trusted(rules), asked="") == ["empty"]
    found = value("redis", "rules | senex.trader.rule_problems", rules=trusted(rules), asked="y", found_elsewhere={"name": "z"})
    assert found == ["asked: is z"]


def test_numbers_and_networks_and_paths():
    assert names_below({"a": 0, "b": "1", "c": "x", "d": 2}, 1) == ["a", "c"]
    # systemd would leave each of them out, or take it for an octal one
    [said] = listed_network_problems({"a": ["10.0.0.0/08", "10.0.0.0/010", "fd00::/08", "10.0.0.0/", "10.0.0.0/+8", "fe80::1%eth0"]})
    assert said.startswith("a: 10.0.0.0/08, 10.0.0.0/010, fd00::/08, 10.0.0.0/, 10.0.0.0/+8, fe80::1%eth0 is neither"), said
    assert listed_network_problems({"a": ["0.0.0.0/0", "fd00::/8", "10.0.0.1/32", "::ffff:1.2.3.4"]}) == []
    assert listed_network_problems({"a": ["10.0.0.0/8"], "b": ["x", "::1", "1.2.3.4/99"]}) == [
        "b: x, 1.2.3.4/99 is neither an address nor a network, e.g. 10.0.0.0/8"
    ]
    assert no_host_paths({"a": ["/srv"], "b": ["x", "/y", 3], "c": [""], "d": []}) == [
        "b: x, 3 is no absolute path on the host; write such as /srv", "c: nothing is no absolute path on the host; write such as /srv",
    ]  # fmt: skip
    assert directories_above("a/b/c") == ["a", "a/b"] and directories_above("a") == [] and directories_above("/a/b") == ["", "/a"]


def test_hosts_that_say_nothing():
    variables = {"one": {"senex_redis_host": "x"}, "two": {}, "three": {"senex_redis_url": ""}}
    assert hosts_without(["two", "one", "three", "stranger"], variables, "senex_redis_host", "senex_redis_url") == ["two", "stranger"]


def test_settings_that_cannot_be_written():
    assert nested_settings({"a": [1], "b": {}, "c": "x", "d": 1, "e": True, "f": None}) == ["a", "b"]
    assert odd_directives({"save": "", "a b": 1, "x": None, "y": {}, "z": [1], "-": 1}) == ["a b", "x", "y", "-"]
    assert unwritable_sysctl({"a": True, "b": [1], "c": " ", "d": 1, "e": "2", "f": 1.5, "g": None}) == ["a", "b", "c", "g"]


def test_ports():
    assert port_problems([443, "1:65535", "0", "5:3", "1:65536", "http", ""]) == ["0", "5:3", "1:65536"]
    assert port_problems(["0443", "80:80", "080:90", "80:90"]) == ["0443", "80:80", "080:90"], "ufw has them otherwise, or refuses them"


def test_who_else_has_a_name_or_a_number():
    host = {"users": {"app": {"uid": 4000}, "other": {"uid": 200999}}, "groups": {"app": 4000, "others": 200999}}
    assert account_conflicts(host, "app", 200999) == [
        "the user app has UID 4000", "the group app has GID 4000", "its number belongs to the user other", "its number belongs to the group others",
    ]  # fmt: skip
    assert account_conflicts({"users": {"app": {"uid": 7}}, "groups": {"app": 7}}, "app", 7) == account_conflicts({"users": {}, "groups": {}}, "app", 7) == []


def test_paths_of_nginx():
    assert url_problems([["a", "/x/"], ["b", "/x/"], ["c", "/senex-x"], ["d", "/y/"]]) == [
        "b: /x/ is a already; give each a path of its own", "c: paths that begin with /senex- are nginx's own; take another one",
    ]  # fmt: skip
    (line,) = site_problems([{"names": ["a.example", "b.example"], "path": "/etc/nginx/sites-enabled/x"}])
    assert line.startswith("nginx_take_over: nginx of this host has a.example, b.example (/etc/nginx/sites-enabled/x), which would be served no more")


@pytest.mark.parametrize(
    ("size", "busy", "buffers", "says"),
    [
        ("16k", "32k", "8 16k", ""),
        ("16k", "112k", "8 16k", ""),
        ("16k", "113k", "8 16k", "nginx_proxy_busy_buffers_size: 113k must be at least"),
        ("64k", "32k", "8 16k", "nginx_proxy_busy_buffers_size: 32k must be at least nginx_proxy_buffer_size (64k) and at most all of nginx_proxy_buffers"),
        ("64", "32k", "8 16k", "nginx_proxy_buffer_size: is no size of nginx"),
        ("64k", "32k", "8", "nginx_proxy_buffers: is no number and size of buffers"),
    ],
)
def test_buffers_of_nginx(size, busy, buffers, says):
    found = buffer_problems({"nginx_proxy_buffer_size": size, "nginx_proxy_busy_buffers_size": busy}, {"nginx_proxy_buffers": buffers})
    assert len(found) == bool(says) and "".join(found).startswith(says)


def test_names_without_a_certificate():
    assert uncovered_names(["example.com", "www.example.com", "a.b.example.com"], ["*.example.com", "example.com"]) == ["a.b.example.com"]
    first, second = uncertified(["a.example", "b.example"], ["a.example"], "Detail: no")
    assert first == "nginx_domain, nginx_domain_aliases: a.example has no certificate. Detail: no"
    assert "b.example has no certificate. It does not resolve on this host" in second


def test_values_of_a_rotation():
    catalogue = {"mine": {"vault": "vault_mine"}, "theirs": {"vault": "vault_theirs", "given": True}, "absent": {"vault": "vault_absent", "given": True},
                 "other": {"vault": "vault_other", "given": True}}  # fmt: skip
    vault = {"vault_mine": "1", "vault_theirs": "2", "vault_other": "3"}
    assert rotation_supplied(catalogue, vault, {"theirs": "new"}) == {"vault_theirs": "new", "vault_other": "3"}
    assert rotation_made(["mine", "theirs"], catalogue, {"vault_mine": "made"}) == {"mine": "made"}
    failed = {"item": {"secret": "mine"}, "rc": 1, "stdout": "old: taken\x1b[2J", "stderr": "", "msg": "non-zero"}
    (line,) = rotation_rejected([failed, {"item": {"secret": "theirs"}, "rc": 0}, {"item": {"secret": "skipped"}}])
    assert line.startswith("mine: old: taken") and line.endswith("non-zero") and "\x1b" not in line


def test_findings_of_the_hosts_that_were_asked():
    asked = {"senex_preflight": [{"key": "a"}], "__preflight_asked": {"findings": [{"key": "b"}]}}
    variables = {"one": asked, "two": {"senex_preflight": []}, "three": {"senex_preflight": [], "__preflight_asked": {"skipped": True}}}
    assert preflight_hosts(["one", "two", "three"], variables, "demo") == [{"host": "one", "environment": "demo", "findings": [{"key": "a"}, {"key": "b"}]}]
