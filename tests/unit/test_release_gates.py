"""What keeps a release from serving: the commands of django_release_commands, in their order, and nothing else."""

import contextlib
import sys
import types

import pytest
from rendered import component
from test_rendered_units import BASE

# A check of the application's own fails: by its tag and level
WORKERS, MAIL, KEY, WARNED = ("workers", "ERROR"), ("mail", "ERROR"), ("security", "ERROR"), ("security", "WARNING")
LEVELS = ["WARNING", "ERROR"]


@pytest.fixture
def released(monkeypatch, tmp_path):
    """Runs the script of the release container beside a Django whose checks fail as they are told to; what was called, and what nginx has then."""

    def run(*failing, **inputs):
        ran, own, shared = [], tmp_path / "own", tmp_path / "shared"
        own.mkdir()
        (own / "site.css").write_text("new")

        def call_command(name, *words):
            ran.append(name)
            options = dict(zip(words, words[1:], strict=False)) | dict(word.split("=") for word in words if "=" in word)
            tag, level = options.get("--tag"), options.get("--fail-level", "ERROR")
            if name == "check" and any(tag in (None, of) and LEVELS.index(found) >= LEVELS.index(level) for of, found in failing):
                raise RuntimeError("a check of this application")

        connection = types.SimpleNamespace(
            vendor="other", close=lambda: None, cursor=contextlib.nullcontext, execute_wrapper=lambda _seen: contextlib.nullcontext()
        )
        database = types.SimpleNamespace(OperationalError=type("OperationalError", (Exception,), {}), connection=connection)
        modules = {"django.core.management": types.SimpleNamespace(call_command=call_command), "django.db": database}
        for name in ("django", "django.core", *modules):
            monkeypatch.setitem(sys.modules, name, modules.get(name) or types.ModuleType(name))
        text, _ = component("django", **BASE, django_static_directory=str(own), **inputs)[0]["config/django/release.py"]
        with contextlib.suppress(SystemExit):
            exec(text.replace('"/run/senex/staticfiles"', repr(str(shared))), {})  # noqa: S102  (it is the collection's own)
        return ran, (shared / "site.css").exists()

    return run


@pytest.mark.parametrize(
    ("failing", "served"),
    [([], True), ([WORKERS, MAIL], True), ([WARNED], True), ([KEY], False)],
    ids=["none", "needs workers or mail", "a warning", "security"],
)
def test_only_an_error_about_security_keeps_a_release_back(released, capsys, failing, served):
    """A check that needs running workers or a mail server would keep the first release from ever bringing them."""
    assert released(*failing) == (["migrate", "collectstatic", "check"], served)
    assert ("check --deploy --tag security --fail-level=ERROR failed: a check of this application" in capsys.readouterr().err) is not served


@pytest.mark.parametrize(("commands", "ran"), [([["check"], ["migrate"]], ["check"]), ([["migrate"], ["warm_up"]], ["migrate", "warm_up"])])
def test_an_inventory_says_which(released, commands, ran):
    assert released(WORKERS, django_release_commands=commands) == (ran, "check" not in ran)
