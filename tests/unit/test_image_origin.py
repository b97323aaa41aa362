"""What a message says of the image that did not come up."""

import datetime
import json
import subprocess

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import image_origin

ID, DIGEST, LIST, OTHER = ("ab" * 32, *(f"sha256:{word * 32}" for word in ("cd", "ef", "01")))
NOW = datetime.datetime(2026, 12, 2, 19, 0, tzinfo=datetime.UTC)
HERE = [{"Id": ID, "Digest": DIGEST, "Created": "2026-11-29T19:02:42.845725346Z", "RepoDigests": [f"r/app@{DIGEST}", f"r/app@{LIST}"]}]


class User:
    """A service user with one image; the registry says what it is told to."""

    def __init__(self, registry="", error="", here=HERE):
        self.registry, self.error, self.here, self.asked = registry, error, here, []

    def podman(self, *words, **_):
        self.asked.append(words[0])
        if words[0] == "image":
            return subprocess.CompletedProcess(words, 0 if self.here else 125, json.dumps(self.here), "")
        return subprocess.CompletedProcess(words, 1 if self.error else 0, self.registry, self.error)


def manifest(digest):
    return json.dumps({"schemaVersion": 2, "config": {"digest": digest}, "layers": [{"digest": "sha256:" + "99" * 32}]})


def test_an_image_is_told_with_digest_and_age():
    text = image_origin.sentence(User(), "r/app:1", NOW)
    assert text == f"Its image on this host: r/app:1, {DIGEST}, built 2026-11-29T19:02:42Z (2 days ago)."
    assert image_origin.sentence(User(here=[]), "r/app:1") == ""


@pytest.mark.parametrize(
    ("user", "again"),
    [
        (User(error=f'parsing manifest blob "{manifest(f"sha256:{ID}")}": single images are not implemented'), False),
        (User(error=f'parsing manifest blob "{manifest(OTHER)}": single images are not implemented'), True),
        (User(registry=json.dumps({"schemaVersion": 2, "manifests": [{"digest": OTHER}, {"digest": DIGEST}]})), False),
        (User(registry=json.dumps({"schemaVersion": 2, "manifests": [{"digest": OTHER}]})), True),
        (User(error="connection refused"), False),
        (User(error=f"manifest unknown: {OTHER}"), False),
    ],
    ids=["the same", "another", "one of a list", "none of a list", "no registry", "no such tag"],
)
def test_a_tag_that_was_pushed_again_is_told(user, again):
    text = image_origin.sentence(user, "r/app:1", NOW)
    assert ("was pushed again and not pulled here" in text) is again and DIGEST in text


def test_a_digest_is_not_asked_for():
    user = User()
    image_origin.sentence(user, f"r/app@{DIGEST}", NOW)
    assert user.asked == ["image"]


@pytest.mark.parametrize(("seconds", "said"), [(5, "less than a minute"), (60, "1 minute"), (7300, "2 hours"), (86400, "1 day"), (1e6, "11 days")])
def test_ages(seconds, said):
    assert image_origin.age(seconds) == said


@pytest.mark.parametrize("here", [[{}], [{"Id": "x", "Created": "yesterday"}], {}, [None]])
def test_an_answer_of_another_form_is_no_error(here):
    assert image_origin.sentence(User(here=here), "r/app:1") == ""
