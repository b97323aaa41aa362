"""A command that complains at length while its answer is read: it comes to its end, and its last words are in the message."""

import signal
import sys

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file
from test_backup_command import command  # noqa: F401  (the fixture)

LONG = 300_000  # bytes, more than any pipe holds
END = "-- PostgreSQL database dump complete\n"


@pytest.fixture(autouse=True)
def at_most_seconds():
    """Instead of a run of the tests that does not end."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    signal.alarm(20)
    yield
    signal.alarm(0)


def complaining(text, code=0):
    program = f"import sys; sys.stderr.write('n' * {LONG} + ' the last words'); sys.stderr.flush(); sys.stdout.write({text!r}); sys.exit({code})"
    return [sys.executable, "-c", program]


def test_a_dump_with_many_notices(tmp_path):
    made = dump_file.write(dump_file.path_for(str(tmp_path), "daily"), complaining(END))
    assert made["uncompressed_bytes"] == len(END)


def test_a_dump_with_many_notices_that_fails(tmp_path):
    with pytest.raises(OSError, match="ended with 3: n+ the last words$") as failed:
        dump_file.write(dump_file.path_for(str(tmp_path), "daily"), complaining(END, 3))
    assert len(str(failed.value)) < 3000


def test_a_moment_with_many_notices(command, monkeypatch, tmp_path):  # noqa: F811
    """A session of psql that stays: the owner of the database sets client_min_messages for it."""
    from senex_backup import dump

    talker = tmp_path / "podman"
    talker.write_text(f"""#!{sys.executable}
import signal
import sys
for line in sys.stdin:
    sys.stderr.write("DEBUG: " * {LONG // 7})
    sys.stderr.flush()
    if line.startswith("stop"):
        sys.exit("the last words")
    if line.startswith("\\\\echo "):
        print(line[6:], end="", flush=True)
    elif "pg_export_snapshot" in line:
        print("00000003-1", flush=True)
""")
    talker.chmod(0o755)
    monkeypatch.setattr(dump, "PODMAN", str(talker))
    there = type("There", (), {"words": staticmethod(lambda *words: list(words)), "client": staticmethod(lambda *words, role: list(words))})
    monkeypatch.setattr(dump, "server", lambda _: there)
    moment = dump.Moment({"database": {"name": "app", "role": "postgres"}})
    assert moment.name == "00000003-1"
    with pytest.raises(dump.BackupError, match="does not answer: .*the last words$"):
        moment.ask("stop")
    moment.close()


def test_records_with_many_complaints(monkeypatch, tmp_path):
    from pitr import wal

    monkeypatch.setattr(wal, "in_image", lambda *_: complaining("a line\nanother\n"))
    chain = [type("Segment", (), {"name": "0" * 24, "path": "x"})]
    assert isinstance(wal.read_records(None, type("Base", (), {"timeline": 1}), str(tmp_path), chain, None), wal.Reading)
