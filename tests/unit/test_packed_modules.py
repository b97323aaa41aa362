"""Packed modules and compiled templates that the tests' runs of Ansible share: never one of another content."""

import importlib.util
from pathlib import Path

import jinja2
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cheaper():
    spec = importlib.util.spec_from_file_location("senex_cheaper", ROOT / "tests/plugins/callback/senex_cheaper.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def collection(tmp_path):
    for name in ("modules/facts.py", "module_utils/shared.py", "module_utils/deep/er.py", "filter/text.py"):
        path = tmp_path / "collection" / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n", encoding="utf-8")
    return tmp_path / "collection"


@pytest.mark.parametrize(
    ("name", "another"), [("modules/facts.py", True), ("module_utils/shared.py", True), ("module_utils/deep/er.py", True), ("filter/text.py", False)]
)
def test_what_a_module_can_import_makes_another_digest(cheaper, collection, name, another):
    before = cheaper.digest(collection)
    assert before == cheaper.digest(collection)
    (collection / "plugins" / name).write_text("x = 2\n", encoding="utf-8")
    assert (cheaper.digest(collection) != before) is another


def test_a_file_that_moves_makes_another_digest(cheaper, collection):
    before = cheaper.digest(collection)
    (collection / "plugins/module_utils/shared.py").rename(collection / "plugins/module_utils/other.py")
    assert cheaper.digest(collection) != before


def test_what_one_run_packed_the_next_finds(cheaper, tmp_path):
    kept, first, second = tmp_path / "kept" / "digest", tmp_path / "first", tmp_path / "second"
    cheaper.lend(kept, first)
    names = (
        "ansible.modules.stat-ZIP-none",
        "ansible_collections.senex.trader.plugins.modules.facts-ZIP-none",
        "ansible_collections.other.x.plugins.modules.x",
    )
    for name in (*names, "ansible.modules.stat-ZIP-none.lock", "ansible.modules.apt-ZIP-none-part"):
        (first / name).write_bytes(name.encode())
    cheaper.keep(first, kept)
    cheaper.lend(kept, second)
    assert sorted(path.name for path in second.iterdir()) == sorted(names[:2])
    assert (second / names[0]).read_bytes() == names[0].encode()
    (second / "ansible.modules.copy-ZIP-none").write_bytes(b"new")
    cheaper.keep(second, kept)
    assert sorted(path.name for path in kept.iterdir()) == sorted([*names[:2], "ansible.modules.copy-ZIP-none"])


@pytest.fixture
def remembered(cheaper, tmp_path):
    """An environment whose templates are remembered, and what was compiled."""
    made = []

    class Environment(jinja2.Environment):
        pass

    def compile(self, source, *words):
        made.append(source)
        return jinja2.Environment.compile(self, source, *words)

    Environment.compile = cheaper.remembering(compile, tmp_path)
    return Environment, made


def test_a_template_is_compiled_once(remembered):
    environment, made = remembered
    for name in ("one", "two"):
        assert environment().from_string("{{ name | upper }}").render(name=name) == name.upper()
    assert environment().from_string("{{ name | lower }}").render(name="ONE") == "one"
    assert made == ["{{ name | upper }}", "{{ name | lower }}"]


@pytest.mark.parametrize(("setting", "result"), [({"trim_blocks": True}, "x"), ({"variable_start_string": "[[", "variable_end_string": "]]"}, "\nx")])
def test_other_settings_make_another_code(remembered, setting, result):
    environment, made = remembered
    text = "{% if true %}\nx{% endif %}"
    assert environment().from_string(text).render() == "\nx"
    assert environment(**setting).from_string(text).render() == result
    assert len(made) == 2


def test_what_cannot_be_read_is_compiled_again(remembered, tmp_path):
    environment, made = remembered
    for damage in (b"", b"not marshalled"):
        assert environment().from_string("{{ 1 + 1 }}").render() == "2"
        for path in tmp_path.iterdir():
            path.write_bytes(damage)
    assert environment().from_string("{{ 1 + 1 }}").render() == "2"
    assert len(made) == 3


def test_an_error_stays_an_error(remembered):
    environment, made = remembered
    for _ in range(2):
        with pytest.raises(jinja2.TemplateError):
            environment().from_string("{{ name | nothing_of_this_name }}")
    assert len(made) == 2


def test_another_filter_makes_another_place(cheaper, collection):
    before = cheaper.digest(collection, cheaper.TEMPLATE_PARTS)
    (collection / "plugins/filter/text.py").write_text("x = 3\n", encoding="utf-8")
    assert cheaper.digest(collection, cheaper.TEMPLATE_PARTS) != before
