"""What role common refuses of a host before it changes it."""

import copy

import pytest
from rendered import value, variables
from test_input_checks import GIVEN

HOST = {
    "users": {"root": {"uid": 0, "gid": 0, "home": "/root", "shell": "/bin/bash"}}, "groups": {"root": 0, "users": 100}, "subuid": {}, "subgid": {},
    "file_systems": [{"mount": "/", "size_mb": 90000, "free_mb": 80000}], "listening": {}, "packages": [], "timezone": "Etc/UTC",
    "ssh": {"ports": [22], "connection": {"user": "root", "address": "198.51.100.4", "port": 22}, "users_with_key": ["root"]},
    "ufw": {"active": False, "denies_incoming": False, "rules": [], "own_rules": [], "narrow": []},
}  # fmt: skip
SENEX = {"uid": 987, "gid": 987, "home": "/opt/senex-trader", "shell": "/usr/sbin/nologin"}
UP = {"active": True, "denies_incoming": True, "rules": ["allow tcp 22 any"], "own_rules": ["allow tcp 22 any"]}
OFFICE = {"rules": ["allow tcp 22 192.0.2.0/24"], "narrow": ["tcp 22"]}


def refusals(host=None, **inputs):
    """`host`: part of the facts to what they are, or to what is added."""
    facts = copy.deepcopy(HOST)
    for part, more in (host or {}).items():
        facts[part].update(more)
    given = {**GIVEN, "__common_host": facts, "__common_zone": {}, **inputs}
    return value("common", "__common_preflight | senex.trader.rule_problems", **given)


def test_a_bare_host_and_one_that_was_converged_are_right():
    assert refusals() == []
    application = {"senex-application": {"uid": 200999, "gid": 200999, "home": "/nonexistent", "shell": "/usr/sbin/nologin"}}
    ranges = {"senex": [[200000, 265535]]}
    converged = {"users": {"senex": SENEX, **application}, "groups": {"senex": 987, "senex-application": 200999}, "subuid": ranges, "subgid": ranges}
    assert refusals(converged) == []


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"groups": {"senex": 1500}}, ["the group senex exists with GID 1500", "not renumbered"]),
        ({"groups": {"senex": 987}, "users": {"senex": {**SENEX, "gid": 100}}}, ["user senex exists with the primary group users (GID 100)", "usermod -g"]),
        ({"users": {"senex": {**SENEX, "uid": 1001}}, "groups": {"senex": 987}}, ["the user senex exists with UID 1001"]),
        ({"users": {"other": {**SENEX, "home": "/srv/other"}}}, ["senex_uid 987 belongs to the user other"]),
        ({"groups": {"other": 987}}, ["also the GID of the group other"]),
        ({"groups": {"senex-application": 4000}}, ["the group senex-application has GID 4000", "Nothing is renumbered"]),
        ({"users": {"senex-application": {**SENEX, "uid": 4000, "home": "/nonexistent"}}}, ["the user senex-application has UID 4000"]),
        ({"users": {"other": {**SENEX, "uid": 200999, "home": "/srv/other"}}}, ["its number belongs to the user other"]),
        ({"groups": {"other": 200999}}, ["its number belongs to the group other"]),
    ],
)
def test_nothing_that_is_there_is_renumbered(host, words):
    (line,) = refusals(host)
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize(
    ("host", "inputs", "word"),
    [
        ({}, {"common_ssh_sources": ["192.0.2.0/24"]}, "ssh in from 192.0.2.0/24 alone, and Ansible comes from 198.51.100.4"),
        ({"ufw": OFFICE}, {}, "ssh in from 192.0.2.0/24 alone"),  # not up yet, and its rules leave Ansible out
        ({"ufw": {"rules": [], "narrow": ["tcp 22"]}}, {}, "ssh in from nowhere alone"),  # by an interface
        # ufw has a deny in the place of the allow, also of one that is there
        ({}, {"common_firewall_rules": [{"port": 22, "action": "deny"}]}, "ssh in from nowhere alone, and Ansible comes from 198.51.100.4"),
        ({"ufw": UP}, {"common_firewall_rules": [{"port": 22, "action": "reject"}]}, "reject tcp 22 any would be there in the place of what lets ssh in"),
        # Whatever address Ansible comes from (a ProxyCommand shows none)
        (
            {"ufw": UP, "ssh": {"connection": {"user": "root", "address": None, "port": None}}},
            {"common_firewall_rules": [{"port": 22, "action": "deny"}]},
            "deny tcp 22 any would be there in the place",
        ),
        ({}, {"common_ssh_sources": ["office"]}, "office is neither an address nor a network"),
    ],
)
def test_nobody_is_shut_out(host, inputs, word):
    (line,) = refusals(host, **inputs)
    assert word in line


