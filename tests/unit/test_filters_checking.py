"""What a run refuses before it touches a host."""

import base64
import pathlib
import shutil
import subprocess
import sys

import pytest
from ansible.errors import AnsibleFilterError, AnsibleUndefinedVariable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "plugins" / "filter"))
import checking  # noqa: E402  (a filter plugin is no package)
import checking_groups  # noqa: E402  (a filter plugin is no package)
import checking_paths  # noqa: E402  (a filter plugin is no package)
import checking_times  # noqa: E402  (a filter plugin is no package)
import checking_types  # noqa: E402  (a filter plugin is no package)

FERNET = base64.urlsafe_b64encode(bytes(range(200, 232))).decode()
PEM = "-----BEGIN {0}-----\nQUJD\n-----END {0}-----\n"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("domain", "www.example.com"),
        ("domain", "demo.senex.test"),
        ("registry", "registry.senex.test:5000/senex"),
        ("registry", "ghcr.io"),
        ("tag", "1.2.3"),
        ("tag", 7),
        ("tag", "sha256:" + "0" * 64),
        ("secret", "$ \" ' # % \\ = { } ; & äß"),
        ("secret_key", "x" * 50),
        ("fernet", FERNET),
        ("certificate", PEM.format("CERTIFICATE")),
        ("private_key", PEM.format("ENCRYPTED PRIVATE KEY")),
        ("optional", ""),
        ("optional", None),
    ],
)
def test_good_values(kind, value):
    assert checking.input_problems({kind: {"senex_x": value}}) == []


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("domain", "localhost", "no domain name"),
        ("domain", "https://example.com", "no domain name"),
        ("domain", "example.com.", "no domain name"),
        ("domain", "www.Your-Domain.com", "placeholder"),
        ("domain", "", "is missing"),
        ("registry", "https://registry.example.com", "no registry"),
        ("tag", "latest", "not a release"),
        ("tag", "sha256:123", "neither a tag nor a digest"),
        ("secret", "", "is missing; run playbooks/secrets.yml, which writes vault_x"),
        ("secret", None, "is missing"),
        ("secret", "CHANGE_ME", "placeholder"),
        ("secret", "geheim", "shorter than 12"),
        ("secret", "geheim\n" * 5, "line break"),
        ("secret", ["geheim"], "must be a string"),
        ("secret", True, "must be a string"),
        ("secret_key", "geheim" * 8, "50 characters"),
        ("fernet", "geheim" * 8, "no Fernet key"),
        ("fernet", FERNET[:-4], "no Fernet key"),
        ("certificate", "geheim", "no PEM certificate"),
        ("private_key", PEM.format("PRIVATE KEY"), "no PEM encrypted private key"),
        ("optional", "CHANGE_ME", "placeholder"),
    ],
)
def test_bad_values(kind, value, says):
    (problem,) = checking.input_problems({kind: {"senex_x": value}})
    assert problem.startswith("senex_x: ") and says in problem
    assert "geheim" not in problem


def test_all_problems_come_at_once():
    problems = checking.input_problems({"domain": {"senex_domain": ""}, "secret": {"senex_a": "", "senex_b": "x" * 12}})
    assert [problem.split(":")[0] for problem in problems] == ["senex_domain", "senex_a"]
    with pytest.raises(AnsibleFilterError, match="no kind colour"):
        checking.input_problems({"colour": {}})


def test_groups():
    good = {"postgresql": ["a"], "celery_beat": ["a"], "web": ["a", "b"]}
    rules = {"postgresql": "exactly_one", "web": "one_or_more", "celery_beat": "exactly_one", "backup": "any"}
    assert checking_groups.group_problems(good, rules) == []
    bad = {"postgresql": [], "celery_beat": ["a", "b"], "web": []}
    assert checking_groups.group_problems(bad, {**rules, "nginx": "one_or_more"}) == [
        "group postgresql: needs exactly one host and has none",
        "group celery_beat: needs exactly one host and has a, b",
        "group web: needs a host and has none",
        "group nginx: needs a host and has none",
    ]


