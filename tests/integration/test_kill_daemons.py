# SPDX-License-Identifier: Apache-2.0
"""kill -9 and SIGSTOP of registryd, crdsync, agents and launchers: the rest goes on and what runs still runs."""

import contextlib
import os
import signal
import threading
import time

from harness import FOREVER, Code, StackTest, code_of, eventually, failpoints, fp, full, main, observe


class Load:
    """Callers that create and delete until the end of the with block; every refusal is kept."""

    def __init__(self, stack, callers=4):
        self.stack, self.callers = stack, callers
        self.done, self.wrong, self.stop = 0, [], threading.Event()

    def _caller(self, i):
        client, n = self.stack.connect(), 0
        while not self.stop.is_set():
            n += 1
            for call in (self.stack.create, self.stack.delete):
                code, details = code_of(call, f"load-{i}-{n}", client=client)
                if code != Code.OK:
                    self.wrong.append((call.__name__, f"load-{i}-{n}", code, details))
            self.done += 1

    def __enter__(self):
        self.threads = [
            threading.Thread(target=self._caller, args=(i,), daemon=True) for i in range(self.callers)
        ]
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join(60)

    def more(self, count=10, timeout=20):
        """Waits until count more creates and deletes are through."""
        goal = self.done + count
        eventually(lambda: self.done >= goal, f"{count} more creates, wrong so far: {self.wrong}", timeout)


