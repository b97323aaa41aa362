"""No program is written in Jinja: what is more than an expression of a few lines is a filter, with a test of its own."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MOST = 300
# Without braces: Ansible takes these for expressions
BARE = ("when", "that", "until", "failed_when", "changed_when")
# Not rewritten yet
WAITING = (
    "playbooks/checksums.yml", "playbooks/restore.yml", "playbooks/tasks/check_host.yml", "playbooks/tasks/check_inventory.yml",
    "playbooks/vars/components.yml", "playbooks/vars/operation.yml", "roles/release/", "roles/senex/",
)  # fmt: skip


class Loader(yaml.SafeLoader):
    """Takes Ansible's own tags for what they stand on."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: None)


def scalars(node, key=""):
    """Every text below a node with the key that it belongs to."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from scalars(value, name.value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from scalars(item, key)
    else:
        yield key, node


def expressions():
    """(characters, file and line, key, text) of every text with Jinja in it."""
    for path in sorted(path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")):
        name = str(path.relative_to(ROOT))
        if "/files/" in name or "/templates/" in name or name.startswith(WAITING):
            continue
        for document in yaml.compose_all(path.read_text(encoding="utf-8"), Loader=Loader):
            for key, node in scalars(document) if document else []:
                if "{{" in node.value or "{%" in node.value or key in BARE:
                    yield len(node.value), f"{name}:{node.start_mark.line + 1}", key, node.value


@pytest.fixture(scope="module")
def found():
    return sorted(expressions(), reverse=True)


def test_there_is_something_to_measure(found):
    assert len(found) > 1000


def test_no_expression_is_a_program(found):
    characters, place, key, _ = found[0]
    print(f"the largest is {place}, {key}: {characters} characters")
    assert [f"{place}, {key}: {characters} characters" for characters, place, key, _ in found if characters > MOST] == [], "make a typed filter of it"


def test_nothing_is_appended(found):
    assert [f"{place}, {key}" for _, place, key, text in found if re.search(r"set\s+_\s*=", text)] == [], "make a typed filter of it"


def test_rules_have_one_form():
    """A list of rules, of which each `that` is one expression: a text that says False would hold."""
    wrong, seen = [], 0
    for path in (*ROOT.glob("roles/*/vars/main.yml"), *ROOT.glob("roles/*/tasks/check.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for holder in [content] if isinstance(content, dict) else [task.get("vars", {}) for task in content]:
            for name, rules in holder.items():
                if not name.endswith(("_rules", "_preflight")) or not isinstance(rules, list):
                    continue
                seen += len(rules)
                for rule in rules:
                    expression = rule.get("that", rule.get("problems", ""))
                    if set(rule) not in ({"that", "message"}, {"problems"}) or not re.fullmatch(r"\{\{ [^{}]*(\{.*\})?.* \}\}", expression, re.DOTALL):
                        wrong.append(f"{path.parts[-3]}, {name}: {rule}")
    assert wrong == [] and seen > 150


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/tasks/check.yml")), ids=lambda path: path.parts[-3])
def test_every_role_judges_its_inputs_the_same_way(path):
    """All of them at once, by the one filter."""
    (task,) = [task for task in yaml.safe_load(path.read_text(encoding="utf-8")) if "senex.trader.fail_on_problems" in task]
    role = path.parts[-3]
    check, variables = task["senex.trader.fail_on_problems"], yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text(encoding="utf-8"))
    (name,) = re.fullmatch(r"\{\{ (\w+) \}\}", check["problems"]).groups()
    assert re.fullmatch(r"\{\{ \w+ \| senex\.trader\.rule_problems \}\}", (variables | task.get("vars", {}))[name])