class Later(dict):
    """Variables of a host, one of which is made of facts that nobody has read yet."""

    def get(self, name, default=None):
        if name == "senex_private_address":
            raise AnsibleUndefinedVariable("'dict object' has no attribute 'eth1'")
        return super().get(name, default)


@pytest.mark.parametrize(
    ("hosts", "same"),
    [
        ({"a": {}, "b": {}}, ""),
        ({"a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.2"}}, ""),
        # By the way in they are one machine, as behind a router, and each has its own
        ({"a": {"ansible_host": "gate", "senex_private_address": "10.0.0.1"}, "b": {"ansible_host": "gate", "senex_private_address": "10.0.0.2"}}, ""),
        ({"a": {"senex_private_address": "10.0.0.1"}, "b": {"senex_private_address": "10.0.0.1"}}, "a, b have the same, 10.0.0.1"),
        ({"a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.1"}}, "a, b have the same, 192.0.2.1"),
        ({"a": {"ansible_host": "b"}, "b": {}}, "a, b have the same, b"),
        ({"a": Later(senex_private_address=""), "b": Later(senex_private_address="")}, ""),
    ],
)
def test_each_host_has_an_address_of_its_own(hosts, same):
    problems = checking_groups.address_problems({"web": ["a", "b"], "postgresql": ["a"], "others": ["a", "c"]}, hosts)
    assert [problem.partition("; ")[0].partition(": ")[2] for problem in problems] == ([same] if same else [])


SHAPES = {
    "a": {"type": "list", "of": "text"},
    "b": {"type": "dict", "keys": {"host": "text", "port": "number", "tls": "bool"}},
    "c": {"type": "dict", "or_empty": True, "keys": {"username": "text"}},
    "d": {"type": "number"},
    "e": {"type": "dict", "of": "number"},
    "f": {"type": "line"},
    "g": {"type": "flag"},
}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("a", ["x", "y"], []),
        ("a", "www.x", ["a: is a text, and must be a list (a text each)"]),
        ("a", None, ["a: is nothing, and must be a list (a text each)"]),
        ("a", ["x", {"y": 1}], ["a, number 2: is a dictionary, and must be a text"]),
        ("b", {"host": "mx", "port": "25", "tls": True}, []),
        ("b", {"host": "mx"}, ["b: has no port, tls; it takes the place of the whole default, so give every key (host, port, tls)"]),
        ("b", {"host": "mx", "port": 25, "tls": "no"}, ["b.tls: is a text, and must be true or false, without quotes"]),
        ("b", {"host": "mx", "port": 25, "tls": True, "user": ""}, ["b.user: there is no such key; there are host, port, tls"]),
        ("b", "mx", ["b: is a text, and must be a dictionary (host, port, tls)"]),
        ("c", {}, []),
        ("d", "5", []),
        ("d", "five", ["d: is a text, and must be a whole number, 0 to 4294967295"]),
        ("d", True, ["d: is true or false, and must be a whole number, 0 to 4294967295"]),
        ("d", 1.5, ["d: is a decimal, and must be a whole number, 0 to 4294967295"]),
        ("d", -5, ["d: is a number, and must be a whole number, 0 to 4294967295"]),
        ("d", "１", ["d: is a text, and must be a whole number, 0 to 4294967295"]),
        ("d", 4294967296, ["d: is a number, and must be a whole number, 0 to 4294967295"]),
        ("d", "9" * 5000, ["d: is a text, and must be a whole number, 0 to 4294967295"]),
        ("d", "4294967295", []),
        ("d", "010", ["d: is a text, and must be a whole number, 0 to 4294967295"]),
        ("f", 1.1, ["f: is a decimal, and must be a text in one line, not empty; put it in quotes"]),
        ("f", "x\ny", ["f: is a text, and must be a text in one line, not empty"]),
        ("f", None, ["f: is nothing, and must be a text in one line, not empty"]),
        ("g", "no", []),
        ("g", "ture", ["g: is a text, and must be true or false"]),
        ("e", {"x": "y"}, ["e.x: is a text, and must be a whole number, 0 to 4294967295"]),
    ],
)
def test_types(name, value, says):
    assert checking_types.shape_problems({name: value}, SHAPES) == says


