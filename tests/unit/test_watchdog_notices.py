"""What is told, when, and how often; and a queue that loses nothing while the mail server is away."""

import json
import os
import time

import pytest
from watched import config

from senex_ops import delivery, notices  # isort: skip
from senex_ops.findings import fail, ok, warn  # isort: skip


@pytest.fixture
def told():
    return notices.Notices(digest=30, gap=60, reminder=86_400)


DOWN, UP = fail("web web-1", "no answer", "senex logs web-1"), ok("web web-1", "alive")


def test_one_trouble_with_its_cure_is_one_message(told):
    for now in (0, 5, 10):
        told.finding(DOWN, now, 3)
    told.event("DONE  web-1: restarted", 20)
    told.finding(UP, 25, 3)
    assert told.message(39, False) is None
    lines = told.message(40, False)
    assert [line.split()[0] for line in lines] == ["FAIL", "DONE", "OK"]
    assert told.message(10_000, False) is None


def test_a_restart_under_way_is_waited_for(told):
    told.finding(DOWN, 0)
    assert told.message(60, True) is None
    assert told.message(400, True)


def test_what_is_over_before_it_counts_is_not_told(told):
    told.finding(DOWN, 0, 3)
    told.finding(DOWN, 5, 3)
    told.finding(UP, 10, 3)
    assert told.message(1000, False) is None


def test_a_problem_is_told_once_and_again_after_a_day(told):
    messages = []
    for now in range(0, 2 * 86_400 + 600, 60):
        told.finding(DOWN, now)
        messages += [now] if told.message(now, False) else []
    assert len(messages) == 3


def test_worse_is_told(told):
    told.finding(warn("disk /", "80 %", "make room"), 0)
    assert told.message(30, False)
    told.finding(fail("disk /", "90 %", "make room"), 100)
    assert "90 %" in told.message(130, False)[0]


def test_a_flood_becomes_a_digest(told):
    """A new problem each ten seconds for an hour."""
    messages = 0
    for now in range(0, 3600, 10):
        told.finding(fail(f"unit {now}", "failed", "look"), now)
        messages += bool(told.message(now, False))
    assert messages <= 10


def test_a_watchdog_that_starts_anew_does_not_tell_again(told):
    told.finding(DOWN, 0)
    assert told.message(30, False)
    other = notices.Notices(digest=30, gap=60, reminder=86_400)
    other.load(json.loads(json.dumps(told.saved())))
    other.finding(DOWN, 60)
    assert other.message(1000, False) is None
    other.finding(UP, 1100)
    assert other.message(1200, False)


def test_subject_names_the_worst_and_the_place():
    lines = ["OK    a: fine", "FAIL  web web-1: no answer. What to do: senex logs web-1"]
    assert notices.subject(lines, "production", "server-1") == "[production] server-1: FAIL web web-1: no answer (+1)"


@pytest.fixture
def channel(tmp_path):
    sent, trouble = [], []

    def send(subject, lines):
        if trouble:
            raise OSError(trouble[0])
        sent.append((subject, lines))

    made = delivery.Channel("mail", str(tmp_path), 1, send)
    made.sent, made.broken = sent, trouble
    return made


def message(number):
    return {"created": time.time(), "subject": f"subject {number}", "lines": [f"line {number}"]}


def test_what_cannot_go_out_waits_on_disk_and_goes_as_one(channel):
    channel.broken.append("Connection refused")
    for number in range(3):
        channel.put(message(number))
        assert not channel.once()
    assert len(channel.names()) == 3
    channel.broken.clear()
    assert channel.once()
    ((subject, lines),) = channel.sent
    assert subject == "subject 2 (and 2 earlier)"
    assert [line.split("UTC  ")[1] for line in lines] == ["line 0", "line 1", "line 2"]
    assert channel.names() == []


def test_the_queue_does_not_grow_for_ever(channel):
    for number in range(delivery.KEPT + 5):
        channel.put(message(number))
    assert len(channel.names()) == delivery.KEPT


def test_what_waited_too_long_is_given_up(channel):
    channel.put({**message(1), "created": time.time() - delivery.EXPIRES - 1})
    assert channel.once()
    assert channel.sent == []


def test_a_message_that_a_crash_cut_short_does_not_stop_the_others(channel):
    channel.put(message(1))
    with open(os.path.join(channel.directory, "00000000000000000000.json"), "w") as handle:
        handle.write('{"created": 1')
    assert channel.once()
    assert len(channel.sent) == 1


def test_a_full_disk_costs_no_message(channel, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(delivery.os, "replace", full)
    channel.put(message(1))
    assert channel.once()
    assert channel.once()
    assert [subject for subject, _ in channel.sent] == ["subject 1"]


def test_an_address_that_is_a_secret_is_in_no_error():
    hook = config.Webhook()
    with pytest.raises(OSError) as error:
        delivery.send_webhook(hook, "http://127.0.0.1:9/services/T0/SECRET", "x", [], {})
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("key", ["user unit x{}.service", "container x{}", "certificate /x{}.crt"])
def test_what_others_bring_about_again_and_again_pushes_nothing_out_of_a_message(told, channel, key):
    """Twenty new troubles each half minute, each over with the next look, beside one that the operator has to hear of."""
    told.sent = [float(moment) for moment in range(6)]  # so many messages in this hour that the next waits for a quarter of one
    for now in range(60, 960, 30):
        for number in range(20):
            told.finding(fail(key.format(f"{now}-{number}"), "failed", "look"), now)
            told.finding(ok(key.format(f"{now - 30}-{number}"), "is over"), now)
        if now == 90:
            told.finding(fail("unit nginx.service", "is failed (exit-code)", "senex logs nginx"), now)
    lines = told.message(960, False)
    channel.put({"created": time.time(), "subject": notices.subject(lines, "production", "server-1"), "lines": lines})
    assert channel.once()
    ((_, sent),) = channel.sent
    assert sum("unit nginx.service" in line for line in sent) == 1
    assert [line for line in sent if "more lines like these" in line] == [f"WARN  {key.split()[0]}: and 1160 more lines like these: senex status"]
    told.finding(ok("unit nginx.service", "is active"), 2000)
    assert told.message(2030, False) == ["OK    unit nginx.service: is active (was: is failed (exit-code); for 1910 s)"], "the next counts anew"
