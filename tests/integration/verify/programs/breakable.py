"""Becomes the program in its arguments, unless the folder in FAULTS says otherwise.

A file `broken` there makes it fail at once; a file `listen` with a host and a
port makes it leave a process behind that listens there.
"""

import os
import subprocess
import sys
from pathlib import Path

LISTEN = "import socket, sys, time; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); time.sleep(600)"

faults = Path(os.environ["FAULTS"])
if (faults / "broken").exists():
    sys.exit("broken on purpose")
if (faults / "listen").exists():
    host, port = (faults / "listen").read_text().split()
    subprocess.Popen([sys.executable, "-c", LISTEN, host, port], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
os.execv(sys.argv[1], sys.argv[1:])
