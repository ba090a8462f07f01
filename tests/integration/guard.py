# SPDX-License-Identifier: Apache-2.0
"""Cleans up after a test process that was killed (a timeout of ctest is SIGKILL).

Reads "run_dir instance arena" lines on stdin, "-run_dir" when that one was stopped in good order, and "folder" for one to be
removed in any case; at the end of the input, whatever is still listed is swept away.
"""

import shutil
import signal
import sys

import observe


def main():
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    live = {}
    for line in sys.stdin:
        words = line.split()
        if words[0].startswith("-"):
            live.pop(words[0][1:], None)
        else:
            live[words[0]] = words
    for words in live.values():
        if len(words) == 1:
            shutil.rmtree(words[0], ignore_errors=True)
        else:
            observe.sweep(*words)


main()
