"""Becomes another program that ends when the process that started it is gone: `leash.py PARENT PROGRAM ARGUMENT...`.

Linux asks the program to end (SIGTERM) as soon as its parent dies, in whatever way. Elsewhere a parent that is killed
with signal 9 leaves its programs behind. Run as a file and without `site`, so that it costs next to nothing.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
