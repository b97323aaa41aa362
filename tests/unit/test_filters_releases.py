"""Where a rollback goes to, and which migrations it leaves behind."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.releases import newest_records, release_lines, rollback_target


def record(number, tag, previous, migrations=(), kind="deploy", result="succeeded", **more):
    return {"id": f"r{number}", "kind": kind, "what": f"{kind} of {tag}", "who": "anna@desk", "tag": tag, "reference": f"image:{tag}", "result": result,
            "previous": {"tag": previous, "reference": f"image:{previous}"}, "migrations": list(migrations), **more}  # fmt: skip


HISTORY = [
    record(1, "2", "1", ["app.0002"]),
    record(2, "3", "2", ["app.0003", "app.0004"]),
    record(3, "4", "3", ["app.0005"], result="switched back"),
]


@pytest.mark.parametrize(
    ("records", "wanted", "tag", "undo"),
    [
        (HISTORY, "", "2", ["app.0004", "app.0003"]),
        (HISTORY, "2", "2", ["app.0004", "app.0003"]),
        (HISTORY, "r1", "2", ["app.0004", "app.0003"]),
        (HISTORY, "1", "1", ["app.0004", "app.0003", "app.0002"]),
        (HISTORY[:1], "", "1", ["app.0002"]),
        ([*HISTORY, record(4, "2", "3", kind="rollback", undone=["app.0004", "app.0003"])], "", "3", []),
        ([*HISTORY, record(4, "2", "3", kind="rollback", undone=[])], "1", "1", ["app.0004", "app.0003", "app.0002"]),
        ([*HISTORY, record(4, "2", "3", kind="rollback", undone=["app.0004", "app.0003"])], "1", "1", ["app.0002"]),
        # Killed or switched back after its migration, and then released again: the migration was pending only once
        ([*HISTORY, record(4, "4", "3")], "", "3", ["app.0005"]),
        ([record(1, "2", "1", ["app.0002"], result="interrupted"), record(2, "2", "1")], "", "1", ["app.0002"]),
        ([record(1, "2", "1", ["app.0002"], result="interrupted"), record(2, "2", "1", ["app.0002"])], "", "1", ["app.0002"]),
        ([record(1, "9", "1", ["app.0009"], result="switched back"), record(2, "2", "1", ["app.0002"])], "", "1", ["app.0002"]),
    ],
)
def test_target(records, wanted, tag, undo):
    found = rollback_target(records, wanted)
    assert (found["tag"], found["reference"], found["undo"]) == (tag, f"image:{tag}", undo)


def test_a_release_that_nobody_knows():
    with pytest.raises(AnsibleFilterError, match=r"'9' is no release of this environment; it knows 1, r1 \(2\), r2 \(3\)$"):
        rollback_target(HISTORY, "9")
    with pytest.raises(AnsibleFilterError, match="nothing to go back to"):
        rollback_target(HISTORY[2:])


def test_lines():
    lines = release_lines(
        [*HISTORY[:1], {**HISTORY[2], "reason": "demo, web: it did not come up\nmore"}], {"id": "r9", "what": "deploy of 9", "step": "web", "who": "x"}
    )
    assert "migrations app.0002" in lines[0]
    assert lines[1].endswith("| demo, web: it did not come up")
    assert "under way, at 'web'" in lines[2]
    assert "nothing was released" in release_lines([])[0]


def test_the_records_of_the_host_that_knows_most():
    """One was added after the second release, one missed the last, and a failure counts for nothing."""
    new, whole = [record(4, "9", "3", result="switched back")], [*HISTORY, record(5, "5", "3")]
    assert newest_records([new, HISTORY, whole]) is whole and newest_records([whole, new]) is whole
    assert newest_records([[], HISTORY[1:], HISTORY]) is HISTORY and newest_records([[], []]) == [] == newest_records([])
    assert rollback_target(newest_records([[], whole]))["tag"] == "3"


def test_why_a_release_failed_is_printable():
    records = [{"id": "r", "what": "deploy", "result": "refused", "who": "me", "reason": "no \x1b[2J\x9b\u202e"}]
    assert all(line.isprintable() for line in release_lines(records, {"id": "h\x1b", "what": "x", "step": "y\r", "who": "z"}))
