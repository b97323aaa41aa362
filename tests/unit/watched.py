"""The watchdog's own library, and a host that says what a test wants."""

import sys
from pathlib import Path

import hostlib  # noqa: F401  (it puts senex_host on the path)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "roles/watchdog/files"))

import senex_ops  # noqa: E402  (the path above must come first)

# Role operator_cli installs its modules beside those of the watchdog, and both the engine's
senex_ops.__path__ += [str(ROOT / "roles/operator_cli/files/senex_ops"), str(ROOT / "plugins/module_utils")]

from senex_ops import config, host  # noqa: E402  (the path above must come first)

SETTINGS = {
    "host": "server-1",
    "environment": "test",
    "user": "senex",
    "home": "/nowhere",
    "user_units": ["postgres.service", "redis.service", "web-1.service", "web-2.service"],
    "system_units": ["nginx.service"],
    "disks": ["/"],
    "certificates": [],
    "components": ["postgresql", "redis", "django", "nginx"],
    "jobs": ["dump", "redis", "media", "offsite", "offsite-wal", "offsite-check", "wal", "base", "drill"],
    "jobs_of_others": [],
    "web": {
        "domain": "www.example.com",
        "instances": [{"unit": f"web-{number}.service", "address": "127.0.0.1", "port": 8000 + number} for number in (1, 2)],
    },
    "public": {"domain": "www.example.com"},
    "database": {"user": "senex", "database": "senex", "container": "postgres"},
    "broker": {"queues": ["celery", "trading"]},
    "beat": "celery-beat.service",
    "image_of": ["web-1.service"],
    "network": "net",
}
GOOD = host.Answer(200, "", "", 0.01, "ok")


def settings(**changes):
    return config.build(config.Config, {**SETTINGS, **changes})


class Fake:
    """A host by readings: units by name, answers by port, results of commands by their first words."""

    uid, home, user = 987, "/nowhere", "senex"

    def __init__(self):
        self.states, self.answers, self.ended, self.done, self.failures = {}, {}, {}, [], []
        self.programs = ["conmon", "slirp4netns"]

    def units(self, scope, names):
        return {name: {"Id": name, "ActiveState": "active", "SubState": "running", "LoadState": "loaded", **self.states.get(name, {})} for name in names}

    def seen(self, scope, names):
        return self.units(scope, names), [name for where, name in self.failures if where == scope]

    def get(self, address, port, path, domain, timeout, tls=False):
        return self.answers.get(port, GOOD)

    def _end(self, *argv):
        self.done.append(argv)
        return next((end for words, end in self.ended.items() if " ".join(argv).startswith(words)), host.Ended(0, "", ""))

    def run(self, *argv, timeout=15, stdin=None):
        return self._end(*argv)

    def systemctl(self, scope, *argv, timeout=15):
        return self._end("systemctl", scope, *argv)

    def inside(self, container, *argv, timeout=20, stdin=None):
        return self._end("inside", container, *argv)

    def podman(self, *argv, timeout=20, stdin=None):
        return self._end("podman", *argv)

    def as_user(self, *argv, timeout=20, stdin=None):
        return self._end("as_user", *argv)

    def processes(self, *names):
        return [name for name in self.programs if name in names]

    def unit_image(self, units):
        return f"registry/of-{units[0]}:1" if units else ""

    def revive_resolver(self, network, image):
        return self._end("revive", network, image)

    def kill_container(self, name):
        self.states[f"{name}.service"] = {"ActiveState": "inactive"}
        return self._end("kill", name)
