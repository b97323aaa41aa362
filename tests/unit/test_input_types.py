"""Inputs as text, as every `-e name=value` and INI inventory gives them: `false` is no, and 4096 a number.

An argument specification checks a value and changes nothing, and no role can replace what `-e` has set. So each place that reads one converts it.
"""

import os
import pathlib

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from jinja2 import Environment, nodes
from nginx_door import rendered as nginx
from rendered import component, trusted, variables
from test_common_preflight import HOST
from test_rendered_units import BASE

ROOT = pathlib.Path(__file__).parents[2]
CONDITIONS = ("when", "until", "failed_when", "changed_when", "that")
ARITHMETIC = (nodes.BinExpr, nodes.Compare, nodes.Operand, nodes.If, nodes.CondExpr, nodes.UnaryExpr)
# Yes or no inside an input that is a dictionary
PARTS = {"use_tls"}
FILES = [path for pattern in ("roles/*/templates/**/*", "templates/**/*", "playbooks/templates/**/*") for path in ROOT.glob(pattern) if path.is_file()]
FILES += [path for pattern in ("roles/*/tasks/*.yml", "roles/*/vars/*.yml", "roles/*/defaults/*.yml", "playbooks/**/*.yml") for path in ROOT.glob(pattern)]


class Loader(yaml.SafeLoader):
    """Takes Ansible's tags for nothing."""


Loader.add_multi_constructor("!", lambda *_: None)


def inputs(*kinds):
    """Names of all inputs of these types, in every role; the shared ones by their defaults."""
    names = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        options = yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options") or {}
        names |= {name for name, option in options.items() if option.get("type") in kinds}
    shared = yaml.safe_load((ROOT / "roles/senex/defaults/main.yml").read_text())
    return names | {name for name, value in shared.items() if type(value).__name__ in kinds}


BOOLEANS, NUMBERS = inputs("bool"), inputs("int", "float")


def expressions(value, key=""):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from expressions(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, key)
    elif isinstance(value, str):
        yield "{{ " + value + " }}" if key in CONDITIONS and "{{" not in value else value


def pairs(node):
    for child in node.iter_child_nodes():
        yield child, node
        yield from pairs(child)


def is_bare(node, parent):
    converted = parent.name if isinstance(parent, nodes.Filter) else ""
    if isinstance(node, nodes.Name) and node.ctx == "load":
        if node.name in BOOLEANS:
            return converted != "bool" and node.name
        return node.name in NUMBERS and isinstance(parent, ARITHMETIC) and node.name
    return isinstance(node, nodes.Getattr) and node.attr in PARTS and converted != "bool" and node.attr


def bare(text):
    """The inputs that an expression or template reads as they come."""
    return [name for node, parent in pairs(Environment(extensions=["jinja2.ext.do"]).parse(text)) if (name := is_bare(node, parent))]


def test_the_rule_knows_a_mistake():
    assert bare("{% if nginx_ipv6 %}x{% endif %}") == bare("{{ 1 if a and not nginx_ipv6 }}") == ["nginx_ipv6"]
    assert bare("{{ senex_email.use_tls | string }}") == ["use_tls"]
    assert bare("{{ nginx_worker_connections * 2 }}") == bare("{{ 2 < nginx_worker_connections }}") == ["nginx_worker_connections"]
    assert bare("{{ nginx_ipv6 | bool and nginx_worker_connections | int > 2 }} {{ nginx_worker_connections }}") == []
    assert list(expressions([{"when": ["nginx_ipv6"], "name": "x"}])) == ["{{ nginx_ipv6 }}", "x"]
    assert len(BOOLEANS) > 25 and len(NUMBERS) > 100 and len(FILES) > 100


def test_every_input_is_converted_where_it_is_read():
    found = {}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        texts = [text] if path.suffix != ".yml" else expressions(yaml.load(text, Loader))  # noqa: S506  (a safe loader)
        if names := [name for one in texts for name in bare(one)]:
            found[os.path.relpath(path, ROOT)] = names
    assert found == {}, "write `| bool` behind a yes or no, and `| int` behind a number that is counted with or compared"


@pytest.mark.parametrize("name", ["nginx_ipv6", "nginx_rate_limits_enabled", "nginx_hsts_include_subdomains", "nginx_hsts_preload"])
def test_nginx_takes_text_for_what_it_says(name):
    def both(value):
        return nginx("site.conf.j2", **{name: value}) + nginx("maps.conf.j2", **{name: value})

    assert both(True) != both(False)
    assert {both(text) for text in ("false", "no", "False", "0")} == {both(False)}
    assert {both(text) for text in ("true", "yes", "True", "1")} == {both(True)}


def test_nginx_takes_text_for_numbers():
    numbers = {"nginx_worker_connections": 1024, "nginx_status_port": 0, "nginx_proxy_read_timeout": 5, "senex_web_instances": 3}
    for name in ("nginx.conf.j2", "site.conf.j2", "maps.conf.j2"):
        assert nginx(name, **numbers) == nginx(name, **{key: str(value) for key, value in numbers.items()})


@pytest.mark.parametrize(("role", "name"), [("django", "django_read_only"), ("celery", "celery_read_only"), ("podman", "podman_prune_enabled"),
                                            ("redis", "redis_appendonly")])  # fmt: skip
def test_other_roles_take_text_for_what_it_says(role, name):
    def files(value):
        return {dest: text for dest, (text, _) in component(role, **{**BASE, name: value})[0].items()}

    no, yes = files(False), files(True)
    assert no != yes
    for text, wanted in (("false", no), ("no", no), ("true", yes), ("yes", yes)):
        assert files(text) == wanted, text


def of_common(name, value):
    """What role common would install and start, and what it tells sshd, shells and apt."""
    values = variables("common", **{**BASE, name: value})
    templar = Templar(loader=DataLoader(), variables=values)
    lists = templar.template(trusted("{{ [__common_packages, __common_units, __common_checks] }}"))
    texts = [(ROOT / f"roles/common/templates/{file}").read_text() for file in ("sshd.conf.j2", "profile.sh.j2", "apt.conf.j2")]
    return str(lists) + "".join(templar.template(trusted(text)) for text in texts)


@pytest.mark.parametrize("name", sorted(name for name in BOOLEANS if name.startswith("common_")))
def test_the_host_takes_text_for_what_it_says(name):
    assert of_common(name, "false") == of_common(name, False) != of_common(name, True) == of_common(name, "yes")


def files_of_common(**inputs):
    """Everything of role common that its inputs are in, save what asks a host."""
    values = variables("common", **{**BASE, "__common_host": HOST, **inputs})
    templar = Templar(loader=DataLoader(), variables=values)
    names = sorted(path for path in (ROOT / "roles/common/templates").glob("*.j2") if path.name != "senex-logins.service.j2")
    lists = templar.template(trusted("{{ [__common_packages, __common_units, __common_checks, __common_in_force, __common_directories] }}"))
    return str(lists) + "".join(templar.template(trusted(path.read_text())) for path in names)


TEXTS = ["common_fail2ban_ban_time", "common_fail2ban_find_time", *sorted(name for name in inputs("str") if name.startswith("common_journald_"))]


@pytest.mark.parametrize("name", TEXTS)
def test_the_host_takes_a_number_for_the_text_that_it_is(name):
    """3600 is a span of fail2ban, and no list of words."""
    assert files_of_common(**{name: 3600}) == files_of_common(**{name: "3600"}) != files_of_common()
