"""registry.senex.test: a registry with TLS and a login, holding the images under the names production uses."""

import base64
import json
import secrets
import shutil
import ssl
import time
import urllib.error
import urllib.request

import images
from authority import ensure_environment_ca, ensure_registry_certificate, ensure_ssh_key
from settings import (
    CA,
    DIRECTORY,
    IMAGE_PREFIX,
    NETWORK,
    REGISTRY_ADDRESS,
    REGISTRY_NAME,
    REGISTRY_PORT,
    REGISTRY_USER,
)
from shell import LabError, lock, output, remove_container, run, runs, say, step, succeeds

PLACE = DIRECTORY / "registry"
ENDPOINT = f"{REGISTRY_ADDRESS}:{REGISTRY_PORT}"
# image here → name there; an image with variants brings each of them as a tag
PUBLISHED = {"postgres": "library/postgres", "redis": "library/redis:7", "demo": "senex/demo", "foreign": "senex/foreign"}
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def up():
    images.build(["registry"])
    with lock(), step("registry"):
        _prepare()
        _run()
        _wait()
    names = [name for name in PUBLISHED if name in images.names()]
    images.build(names)
    with lock():
        for name in names:
            for tag, _ in images.variants(name):
                there = PUBLISHED[name]
                _push(f"{IMAGE_PREFIX}/{name}:{tag}", there if ":" in there else f"{there}:{tag}")


def _prepare():
    PLACE.mkdir(mode=0o700, parents=True, exist_ok=True)
    ensure_ssh_key()
    ensure_environment_ca()
    ensure_registry_certificate(PLACE)
    # podman wants a directory with certificates alone, no keys beside them
    (PLACE / "trust").mkdir(exist_ok=True)
    shutil.copy(CA / "ca.crt", PLACE / "trust" / "ca.crt")
    password = PLACE / "password"
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), encoding="utf-8")
    login = base64.b64encode(f"{REGISTRY_USER}:{password.read_text(encoding='utf-8')}".encode()).decode()
    auth = PLACE / "auth.json"
    auth.touch(mode=0o600)
    auth.write_text(json.dumps({"auths": {ENDPOINT: {"auth": login}}}), encoding="utf-8")


def _run():
    wanted = output("podman", "image", "inspect", "--format", "{{.Id}}", f"{IMAGE_PREFIX}/registry:latest")
    there = output("podman", "inspect", "--format", "{{.Image}}", "registry", check=False)
    if there == wanted and runs("registry"):
        return
    if there:
        remove_container("registry")
    run(
        "podman", "run", "--detach", "--name", "registry", "--hostname", "registry", "--privileged",
        "--network", NETWORK, "--ip", REGISTRY_ADDRESS, "--network-alias", REGISTRY_NAME,
        "--volume", "registry-data:/var/lib/docker-registry", "--volume", f"{PLACE}:/lab:ro",
        f"{IMAGE_PREFIX}/registry:latest",
    )  # fmt: skip


def _ask(path):
    login = json.loads((PLACE / "auth.json").read_text(encoding="utf-8"))["auths"][ENDPOINT]["auth"]
    request = urllib.request.Request(f"https://{ENDPOINT}/v2/{path}", headers={"Authorization": f"Basic {login}", "Accept": MANIFESTS})
    trust = ssl.create_default_context(cafile=str(CA / "ca.crt"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    with opener.open(request, timeout=5) as answer:
        return json.load(answer)


def _wait(timeout=30):
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _ask("")
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                log = run("podman", "logs", "--tail", "30", "registry", check=False)
                raise LabError(f"the registry does not answer: {error}\n{log.stdout}{log.stderr}") from error
            time.sleep(0.3)


def _published_id(there):
    name, _, tag = there.rpartition(":")
    try:
        return _ask(f"{name}/manifests/{tag}")["config"]["digest"].removeprefix("sha256:")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def _push(here, there):
    if not succeeds("podman", "image", "exists", here):
        raise LabError(f"{here} was not built: tests/images has no such variant")
    if _published_id(there) == output("podman", "image", "inspect", "--format", "{{.Id}}", here):
        say(f"registry: {there} up to date")
        return
    with step(f"registry: push {there}"):
        run(
            "podman", "push", "--authfile", PLACE / "auth.json", "--cert-dir", PLACE / "trust",
            here, f"docker://{ENDPOINT}/{there}",
        )  # fmt: skip