def test_directories_that_are_not_apart():
    assert checking_paths.nesting_problems({"a": "data/redis", "b": "data/redis.old"}, {"c": "data/postgres"}) == []
    assert checking_paths.nesting_problems({"a": "data"}, {"c": "data/postgres"})[0] == "a: data is, holds or lies in c (data/postgres); give each its own"
    assert checking_paths.nesting_problems({"a": "x/y", "b": "x"}, {}) == ["a: x/y is, holds or lies in b (x); give each its own"]
    assert checking_paths.nesting_problems({"a": "logs"}, {}) == ["a: logs is, holds or lies in logs; give each its own"]
    assert checking_paths.nesting_problems({"a": 7, "b": "7/b"}, {}) == ["a: 7 is, holds or lies in b (7/b); give each its own"]


TIMES = """*-*-* *:25:00 UTC|Sun *-*-* 04:30:00 UTC|*-*~1|*-02~03|02-30|26-01-01|*-1..3-1|*:0/15|*:*:0/5|03:00:00.5|3:0|2,4:00|Mon-Fri|mon,wed
Mon  3:00|Mon,Fri..Sun 3:00|Mon *-*-1..7 4:00|Hourly|semi-annually|weekly UTC|daily Europe/Berlin|4:00 utc|@1395716396|Wednesday 1..5/2:00|*-*-* 23:59:59"""
NO_TIMES = "|often|every day|3|03|25:00|3:61|*-*-* 24:00|*-*-* 03:30:60|10:00-12:00|/15|*/15|*:/15|Tues 3:00|Sun 05|02:00:00:00|daily 3:00|0 2 * * *|daily\nx"


def test_times_as_systemd_knows_them():
    for value in TIMES.replace("\n", "|").split("|"):
        assert checking_times.schedule_problems({"x_schedule": value}) == [], value
    for value in NO_TIMES.split("|"):
        assert checking_times.schedule_problems({"x_schedule": value}) == [f"x_schedule: '{value}' is no time as systemd knows it, such as *-*-* 03:30:00 UTC"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize(("values", "good"), [(TIMES.replace("\n", "|"), True), (NO_TIMES, False)])
def test_systemd_says_the_same(values, good):
    for value in values.split("|"):
        assert (subprocess.run(["systemd-analyze", "calendar", value], capture_output=True, check=False).returncode == 0) is good, value


def test_what_no_job_can_use_is_said():
    jobs = {"search": {}}
    assert checking_times.odd_overrides({"search": {"schedule": "*-*-* 03:00:00 UTC", "days": 3, "max_age": "90000"}}, jobs) == []
    assert checking_times.odd_overrides({"redis": {"days": 3}}, jobs) == ["backup_overrides: redis is no job without inputs of its own; those are search"]
    assert checking_times.odd_overrides({"search": 3}, {}) == ["backup_overrides: search is no job without inputs of its own; those are none"]
    assert checking_times.odd_overrides({"search": 3}, jobs) == ["backup_overrides.search: 3 is not some of schedule, days and max_age"]
    assert checking_times.odd_overrides({"search": {"keep": 3}}, jobs) == ["backup_overrides.search: {'keep': 3} is not some of schedule, days and max_age"]
    said = checking_times.odd_overrides({"search": {"schedule": "at noon", "days": 0, "max_age": "a day"}}, jobs)
    assert said == [
        "backup_overrides.search.schedule: 'at noon' is no time as systemd knows it, such as *-*-* 03:30:00 UTC",
        "backup_overrides.search.days: 0 must be a whole number above 0",
        "backup_overrides.search.max_age: a day must be a whole number above 0",
    ]
