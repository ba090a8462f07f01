# SPDX-License-Identifier: Apache-2.0
"""STRONG: the row is committed before the agent is commanded; deaths at each step leave no running sandbox without a row, no
second rollback, no leak.
"""

import contextlib
import os
import threading
import time

from fakeagent import HOLD, FakeAgent
from harness import Code, StackTest, code_of, eventually, failpoints, fsb, grpc, main
from rpc import agent_pb2 as ap


class Order(StackTest):
    """With an agent that looks into the store in the moment it is commanded."""

    options = {"workers": 2, "agents": 0}

    def setUp(self):
        super().setUp()
        self.agent = FakeAgent(self.stack).start()
        self.seen = {}
        eventually(lambda: "fake-0" in self.stack.ready_agents(), "fake agent ready")

    def after(self):
        self.stack.delete_all()
        self.stack.wait_empty()
        self.agent.stop()
        eventually(lambda: "fake-0" not in self.stack.ready_agents(), "fake agent gone", 20)

    def look(self, start):
        self.seen[start.meta.name] = start.meta.id, self.stack.row(start.meta.name)

    def create(self, name, **fields):
        return self.stack.create(name, pool="fake-pool", image="x", strong=True, **fields)

    def test_row_before_command(self):
        self.agent.hook = self.look
        for i in range(5):
            sandbox = self.create(f"strong-{i}")
            sid, row = self.seen[f"strong-{i}"]
            self.assertIsNotNone(row, "the agent was commanded before the row was committed")
            self.assertEqual(sid, sandbox.id)
            self.assertEqual(row["status"]["sandboxID"], sid)
            self.assertEqual(row["status"]["assignedPod"], "fake-0")
            self.assertEqual(row["spec"]["poolRef"], "fake-pool")

    def test_fast_does_not_wait(self):
        """The control: FAST commands the agent with crdsync stopped."""
        self.agent.hook = self.look
        with self.stack.procs["crdsync"].stopped():
            self.stack.create("fast", pool="fake-pool", image="x")
        self.assertIsNone(self.seen["fast"][1])

    def test_batch_rows_before_commands(self):
        self.agent.hook = self.look
        _, summary = self.stack.batch(8, name="sb", pool="fake-pool", consistency=fsb.CONSISTENCY_STRONG)
        self.assertEqual(summary.started, 8)
        self.assertEqual([n for n, (_, row) in self.seen.items() if row is None], [])
        self.assertEqual(len(self.seen), 8)

    def test_crdsync_dead(self):
        """UNAVAILABLE after a while, one rollback, and the agent has never heard of it."""
        self.stack.procs["crdsync"].kill()
        code, details = code_of(self.create, "waits")
        self.assertEqual(code, Code.UNAVAILABLE, details)
        self.assertIn("store", details)
        self.check_rolled_back("waits")
        self.stack.start_crdsync()
        self.check_no_row("waits")

    def test_crdsync_stopped(self):
        """The client's deadline ends it: the same rollback."""
        with self.stack.procs["crdsync"].stopped():
            code, details = code_of(self.create, "deadline", timeout=1)
            self.assertIn(code, (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE), details)
            eventually(lambda: self.stack.find("deadline") is None, "rolled back")
            self.check_rolled_back("deadline")
        self.check_no_row("deadline")

    def test_crdsync_comes_back_in_time(self):
        self.agent.hook = self.look
        self.stack.procs["crdsync"].kill()
        call = self.stack.client.sandboxes.CreateSandbox_async(
            self.stack.request("patient", pool="fake-pool", image="x", strong=True), timeout=30
        )
        eventually(lambda: self.stack.find("patient"), "reserved")
        self.assertEqual(self.agent.commands("start"), [])
        self.stack.start_crdsync()
        self.assertEqual(call.result().phase, "Running")
        self.assertIsNotNone(self.seen["patient"][1])

    def check_rolled_back(self, name):
        """Once: the slot and name are free, nobody else's slot is, and the agent was not commanded."""
        self.assertIsNone(self.stack.find(name))
        self.assertEqual(self.agent.commands("start"), [])
        self.assertEqual(self.stack.allocated()["fake-0"], 0)
        books = self.stack.books()
        self.assertEqual((books["slots_held"], books["names"], books["contradictions"]), (0, 0, 0), books)

    def check_no_row(self, name):
        eventually(lambda: self.stack.stats().dirty == 0, "store drained")
        self.assertIsNone(self.stack.row(name))
        self.assertEqual(self.agent.commands("start"), [])

    def test_refused_by_the_agent(self):
        """Each refusal rolls back once: row, name and one slot, not the neighbour's."""
        self.create("neighbour")
        for code, want in (
            (ap.BAD_SPEC, Code.INVALID_ARGUMENT),
            (ap.IMAGE_NOT_FOUND, Code.NOT_FOUND),
            (ap.RESOURCES, Code.RESOURCE_EXHAUSTED),
            (ap.INTERNAL, Code.INTERNAL),
        ):
            self.agent.hook = lambda start, code=code: ap.Ack(code=code, message="because of 'this value'")
            self.refused(want, "this value", self.create, "refused")
            self.assertIsNone(self.stack.find("refused"))
            self.assertEqual(self.stack.allocated()["fake-0"], 1)
            eventually(lambda: not self.stack.row("refused"), "row removed")
        self.assertEqual(self.stack.get("neighbour").phase, "Running")
        self.assertEqual(self.stack.books()["slots_held"], 1)
        self.assertEqual(self.agent.commands("stop"), [])

    def test_link_breaks_after_the_command(self):
        """The worker asks again (fence): it runs there, so the create succeeds; it does not, so it is rolled back."""
        for runs in (True, False):

            def hook(start, runs=runs):
                if runs:
                    self.agent._run(start)
                self.agent.drop_links(ap.WORKER)
                return HOLD

            self.agent.hook = hook
            name = f"cut-{runs}".lower()
            code, details = code_of(self.create, name)
            sid = self.agent.commands("start")[-1].meta.id
            self.assertTrue(eventually(lambda: self.agent.commands("fence", sid), "fence"))
            if runs:
                self.assertEqual(code, Code.OK, details)
                self.assertEqual(self.stack.get(name).id, sid)
                self.assertEqual(self.stack.row(name)["status"]["sandboxID"], sid)
            else:
                self.assertIn(code, (Code.UNAVAILABLE, Code.ABORTED), details)
                eventually(lambda: self.stack.find(name) is None, "rolled back")
                eventually(lambda: not self.stack.row(name), "row removed")
        self.assertEqual(self.stack.allocated()["fake-0"], 1)