@pytest.mark.parametrize(
    ("host", "inputs"),
    [
        ({}, {"common_ssh_sources": ["198.51.100.0/24", "192.0.2.7"]}),
        ({"ufw": OFFICE}, {"common_ssh_sources": ["any"]}),
        ({"ufw": {**OFFICE, "active": True, "denies_incoming": True}}, {}),  # it is up, and let Ansible in
        ({"ufw": OFFICE}, {"common_firewall_enabled": False}),
        ({"ufw": UP}, {"common_firewall_rules": [{"port": 22, "action": "limit"}]}),
        ({"ufw": {**UP, "rules": ["limit tcp 22 any"]}}, {}),
        # Closed for all others, behind what lets Ansible in
        ({}, {"common_ssh_sources": ["198.51.100.0/24"], "common_firewall_rules": [{"port": 22, "action": "deny"}]}),
        ({"ssh": {"connection": {"user": "root", "address": None, "port": None}}}, {"common_ssh_sources": ["192.0.2.7"]}),
    ],
)
def test_who_is_let_in_is_not_refused(host, inputs):
    assert refusals(host, **inputs) == []


@pytest.mark.parametrize("value", [True, False, [1, 2], {"a": 1}, "", " "])
def test_a_kernel_setting_that_would_be_written_as_something_else_is_refused(value):
    (line,) = refusals(common_sysctl_overrides={"vm.swappiness": value})
    assert line.startswith("common_sysctl, common_sysctl_overrides: vm.swappiness must be a number or a text")
    assert refusals(common_sysctl_overrides={"vm.swappiness": "10", "net.ipv4.ip_forward": None, "vm.dirty_ratio": 5}) == []


