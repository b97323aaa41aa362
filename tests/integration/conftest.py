"""The demo host that `make demo` brought up. SENEX_TEST_HOST names another one of tests/lab."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stack import ROOT, Stack  # noqa: E402  (the path above must come first)

# What breaks things on purpose comes last
ORDER = {"test_second_run": 1, "test_releases": 10, "test_new_host": 20}
FIGURES = {}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.get(Path(item.path).stem, 5))


@pytest.fixture(scope="session")
def stack():
    """The stack, up and healthy."""
    found = Stack(os.environ.get("SENEX_TEST_HOST", "demo"))
    found.ready()
    return found


@pytest.fixture
def restored(stack):
    """The stack, brought back to what the demo inventory says when the test is over; a test that changes one part says so in `restored.parts`."""
    before, stack.parts = stack.files(), "phase1"
    yield stack
    if stack.files() != before:
        stack.play(tags=stack.parts).expect()
        assert stack.files() == before
    stack.ready()


@pytest.fixture
def figure():
    """figure(name, value, unit): a measured figure, shown at the end of the run and kept with its artefacts."""

    def keep(name, value, unit="s"):
        FIGURES[name] = {"value": round(value, 2), "unit": unit}

    return keep


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    used = getattr(item, "funcargs", {})
    found = used.get("stack") or used.get("restored")
    if report.failed and found:
        try:
            report.sections.append(("inactive units", str(found.inactive())))
            report.sections.append(("journal", found.journal()))
        except Exception as error:  # a host that is gone must not hide what the test said
            report.sections.append(("journal", f"not to be had: {error}"))


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for name, figure in sorted(FIGURES.items()):
            terminalreporter.write_line(f"{name:45} {figure['value']:>10} {figure['unit']}")
        place = ROOT / "artifacts" / f"figures-{terminalreporter.config.args[0].rpartition('/')[2]}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(FIGURES, indent=1, sort_keys=True) + "\n", encoding="utf-8")
