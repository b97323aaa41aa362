"""What the test runner decides: from which snapshot a scenario starts, what a change calls for, who has a second try."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "runner"), str(ROOT / "tests" / "plugins")]

import common  # noqa: E402  (the path above must come first)
import jobs  # noqa: E402
import layers  # noqa: E402
import quick  # noqa: E402
import senex_quarantine  # noqa: E402
import usage  # noqa: E402
import versions  # noqa: E402

KNOWN = {"stack": [], "two_web_hosts": [], "common": ["common"], "podman": ["common", "podman"], "data": ["common", "podman", "postgresql", "redis"]}


@pytest.mark.parametrize(
    ("scenario", "wanted"),
    [("two_web_hosts", "two_web_hosts"), ("podman", "common"), ("postgresql", "podman"), ("backup", "data"), ("common", None), ("nginx", None)],
)
def test_a_scenario_starts_from_the_highest_layer_it_wants_and_never_with_its_own_role(scenario, wanted):
    assert layers.start_of(scenario, KNOWN) == wanted


def test_no_scenario_starts_from_a_host_that_has_its_role_already():
    for name in layers.scenarios():
        start = layers.start_of(name, KNOWN)
        assert name not in KNOWN.get(start, []), name


def test_layers_are_no_scenario():
    assert "layers" not in layers.scenarios() and len(layers.scenarios()) > 10


def test_the_unit_tests_that_run_apart_are_there():
    assert [name for names in layers.UNIT_GROUPS.values() for name in names if not (ROOT / "tests" / "unit" / f"{name}.py").is_file()] == []


def test_what_is_marked_for_make_faults_is_run_by_it_and_nothing_else_is():
    def marked(pattern):
        return {path.relative_to(ROOT).parts[pattern.split("/").index("*")] for path in ROOT.glob(pattern) if "pytest.mark.faults" in path.read_text()}

    assert marked("tests/integration/*/*.py") == set(layers.FAULTS)
    assert marked("molecule/*/tests/*.py") == set(layers.FAULTS_OF_SCENARIOS)


def test_a_change_calls_for_the_scenarios_of_its_roles():
    paths = ["roles/redis/templates/redis.conf.j2", "molecule/nginx/tests/test_nginx.py", "molecule/shared/parts.py", "plugins/action/quadlet.py", "README.md"]
    assert quick.scenarios_of(paths, ["redis", "nginx", "django"]) == ["nginx", "redis"]


def test_the_quarantine_is_short_and_every_entry_says_why():
    assert len(senex_quarantine.quarantined()) <= senex_quarantine.MOST


@pytest.mark.parametrize(
    "text",
    [
        '[[test]]\nname = "a"\nsince = 2026-11-28\n',
        '[[test]]\nname = "a"\nreason = ""\nsince = 2026-11-28\n',
        '[[test]]\nname = "a"\nreason = "b"\nsince = "lately"\n',
        '[[test]]\nname = "a"\nreason = "b"\nsince = 2026-11-28\n' * 4,
    ],
)
def test_a_quarantine_without_reason_or_too_long_is_refused(tmp_path, text):
    path = tmp_path / "quarantine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="quarantine.toml"):
        senex_quarantine.quarantined(path)


def test_the_processors_of_a_process_and_its_children_are_counted():
    """Of this very process: its children's count too, once they are waited for."""
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    before = usage._of_tree(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert 0.3 < usage._of_tree(os.getpid()) - before < 2


def test_what_is_said_to_be_supported_is_what_is_tried():
    """meta/runtime.yml and each role name the oldest and the newest of `make versions`."""
    oldest, newest = ([int(word) for word in version.core.split(".")[:2]] for version in (versions.SUPPORTED[0], versions.SUPPORTED[-1]))
    asked = (ROOT / "meta/runtime.yml").read_text(encoding="utf-8")
    assert f'requires_ansible: ">={oldest[0]}.{oldest[1]}.0,<{newest[0]}.{newest[1] + 1}.0"' in asked
    for path in ROOT.glob("roles/*/meta/main.yml"):
        assert f'min_ansible_version: "{oldest[0]}.{oldest[1]}"' in path.read_text(encoding="utf-8"), path


def test_a_failed_test_is_named_with_its_message(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "FAILED", [])
    report = tmp_path / "molecule-pitr.xml"
    middle = "E         a line of what Ansible said, as long as such lines are\n" * 500
    long = f"E       AssertionError: no\n{middle}E         the reason\n\ntests/test_x.py:3: AssertionError"
    report.write_text(
        '<testsuites><testsuite tests="5" failures="3" errors="1" skipped="0"><testcase name="good"/>'
        f'<testcase name="bad"><failure message="AssertionError: no [+500 more lines]">    def test_x():\n{long}</failure></testcase>'
        '<testcase name="short"><failure message="assert 2 == 0"/></testcase><testcase name="host"><error message="no host"/></testcase>'
        f'<testcase name="again"><failure>{long}</failure></testcase>'
        "</testsuite></testsuites>",
        encoding="utf-8",
    )
    assert jobs.counted(report) == common.Result(passed=1, failed=4)
    first, *others, again = jobs.FAILED
    assert first.startswith("molecule-pitr: bad\n    AssertionError: no") and first.endswith("the reason") and len(first) < 2000
    assert again.endswith("the reason") and len(again) < 300, "what follows the first of a job is short"
    assert others == ["molecule-pitr: short\n    assert 2 == 0", "molecule-pitr: host\n    no host"]