@pytest.mark.parametrize(("name", "value"), [("common_journald_max_use", "2GB"), ("common_journald_keep_free", "1 G"), ("common_journald_max_use", "15%")])
def test_a_size_that_systemd_leaves_out_is_refused(name, value):
    (line,) = refusals(**{name: value})
    assert name in line and value in line
    assert refusals(common_journald_max_use="1.5G", common_journald_keep_free="500M") == []
    assert refusals(common_journald_max_use=1048576, common_journald_keep_free="") == []


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        # sshd counts before it asks, so 0 ends every connection
        ({"common_ssh_max_auth_tries": 0}, "common_ssh_max_auth_tries is 0; with less than 1 nobody could log in"),
        ({"common_ssh_login_grace_time": "2"}, "common_ssh_login_grace_time is 2 seconds"),
        ({"common_fail2ban_find_time": "10 minuets"}, "common_fail2ban_find_time, common_fail2ban_ban_time: '10 minuets'"),
        ({"common_fail2ban_ban_time": ""}, "common_fail2ban_find_time, common_fail2ban_ban_time: '10m', ''"),
        ({"common_fail2ban_max_retry": "0"}, "common_fail2ban_max_retry is 0, which would ban at the first failure"),
        ({"common_fail2ban_ignore": ["10.0.0.0/33", "office.senex.test"]}, "common_fail2ban_ignore: 10.0.0.0/33 is no"),
        ({"common_fail2ban_ignore": ["10.0.0.1 10.0.0.2"]}, "common_fail2ban_ignore: 10.0.0.1 10.0.0.2 is no"),
        ({"common_journald_rate_limit_interval": "30 secconds"}, "common_journald_rate_limit_interval is '30 secconds'"),
        ({"common_journald_rate_limit_interval": ""}, "common_journald_rate_limit_interval is ''"),
        ({"common_journald_max_use": 2048}, "common_journald_max_use, common_journald_keep_free: '2048', '1G'; a number alone is bytes"),
        ({"common_time_servers": ["ntp://ntp.senex.test"]}, "common_time_servers: each must be a name"),
        ({"common_packages_extra": ["htop vim"]}, "common_packages_extra: htop vim is no name"),
        # It matches every package: no update would ever come
        ({"common_unattended_upgrades_blacklist": [""]}, "common_unattended_upgrades_blacklist: each must be"),
        ({"common_unattended_upgrades_blacklist": ['linux-"']}, "common_unattended_upgrades_blacklist: each must be"),
        ({"common_shell": "nologin"}, "common_shell is 'nologin'"),
        ({"common_log_keep_days": 0}, "common_log_keep_days is 0"),
        ({"senex_home": "/opt/../etc"}, "senex_home is '/opt/../etc'"),
        ({"senex_home": "/var/log"}, "senex_home is '/var/log'"),
        ({"senex_home": "/root/senex"}, "senex_home is '/root/senex'"),
        ({"common_swap_mb": 512, "common_swap_file": "/srv/../opt/senex-trader/swap"}, "common_swap_file is '/srv/../opt/senex-trader/swap'"),
        ({"senex_subid_start": 4294960000}, "senex_subid_start 4294960000 and senex_subid_count 65536 end at 4295025535"),
        ({"senex_image_user": 1000680000}, "senex_image_user is 1000680000, and the service user has 65536 ids"),
    ],
)
def test_what_would_lock_out_or_end_the_run_midway(inputs, says):
    found = refusals(**inputs)
    assert [line[: len(says)] for line in found] == [says], found


def test_the_home_of_somebody_else():
    deploy = {"users": {"deploy": {"uid": 1000, "gid": 1000, "home": "/home/deploy", "shell": "/bin/bash"}}}
    (line,) = refusals(deploy, senex_home="/home/deploy")
    assert line.startswith("senex_home /home/deploy is the home of the user deploy")
    # A host that an earlier run has made so stays as it is
    converged = {"users": {**deploy["users"], "senex": {**SENEX, "home": "/home/deploy"}}, "groups": {"senex": 987}}
    assert refusals(converged, senex_home="/home/deploy") == []


@pytest.mark.parametrize(
    "inputs",
    [
        {"common_ssh_login_grace_time": 0, "common_ssh_max_auth_tries": "1"}, {"common_fail2ban_find_time": "1d 12h", "common_fail2ban_ban_time": -1},
        {"common_fail2ban_ban_time": 3600}, {"common_fail2ban_ignore": ["10.0.0.0/8", "fd00::/8", "office.senex.test"]},
        {"common_journald_rate_limit_interval": "1min 30s"}, {"common_journald_rate_limit_interval": 0}, {"common_time_servers": ["ntp.senex.test", "fd00::5"]},
        {"common_packages_extra": ["htop", "libc6:i386", "nginx=1.26*"]}, {"common_unattended_upgrades_blacklist": ["linux-.*", "libc6$"]},
        {"common_shell": "/bin/bash"}, {"senex_home": "/srv/senex.trader"}, {"senex_image_user": 65536},
        {"common_ssh_hardening_enabled": False, "common_ssh_max_auth_tries": 0},
    ],
)  # fmt: skip
def test_what_is_right_of_the_host(inputs):
    assert refusals(**inputs) == []


def test_a_run_that_is_not_root_on_the_host_is_told_the_line_that_is_missing():
    facts = variables("common")["ansible_facts"]
    (line,) = refusals(ansible_facts={**facts, "effective_user_id": 1000, "user_id": "ubuntu"})
    assert "The run is ubuntu on this host" in line and "ansible_become: true" in line
    assert refusals(ansible_facts={**facts, "effective_user_id": 0, "user_id": "root"}) == []
