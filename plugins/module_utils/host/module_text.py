"""The text of a module, for a program that runs apart from this one."""

from __future__ import annotations


def source(module) -> str:
    """A module's own text: it travels in an archive, so there is no file of it here."""
    return module.__loader__.get_source(module.__name__)
