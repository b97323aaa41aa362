"""One WSGI application under gunicorn: one health page, one address for the database, its secret key in a file, no Celery, no Redis, uploads in a bucket."""

import pytest
from foreign_site import Site, started
from life import Life

pytestmark = pytest.mark.usefixtures("site")


class Notes(Site):
    paths = ("/version", "/up", "/notes")
    version_path, static_path, table = "/version", "/assets/notes.css", "notes_note"

    def add(self, text):
        self.send("/notes", text)

    def listed(self):
        return self.json("/notes")["notes"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    yield from started(Notes("notes", tmp_path_factory.mktemp("notes")))


class TestNotes(Life):
    def test_what_it_does_not_have_is_not_there(self, site):
        running = site.stack.user("podman", "ps", "--format", "{{.Names}}").split()
        assert sorted(running) == ["postgres", "web-1", "web-2"]
        inside = site.stack.user("podman", "exec", "web-1", "env")
        assert not [line for line in inside.splitlines() if "REDIS" in line or "CELERY" in line]

    def test_its_secret_key_is_in_no_environment(self, site):
        assert site.secret("secret_key") not in site.stack.user("podman", "inspect", "web-1")
        assert site.stack.user("podman", "exec", "web-1", "cat", "/run/secrets/NOTES_SECRET") == site.secret("secret_key")

    def test_pictures_of_its_bucket_may_be_shown(self, site):
        assert "https://bucket.senex.test" in site.stack.header("Content-Security-Policy")
