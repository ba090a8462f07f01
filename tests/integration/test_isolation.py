# SPDX-License-Identifier: Apache-2.0
"""What a sandbox can't do, seen through the whole stack (the agent's own tests try each system call)."""

import os
import socket
import threading
import time

from harness import FOREVER, StackTest, eventually, main, observe


class Isolation(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def sh(self, script, **fields):
        ended, log = self.stack.run(["/bin/sh", "-c", script], **fields)
        return ended.exit_code, log

    def test_fsb_api_out_of_reach(self):
        """Not by TCP on any address it could know, not by a unix socket, for no program of the stack."""
        port = self.stack.port()
        code, log = self.sh(
            f"for a in 127.0.0.1 {self.host_address()} 169.254.1.1; do "
            f"  nc -w 1 $a {port} </dev/null && echo rea''ched $a; done; "
            f"ls -d {self.stack.run_dir} /run/fsb* /dev/shm/* 2>/dev/null; "
            "find / -xdev -type s 2>/dev/null; cat /proc/net/unix | tail -n +2; ls /sys/class/net; echo done"
        )
        self.assertEqual(code, 0, log)
        self.assertNotIn("reached", log)
        self.assertNotIn("fsb-", log)
        self.assertNotIn(self.stack.instance, log)
        self.assertNotIn(".sock", log)
        self.assertIn("done", log)

    def test_the_control(self):
        """The same test does reach a server of the host from a sandbox that shares its network."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
            script = f"nc -w 1 127.0.0.1 {port} </dev/null && echo rea''ched"
            self.assertNotIn("reached", self.sh(script)[1])
            self.assertIn("reached", self.sh(script, spec_args={"network": "shared"})[1])

    @staticmethod
    def host_address():
        with os.popen("hostname -I") as f:
            return (f.read().split() or ["127.0.0.1"])[0]

    def test_inherits_nothing(self):
        """No descriptor of ours, no environment of ours."""
        code, log = self.sh("ls /proc/self/fd | tr '\\n' ' '; ls -l /proc/self/fd")
        self.assertTrue(log.startswith("0 1 2 3 "), log)  # 3: ls reads the directory itself
        for word in ("socket:", "memfd", "anon_inode", "pipe:", "/dev/shm", ".sock"):
            self.assertNotIn(word, log)
        code, log = self.sh("env")
        for word in (self.stack.run_dir, self.stack.instance, "FSB_", "NOTIFY", "LISTEN"):
            self.assertNotIn(word, log)

    def test_processes(self):
        """Its own only: process 1 is its own command."""
        code, log = self.sh("cat /proc/1/cmdline | tr '\\0' ' '; echo; ls -d /proc/[0-9]* | wc -l")
        self.assertIn("/bin/sh -c", log)
        self.assertLess(int(log.split()[-1]), 6)

    def test_other_sandboxes(self):
        """Neither the processes nor the files nor the network of a neighbour."""
        self.stack.create(
            "neighbour", command=["/bin/sh", "-c", "echo secret > /tmp/mine; nc -l -p 7777 & " + FOREVER[2]]
        )
        code, log = self.sh("ps; ls /tmp/mine; nc -w 1 127.0.0.1 7777 </dev/null && echo rea''ched")
        self.assertNotIn("7777", log.replace("-w 1 127.0.0.1 7777", ""))
        self.assertNotIn("reached", log)
        self.assertIn("No such file", log)

    def test_network_is_loopback_only(self):
        code, log = self.sh(
            "cat /proc/net/dev | tail -n +3 | cut -d: -f1; ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1; "
            "nc -w 2 192.0.2.1 80 </dev/null 2>&1"
        )
        self.assertEqual(log.split()[0], "lo")
        self.assertIn("unreachable", log)

    def test_files(self):
        """The image's, not the host's."""
        marker = os.path.join(self.stack.run_dir, "host-secret")
        with open(marker, "w") as f:
            f.write("x")
        code, log = self.sh(
            f"cat {marker}; ls /root/.ssh /home /opt 2>&1; cat /etc/shadow 2>&1; cat /proc/1/mountinfo"
        )
        self.assertNotIn("/dev/vda", log)
        self.assertIn("No such file", log)

    def test_memory_limit(self):
        ended, log = self.stack.run(["/bin/tail", "/dev/zero"], spec_args={"resources": {"memory": "32Mi"}})
        self.assertTrue(ended.oom_killed, ended)

    def test_pids_limit(self):
        """A fork bomb ends at its limit and hurts nobody."""
        self.stack.create(
            "bomb",
            command=["/bin/sh", "-c", "while :; do sleep 100 & done"],
            spec_args={"resources": {"pids": "20"}},
        )
        bomb = self.stack.get("bomb").id
        most, end = 0, time.monotonic() + 1
        while time.monotonic() < end:
            most = max(most, len(self.stack.running().get(bomb, ("", ()))[1]))
        self.assertLessEqual(most, 20)
        self.assertEqual(self.sh("exit 0")[0], 0)

    def test_mount(self):
        for command in (
            "mount -t tmpfs tmpfs /mnt",
            "mount -t proc proc /proc",
            "mount --bind / /mnt",
            "umount /proc",
            "unshare -m true",
            "mknod /tmp/d b 8 0",
            "mount -o remount,rw /sys",
        ):
            code, log = self.sh(f"mkdir -p /mnt; {command}")
            self.assertNotEqual(code, 0, f"{command}: {log}")

    def test_kernel_interfaces(self):
        for path in (
            "/proc/sysrq-trigger",
            "/proc/sys/kernel/core_pattern",
            "/sys/kernel/uevent_helper",
            "/proc/kcore",
        ):
            code, log = self.sh(f"echo x > {path}")
            self.assertNotEqual(code, 0, f"{path} is writable: {log}")

    def test_hostname(self):
        ended, log = self.stack.run(["hostname"])
        self.assertEqual(log.strip(), ended.name)
        self.assertNotEqual(log.strip(), os.uname().nodename)
        self.assertNotEqual(self.sh("hostname changed; test $(hostname) = changed && exit 7; exit 7")[0], 0)
        self.assertNotEqual(os.uname().nodename, "changed")

    def test_nothing_left_after_a_hostile_end(self):
        """Daemonised, double-forked, ignoring signals: all gone with the delete."""
        sandbox = self.stack.create(
            "hydra",
            command=[
                "/bin/sh",
                "-c",
                (
                    "trap '' TERM HUP INT; (trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &) ; "
                    "i=0; while [ $i -lt 10 ]; do sleep 1000 & i=$((i+1)); done; wait; while :; do sleep 1; done"
                ),
            ],
        )
        eventually(lambda: len(self.stack.running()[sandbox.id][1]) > 10, "it has grown")
        self.stack.delete("hydra", grace=-1)
        self.assertNotIn(sandbox.id, self.stack.running())
        self.assertEqual(observe.leftovers(self.stack.run_dir, self.stack.instance), [])


if __name__ == "__main__":
    main()
