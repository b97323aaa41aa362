"""Images: a directory each below tests/images, built once for each content."""

import hashlib
import re
import shutil

from settings import DIRECTORY, IMAGE_PREFIX, IMAGES
from shell import LabError, lock, output, run, say, step, succeeds

REFERENCE = re.compile(rf"(?:^FROM\s+|--from=){re.escape(IMAGE_PREFIX)}/([a-z0-9-]+)", re.MULTILINE)
IGNORED = {"__pycache__", ".pytest_cache", ".ruff_cache"}
# What `prepare` fetches follows from the files beside it.
FETCHED = {"wheels"}


def names():
    return sorted(p.parent.name for p in IMAGES.glob("*/Containerfile"))


def parents(name):
    path = IMAGES / name / "Containerfile"
    if not path.exists():
        raise LabError(f"no image {name}: {path} is missing; there are {', '.join(names())}")
    return sorted(set(REFERENCE.findall(path.read_text(encoding="utf-8"))) - {name})


def _words(path):
    """The words of a file, comments dropped."""
    return [word for line in path.read_text(encoding="utf-8").splitlines() for word in line.split("#")[0].split()]


def content_hash(name):
    digest = hashlib.sha256()
    root = IMAGES / name
    for path in sorted(root.rglob("*")):
        if path.is_file() and not (IGNORED | FETCHED) & set(path.relative_to(root).parts):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_mode & 0o111}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    for parent in parents(name):
        digest.update(content_hash(parent).encode())
    return digest.hexdigest()[:16]


def variants(name):
    """[(tag, build arguments)]; one variant 'latest' where the image has no file `variants`."""
    path = IMAGES / name / "variants"
    if not path.exists():
        return [("latest", [])]
    lines = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [(words[0], words[1:]) for words in lines if words]


def build(wanted):
    with lock("images.lock"):
        done = set()
        for name in wanted or names():
            _build_with_parents(name, done, ())


def _build_with_parents(name, done, path):
    if name in path:
        raise LabError(f"images name each other as parents: {' → '.join((*path, name))}")
    if name in done:
        return
    for parent in parents(name):
        _build_with_parents(parent, done, (*path, name))
    _build(name)
    done.add(name)


def _build(name):
    repository = f"{IMAGE_PREFIX}/{name}"
    current = content_hash(name)
    built = {}
    context = None
    for tag, arguments in variants(name):
        exact = f"{repository}:{current}" if tag == "latest" else f"{repository}:{current}-{tag}"
        if not succeeds("podman", "image", "exists", exact):
            context = context or _context(name)
            with step(f"image {name}:{tag}"):
                options = [word for argument in arguments for word in ("--build-arg", argument)]
                # chroot isolation: an unprivileged run step can't set its limits where CAP_SYS_RESOURCE is missing.
                run("podman", "build", "--isolation=chroot", "--network=host", *options, "--tag", exact, context)
        run("podman", "tag", exact, f"{repository}:{tag}", f"{repository}:latest")
        built[exact] = tag
    if context:
        shutil.rmtree(context)
        _forget_old(repository, built)
    else:
        say(f"image {name}: up to date")


def _context(name):
    if (IMAGES / name / "prepare").exists():
        with step(f"image {name}: prepare"):
            run(IMAGES / name / "prepare")
    context = DIRECTORY / "build" / name
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(IMAGES / name, context, symlinks=True, ignore=shutil.ignore_patterns(*IGNORED))
    if (IMAGES / name / "rootfs").exists():
        (context / "rootfs.tar").hardlink_to(_rootfs(name))
    return context


def _rootfs(name):
    suite, *packages = _words(IMAGES / name / "rootfs")
    digest = hashlib.sha256(" ".join([suite, *packages]).encode()).hexdigest()[:16]
    place = DIRECTORY / "rootfs"
    place.mkdir(parents=True, exist_ok=True)
    target = place / f"{name}-{digest}.tar"
    if not target.exists():
        for old in place.glob(f"{name}-*"):
            old.unlink()
        partial = target.with_suffix(".partial.tar")
        with step(f"root file system of {name} ({suite}, {len(packages)} packages)"):
            include = [f"--include={','.join(packages)}"] if packages else []
            run("mmdebstrap", "--variant=minbase", *include, suite, partial)
        partial.rename(target)
    return target


def _forget_old(repository, built):
    keep = set(built) | {f"{repository}:{tag}" for tag in built.values()} | {f"{repository}:latest"}
    listed = output("podman", "images", "--format", "{{.Repository}}:{{.Tag}}", repository).splitlines()
    for old in set(listed) - keep:
        if old.startswith(f"{repository}:"):
            run("podman", "untag", old, old, check=False)
    run("podman", "image", "prune", "--force", check=False)
