# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a worker at every failpoint, in creates, batches and deletes: the rest goes on, nothing leaks, what runs still runs.

The worker that dies belongs to a second, armed fsb-fastpath on the same arena; the first one keeps serving.
"""

import contextlib
import os
import random
import signal
import threading
import time

from harness import (
    FOREVER,
    IMAGE,
    Code,
    StackTest,
    code_of,
    eventually,
    failpoints,
    fp,
    fsb,
    full,
    grpc,
    main,
    observe,
    spec,
)


# Steps of the registry that a worker passes within a call. It also reaps the dead before and after calls, where its death breaks
# none, and adopts nothing.
IN_A_CALL = ("reserve", "batch", "starting", "commit", "abort", "undo", "stop", "exited", "update")


class Failpoints(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 8}

    def setUp(self):
        super().setUp()
        self.trace = os.path.join(self.stack.run_dir, "failpoint.trace")
        self.bystander = self.stack.create("bystander")
        self.main = self.stack.mains()[self.bystander.id]

    @contextlib.contextmanager
    def armed(self, point, nth=1):
        """A client of a one-worker fastpath that dies at the nth pass of point."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.trace)
        self.stack.start_fastpath(
            "armed",
            workers=1,
            env={"FSB_FAILPOINT": f"{point}=kill@{nth}", "FSB_FAILPOINT_TRACE": self.trace},
        )
        client = self.stack.connect_unix("armed")
        try:
            self.stack.wait_serving(client=client)
            yield client
        finally:
            client.close()
            self.stack.kill_fastpath("armed")

    def reached(self):
        return os.path.exists(self.trace)

    def settle(self):
        """The books balance again, the bystander was not touched, and others can create."""
        eventually(self.stack.consistent, "consistent after the kill", 20)
        self.assertEqual(self.stack.mains()[self.bystander.id], self.main)
        self.assertEqual(self.stack.get("bystander").phase, "Running")

    def matrix(self, what, strike, points):
        """strike(client, point) makes the call; returns what it got. Says which points the call passes."""
        hits = []
        for point in points:
            with self.subTest(failpoint=point, call=what):
                with self.armed(point) as client:
                    strike(client, point)
                    if self.reached():
                        hits.append(point)
                self.settle()
        print(f"    {what}: killed at {len(hits)}: {' '.join(hits)}")
        return hits

    @staticmethod
    def points(*prefixes):
        """The worker's own, and those of the registry's steps that begin so; in the full run all that a call may pass."""
        wanted = full(prefixes, IN_A_CALL)
        return failpoints("fastpath") + [p for p in failpoints("registry/src") if p.startswith(wanted)]

    def expect_broken(self, code, details):
        """A call that lost its worker: UNAVAILABLE; one that was not hit ended well."""
        if self.reached():
            self.assertEqual(code, Code.UNAVAILABLE, details)
        else:
            self.assertEqual(code, Code.OK, details)

    def create_matrix(self, what, points, **fields):
        def strike(client, point):
            name = self.stack.unique(what)
            self.expect_broken(*code_of(self.stack.create, name, client=client, request_id=name, **fields))
            # The client does what a client does: again, with the same request id, at another worker.
            again = eventually(lambda: self.try_again(name, **fields), "the repeat succeeds", 20)
            self.assertEqual(again.name, name)
            self.assertEqual(len(self.stack.running()), 2, "the bystander and this one")
            self.stack.delete(name)

        hits = self.matrix(what, strike, points)
        self.assertGreaterEqual(len(hits), 4, "failpoints on the way of a create")

    def try_again(self, name, **fields):
        try:
            return self.stack.create(name, request_id=name, **fields)
        except grpc.RpcError as e:
            self.assertIn(e.code(), (Code.UNAVAILABLE, Code.ALREADY_EXISTS, Code.ABORTED), e.details())
            return None

    def test_create_fast(self):
        """With everything that a create can hold: a request id, ports, labels."""
        shared = {"exposed_ports": [18200, 18201], "network": "shared"}
        self.create_matrix(
            "fast", self.points("reserve", "starting", "commit"), spec_args=shared, labels={"a": "b"}
        )

    def test_create_refused(self):
        """In the undo of a create that the agent has refused."""

        def strike(client, point):
            name = self.stack.unique("refused")
            code, details = code_of(
                self.stack.create,
                name,
                client=client,
                request_id=name,
                command=["/no/such"],
                spec_args={"exposed_ports": [18200], "network": "shared"},
                labels={"a": "b"},
            )
            self.assertEqual(code, Code.UNAVAILABLE if self.reached() else Code.INVALID_ARGUMENT, details)
            eventually(lambda: self.stack.find(name) is None, "gone", 20)
            eventually(self.stack.consistent, "consistent", 20)
            self.assertEqual(self.stack.books()["ports"], 0)

        self.matrix("refused", strike, self.points("abort", "undo"))

    def test_update(self):
        """The labels are the old ones or the new ones, and a repeat makes them new."""

        def strike(client, point):
            name = self.stack.unique("update")
            self.stack.create(name, labels={"v": "old"})
            request = fp.UpdateRequest(sandbox_name=name, namespace="default", labels={"v": "new"})
            self.expect_broken(*code_of(client.fastpath.UpdateSandbox, request))
            self.assertIn(self.stack.get(name).labels["v"], ("old", "new"))
            self.assertTrue(self.stack.client.fastpath.UpdateSandbox(request).success)
            self.assertEqual(self.stack.get(name).labels["v"], "new")
            self.stack.delete(name)

        self.matrix("update", strike, self.points("update"))

    def test_create_strong(self):
        self.create_matrix("strong", self.points(), strong=True)

    def test_batch(self):
        """At the first member and in the middle."""

        def strike(client, point):
            name = self.stack.unique("batch")
            request = fsb.CreateBatchRequest(
                name=name,
                count=6,
                mode=fsb.ALL_OR_NOTHING,
                spec=spec.SandboxSpec(image=IMAGE, command=FOREVER),
            )
            code, details = code_of(client.sandboxes.CreateBatch, request)
            self.expect_broken(code, details)
            eventually(self.stack.consistent, "consistent after the kill", 20)
            left = [n for n in self.stack.list() if n.startswith(name)]
            if code == Code.OK:
                self.assertEqual(len(left), 6)
            for member in left:
                self.stack.delete(member)

        self.matrix("batch", strike, self.points("commit"))

    def test_delete(self):
        """The delete was asked for or not; if it was, somebody else finishes it."""

        def strike(client, point):
            name = self.stack.unique("del")
            self.stack.create(name)
            code, details = code_of(self.stack.delete, name, client=client)
            self.expect_broken(code, details)
            eventually(self.stack.consistent, "consistent after the kill", 20)
            if self.stack.find(name) is not None:
                self.stack.delete(name)

        self.matrix("delete", strike, self.points("stop", "undo"))

    def test_stopped_in_the_middle(self):
        """A worker stopped (not dead) at each failpoint holds up nobody; continued, its call ends well."""
        for point in self.points():
            with self.subTest(failpoint=point):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.trace)
                self.stack.start_fastpath(
                    "armed",
                    workers=1,
                    env={"FSB_FAILPOINT": f"{point}=stop@1", "FSB_FAILPOINT_TRACE": self.trace},
                )
                client = self.stack.connect_unix("armed")
                try:
                    self.stack.wait_serving(client=client)
                    name = self.stack.unique("stopped")
                    call = client.sandboxes.CreateSandbox_async(self.stack.request(name), timeout=20)
                    eventually(lambda: call.done() or self.reached(), "done or stopped", 20)
                    for i in range(5):
                        self.stack.create(f"{name}-other-{i}")
                        self.stack.delete(f"{name}-other-{i}")
                    for pid in self.stack.worker_pids("armed"):
                        os.kill(pid, signal.SIGCONT)
                    self.assertEqual(call.result().phase, "Running")
                    self.stack.delete(name)
                finally:
                    client.close()
                    self.stack.kill_fastpath("armed")
                self.settle()


