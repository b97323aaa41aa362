"""How each snapshot is made, and the content that it is made of: a snapshot of other content is never used."""

import contextlib
import functools
import hashlib
import itertools
import os
import re
import subprocess
import time
from dataclasses import dataclass

import hosts
import images
import registry
import snapshots
from settings import CA, REPOSITORY, SSH_KEY
from shell import LabError, demo_held, run, say, step

# What belongs to all of them: the engine, shared templates, versions of the tools, how hosts are made
EVERYWHERE = ("plugins", "templates", "requirements.txt", "tests/lab")
MOLECULE = (".config/molecule/config.yml", "molecule/shared/prepare.yml", "molecule/layers")
IGNORED = {"__pycache__", "tests", "README.md"}
# A role that another one calls or depends on
CALLED = re.compile(r"(?:include_role|import_role):\s+name: senex\.trader\.([a-z_]+)|- role: senex\.trader\.([a-z_]+)")

# A line of the demo's summary: name of the step, how long it took
STEP = r"^  (\S.*?)  +(?:(\d+) min )?([\d.]+) s$"


@dataclass(frozen=True)
class Recipe:
    """A snapshot. `after`: the one it is made from; without it, from `image`."""

    name: str
    content: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    after: str = ""
    scenario: str = ""
    hosts: tuple[str, ...] = ()


def _layer(name, after, roles, used):
    return Recipe(name, MOLECULE, roles, ("host-ready", *used), after, "layers", ("molecule-layers",))


WHOLE = ("roles", "playbooks", "site.yml", "ansible.cfg")
DATA = ("postgres", "redis")
# Each layer is a host with these roles on top of the layer before; scenarios say which one they start from (molecule_layer)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("stack", (*WHOLE, "inventory/demo", "tests/runner/demo.py", "tests/run"), images=("host", *DATA, "demo"), hosts=("demo",)),
        Recipe("two_web_hosts", (*WHOLE, *MOLECULE, "molecule/two_web_hosts/molecule.yml"), images=("host-ready", *DATA, "demo"),
               scenario="two_web_hosts", hosts=("molecule-web-one", "molecule-web-two")),
        _layer("common", "", ("common",), ()),
        _layer("podman", "common", ("podman",), ()),
        _layer("data", "podman", ("postgresql", "redis"), DATA),
        _layer("application", "data", ("django",), ("demo",)),
        _layer("site", "application", ("celery", "nginx"), ("demo",)),
    )
}  # fmt: skip


@functools.cache
def _files(path):
    """The files below a path of the repository that git would not ignore, relative to it."""
    root = REPOSITORY / path
    if root.is_file():
        return [path]
    found = [p for p in root.rglob("*") if p.is_file() and not IGNORED & set(p.relative_to(root).parts) and p.suffix != ".pyc"]
    return [str(p.relative_to(REPOSITORY)) for p in found]


@functools.cache
def role_closure(names):
    """The roles, and those that they call or depend on."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for path in (REPOSITORY / "roles" / name).rglob("*.yml"):
            for match in CALLED.findall(path.read_text(encoding="utf-8")):
                waiting += [word for word in match if word]
    return sorted(found)


@functools.cache
def content(name):
    """The paths, relative to the repository, of all that a snapshot is made of, its parents' too."""
    recipe = RECIPES[name]
    places = [*EVERYWHERE, *recipe.content, *(f"roles/{role}" for role in role_closure(recipe.roles))]
    own = {path for place in places for path in _files(place)}
    return own.union(content(recipe.after)) if recipe.after else own


@functools.cache
def _digest(path, _changed, _size):
    return hashlib.sha256(path.read_bytes()).digest()


def _file_digest(path):
    """Read once: layers share most of their content."""
    found = path.stat()
    return f"{found.st_mode & 0o111}\0".encode() + _digest(path, found.st_mtime_ns, found.st_size)


def keys(names):
    """{name: the digest of content, images, and what the lab alone gives its hosts}, of the tree as it is now."""
    for cached in (_files, role_closure, content):
        cached.cache_clear()
    return {name: _key(name) for name in names}


def key(name):
    _known([name])
    return keys([name])[name]


def _known(names):
    if unknown := set(names) - set(RECIPES):
        raise LabError(f"no snapshot {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")


def _key(name):
    digest = hashlib.sha256()
    for path in sorted(content(name)):
        digest.update(f"{path}\0".encode() + _file_digest(REPOSITORY / path))
    for image in sorted({image for layer in line(name) for image in RECIPES[layer].images}):
        digest.update(f"{image} {images.content_hash(image)}\n".encode())
    for path in (CA / "ca.crt", CA / "environment.crt", SSH_KEY.with_suffix(".pub"), registry.PLACE / "password"):
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:24]


