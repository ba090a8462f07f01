# SPDX-License-Identifier: Apache-2.0
"""A sandbox's life: exits and signals, Wait, expiry, delete with and without grace, delete during create, logs, update."""

import os
import signal
import threading
import time

from fakeagent import HOLD, FakeAgent
from harness import (
    FOREVER,
    STUBBORN,
    Code,
    StackTest,
    code_of,
    eventually,
    fp,
    fsb,
    full,
    in_parallel,
    main,
    observe,
)


class Exits(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def test_codes(self):
        for code in (0, 1, 42, 255):
            ended, _ = self.stack.run(["/bin/sh", "-c", f"exit {code}"])
            self.assertEqual(
                (ended.phase, ended.exit_code, ended.signal),
                ("Succeeded" if code == 0 else "Failed", code, 0),
            )
            self.assertGreaterEqual(ended.finished_unix_ns, ended.started_unix_ns)
            self.assertGreaterEqual(ended.started_unix_ns, ended.created_unix_ns)

    def test_signals(self):
        """A main process that is killed: code -1 and the signal. (Nothing but KILL reaches a first process unasked.)"""
        sandbox = self.stack.create(command=["/bin/sleep", "1000"])
        os.kill(self.stack.mains()[sandbox.id], signal.SIGKILL)
        ended = self.stack.wait(sandbox.name)
        self.assertEqual((ended.phase, ended.exit_code, ended.signal), ("Failed", -1, signal.SIGKILL))
        ended, _ = self.stack.run(["/bin/sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"])
        self.assertEqual((ended.phase, ended.exit_code, ended.signal), ("Failed", 128 + signal.SIGSEGV, 0))

    def test_memory_limit(self):
        ended, _ = self.stack.run(
            ["/bin/sh", "-c", "exec head -c 200m /dev/zero | tail | cat; exit 1"],
            spec_args={"resources": {"memory": "32Mi"}},
        )
        self.assertEqual(ended.phase, "Failed")
        alone, _ = self.stack.run(["/bin/tail", "/dev/zero"], spec_args={"resources": {"memory": "32Mi"}})
        self.assertEqual(
            (alone.phase, alone.exit_code, alone.signal, alone.oom_killed),
            ("Failed", -1, signal.SIGKILL, True),
        )

    def test_exit_frees_the_slot_and_keeps_the_record(self):
        sandbox = self.stack.create(command=["/bin/sh", "-c", "echo bye; exit 3"])
        self.stack.wait(sandbox.name)
        eventually(lambda: not any(self.stack.allocated().values()), "slot free")
        self.assertEqual(self.stack.get(sandbox.name).exit_code, 3)
        self.assertEqual(self.stack.log_of(sandbox.name), b"bye\n")
        info = self.stack.client.fastpath.GetSandbox(
            fp.GetRequest(sandbox_name=sandbox.name, namespace="default")
        )
        self.assertEqual((info.phase, info.exit_code), ("Failed", 3))

    def test_children_of_the_main_process(self):
        """What it leaves behind goes with it: the exit is reported when the cgroup is empty."""
        sandbox = self.stack.create(command=["/bin/sh", "-c", "sleep 1000 & sleep 1000 & exit 0"])
        self.assertEqual(self.stack.wait(sandbox.name).phase, "Succeeded")
        self.assertNotIn(sandbox.id, self.stack.running())

    def test_exit_is_visible_soon(self):
        """Pushed, not polled: from the process's end to the waiter in much less than a heartbeat."""
        delays = []
        for _ in range(5):
            sandbox = self.stack.create(command=["/bin/sleep", "1000"])
            done = []
            waiter = threading.Thread(
                target=lambda: done.append((self.stack.wait(sandbox.name), time.monotonic()))
            )
            waiter.start()
            begin = time.monotonic()
            os.kill(self.stack.mains()[sandbox.id], signal.SIGKILL)
            waiter.join()
            delays.append(done[0][1] - begin)
        self.assertLess(min(delays), 0.5, delays)

    # ---- Wait ----

    def test_wait_for_a_phase(self):
        sandbox = self.stack.create()
        self.assertEqual(self.stack.wait(sandbox.name, phase="Running").phase, "Running")
        self.refused(Code.DEADLINE_EXCEEDED, sandbox.name, self.stack.wait, sandbox.name, timeout_ms=200)
        self.refused(
            Code.DEADLINE_EXCEEDED,
            sandbox.name,
            self.stack.wait,
            sandbox.name,
            phase="Failed",
            timeout_ms=200,
        )

    def test_wait_for_a_phase_that_can_not_come(self):
        """It replies with what has come instead."""
        sandbox = self.stack.create(command=["/bin/true"])
        self.assertEqual(self.stack.wait(sandbox.name, phase="Failed").phase, "Succeeded")
        self.assertEqual(self.stack.wait(sandbox.name, phase="Running").phase, "Succeeded")

    def test_wait_while_it_is_deleted(self):
        """The waiter does not hang: the sandbox is gone."""
        sandbox = self.stack.create()
        results = []
        waiter = threading.Thread(target=lambda: results.append(code_of(self.stack.wait, sandbox.name)))
        waiter.start()
        time.sleep(0.1)  # so that the waiter is most likely parked; either order is right
        self.stack.delete(sandbox.name)
        waiter.join(20)
        self.assertTrue(results, "the waiter hangs")
        self.assertIn(results[0][0], (Code.OK, Code.NOT_FOUND))

    def test_many_waiters(self):
        sandbox = self.stack.create(command=["/bin/sh", "-c", "sleep 0.5; exit 2"])
        clients = [self.stack.connect() for _ in range(4)]
        replies = in_parallel([lambda c=c: self.stack.wait(sandbox.name, client=c) for c in clients * 8])
        self.assertEqual({r.exit_code for r in replies}, {2})


class Expiry(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def test_runs_first_then_expires(self):
        """TTL of one and two seconds: it ran and printed, then was stopped; the object stays, the slot does not."""
        now = time.time()
        for ttl in (1, 2):
            self.stack.create(
                f"ttl-{ttl}",
                command=["/bin/sh", "-c", "echo ran; " + FOREVER[2]],
                expire_time_seconds=int(now) + ttl + 1,
            )
        for ttl in (1, 2):
            self.assertEqual(self.stack.get(f"ttl-{ttl}").phase, "Running")
        for ttl in (1, 2):
            ended = self.stack.wait(f"ttl-{ttl}", phase="Expired")
            self.assertEqual(ended.phase, "Expired")
            self.assertGreaterEqual(time.time(), int(now) + ttl + 1)
            self.assertEqual(self.stack.log_of(f"ttl-{ttl}"), b"ran\n")
            self.assertNotIn(ended.id, self.stack.running())
        eventually(lambda: not any(self.stack.allocated().values()), "slots free")
        eventually(lambda: self.stack.row("ttl-1")["status"]["phase"] == "Expired", "stored")
        self.refused(Code.ALREADY_EXISTS, "ttl-1", self.stack.create, "ttl-1")

    def test_update_acts_at_once(self):
        update = self.stack.client.fastpath.UpdateSandbox
        self.stack.create("sooner")
        self.stack.create("later", expire_time_seconds=int(time.time()) + 2)
        self.stack.create("never", expire_time_seconds=int(time.time()) + 2)
        for name, when in (
            ("sooner", int(time.time()) + 1),
            ("later", int(time.time()) + 3600),
            ("never", 0),
        ):
            reply = update(fp.UpdateRequest(sandbox_name=name, namespace="default", expire_time_seconds=when))
            self.assertTrue(reply.success, reply.message)
            self.assertEqual(reply.sandbox.expire_time_seconds, when)
        self.assertEqual(self.stack.wait("sooner", phase="Expired", timeout_ms=5000).phase, "Expired")
        eventually(
            lambda: time.time() > self.stack.get("sooner").finished_unix_ns / 1e9 + 2, "past the old times"
        )
        self.assertEqual(self.stack.get("later").phase, "Running")
        self.assertEqual(self.stack.get("never").phase, "Running")
        self.assertEqual(self.stack.get("never").expire_time_seconds, 0)

    def test_in_the_past(self):
        """An update to a time that has passed ends it now."""
        self.stack.create("past")
        reply = self.stack.client.fastpath.UpdateSandbox(
            fp.UpdateRequest(sandbox_name="past", namespace="default", expire_time_seconds=1)
        )
        self.assertTrue(reply.success, reply.message)
        self.assertEqual(self.stack.wait("past", phase="Expired", timeout_ms=5000).phase, "Expired")

    def test_exits_before_it_expires(self):
        self.stack.create(
            "quick", command=["/bin/sh", "-c", "exit 4"], expire_time_seconds=int(time.time()) + 2
        )
        self.assertEqual(self.stack.wait("quick").exit_code, 4)
        eventually(lambda: time.time() > self.stack.get("quick").expire_time_seconds + 0.5, "past its expiry")
        self.assertEqual((self.stack.get("quick").phase, self.stack.get("quick").exit_code), ("Failed", 4))

    def test_expired_is_deleted(self):
        self.stack.create("gone", expire_time_seconds=int(time.time()) + 1)
        self.stack.wait("gone", phase="Expired")
        self.stack.delete("gone")
        eventually(lambda: not observe.state_dirs(self.stack.run_dir), "its files are gone")
        self.stack.create("gone")


class ExitedTtl(StackTest):
    options = {"workers": 2, "agents": 1, "capacity": 4, "registryd_args": ["--exited-ttl", "1"]}

    def test_exited_records_go(self):
        self.stack.create("old", command=["/bin/true"])
        self.stack.wait("old")
        eventually(lambda: self.stack.find("old") is None, "removed after --exited-ttl")
        self.stack.wait_empty()


class Delete(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def test_term_is_handled(self):
        """Terminating until it is done, its last words in the log."""
        sandbox = self.stack.create(
            "polite",
            command=[
                "/bin/sh",
                "-c",
                "trap 'echo closing; sleep 0.5; echo closed; exit 0' TERM; echo up; while :; do sleep 0.05; done",
            ],
        )
        eventually(lambda: self.stack.log_of("polite") == b"up\n", "the trap is set")
        follow = self.stack.client.sandboxes.Logs(fsb.SandboxLogsRequest(name="polite", follow=True))
        self.stack.delete("polite", grace=5, wait=False)
        self.assertEqual(self.stack.get("polite").phase, "Terminating")
        self.assertIn(sandbox.id, self.stack.running())
        self.assertEqual(b"".join(c.data for c in follow), b"up\nclosing\nclosed\n")
        eventually(lambda: self.stack.find("polite") is None, "gone")

    def test_term_is_ignored(self):
        """KILL after the grace, not before."""
        sandbox = self.stack.create("stubborn", command=STUBBORN)
        eventually(lambda: self.stack.log_of("stubborn") == b"armed\n", "the trap is set")
        begin = time.monotonic()
        self.stack.delete("stubborn", grace=1, wait=True)
        took = time.monotonic() - begin
        self.assertGreater(took, 0.9)
        self.assertLess(took, 5)
        self.assertNotIn(sandbox.id, self.stack.running())

    def test_kill_at_once(self):
        self.stack.create("now", command=STUBBORN)
        begin = time.monotonic()
        self.stack.delete("now", grace=-1, wait=True)
        self.assertLess(time.monotonic() - begin, 2)

    def test_default_grace(self):
        """0 means 10 seconds; checked by what does not happen in the first."""
        sandbox = self.stack.create("ten", command=STUBBORN)
        eventually(lambda: self.stack.log_of("ten") == b"armed\n", "the trap is set")
        self.stack.delete("ten", grace=0, wait=False)
        eventually(lambda: self.stack.get("ten").phase == "Terminating", "Terminating")
        if full(False, True):
            eventually(lambda: self.stack.find("ten") is None, "gone", 15)
            return
        self.assertIn(sandbox.id, self.stack.running())
        self.stack.delete("ten", grace=-1, wait=True)

    def test_twice(self):
        """A second delete joins the first; both end well; an impatient one makes it short."""
        self.stack.create("twice", command=STUBBORN)
        eventually(lambda: self.stack.log_of("twice") == b"armed\n", "the trap is set")
        results = in_parallel(
            [
                lambda c=c: code_of(self.stack.delete, "twice", grace=1, client=c)
                for c in [self.stack.connect() for _ in range(4)]
            ]
        )
        for code, details in results:
            self.assertIn(code, (Code.OK, Code.NOT_FOUND), details)
        self.assertIsNone(self.stack.find("twice"))

    def test_during_create(self):
        """Raced by another worker: whatever the order, nothing is left. (The create may win, lose, or be aborted.)"""
        other = self.stack.connect()
        outcomes = set()
        for i in range(full(20, 500)):
            call = self.stack.client.sandboxes.CreateSandbox_async(
                self.stack.request(f"race-{i}"), timeout=20
            )
            while True:
                code, details = code_of(self.stack.delete, f"race-{i}", client=other)
                if code == Code.OK or call.done():
                    break
                self.assertEqual(code, Code.NOT_FOUND, details)
            created, details = code_of(call.result)
            self.assertIn(created, (Code.OK, Code.ABORTED, Code.CANCELLED, Code.NOT_FOUND), details)
            outcomes.add((created.name, code.name))
        self.stack.delete_all()
        self.stack.wait_empty()
        print("   ", sorted(outcomes))

    def test_during_create_held(self):
        """The delete comes while the agent is starting it: accepted, and carried out when the agent has answered."""
        with FakeAgent(self.stack) as agent:
            agent.hook = lambda start: HOLD
            eventually(lambda: "fake-0" in self.stack.ready_agents(), "fake agent ready")
            call = self.stack.client.sandboxes.CreateSandbox_async(
                self.stack.request("held", pool="fake-pool", image="x"), timeout=20
            )
            eventually(lambda: agent.held, "start arrived")
            sid = agent.commands("start")[0].meta.id
            self.stack.delete("held", client=self.stack.connect(), wait=False)
            self.refused(Code.ALREADY_EXISTS, "held", self.stack.create, "held")
            agent.answer()
            self.assertNotEqual(code_of(call.result)[0], Code.OK, "a deleted create is not acknowledged")
            eventually(lambda: agent.commands("stop", sid), "the agent is told to stop it")
            eventually(lambda: self.stack.find("held") is None, "gone")
            self.assertEqual(agent.sandboxes, {})
        eventually(lambda: "fake-0" not in self.stack.ready_agents(), "fake agent gone", 20)

    def test_name_is_free_at_once(self):
        for i in range(5):
            self.stack.create("again")
            self.stack.delete("again")


class Logs(StackTest):
    options = {"workers": 2, "agents": 1, "capacity": 8}

    def test_follow(self):
        """Lines come as they are written, and the stream ends with the sandbox."""
        self.stack.create(
            "talks", command=["/bin/sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done"]
        )
        arrivals, text = [], b""
        for chunk in self.stack.client.sandboxes.Logs(fsb.SandboxLogsRequest(name="talks", follow=True)):
            arrivals.append(time.monotonic())
            text += chunk.data
        self.assertEqual(text, b"".join(b"line %d\n" % i for i in range(1, 6)))
        self.assertGreater(len(arrivals), 2)
        self.assertGreater(arrivals[-1] - arrivals[0], 0.3)

    def test_stdout_and_stderr(self):
        _, log = self.stack.run(["/bin/sh", "-c", "echo out; echo err >&2; printf 'no newline'"])
        self.assertEqual(log, "out\nerr\nno newline")

    def test_large(self):
        size = 3 << 20
        self.stack.create("large", command=["/bin/sh", "-c", f"head -c {size} /dev/zero"])
        self.stack.wait("large")
        self.assertEqual(len(self.stack.log_of("large")), size)

    def test_without_follow_ends(self):
        self.stack.create("silent")
        self.assertEqual(self.stack.log_of("silent"), b"")

    def test_follower_goes_away(self):
        self.stack.create("endless", command=["/bin/sh", "-c", "while :; do echo x; sleep 0.01; done"])
        for _ in range(10):
            stream = self.stack.client.sandboxes.Logs(fsb.SandboxLogsRequest(name="endless", follow=True))
            next(stream)
            stream.cancel()
        self.assertEqual(self.stack.get("endless").phase, "Running")

    def test_slow_follower_holds_up_nobody(self):
        """A client that does not read: the sandbox and other followers go on."""
        self.stack.create("flood", command=["/bin/sh", "-c", "yes | head -c 20000000; echo; echo end"])
        lazy = self.stack.client.sandboxes.Logs(fsb.SandboxLogsRequest(name="flood", follow=True))
        self.assertEqual(self.stack.wait("flood").exit_code, 0)
        self.assertTrue(self.stack.create("meanwhile").id)
        lazy.cancel()


class Environment(StackTest):
    """The image's configuration merged with the request."""

    options = {"workers": 2, "agents": 1, "capacity": 8}

    def test_env_and_working_dir(self):
        _, log = self.stack.run(
            ["/bin/sh", "-c", 'echo "$A|$PWD|$PATH"'],
            spec_args={"envs": {"A": "a value"}, "working_dir": "/made/on/demand"},
        )
        value, pwd, path = log.rstrip("\n").split("|")
        self.assertEqual((value, pwd), ("a value", "/made/on/demand"))
        self.assertIn("/bin", path)

    def test_args_alone_use_the_image(self):
        """No command at all: the image's own; args replace its CMD."""
        ended, _ = self.stack.run([], spec_args={"args": ["/bin/sh", "-c", "exit 11"]})
        self.assertEqual(ended.exit_code, 11)

    def test_path_lookup(self):
        _, log = self.stack.run(["echo", "found"])
        self.assertEqual(log, "found\n")

    def test_writes_do_not_reach_the_image(self):
        _, first = self.stack.run(["/bin/sh", "-c", "echo x > /bin/mark && ls /bin/mark"])
        self.assertEqual(first, "/bin/mark\n")
        ended, _ = self.stack.run(["/bin/sh", "-c", "test -e /bin/mark"])
        self.assertEqual(ended.exit_code, 1)


class ManyLives(StackTest):
    """Several rounds of everything at once, then nothing is left."""

    options = {"workers": 2, "agents": 2, "capacity": 16}

    def test_mixed(self):
        for round_ in range(full(2, 20)):
            calls = []
            for i in range(24):
                name = f"mix-{round_}-{i}"
                kind = i % 4
                fields = [
                    {"command": ["/bin/true"]},
                    {},
                    {"expire_time_seconds": int(time.time()) + 2},
                    {"strong": True},
                ][kind]
                calls.append(lambda n=name, f=fields: self.stack.create(n, **f))
            self.assertEqual([r for r in in_parallel(calls) if isinstance(r, Exception)], [])
            for i in range(0, 24, 4):
                self.assertEqual(self.stack.wait(f"mix-{round_}-{i}").phase, "Succeeded")
            for i in range(2, 24, 4):
                self.assertEqual(self.stack.wait(f"mix-{round_}-{i}", phase="Expired").phase, "Expired")
            eventually(self.stack.consistent, "consistent")
            self.after()


if __name__ == "__main__":
    main()
