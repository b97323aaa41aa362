"""What a role says it takes is what it has: argument specs beside defaults, names and values."""

import pathlib
import re

import pytest
import yaml

ROLES = pathlib.Path(__file__).parents[2] / "roles"
SHARED = ROLES / "senex" / "defaults" / "main.yml"

# The role of shared defaults has no tasks, so nothing would check a spec of it.
NAMES = sorted(path.name for path in ROLES.iterdir() if (path / "tasks").is_dir() and path.name != "senex")


def load(path):
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def is_undefined_on_purpose(value):
    return isinstance(value, str) and "undef(" in value


def same(one, other):
    if isinstance(one, str) and isinstance(other, str):
        # Folded blocks and quoted strings of one value differ in white space only.
        return one.split() == other.split()
    return one == other and type(one) is type(other)


@pytest.fixture(params=NAMES)
def role(request):
    return request.param


@pytest.fixture
def options(role):
    specs = load(ROLES / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    assert "main" in specs, f"roles/{role}/meta/argument_specs.yml: no entry point main"
    return specs["main"].get("options") or {}


@pytest.fixture
def defaults(role):
    return load(ROLES / role / "defaults" / "main.yml")


def test_every_default_is_specified_with_the_same_value(role, options, defaults):
    assert sorted(set(defaults) - set(options)) == [], "in defaults/main.yml and not in meta/argument_specs.yml"
    wrong = {}
    for name, spec in options.items():
        value = defaults.get(name)
        if "default" in spec:
            if name not in defaults or not same(spec["default"], value):
                wrong[name] = f"argument_specs has {spec['default']!r}, defaults has {value!r}"
        elif spec.get("required") and name in defaults and not is_undefined_on_purpose(value):
            wrong[name] = "required, and has a default"
        elif not spec.get("required") and name in defaults:
            wrong[name] = "its default is missing in argument_specs"
        elif not spec.get("required"):
            wrong[name] = "neither required nor with a default"
    assert wrong == {}


def test_every_input_is_described_and_belongs_to_the_role(role, options):
    wrong = {}
    for name, spec in options.items():
        if not spec.get("description"):
            wrong[name] = "no description"
        elif not spec.get("type"):
            wrong[name] = "no type"
        elif spec["type"] == "list" and not spec.get("elements"):
            wrong[name] = "a list without elements"
        elif not name.startswith(f"{role}_"):
            wrong[name] = f"a public input of {role} begins with {role}_"
    assert wrong == {}


def test_shared_variables_exist(role, defaults):
    shared = set(load(SHARED))
    expressions = re.findall(r"\{\{.*?\}\}", str(defaults), re.DOTALL)
    used = {name for expression in expressions for name in re.findall(r"\bsenex_\w+", expression)}
    assert sorted(used - shared) == [], "named in defaults/main.yml and not among the defaults of role senex"
    if used:
        dependencies = str(load(ROLES / role / "meta" / "main.yml").get("dependencies", []))
        assert "senex.trader.senex'" in dependencies, "meta/main.yml does not name role senex among its dependencies"
