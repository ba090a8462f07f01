# SPDX-License-Identifier: Apache-2.0
"""The child processes of a test, and the small tools around them: paths, deadlines, parallel calls, failpoint names."""

import atexit
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.environ.setdefault("FSB_SRC", os.path.dirname(os.path.dirname(HERE)))
BUILD = os.environ.setdefault("FSB_BUILD", os.path.join(SRC, "build", "test"))
os.environ.setdefault("FSB_GEN", os.path.join(BUILD, "gen", "python"))
BIN = os.path.join(BUILD, "bin")
LONG = os.environ.get("FSB_LONG", "") not in ("", "0")
KEEP = os.environ.get("FSB_TEST_KEEP", "") not in ("", "0")

import observe  # noqa: E402


def full(normal, long):
    """The count for a normal run, or the full one under FSB_LONG=1."""
    return long if LONG else normal


def eventually(check, what, timeout=10.0):
    """Calls check() until it returns something true; an AssertionError counts as not yet. Returns that value."""
    end = time.monotonic() + timeout
    pause, last = 0.005, None
    while True:
        try:
            got = check()
            if got:
                return got
            last = got
        except AssertionError as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}; last: {last!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def failpoints(*dirs):
    """The names in FAILPOINT("…") under these source directories, in the order of the files."""
    names = []
    for folder in dirs:
        for path, _, files in sorted(os.walk(os.path.join(SRC, folder))):
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    with open(os.path.join(path, name)) as f:
                        names += re.findall(r'FAILPOINT\("([^"]+)"\)', f.read())
    return list(dict.fromkeys(names))


class Guard:
    """The process that sweeps when this one is killed."""

    def __init__(self):
        self.proc = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "guard.py")],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        atexit.register(self.close)

    def tell(self, line):
        self.proc.stdin.write(line + "\n")
        self.proc.stdin.flush()

    def close(self):
        self.proc.stdin.close()
        self.proc.wait()


_guard = None


def guard():
    global _guard
    if _guard is None:
        _guard = Guard()
    return _guard


class Proc:
    """One child process with its log file."""

    def __init__(self, role, argv, log, env):
        self.role, self.log = role, log
        with open(log, "ab") as out:
            # pdeathsig: the kernel ends it when the test process goes.
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd="/",
                start_new_session=True,
            )
        self.pid = self.popen.pid

    def signal(self, sig):
        self.popen.send_signal(sig)

    def alive(self):
        return self.popen.poll() is None

    def wait(self, timeout=20):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.role} (pid {self.pid}) has not ended within {timeout} s") from None

    def kill(self):
        self.popen.kill()
        return self.wait()

    def term(self, timeout=40):
        self.popen.send_signal(signal.SIGCONT)
        self.popen.terminate()
        return self.wait(timeout)

    @contextlib.contextmanager
    def stopped(self):
        """SIGSTOP for the length of a with block."""
        self.signal(signal.SIGSTOP)
        eventually(lambda: observe.state(self.pid) == "T", f"{self.role} stopped")
        try:
            yield
        finally:
            if self.alive():
                self.signal(signal.SIGCONT)

    def log_text(self):
        with open(self.log, errors="replace") as f:
            return f.read()


def in_parallel(calls):
    """Runs each in a thread of its own, all released at once; results in order, exceptions as values."""
    barrier = threading.Barrier(len(calls))
    results = [None] * len(calls)

    def body(i, call):
        barrier.wait()
        try:
            results[i] = call()
        except Exception as e:
            results[i] = e

    threads = [threading.Thread(target=body, args=(i, c), daemon=True) for i, c in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(180)
        assert not t.is_alive(), "a call hangs"
    return results
