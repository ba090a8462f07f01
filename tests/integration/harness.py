# SPDX-License-Identifier: Apache-2.0
"""What every test file imports: class StackTest, and the names of stack.py, process.py and rpc.py that tests use.

StackTest gives the tests of a class one stack, verified to be empty after each test and to be gone after the class.
"""

import os
import signal
import sys
import time
import unittest

import observe  # noqa: F401
from process import LONG, eventually, failpoints, full, in_parallel  # noqa: F401
from rpc import Code, code_of, fp, fsb, grpc, health, spec  # noqa: F401
from stack import FOREVER, IMAGE, STUBBORN, Stack, image_layout  # noqa: F401

SKIP = 77  # ctest's SKIP_RETURN_CODE


class StackTest(unittest.TestCase):
    """One stack for the tests of a class; options as in Stack. A failed test gets its successors a fresh one."""

    options = {}
    stack = None
    maxDiff = None

    @classmethod
    def make_stack(cls):
        cls.stack = Stack(**cls.options)
        try:
            cls.stack.start()
        except BaseException:
            cls.stack.dump()
            cls.stack.stop(check=False)
            cls.stack = None
            raise

    def setUp(self):
        if self.stack is None:
            type(self).make_stack()

    def run(self, result=None):
        before = time.monotonic(), len(result.failures) + len(result.errors)
        super().run(result)
        failed = len(result.failures) + len(result.errors) > before[1]
        print(f"  {self.id()}: {time.monotonic() - before[0]:.1f} s", file=sys.stderr)
        if failed and self.stack is not None:
            self.stack.dump()
            self.stack.stop(check=False)
            type(self).stack = None

    def tearDown(self):
        outcome = getattr(self, "_outcome", None)
        if self.stack is not None and (outcome is None or outcome.success):
            self.after()

    def after(self):
        """What must hold after each test."""
        self.stack.delete_all()
        self.stack.wait_empty()

    @classmethod
    def tearDownClass(cls):
        if cls.stack is not None:
            stack, cls.stack = cls.stack, None
            wrong = stack.stop()
            if wrong:
                raise AssertionError("after the orderly stop: " + "; ".join(wrong))

    def refused(self, code, words, call, *args, **kwargs):
        """The call fails with one of the codes and a message that holds each of the words."""
        got, details = code_of(call, *args, **kwargs)
        codes = code if isinstance(code, (tuple, set, list)) else (code,)
        self.assertIn(got, codes, details)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word.lower(), details.lower())
        return details


def main():
    if os.geteuid() != 0:
        print("integration tests need root: namespaces, mounts and cgroups")
        sys.exit(SKIP)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    unittest.main(verbosity=2)