class UnderLoad(StackTest):
    options = {"workers": 3, "agents": 2, "capacity": 16}

    def test_random_kills(self):
        """Workers killed at any moment, restarted by their master; clients see UNAVAILABLE and nothing else."""
        end = time.monotonic() + full(5, 120)
        self.stack.create("bystander")
        wrong, counts = [], {"ok": 0, "unavailable": 0}

        def caller(i):
            client, n = self.stack.connect(), 0
            while time.monotonic() < end and not wrong:
                n += 1
                name = f"load-{i}-{n}"
                for call in (self.stack.create, self.stack.delete):
                    code, details = code_of(call, name, client=client)
                    counts["ok" if code == Code.OK else "unavailable"] += 1
                    if code == Code.UNAVAILABLE:
                        time.sleep(0.01)  # as a client does
                    if code not in (Code.OK, Code.UNAVAILABLE) and not (
                        call == self.stack.delete and code == Code.NOT_FOUND
                    ):
                        wrong.append((call.__name__, name, code, details))

        threads = [threading.Thread(target=caller, args=(i,), daemon=True) for i in range(6)]
        for t in threads:
            t.start()
        kills = 0
        while time.monotonic() < end:
            time.sleep(random.uniform(0.1, 0.5))
            pids = self.stack.worker_pids()
            if pids:
                os.kill(random.choice(pids), signal.SIGKILL)
                kills += 1
        for t in threads:
            t.join(60)
        self.assertEqual(wrong, [])
        print(f"    {kills} kills, {counts}")
        self.assertGreater(counts["ok"], kills)
        eventually(lambda: len(self.stack.worker_pids()) == 3, "all workers are back")
        eventually(self.stack.consistent, "consistent after the kills", 20)
        self.assertEqual(self.stack.get("bystander").phase, "Running")

    def test_master_killed(self):
        """Its workers go too or go on; either way a new master serves, and the sandboxes run."""
        sandbox = self.stack.create("stays")
        self.stack.procs["fastpath"].kill()
        self.stack.close_clients()
        self.stack.start_fastpath()
        self.stack.wait_ready()
        self.assertEqual(self.stack.get("stays").id, sandbox.id)
        eventually(self.stack.consistent, "consistent")

    def test_drain(self):
        """SIGTERM: calls in flight are finished, then exit 0; the next one serves."""
        call = self.stack.client.sandboxes.Wait_async(
            fsb.WaitSandboxRequest(name=self.stack.create(command=["/bin/sleep", "1000"]).name),
            timeout=20,
        )
        batch = self.stack.connect().sandboxes.CreateBatch(
            fsb.CreateBatchRequest(
                name="drain", count=20, spec=spec.SandboxSpec(image=IMAGE, command=FOREVER)
            )
        )
        first = next(batch)
        fastpath = self.stack.procs["fastpath"]
        fastpath.signal(signal.SIGTERM)
        members = [m for r in [first, *batch] for m in r.members]
        self.assertEqual([m.message for m in members if m.code], [])
        self.assertEqual(len(members), 20)
        # A wait is not finished but sent elsewhere: it could last for ever.
        self.assertEqual(code_of(call.result)[0], Code.UNAVAILABLE)
        self.assertEqual(fastpath.wait(), 0)
        self.assertFalse(os.path.exists(self.stack.socket_of("fastpath")))
        self.stack.close_clients()
        self.stack.start_fastpath()
        self.stack.wait_ready()
        self.assertEqual(len(self.stack.running()), 21)
        self.assertTrue(observe.alive(self.stack.procs["fastpath"].pid))


if __name__ == "__main__":
    main()
