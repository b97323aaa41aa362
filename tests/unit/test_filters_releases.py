"""Where a rollback goes to, and which migrations it leaves behind."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter import releases
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


HOSTVARS = {
    "one": {"release_failure": "one, web: no", "release_confirmed": ["prepare"], "release_changed": True, "release_finished": True},
    "two": {"release_rolled_back": True, "release_unfinished": "two: its lock is left"},
}


def test_what_hosts_say_of_a_release_and_what_those_say_that_do_not_answer():
    found = releases.release_reports(HOSTVARS, ["one", "two", "three"])
    assert found["one"] == {"failure": "one, web: no", "confirmed": ["prepare"], "touched": True, "back": False, "not_back": ""}
    assert found["two"]["back"] and found["three"] == {"failure": "", "confirmed": [], "touched": False, "back": False, "not_back": ""}
    assert releases.release_unfinished(HOSTVARS, ["one", "two", "three"]) == [
        "two: its lock is left", "three: nothing was recorded, and its lock is left (no answer)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("running", "deployed"),
    [
        ({"web-1": ("id", "app:2"), "postgres": ("x", "pg:15")}, True),
        ({"web-1": ("id", "app:2"), "celery-next": ("old", "app:1")}, True),  # the surge worker of the release before
        ({"web-1": ("id", "app:2"), "celery-worker": ("old", "app:1")}, False),
        ({"web-1": ("id", "app:latest")}, False),
        ({"postgres": ("id", "app:2")}, False),
        ({}, False),
    ],
)
def test_an_image_runs_already_where_each_container_has_it(running, deployed):
    pulled = {"image": "id", "running": {name: {"image": image, "reference": reference} for name, (image, reference) in running.items()}}
    assert releases.release_is_deployed({"one": {"release_pulled": pulled}}, ["one"], "app:2") is deployed
    assert not releases.release_is_deployed({"one": {"release_pulled": pulled}}, ["one", "two"], "app:2"), "one that says nothing"


def test_a_record_that_is_missing_is_the_newest_of_any_host():
    hosts = {name: {"release_pulled": {"newest": {"id": name}}} for name in ("a", "c", "b")} | {"new": {"release_pulled": {"newest": None}}}
    assert [one["id"] for one in releases.release_newer_records(hosts, list(hosts), "a")] == ["b", "c"]
    assert releases.release_missing_record(hosts, list(hosts), {"id": "a"}) == {"id": "c"} == releases.release_missing_record(hosts, list(hosts), None)
    assert releases.release_missing_record(hosts, list(hosts), {"id": "c"}) == {} == releases.release_missing_record({}, ["one"], {})


def test_tasks_that_are_due_soon():
    assert releases.release_tasks_due({"report": 89, "night": 900, "never": None, "now": "0"}, 15) == ["report in 1 min 29 s", "now in 0 min 00 s"]


ABOUT = {"kind": "deploy", "tag": "2", "id": "r1", "previous": "app:1", "unfinished": [], "hook_errors": []}


@pytest.mark.parametrize(
    ("end", "about", "lines"),
    [
        ({"trouble": ["one, web: no"]}, {}, ["The deploy of 2 failed (r1).", "one, web: no", "app:1 serves, as before. The lock is released."]),
        ({"trouble": ["x"], "behind": ["two: y"]}, {}, ["The deploy of 2 failed (r1).", "x", "two: y", "NOT switched back, see above: run the playbook again, "
                                                        "or playbooks/rollback.yml."]),
        ({"trouble": ["x"], "lost": True}, {"unfinished": ["one: z"]},
         ["The deploy of 2 failed (r1).", "x", "Another one has taken the lock of this release, so nothing more was changed: see playbooks/releases.yml.",
          "one: z", "A lock that is left ends by itself, or with the next release from here."]),
        ({}, {"unfinished": ["one: z"]},
         ["2 serves, and not every host has its record (r1).", "one: z", "A lock that is left ends by itself, or with the next release from here."]),
        ({}, {"hook_errors": ["one: 500"]},
         ["The deploy of 2 succeeded (r1), and it serves; release_post_deploy_tasks failed.", "release_post_deploy_tasks: one: 500"]),
        ({"trouble": ["x"]}, {"hook_errors": ["one: 500"]},
         ["The deploy of 2 failed (r1).", "x", "app:1 serves, as before. The lock is released.", "release_post_failure_tasks: one: 500"]),
        ({"trouble": ["x"]}, {"image": {"digest": "sha256:d", "built": "2026-11-29T19:02:42Z"}},
         ["The deploy of 2 failed (r1).", "x", "The image of 2: sha256:d, built 2026-11-29T19:02:42Z.", "app:1 serves, as before. The lock is released."]),
        ({"trouble": ["x"]}, {"kind": "rollback", "undone": ["a.3", "a.2"], "backup": "/b.gz"},
         ["The rollback of 2 failed (r1).", "x", "a.3, a.2 had been undone, and came back empty with app:1. What was in them is in the dump /b.gz of before.",
          "app:1 serves, as before. The lock is released."]),
        ({"trouble": ["x"], "behind": ["y"]}, {"kind": "rollback", "undone": ["a.3"]},
         ["The rollback of 2 failed (r1).", "x", "y", "Undone: a.3. The rollback can be run again: what is undone is passed over then.",
          "NOT switched back, see above: run the playbook again, or playbooks/rollback.yml."]),
        ({"trouble": ["x"]}, {"closed": 12.5, "undone": ["a.3"]},
         ["The deploy of 2 failed (r1).", "x", "Its migrations were undone: a.3.",
          "app:1 serves, as before. The site was closed for 12.5 s. The lock is released."]),
        ({"trouble": ["x"], "behind": ["one: stopped"]}, {"stands": ["one: a.3 cannot be undone"], "backup": "/b.gz"},
         ["The deploy of 2 failed (r1).", "x", "one: stopped", "The maintenance page stands, and nothing is served:", "  one: a.3 cannot be undone",
          "Go on with one of: the same command when this is mended (playbooks/deploy.yml ... -e release_maintenance=true); a corrected image "
          "(playbooks/deploy.yml ... -e release_maintenance=true -e django_image_tag=TAG);",
          "or the database of before: playbooks/restore.yml with the dump /b.gz, then playbooks/deploy.yml of app:1 with -e release_maintenance=true, which "
          "opens the site. See docs/operations/runbook.md, 'A maintenance release failed'."]),
    ],
)  # fmt: skip
def test_what_is_said_at_the_end_of_a_release_that_did_not_go_well(end, about, lines):
    assert releases.release_failure_text({"trouble": [], "behind": [], "lost": False, **end}, {**ABOUT, **about}).split("\n") == lines


def test_what_is_said_of_the_other_ends():
    said = releases.release_refusal_text(
        {"tag": "2", "previous": "app:1", "unsafe": ["app.0002: drops a table"], "due": ["report in 1 min 00 s"], "minutes": 15}
    )
    assert "would break app:1" in said and "\n  app.0002: drops a table\n" in said and said.endswith("Wait, or say -e release_force=true.")
    assert releases.release_refusal_text({"tag": "2", "previous": "app:1", "unsafe": [], "due": [], "minutes": 15}) == "2 is not released now."
    said = releases.release_success_text({"kind": "rollback", "tag": "1", "id": "r2", "previous": "2", "migrations": []}, {"requests": 9})
    assert "rollback of 1 succeeded (r2); 9 requests probed,\n0 failed" in said and "migrations taken back: none" in said and "(to 2)" in said
    said = releases.release_probe_text({"failed": 5, "requests": 90, "forgiven": 1, "failures": [str(number) for number in range(9)]}, 3, ["TLS"])
    assert (
        said.startswith("from the controller: TLS\n5 of 90 requests")
        and "(1 while the only instance restarted), 3 more may" in said
        and "4; 5; 6; 7; 8" in said
    )


DEAD = {"id": "x", "what": "restore", "who": "anna@desk", "step": "restore a copy"}


def test_a_release_that_came_after_what_had_been_killed_says_so():
    """A deploy took the lock of a restore that was killed, and ended as if nothing had been."""
    hosts = {
        "one": {"release_first": {"taken_over": DEAD}, "release_pulled": {"taken_over": None}},
        "two": {"release_pulled": {"taken_over": DEAD}},
        "three": {"release_pulled": {"taken_over": {**DEAD, "what": "deploy of 1", "step": "\x1b[31mweb"}}},
        "four": {},
    }
    restore, deploy = releases.release_taken_over(hosts, [*hosts, "five"])
    assert restore == ("before this, on one, two: restore by anna@desk had ended at 'restore a copy' without a word. "
                       "What it had still to do is not done by this: run it again")  # fmt: skip
    assert deploy == "before this, on three: deploy of 1 by anna@desk had ended at '?[31mweb' without a word"
    about = {"kind": "deploy", "tag": "2", "id": "r1", "previous": "1", "migrations": [], "after": [restore]}
    assert restore in releases.release_success_text(about, {}).split("\n")
    assert restore in releases.release_failure_text({"trouble": ["x"], "behind": [], "lost": False}, {**ABOUT, "after": [restore]}).split("\n")
    assert releases.release_taken_over({}, ["one"]) == []


def test_the_closed_time_is_told():
    about = {"kind": "deploy", "tag": "2", "id": "r1", "previous": "1", "migrations": ["a.3"], "maintenance": True, "closed": 41.2}
    lines = releases.release_success_text(about, {}).split("\n")
    assert lines[:2] == ["deploy of 2 succeeded (r1); the site was closed for 41.2 s", "migrations: a.3"]
    assert "maintenance.on was there before, and stays" in releases.release_success_text({**about, "theirs": True}, {})
    assert "closed" not in releases.release_success_text({**about, "maintenance": False}, {"requests": 5})
    assert "closed 41.2 s" in release_lines([record(1, "2", "1", closed=41.2)])[0] and "closed" not in release_lines([record(1, "2", "1", closed=0.0)])[0]
