"""Controller side of senex.trader.check_image: what the units of the application would say for this image, with secrets that are thrown away."""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import secrets

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible_collections.senex.trader.plugins.filter.quoting import quote_url
from ansible_collections.senex.trader.plugins.lookup.unfit_inputs import beneath
from ansible_collections.senex.trader.plugins.module_utils.contract import points
from ansible_collections.senex.trader.plugins.plugin_utils.components import every_group
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import ROLES, RenderingAction, packed, trust_as_template

ARGUMENTS = {"image", "points", "time_limit", "podman_options"}
READ = ("podman", "postgresql", "redis", "django", "celery", "nginx")
FILES = {"django": "__django_files + __django_instance_files[:1]", "celery": "__celery_files + __celery_worker_files[:1]"}
HOME = "/senex-check"
SECCOMP = "seccomp.json"
# What an inventory may have, and the check does without
DEFAULTS = {"senex_domain": "www.example.com", "senex_registry": "localhost", "senex_image_tag": "check", "senex_memory_mb": 8192, "ansible_facts": {}}


ALPHABETS = ("0123456789", "abcdef", "ghijklmnopqrstuvwxyz", "ABCDEF", "GHIJKLMNOPQRSTUVWXYZ")
SHORTEST = 8  # characters of a value of the vault that is looked for: of less there is one anywhere


def unlike(word: str) -> str:
    """Another word of the same form, for an application may ask for one."""
    known = {letter: alphabet for alphabet in ALPHABETS for letter in alphabet}
    return "".join(secrets.choice(known.get(letter, letter)) for letter in word)


def words_of(value) -> list[str]:
    """Every text in a value."""
    if isinstance(value, dict):
        return [word for part in value.values() for word in words_of(part)]
    if isinstance(value, list | tuple):
        return [word for part in value for word in words_of(part)]
    return [str(value)] if isinstance(value, str | int) and len(str(value)) >= SHORTEST else []


def instead_of(vaulted: list[str]) -> dict[str, str]:
    """Another word for each of the vault's: an image that is to be checked is trusted with none."""
    instead = {word: unlike(word) for word in set(vaulted)}
    instead |= {quote_url(word): quote_url(other) for word, other in instead.items()}  # as an address has it
    return dict(sorted(instead.items(), key=lambda pair: len(pair[0]), reverse=True))


def replaced(text: str, instead: dict[str, str]) -> str:
    """A text with other words in the place of the vault's."""
    for word, other in instead.items():
        text = text.replace(word, other)
    return text


def without(environment: str, instead: dict[str, str]) -> str:
    """The environment with these in their place. Not what Django begins with."""
    lines = (line.partition("=") for line in environment.split("\n"))
    return "\n".join(f"{name}{equals}{value if name == 'DJANGO_SETTINGS_MODULE' else replaced(value, instead)}" for name, equals, value in lines)


