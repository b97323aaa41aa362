"""The demo image's files, as far as they can be judged without building it."""

import re
import subprocess
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "images" / "demo"


@pytest.fixture
def entrypoint(tmp_path):
    """Runs the entrypoint with programs that only print how they were called."""
    for name in ("daphne", "celery", "python", "other"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "%s|" "${0##*/}" "$@"\n', encoding="utf-8")
        program.chmod(0o755)

    def call(*arguments, **environment):
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run([DEMO / "entrypoint", *arguments], env=path | environment, capture_output=True, text=True, check=True)
        return done.stdout.rstrip("|").split("|")

    return call


def test_web_listens_on_the_given_port(entrypoint):
    command = entrypoint("web", PORT="8009")
    assert command[0] == "daphne"
    assert command[command.index("-p") + 1] == "8009"
    assert "--proxy-headers" in command
    assert "--access-log" not in command
    assert entrypoint("web", "--http-timeout", "60", ACCESS_LOG="-")[-5:-1] == ["--access-log", "-", "--http-timeout", "60"]


def test_worker_takes_queues_and_further_arguments(entrypoint):
    command = entrypoint("celery-worker", "-n", "trading@%h", CELERY_QUEUES="trading")
    assert command[command.index("-Q") + 1] == "trading"
    assert command[-2:] == ["-n", "trading@%h"]


def test_beat_reads_its_schedule_from_the_database(entrypoint):
    assert "django_celery_beat.schedulers:DatabaseScheduler" in entrypoint("celery-beat")


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (("manage", "migrate", "--noinput"), ["python", "/app/manage.py", "migrate", "--noinput"]),
        (("other", "two words"), ["other", "two words"]),
    ],
)
def test_manage_and_full_command_lines(entrypoint, arguments, called):
    assert entrypoint(*arguments) == called


def test_requirements_are_pinned():
    text = (DEMO / "requirements.txt").read_text(encoding="utf-8").replace(" \\\n", "")
    pinned = r"[a-z0-9-]+==[0-9][0-9a-z.]*( ;[^#\\]+?)?( +--hash=sha256:[0-9a-f]{64})+"
    assert [line for line in text.splitlines() if not line.startswith("#") and not re.fullmatch(pinned, line)] == []


def test_every_variant_has_its_files():
    for line in (DEMO / "variants").read_text(encoding="utf-8").splitlines():
        tag, argument = line.split()
        assert argument == f"VERSION={tag}"
        assert (DEMO / "versions" / tag / "probe" / "row.py").is_file()
