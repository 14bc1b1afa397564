"""Becomes another program that does not outlive the process that started it: `leash.py PARENT PROGRAM ARGUMENT...`.

Linux kills the program as soon as its parent is gone, in whatever way: a parent that can still act has ended it before
in good order, and one that was killed wants its ports free. Elsewhere a killed parent leaves its programs behind.
Run as a file and without `site`, so that it costs next to nothing.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