def certificate() -> str:
    """A certificate of nobody, for an application that reads the file as soon as it starts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "senex.trader check of an image")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def thrown_away(image: str) -> dict:
    """Variables that stand for a host of its own: no secret and no address of the inventory is among them."""
    return {
        "senex_image_reference": image,
        "senex_release": {},
        "senex_home": HOME,
        "senex_environment_file": f"{HOME}/.env",
        "senex_ca_certificate": certificate(),
        "senex_rotation": {},
        "senex_secret_key": secrets.token_urlsafe(48),
        "senex_secret_key_fallbacks": [],
        "senex_field_encryption_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "senex_database_password": secrets.token_urlsafe(24),
        "senex_database_host": "postgres",
        "senex_database_port": 5432,
        "senex_database_sslmode": "disable",
        "senex_redis_password": secrets.token_urlsafe(24),
        "senex_redis_host": "redis",
        "senex_redis_port": 6379,
        "senex_redis_tls": False,
        "senex_database_external": False,
        "__senex_pooled": False,
        "senex_database_ca_certificate": "",
        "senex_redis_ca_certificate": "",
        "senex_redis_cache_instance": False,
        "senex_netavark_old": False,
        "django_read_only": True,
        "celery_read_only": True,
        "__celery_is_worker_host": True,
        "__celery_is_beat_host": True,
        # It has them all, whatever the groups of the inventory say
        "__senex_memory_groups": every_group(),
        "__redis_from_before": False,
    }


class ActionModule(RenderingAction):
    """Render the units of the application, and hand them over in one call."""

    def run(self, tmp=None, task_vars=None):
        """See the module."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        unknown = set(arguments) - ARGUMENTS
        if unknown or not arguments.get("image"):
            raise AnsibleActionFail(f"check_image: unknown argument {', '.join(sorted(unknown))}" if unknown else "check_image: image is required")
        asked = arguments.get("points") or []
        asked = [name.strip() for name in asked.split(",")] if isinstance(asked, str) else list(asked)
        wrong = sorted(set(asked) - set(points.NAMES))
        if wrong:
            raise AnsibleActionFail(f"check_points: {', '.join(wrong)} is no point; there are {', '.join(points.NAMES)}")
        variables = self._variables(task_vars or {}, str(arguments["image"]))
        options = {key: arguments[key] for key in ("time_limit", "podman_options") if arguments.get(key)}
        payload = packed(self._wanted(variables))
        return self._execute_module(
            module_name="senex.trader.check_image", module_args={"image": arguments["image"], "points": asked, "payload": payload, **options},
            task_vars=task_vars,
        )  # fmt: skip

    def _variables(self, task_vars: dict, image: str) -> dict:
        """What the roles have by default, what the inventory says, and what is thrown away."""
        own = beneath(READ)
        defaults = {name: value for name, value in own.items() if not name.startswith("__")}
        internal = {name: value for name, value in own.items() if name.startswith("__")}
        return {**defaults, **DEFAULTS, **{name: value for name, value in task_vars.items() if name not in internal}, **internal, **thrown_away(image)}

    @staticmethod
    def _vaulted(variables: dict, value) -> list[str]:
        """What the vault holds, by the names of its variables."""
        found = []
        for name in variables:
            if name.startswith("vault_"):
                with contextlib.suppress(AnsibleError):  # made of what is not there
                    found += words_of(value(name))
        return found

    def _wanted(self, variables: dict) -> dict:
        templar = self._templar.copy_with_new_env(available_variables=variables)

        def value(expression: str):
            return templar.template(trust_as_template("{{ " + expression + " }}"))

        files = {}
        for role, expression in FILES.items():
            items = [dict(item) for item in value(expression)]
            for item in items:
                if "src" in item:
                    item["src"] = os.path.join(ROLES, role, "templates", item["src"])
            files |= {item["dest"]: base64.b64decode(item["content"]).decode() for item in self.rendered(items, variables)}
        seccomp = self.rendered([{"src": os.path.join(ROLES, "podman", "templates", "seccomp.json.j2"), "dest": SECCOMP}], variables)
        workers = [dest for dest in files if dest.startswith("celery-worker") and dest.endswith(".container")]
        units = {"web": "web-1.container", "release": "release.container", "worker": workers[0], "beat": "celery-beat.container"}
        instead = instead_of(self._vaulted(variables, value))
        passwords = {name: str(value(f"senex_application_environment.{name}")) for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEY", "DB_PASSWORD")}
        return {
            "home": HOME,
            "units": {name: files[dest] for name, dest in units.items()},
            "files": {dest: text for dest, text in files.items() if not dest.endswith((".container", ".slice", ".target", ".env"))},
            "environment": without(files[f"{HOME}/.env"], instead),
            "secrets": {item["name"]: replaced(item["value"], instead) for item in value("__senex_environment_secrets")},
            "passwords": {**passwords, "the password of Redis": str(value("senex_redis_password"))},
            "broker": str(value("senex_redis_addresses.broker")),
            "seccomp": base64.b64decode(seccomp[0]["content"]).decode(),
            "user": str(value("django_image_user")),
            "domain": str(value("senex_domain")),
            "port": int(value("django_container_port")),
            "alive": str(value("django_health_alive_path")),
            "ready": str(value("django_health_ready_path")),
            "static": str(value("django_static_directory")),
            "policy": str(value("nginx_content_security_policy")).replace("$host", str(value("senex_domain"))),
            "celery_app": str(value("celery_app")),
            "scheduler": str(value("celery_beat_scheduler")),
            "queues": [str(queue) for queue in value("__celery_pools[0].queues")],
            "postgresql": {
                "image": str(value("postgresql_image")),
                "uid": int(value("postgresql_container_uid")),
                "host": "postgres",
                "superuser": str(value("senex_database_superuser")),
                "user": str(value("senex_database_user")),
                "database": str(value("senex_database_name")),
                "initdb_args": str(value("postgresql_initdb_args")),
                "extensions": [str(name) for name in value("postgresql_extensions")],
            },
            "redis": {
                "image": str(value("redis_image")),
                "uid": int(value("redis_container_uid")),
                "host": "redis",
                "user": str(value("senex_redis_user")),
                "rules": str(value("__redis_rules")),
                "broker": int(value("senex_redis_databases.broker")),
            },
        }