class Registryd(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def test_creates_go_on_while_it_is_stopped(self):
        registryd = self.stack.procs["registryd"]
        with registryd.stopped():
            for i in range(full(20, 300)):
                self.stack.create(f"s-{i}")
                self.assertEqual(self.stack.get(f"s-{i}").phase, "Running")
                self.stack.delete(f"s-{i}")
            stays = self.stack.create("stays")
            exits = self.stack.create("exits", command=["/bin/sh", "-c", "exit 9"])
        self.assertEqual(self.stack.wait("exits").exit_code, 9)
        self.assertEqual(self.stack.get("stays").id, stays.id)
        self.assertNotEqual(exits.id, stays.id)

    def test_creates_go_on_while_it_is_dead(self):
        self.stack.procs["registryd"].kill()
        for i in range(full(10, 100)):
            self.stack.create(f"d-{i}", strong=i % 2 == 1)
            self.stack.delete(f"d-{i}")
        self.stack.create("exits", command=["/bin/sh", "-c", "exit 9"])
        self.stack.start_registryd()
        self.assertEqual(
            self.stack.wait("exits").exit_code, 9, "an exit in its absence is learnt from the agent"
        )
        self.stack.wait_ready()

    def test_restarted_under_load(self):
        """Killed and started again while others create and delete: not one call fails."""
        with Load(self.stack) as load:
            for _ in range(full(4, 40)):
                load.more()
                self.stack.procs["registryd"].kill()
                load.more()
                self.stack.start_registryd()
        self.assertEqual(load.wrong, [])
        self.stack.wait_ready()
        eventually(self.stack.consistent, "consistent after the kills")

    def test_orderly_restart_under_load(self):
        with Load(self.stack) as load:
            for _ in range(2):
                load.more()
                self.assertEqual(self.stack.procs["registryd"].term(), 0)
                load.more()
                self.stack.start_registryd()
        self.assertEqual(load.wrong, [])
        self.stack.wait_ready()

    def test_worker_dies_while_it_is_dead(self):
        """What the worker held comes back when a registryd comes back."""
        env = {"FSB_FAILPOINT": f"{self.point_after_reserve()}=kill@1"}
        self.stack.start_fastpath("armed", workers=1, env=env)
        client = self.stack.connect_unix("armed")
        self.stack.wait_serving(client=client)
        self.stack.procs["registryd"].kill()
        self.assertEqual(code_of(self.stack.create, "orphan", client=client)[0], Code.UNAVAILABLE)
        self.stack.kill_fastpath("armed")
        self.stack.create("other")
        self.stack.start_registryd()
        eventually(self.stack.consistent, "the dead worker's reservation is back", 15)

    def point_after_reserve(self):
        points = [p for p in failpoints("fastpath") if "sent" in p or "start" in p]
        self.assertTrue(points, failpoints("fastpath"))
        return points[0]

    def test_dies_while_reaping(self):
        """kill -9 of registryd at each of its failpoints while it clears up after a dead worker; the next one finishes."""
        points = failpoints("registry/daemon") + [
            p for p in failpoints("registry/src") if p.startswith("reap")
        ]
        trace = os.path.join(self.stack.run_dir, "failpoint.trace")
        hits = []
        for point in points:
            with self.subTest(failpoint=point):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(trace)
                self.stack.start_fastpath(
                    "armed", workers=1, env={"FSB_FAILPOINT": f"{self.point_after_reserve()}=kill@1"}
                )
                client = self.stack.connect_unix("armed")
                self.stack.wait_serving(client=client)
                self.stack.procs["registryd"].kill()
                code_of(self.stack.create, client=client)
                self.stack.kill_fastpath("armed")
                registryd = self.stack.start_registryd(
                    env={"FSB_FAILPOINT": f"{point}=kill@1", "FSB_FAILPOINT_TRACE": trace}
                )
                with contextlib.suppress(AssertionError):
                    eventually(lambda: not registryd.alive(), "killed at the failpoint", 1.5)
                hits += [point] if os.path.exists(trace) else []
                registryd.kill()
                self.stack.start_registryd()
                self.stack.wait_ready()
                eventually(self.stack.consistent, "the next registryd has cleared up", 20)
                self.stack.delete_all()
        print(f"    reached {len(hits)} of {len(points)}: {' '.join(hits)}")
        self.assertTrue(hits)

    def test_second_one_is_refused(self):
        """One registryd per arena; the second exits and says so."""
        second = self.stack.spawn("second", "fsb-registryd", "--arena", self.stack.arena)
        self.assertNotEqual(second.wait(40), 0)
        self.assertIn(self.stack.arena, second.log_text())
        self.stack.create("fine")


class Crdsync(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def test_killed_under_load(self):
        """FAST does not notice; afterwards the store is complete."""
        stays = [self.stack.create(f"stays-{i}") for i in range(3)]
        with Load(self.stack) as load:
            for _ in range(full(4, 40)):
                load.more()
                self.stack.procs["crdsync"].kill()
                load.more()
                self.stack.start_crdsync()
        self.assertEqual(load.wrong, [])
        eventually(
            lambda: {n for _, n in self.stack.rows()} == {s.name for s in stays},
            "the store holds what is left",
        )

    def test_killed_at_each_step(self):
        """Every failpoint of crdsync, with a create, an update, an exit and a delete to write."""
        trace = os.path.join(self.stack.run_dir, "failpoint.trace")
        hits = []
        for point in failpoints("crdsync"):
            with self.subTest(failpoint=point):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(trace)
                self.stack.create("was")
                eventually(lambda: self.stack.row("was"), "row")
                self.stack.procs["crdsync"].term()
                self.stack.create("is")
                self.stack.create("exits", command=["/bin/false"])
                self.stack.wait("exits")
                self.stack.delete("was")
                crdsync = self.stack.start_crdsync(
                    env={"FSB_FAILPOINT": f"{point}=kill@1", "FSB_FAILPOINT_TRACE": trace}
                )
                with contextlib.suppress(AssertionError):
                    eventually(lambda: not crdsync.alive(), "killed at the failpoint", 1.5)
                hits += [point] if os.path.exists(trace) else []
                crdsync.kill()
                self.stack.start_crdsync()
                eventually(
                    lambda: {n: r["status"]["phase"] for (_, n), r in self.stack.rows().items()}
                    == {"is": "Running", "exits": "Failed"},
                    "the store holds the newest state",
                )
                self.stack.delete_all()
                self.stack.wait_empty()
        print(f"    reached {len(hits)}: {' '.join(hits)}")
        self.assertTrue(hits)


class Agent(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def ready(self, role):
        eventually(lambda: role in self.stack.ready_agents(), f"{role} ready", 20)

    def spread(self, count=4, **fields):
        made = [self.stack.create(**fields) for _ in range(count)]
        self.assertEqual({s.agent for s in made}, {"agent-0", "agent-1"})
        return made

    def test_killed_and_back(self):
        """Its sandboxes run on with the same processes, their output too; the next agent has them again."""
        ticking = [
            "/bin/sh",
            "-c",
            "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done",
        ]
        made = self.spread(command=ticking)
        mains = self.stack.mains()
        self.stack.procs["agent-0"].kill()
        eventually(lambda: "agent-0" not in self.stack.ready_agents(), "not ready any more")
        self.assertEqual(self.stack.create("elsewhere").agent, "agent-1")
        self.stack.delete("elsewhere")
        self.stack.start_agent(0)
        self.ready("agent-0")
        for sandbox in made:
            eventually(lambda: self.stack.get(sandbox.name).phase == "Running", "Running again")
        self.assertEqual(self.stack.mains(), mains, "the same processes")
        eventually(self.stack.consistent, "consistent")
        mine = next(s for s in made if s.agent == "agent-0")
        lines = self.stack.log_of(mine.name).decode().split()
        self.assertEqual(lines, [str(i + 1) for i in range(len(lines))], "no line was lost")
        seen = len(lines)
        eventually(lambda: len(self.stack.log_of(mine.name).split()) > seen, "and it goes on")

    def test_exit_while_it_is_dead(self):
        """The launcher keeps the exit code for the next agent."""
        made = self.spread(2, command=["/bin/sh", "-c", "trap 'exit 21' TERM; echo up; sleep 1000 & wait"])
        mine = next(s for s in made if s.agent == "agent-0")
        eventually(lambda: self.stack.log_of(mine.name) == b"up\n", "the trap is set")
        self.stack.procs["agent-0"].kill()
        os.kill(self.stack.mains()[mine.id], signal.SIGTERM)
        eventually(lambda: mine.id not in self.stack.running(), "its process is gone")
        self.stack.start_agent(0)
        ended = self.stack.wait(mine.name)
        self.assertEqual((ended.phase, ended.exit_code), ("Failed", 21))

    def test_delete_while_it_is_dead(self):
        """Accepted; done when the agent is back."""
        made = self.spread(2)
        mine = next(s for s in made if s.agent == "agent-0")
        self.stack.procs["agent-0"].kill()
        code, details = code_of(self.stack.delete, mine.name, wait=False)
        self.assertEqual(code, Code.OK, details)
        self.stack.start_agent(0)
        eventually(lambda: mine.id not in self.stack.running(), "stopped", 20)
        eventually(lambda: self.stack.find(mine.name) is None, "gone", 20)

    def test_create_while_it_hangs(self):
        """A stopped agent costs its own creates an UNAVAILABLE, nobody else's; afterwards the books balance."""
        with self.stack.procs["agent-0"].stopped():
            results = [code_of(self.stack.create, f"h-{i}", timeout=3) for i in range(4)]
            good = [r for r in results if r[0] == Code.OK]
            self.assertTrue(good, results)
            for code, details in results:
                self.assertIn(code, (Code.OK, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED), details)
        self.ready("agent-0")
        eventually(self.stack.consistent, "consistent after the hang", 30)

    def test_killed_under_load(self):
        """Creates on the dead agent fail UNAVAILABLE or go elsewhere; nothing is left of them."""
        stays = self.stack.create("stays")
        with Load(self.stack) as load:
            for _ in range(full(3, 30)):
                eventually(lambda: load.done > 3, "load")
                self.stack.procs["agent-0"].kill()
                self.stack.start_agent(0)
                self.ready("agent-0")
        for name, sandbox, code, details in load.wrong:
            self.assertIn(
                code,
                (Code.UNAVAILABLE, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.DEADLINE_EXCEEDED, Code.ABORTED),
                (name, sandbox, details),
            )
        self.assertEqual(self.stack.get("stays").id, stays.id)
        eventually(self.stack.consistent, "consistent after the kills", 30)

    def test_launcher_killed(self):
        """The sandboxes go on; only the exit code is unknown; the agent starts another launcher."""
        made = self.spread(2)
        mine = next(s for s in made if s.agent == "agent-0")
        before = self.stack.mains()
        os.kill(self.stack.launcher_pid("agent-0"), signal.SIGKILL)
        self.assertEqual(self.stack.mains(), before)
        fresh = eventually(lambda: self.on_agent("agent-0"), "creates on that agent again", 20)
        self.assertEqual(self.stack.get(mine.name).phase, "Running")
        os.kill(before[mine.id], signal.SIGKILL)
        ended = self.stack.wait(mine.name)
        self.assertEqual((ended.phase, ended.exit_code), ("Failed", -1))
        self.assertNotEqual(fresh.id, mine.id)

    def on_agent(self, agent):
        code, sandbox = Code.OK, None
        with contextlib.suppress(Exception):
            sandbox = self.stack.create(timeout=10)
        if sandbox is not None and sandbox.agent == agent:
            return sandbox
        return None if code == Code.OK else code

    def test_agent_and_launcher_killed(self):
        self.spread()
        mains = self.stack.mains()
        launcher = self.stack.launcher_pid("agent-0")
        self.stack.procs["agent-0"].kill()
        os.kill(launcher, signal.SIGKILL)
        self.stack.start_agent(0)
        self.ready("agent-0")
        eventually(self.stack.consistent, "consistent")
        self.assertEqual(self.stack.mains(), mains)

    def test_orderly_restart(self):
        self.spread()
        mains = self.stack.mains()
        self.assertEqual(self.stack.procs["agent-0"].term(), 0)
        self.stack.start_agent(0)
        self.ready("agent-0")
        eventually(self.stack.consistent, "consistent")
        self.assertEqual(self.stack.mains(), mains)

    def test_other_agents_do_not_notice(self):
        """One agent dead, one hung: the third serves at its usual pace."""
        self.stack.start_agent(7, args=["--pool", "third"])
        self.ready("agent-7")
        self.stack.procs["agent-0"].kill()
        with self.stack.procs["agent-1"].stopped():
            begin = time.monotonic()
            for i in range(10):
                self.stack.create(f"third-{i}", pool="third", command=FOREVER)
                self.stack.delete(f"third-{i}")
            self.assertLess(time.monotonic() - begin, 10)
            self.assertIn("agent-7", self.stack.ready_agents())
        self.stack.start_agent(0)
        self.ready("agent-0")
        self.ready("agent-1")
        self.stack.procs.pop("agent-7").term()


class LostAgent(StackTest):
    """An agent away longer than --agent-timeout."""

    options = {"workers": 2, "agents": 2, "capacity": 4, "registryd_args": ["--agent-timeout", "2"]}

    def test_lost_and_found(self):
        made = [self.stack.create() for _ in range(4)]
        mine = [s for s in made if s.agent == "agent-0"]
        self.stack.procs["agent-0"].kill()
        for sandbox in mine:
            lost = self.stack.wait(sandbox.name, phase="Lost")
            self.assertEqual(lost.phase, "Lost")
            self.assertIn("agent-0", lost.message)
        classic = self.stack.client.fastpath.GetSandbox(
            fp.GetRequest(sandbox_name=mine[0].name, namespace="default")
        )
        self.assertEqual(classic.phase, "Lost")
        self.assertEqual(self.stack.agents()["agent-0"].state, "Unreachable")
        self.stack.create()
        self.stack.start_agent(0)
        for sandbox in mine:
            eventually(lambda: self.stack.get(sandbox.name).phase == "Running", "found again")
            self.assertEqual(self.stack.get(sandbox.name).id, sandbox.id)
        eventually(self.stack.consistent, "consistent")

    def test_lost_is_deleted(self):
        """A delete while the agent is away holds: the sandbox is stopped when the agent is back."""
        made = [self.stack.create() for _ in range(2)]
        mine = next(s for s in made if s.agent == "agent-0")
        self.stack.procs["agent-0"].kill()
        self.stack.wait(mine.name, phase="Lost")
        code, details = code_of(self.stack.delete, mine.name, wait=False)
        self.assertEqual(code, Code.OK, details)
        self.assertIn(mine.id, self.stack.running(), "nobody could stop it yet")
        self.stack.start_agent(0)
        eventually(lambda: mine.id not in self.stack.running(), "stopped on return", 20)
        eventually(lambda: self.stack.find(mine.name) is None, "gone", 20)
        self.assertTrue(observe.alive(self.stack.procs["agent-0"].pid))


if __name__ == "__main__":
    main()
