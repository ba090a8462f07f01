# SPDX-License-Identifier: Apache-2.0
"""The leak check itself: what it must find, it finds; what a killed test leaves, the guard sweeps away."""

import os
import signal
import subprocess
import sys
import unittest

from harness import eventually, main, observe


class LeakCheck(unittest.TestCase):
    def setUp(self):
        self.instance = f"test-harness-{os.getpid()}"
        self.run_dir = f"/run/fsb-{self.instance}"
        self.arena = f"/dev/shm/fsb-{self.instance}"
        os.makedirs(self.run_dir)
        self.children = []
        self.addCleanup(self.end)

    def end(self):
        observe.sweep(self.run_dir, self.instance, self.arena)
        for child in self.children:
            child.wait()
        self.assertFalse(os.path.exists(self.run_dir))
        self.assertEqual(observe.cgroup_dirs(self.instance), [])
        self.assertEqual(observe.mounts(self.run_dir), [])
        self.assertEqual(observe.arena_files(self.arena), [])

    def spawn(self, *argv):
        self.children.append(subprocess.Popen(argv))
        return self.children[-1].pid

    def cgroup(self, agent, sandbox):
        made = []
        for root in observe.cgroup_mounts():
            made.append(os.path.join(root, "fsb", self.instance, agent, sandbox))
            try:
                os.makedirs(made[-1])
            except OSError:
                made.pop()
        return made

    def test_clean(self):
        self.assertEqual(observe.leftovers(self.run_dir, self.instance), [])
        self.assertEqual(observe.instance_processes(self.run_dir, self.instance), {})

    def test_cgroup_and_process(self):
        groups = self.cgroup("a", "box")
        self.assertTrue(groups)
        self.assertEqual(observe.running(self.instance), {})
        self.assertIn("cgroup of sandbox box on a", observe.leftovers(self.run_dir, self.instance))
        pid = self.spawn("sleep", "1000")
        with open(os.path.join(groups[-1], "cgroup.procs"), "w") as f:
            f.write(str(pid))
        self.assertEqual(observe.running(self.instance), {"box": ("a", {pid})})
        self.assertEqual(list(observe.instance_processes(self.run_dir, self.instance)), [pid])

    def test_command_line(self):
        """By the whole path only: an instance is not another one whose name begins the same."""
        sleep = [sys.executable, "-c", "import time; time.sleep(1000)", "--run-dir"]
        pid = self.spawn(*sleep, self.run_dir)
        self.spawn(*sleep, self.run_dir + "2")
        self.assertEqual(list(observe.instance_processes(self.run_dir, self.instance)), [pid])
        for child in self.children:
            child.kill()

    def test_mounts(self):
        """Here, and in a mount namespace of somebody else."""
        here = os.path.join(self.run_dir, "state", "a", "box", "work")
        os.makedirs(here)
        subprocess.run(["mount", "-t", "tmpfs", "fsb-test", here], check=True)
        left = observe.leftovers(self.run_dir, self.instance)
        self.assertEqual([line.split()[0] for line in left], ["state", "mount"], left)
        subprocess.run(["umount", here], check=True)
        script = f"mount -t tmpfs fsb-test {here} && exec sleep 1000"
        pid = self.spawn("unshare", "-m", "sh", "-c", script)
        eventually(lambda: observe.cmdline(pid)[:1] == ["sleep"], "mounted")
        self.assertEqual(list(observe.instance_processes(self.run_dir, self.instance)), [pid])

    def test_arena_files(self):
        for name in ("", ".tmp-1", ".bad-2", "other"):
            open(self.arena + name, "w").close()
        self.assertEqual(
            observe.arena_files(self.arena), [self.arena, self.arena + ".bad-2", self.arena + ".tmp-1"]
        )
        os.unlink(self.arena + "other")


class GuardTest(unittest.TestCase):
    def test_killed_test_process(self):
        """SIGKILL of a test in the middle: its run directory, processes and arena go."""
        script = (
            "import subprocess, sys, time\n"
            "from stack import Stack\n"
            "s = Stack()\n"
            "open(s.arena, 'w').close()\n"
            "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)', s.run_dir])\n"
            "print(s.run_dir, s.instance, s.arena, flush=True)\n"
            "time.sleep(1000)\n"
        )
        env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
        run_dir, instance, arena = child.stdout.readline().split()
        self.addCleanup(child.stdout.close)
        eventually(lambda: observe.instance_processes(run_dir, instance), "its child runs")
        child.send_signal(signal.SIGKILL)
        child.wait()
        eventually(lambda: not os.path.exists(run_dir), "swept")
        self.assertEqual(observe.instance_processes(run_dir, instance), {})
        self.assertEqual(observe.arena_files(arena), [])


if __name__ == "__main__":
    main()