class Deaths(StackTest):
    """kill -9 of worker, crdsync and agent at each named step, with the real agent."""

    strong = True
    options = {"workers": 2, "agents": 2, "capacity": 4}

    def setUp(self):
        super().setUp()
        self.trace = os.path.join(self.stack.run_dir, "failpoint.trace")

    def armed(self, point):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.trace)
        return {"FSB_FAILPOINT": f"{point}=kill@1", "FSB_FAILPOINT_TRACE": self.trace}

    def reached(self):
        return os.path.exists(self.trace)

    @contextlib.contextmanager
    def watching(self):
        """Fails when at any time a sandbox ran without a row."""
        stop, wrong = threading.Event(), []

        def body():
            while not stop.is_set():
                before = self.stack.running()
                rows = {r["status"].get("sandboxID") for r in self.stack.rows().values()}
                after = self.stack.running()
                wrong.extend((time.time(), sid, after[sid]) for sid in set(before) & set(after) - rows)
                time.sleep(0.005)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if self.strong:
            self.assertEqual(wrong, [], "ran without a row")

    def check_after(self, name, result):
        """One of the two ends: runs with a row, or is gone with everything; then the same request can be made again."""
        eventually(self.stack.consistent, "consistent again", 20)
        code = Code.OK if not isinstance(result, Exception) else result.code()
        found = self.stack.find(name)
        if code == Code.OK:
            self.assertIsNotNone(found, "an acknowledged create is gone")
        else:
            # INTERNAL: the agent lives and says that its launcher died.
            self.assertIn(
                code, (Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.INTERNAL), result
            )
            if code == Code.INTERNAL:
                self.assertIn("launcher died", result.details())
        if found is not None and found.phase == "Running":
            eventually(lambda: self.stack.row(name), "row of a running one")
        else:
            eventually(lambda: not self.stack.row(name), "row removed")
        again = self.stack.create(name, strong=self.strong, request_id=name)
        if found is not None:
            self.assertEqual(again.id, found.id)
        self.assertEqual([s for s in self.stack.running() if s == again.id], [again.id])
        self.assertEqual(sum(self.stack.allocated().values()), 2, "this one and the bystander")
        self.stack.delete(name)

    def matrix(self, points, strike):
        """strike(point, request) -> (result, reached) for each point; all with a bystander that must not be touched."""
        bystander = self.stack.create("bystander", strong=True)
        main = self.stack.mains()[bystander.id]
        hits = []
        with self.watching():
            for point in points:
                with self.subTest(failpoint=point):
                    name = self.stack.unique("victim")
                    result, reached = strike(
                        point, self.stack.request(name, strong=self.strong, request_id=name)
                    )
                    if reached:
                        hits.append(point)
                    self.check_after(name, result)
                    self.assertEqual(self.stack.mains()[bystander.id], main)
        print(f"    reached {len(hits)} of {len(points)}: {' '.join(hits)}")
        return hits

    def result_of(self, call):
        try:
            return call.result()
        except grpc.RpcError as e:
            return e

    def test_worker(self):
        def strike(point, request):
            self.stack.start_fastpath("armed", env=self.armed(point), workers=1)
            client = self.stack.connect_unix("armed")
            self.stack.wait_serving(client=client)
            result = self.result_of(client.sandboxes.CreateSandbox_async(request, timeout=20))
            reached = self.reached()
            client.close()
            self.stack.kill_fastpath("armed")
            return result, reached

        hits = self.matrix(failpoints("fastpath"), strike)
        self.assertGreaterEqual(len(hits), 4)

    def test_crdsync(self):
        def strike(point, request):
            self.stack.procs["crdsync"].term()
            crdsync = self.stack.start_crdsync(env=self.armed(point))
            call = self.stack.client.sandboxes.CreateSandbox_async(request, timeout=20)
            eventually(lambda: call.done() or not crdsync.alive(), "an answer or the death of crdsync", 25)
            if crdsync.alive():
                crdsync.term()
            self.stack.start_crdsync()
            return self.result_of(call), self.reached()

        hits = self.matrix(failpoints("crdsync"), strike)
        self.assertGreaterEqual(len(hits), 2)

    def dead_agents(self):
        return [i for i, role in enumerate(self.stack.agent_roles()) if not self.stack.procs[role].alive()]

    def test_agent(self):
        """Both agents and their launchers armed, so that the one that is chosen dies."""

        def restart(env=None):
            for i in range(self.stack.opt.agents):
                self.stack.kill_agent(i, launcher=True)
                self.stack.start_agent(i, env=env)

        def strike(point, request):
            restart(self.armed(point))
            self.stack.wait_ready()
            call = self.stack.client.sandboxes.CreateSandbox_async(request, timeout=20)
            eventually(lambda: call.done() or self.reached(), "an answer or a failpoint", 25)
            if point.startswith("agent.") and self.reached():
                eventually(lambda: self.dead_agents(), "the death of an agent")
            for i in self.dead_agents():
                self.stack.start_agent(i)
            result, reached = self.result_of(call), self.reached()
            restart()
            self.stack.wait_ready()
            return result, reached

        hits = self.matrix(failpoints("agent"), strike)
        self.assertGreaterEqual(len(hits), 2)


class FastDeaths(Deaths):
    """The agent's deaths under FAST; the worker's are in test_kill_worker.py, crdsync's do not matter to it."""

    strong = False
    test_worker = None
    test_crdsync = None


if __name__ == "__main__":
    main()
