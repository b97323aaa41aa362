"""Which findings the judges of some modules can make, and which of them a run of readings has made."""

import ast
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

LEVELS = ("ok", "warn", "fail")


def places(module):
    """(function, level, first line, last line) of each call that makes a finding; `level(…)` stands for warn and fail, and both have to be met."""
    found = []
    for function in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(function, ast.FunctionDef) and function.name.startswith("judge_"):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in (*LEVELS, "level"):
                    names = ("warn", "fail") if node.func.id == "level" else (node.func.id,)
                    found += [(function.name, name, node.lineno, node.end_lineno) for name in names]
    return found


def unsaid(modules, run):
    """Places of findings that `run` did not come to, as text."""
    met = set()

    def noted(module, level):
        real = getattr(module, level)

        def note(*words):
            met.add((module.__name__, level, sys._getframe(1).f_lineno))
            return real(*words)

        return note

    with ExitStack() as patches:
        for module in modules:
            for level in LEVELS:
                if hasattr(module, level):
                    patches.enter_context(mock.patch.object(module, level, noted(module, level)))
        run()
    every = [(module, *place) for module in modules for place in places(module)]
    assert len(every) > 10, "no findings were found in the sources"
    return [
        f"{module.__name__}.{function}, line {first}: {level}"
        for module, function, level, first, last in every
        if not any((module.__name__, level, line) in met for line in range(first, last + 1))
    ]