def line(name):
    """The chain of layers that ends in one, lowest first."""
    chain = [name]
    while RECIPES[chain[0]].after:
        chain.insert(0, RECIPES[chain[0]].after)
    return chain


def make(wanted):
    """Make what is missing or stale, and say which was made and which reused."""
    _known(wanted)
    names = list(wanted or RECIPES)
    snapshots.forget_unknown(RECIPES)
    made, reused = [], []
    layers = [name for name in RECIPES if RECIPES[name].scenario == "layers" and any(name in line(w) for w in names)]
    for group in ([name] for name in names if name not in layers):
        _make_group(group, _alone, made, reused)
    if layers:
        _make_group(layers, _layers, made, reused)
    for name in made:
        say(f"snapshot made: {name}")
    for name in reused:
        say(f"snapshot reused: {name}")


def _make_group(names, maker, made, reused):
    """All that one host goes through; of two runs at once the second waits for the first."""
    with snapshots.making(names[0]):
        keys_now = keys(names)
        whole = list(itertools.takewhile(lambda name: snapshots.reusable(name, keys_now[name]), names))
        reused += whole
        missing = names[len(whole) :]  # a layer goes with the one below it
        if missing:
            maker(missing, keys_now)
        made += missing


def _call(*argv, **environment):
    """Run in the repository; its output. Its headlines are said as they come, for this takes minutes."""
    process = subprocess.Popen([str(a) for a in argv], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", env={**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", **environment})  # fmt: skip
    lines = []
    for text in process.stdout:
        lines.append(text)
        if text.startswith("===="):
            say(text.rstrip())
    if process.wait():
        raise LabError(f"exit {process.returncode} from: {' '.join(map(str, argv))}\n{''.join(lines)[-6000:]}")
    return "".join(lines)


def roles_there(name):
    """The roles that a host of this layer has."""
    return [role for layer in line(name) for role in RECIPES[layer].roles]


def for_molecule(snapshot, wanted):
    """The environment in which molecule's driver makes its hosts from a snapshot; their volumes are filled."""
    environment = {"MOLECULE_ROLES_THERE": ",".join(roles_there(snapshot))}
    wanted_key = key(snapshot)
    there = snapshots.hosts(snapshot, wanted_key)
    for host in wanted:
        image, _ = snapshots.restore(snapshot, wanted_key, host, host if host in there else None)
        # One host of several has a suffix of its own in its molecule.yml
        suffix = f"_{host.removeprefix('molecule-').replace('-', '_').upper()}" if len(wanted) > 1 else ""
        environment |= {f"MOLECULE_IMAGE{suffix}": image, f"MOLECULE_OPT{suffix}": f"{snapshots.volume(host)}:/opt"}
    return environment


def _layers(missing, keys_now):
    """One host, role after role; each layer that is missing is kept on the way."""
    host = RECIPES[missing[0]].hosts[0]
    below = RECIPES[missing[0]].after
    _call("molecule", "destroy", "-s", "layers")
    environment = for_molecule(below, [host]) if below else {}
    try:
        for name in missing:
            with step(f"layer {name}: {', '.join(RECIPES[name].roles)}"):
                _call("molecule", "converge", "-s", "layers", "--", "-e", f"molecule_roles={','.join(RECIPES[name].roles)}", **environment)
            snapshots.store(name, keys_now[name], [host])
            if name != missing[-1]:
                hosts.start_container(host)
    finally:
        _call("molecule", "destroy", "-s", "layers")
        with contextlib.suppress(LabError):
            run("podman", "volume", "rm", "--force", snapshots.volume(host), check=False)


def _alone(missing, keys_now):
    (name,) = missing
    recipe = RECIPES[name]
    if recipe.scenario:
        _call("molecule", "destroy", "-s", recipe.scenario)
        try:
            with step(f"scenario {recipe.scenario} converged"):
                _call("molecule", "converge", "-s", recipe.scenario)
            snapshots.store(name, keys_now[name], recipe.hosts)
        finally:
            _call("molecule", "destroy", "-s", recipe.scenario)
        return
    with demo_held():
        begin = time.monotonic()
        # A first deploy starts from a bare host
        hosts.down(recipe.hosts)
        text = _call(REPOSITORY / "tests" / "run", "demo")
        say(text[text.rindex("The demo is up") :] if "The demo is up" in text else text[-2000:])
        times = {name: float(minutes or 0) * 60 + float(rest) for name, minutes, rest in re.findall(STEP, text, flags=re.MULTILINE)}
        snapshots.store(name, keys_now[name], recipe.hosts, {"seconds": time.monotonic() - begin, "times": times})
        hosts.down(recipe.hosts)
