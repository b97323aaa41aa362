"""playbooks/check_image.yml: passes the demo's image, finds each that is broken, and leaves nothing."""

import os
import signal
import subprocess
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.contract import points, report
from broken import CASES
from conftest import DEMO, ROOT, engine, left

pytestmark = pytest.mark.faults


def test_the_demo_keeps_the_contract(playbook):
    run = playbook(image=DEMO)
    said, _ = run.communicate(timeout=400)
    assert run.returncode == 0, said
    summary = next(line for line in said.splitlines() if f"{DEMO}: " in line)
    # Daphne cuts requests at SIGTERM, if it still has one then, and the point says so
    cut = "Daphne cuts requests" in said
    assert f"{len(points.NAMES) - cut} passed, 0 failed, {cut:d} not applicable" in summary, said


# Those with a release of their own first, for they begin with an empty database
@pytest.mark.parametrize("name", sorted(CASES, key=lambda name: CASES[name].released))
def test_what_is_broken_is_found(shared, images, name):
    case = CASES[name]
    found = shared.look(images(list(CASES).index(name), case), case)
    said = "\n".join(report.lines(list(found.values())))
    assert {point for point, finding in found.items() if finding.state == report.FAILED} == case.failing, said
    assert set(found) == set(case.points.split(",")) and case.says in said, said


def test_a_line_that_is_written_in_pieces_is_read(shared):
    """As Python's print does with PYTHONUNBUFFERED: text and line end apart, so whoever is quick sees two records in Podman's log."""
    program = "import os, time; [(os.write(1, piece), time.sleep(0.3)) for piece in (b'senex {}', b'\\n', b'second\\n', b'third')]"
    started = shared.podman.start("pieces", DEMO, ["-c", program], ["--entrypoint=python3"])
    try:
        assert started.code == 0 and shared.podman.wait("pieces", 30), started.output
        assert shared.podman.logs("pieces").split() == ["senex", "{}", "second", "third"]
        assert shared.podman.logs("pieces", 1).split() == ["second", "third"], "a line, and what has no line end yet"
    finally:
        shared.podman.drop("pieces")


def test_a_broken_image_ends_in_an_error_that_names_the_point(playbook, images):
    case = CASES["secret baked in"]
    run = playbook(image=images("exit", case), check_points="user,secrets")
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 2 and "1 passed, 1 failed, 0 not applicable (secrets)" in said, said
    assert "rk_throwaway" not in said


def test_in_a_clone_it_is_a_word_of_make(tmp_path):
    """With inputs in a file, as long as there is no inventory; each finding is one line."""
    inputs = tmp_path / "app.yml"
    inputs.write_text("check_points: user\nsenex_image_user: 1234\nsenex_django_settings_module: demo.settings\n", encoding="utf-8")
    words = ["make", "--no-print-directory", "contract", f"IMAGE={DEMO}", f"VARIABLES={inputs}"]
    done = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and f"{DEMO}: 0 passed, 1 failed, 0 not applicable (user)" in done.stdout, done.stdout + done.stderr
    assert 'change: senex_image_user: 1000, or USER 1234:1234 in the image"' in done.stdout and "[WARNING]" not in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_nothing_is_left_of_a_check_that_is_stopped(playbook, number):
    before = set(left())
    run = playbook(image=DEMO, check_points="starts")
    begun = until(lambda: [name.removesuffix("-redis") for name in set(left()) - before if name.endswith("-redis")], 120)
    os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
    run.communicate(timeout=120)
    # After a kill Ansible's own worker still listens, so the check comes to its end
    until(lambda: not [name for name in left() if name.startswith(begun[0])], 300)


def test_an_image_that_is_nowhere_is_named(playbook):
    run = playbook(image="localhost/senex-contract-none:1", check_points="user")
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 2 and "senex-contract-none" in said, said


def until(found, seconds):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, engine("ps", "--all").stdout
        time.sleep(0.5)
    return value
