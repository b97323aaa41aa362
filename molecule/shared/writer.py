"""Insert a row every 100 ms through psql in the database's container; what was acknowledged goes to the file that the argument names."""

import subprocess
import sys
import time

with open(sys.argv[1], "a", encoding="utf-8") as acknowledged:
    psql = subprocess.Popen(
        ["podman", "exec", "-i", "postgres", "psql", "-X", "-q", "-A", "-t", "-U", "senex", "-d", "senex"],
        stdin=subprocess.PIPE, stdout=acknowledged, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    while psql.poll() is None:
        try:
            psql.stdin.write("insert into ticks default values returning id, extract(epoch from at);\n")
            psql.stdin.flush()
        except OSError:
            break
        time.sleep(0.1)
