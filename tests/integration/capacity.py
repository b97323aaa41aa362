"""How many requests a second this machine carries beside a deploy: the same cores send them, answer them and deploy."""

import time
from pathlib import Path

from traffic import Traffic

WANTED, LEAST = 200, 60
# Of all cores, what the requests alone may take: beyond it, a deploy beside them leaves each Django process less than it needs, and a queue only grows
MOST_BUSY, AIM = 0.5, 0.4
SECONDS = 8


def carried(stack):
    """`WANTED`, or less where they keep more than half of the cores busy: a machine that others share can be half as fast as it was yesterday."""
    with Traffic(stack, rate=WANTED):
        before = _ticks()
        time.sleep(SECONDS)
        after = _ticks()
    busy, every = (now - then for then, now in zip(before, after, strict=True))
    share = busy / every
    return WANTED if share <= MOST_BUSY else max(LEAST, int(WANTED * AIM / share))


def _ticks():
    """Of all processors since the boot: those in which one had something to do, and all."""
    words = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    return sum(words) - words[3] - words[4], sum(words)
