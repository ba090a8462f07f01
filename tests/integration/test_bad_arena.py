# SPDX-License-Identifier: Apache-2.0
"""A corrupted arena file and an arena on a full file system: typed errors, nothing lost, the service goes on."""

import contextlib
import os
import signal
import subprocess

from harness import Code, StackTest, code_of, eventually, main, observe


class Corrupted(StackTest):
    """registryd puts the file aside and rebuilds; the sandboxes are found again."""

    options = {"workers": 2, "agents": 2, "capacity": 4}

    def stop_control_plane(self):
        """Agents and sandboxes stay; everything that maps the arena goes."""
        self.stack.close_clients()
        for role in ("fastpath", "crdsync", "registryd"):
            self.stack.procs[role].kill()

    def damage(self, change):
        with open(self.stack.arena, "r+b") as f:
            change(f, os.path.getsize(self.stack.arena))

    def quarantined(self):
        return [f for f in observe.arena_files(self.stack.arena) if f != self.stack.arena]

    def check(self, change, quarantined=True):
        made = {s.name: s for s in (self.stack.create() for _ in range(4))}
        eventually(lambda: len(self.stack.rows()) == 4, "stored")
        mains = self.stack.mains()
        self.stop_control_plane()
        self.damage(change)
        log = len(self.stack.procs["registryd"].log_text())
        self.stack.start_registryd()
        self.stack.start_crdsync()
        self.stack.start_fastpath()
        self.stack.wait_ready()
        eventually(self.stack.consistent, "consistent after the rebuild", 20)
        self.assertEqual({n: s.id for n, s in self.stack.list().items()}, {n: s.id for n, s in made.items()})
        self.assertEqual(self.stack.mains(), mains, "no sandbox was touched")
        if quarantined:
            self.assertIn(self.stack.arena, self.stack.procs["registryd"].log_text()[log:])
            self.assertEqual(len(self.quarantined()), 1, "the damaged file is kept for inspection, once")
            os.unlink(self.quarantined()[0])
        self.stack.create("new")

    def test_magic(self):
        self.check(lambda f, size: f.write(b"\0" * 64))

    def test_random_header(self):
        self.check(lambda f, size: f.write(os.urandom(4096)))

    def test_one_bit_of_the_header(self):
        """Anything in the first fields: version, stamp, sizes, offsets."""
        for offset in (8, 12, 16, 24, 32):
            with self.subTest(offset=offset):

                def flip(f, size, offset=offset):
                    f.seek(offset)
                    byte = f.read(1)[0]
                    f.seek(offset)
                    f.write(bytes([byte ^ 0x40]))

                self.check(flip)
                self.after()

    def test_truncated(self):
        self.check(lambda f, size: f.truncate(size // 2))

    def test_empty(self):
        self.check(lambda f, size: f.truncate(0))

    def test_text(self):
        def text(f, size):
            f.truncate(0)
            f.write(b"this is not an arena\n")

        self.check(text)

    def test_worker_alone_with_a_bad_file(self):
        """What only attaches refuses and names the file; it does not touch it."""
        path = os.path.join(self.stack.run_dir, "bad-arena")
        with open(path, "wb") as f:
            f.write(b"x" * 8192)
        proc = self.stack.spawn("lonely", "fsb-crdsync", "--arena", path)
        eventually(lambda: path in proc.log_text(), "a message that names the file", 20)
        proc.kill()
        self.stack.procs.pop("lonely")
        with open(path, "rb") as f:
            self.assertEqual(f.read(), b"x" * 8192)
        books = subprocess.run(
            [os.path.join(os.environ["FSB_BUILD"], "tests", "integration_books"), path],
            capture_output=True,
            text=True,
        )
        self.assertNotEqual(books.returncode, 0)
        self.assertIn(path, books.stderr)


@contextlib.contextmanager
def tmpfs(path, size):
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        os.rmdir(path)


class FullFileSystem(StackTest):
    """The arena is on a small tmpfs of its own."""

    size = 512 << 20

    @classmethod
    def make_stack(cls):
        cls.mount = contextlib.ExitStack()
        cls.addClassCleanup(cls.mount.close)
        cls.where = cls.mount.enter_context(tmpfs(f"/run/fsb-test-full-{os.getpid()}", cls.size))
        cls.options = {"workers": 2, "agents": 1, "capacity": 200, "arena": cls.where + "/arena"}
        super().make_stack()

    def fill(self):
        """Takes every free page."""
        with open(self.where + "/filler", "ab", buffering=0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(b"\0" * (1 << 20))
            with contextlib.suppress(OSError):
                while True:
                    f.write(b"\0" * 4096)
        self.assertEqual(os.statvfs(self.where).f_bavail, 0)

    def test_full_while_it_serves(self):
        """The create that needs a page that is not there is refused; nothing dies of SIGBUS; with room it goes on."""
        stays = [self.stack.create(f"stays-{i}") for i in range(3)]
        pids = {r: p.pid for r, p in self.stack.procs.items()}
        workers = self.stack.worker_pids()
        self.fill()
        big = {"envs": {f"V{i}": "x" * 1000 for i in range(60)}}
        refusals = []
        for i in range(150):
            code, details = code_of(self.stack.create, f"fill-{i}", spec_args=big, command=["/bin/true"])
            if code != Code.OK:
                self.assertEqual(code, Code.RESOURCE_EXHAUSTED, details)
                refusals.append(details)
                if len(refusals) == 5:
                    break
        self.assertEqual(len(refusals), 5, "the file system was never full")
        self.assertIn("file system", refusals[0])
        for sandbox in stays:
            self.assertEqual(self.stack.get(sandbox.name).phase, "Running")
        self.assertEqual(
            {r: p.pid for r, p in self.stack.procs.items() if p.alive()}, pids, "nobody has died"
        )
        self.assertEqual(self.stack.worker_pids(), workers, "no worker has died")
        # What was in use once has its memory: the same name again needs no new page.
        self.stack.delete("stays-0")
        self.stack.create("stays-0")
        os.unlink(self.where + "/filler")
        self.stack.create("room-again", spec_args=big)
        self.assertEqual(self.stack.books()["contradictions"], 0)

    def test_full_before_it_starts(self):
        """registryd says what is wrong with which file, and leaves nothing."""
        with tmpfs(self.where + "-tiny", 64 << 10) as where:
            path = where + "/arena"
            proc = self.stack.spawn("tiny", "fsb-registryd", "--arena", path)
            code = proc.wait(40)
            self.assertNotIn(code, (0, -signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT))
            text = proc.log_text()
            self.assertIn(path, text)
            self.assertRegex(text, "file system|[Nn]o space")
            self.assertEqual(os.listdir(where), [])
            self.stack.procs.pop("tiny")


if __name__ == "__main__":
    main()
