# SPDX-License-Identifier: Apache-2.0
"""Workers allocate at once: N free slots serve N concurrent creates, no slot, name or port has two owners, one more is refused."""

import collections
import itertools
import threading
import time

from harness import LONG, Code, StackTest, code_of, eventually, fp, full, grpc, in_parallel, main, observe


class Slots(StackTest):
    """One connection per worker, several calls in flight on each."""

    workers, agents, capacity = 4, 4, 6
    options = {"workers": workers, "agents": agents, "capacity": capacity}

    def setUp(self):
        super().setUp()
        if not self.stack.__dict__.get("by_worker"):
            self.stack.by_worker = self.stack.worker_clients()
            self.stack.wait_empty()
        self.clients = list(self.stack.by_worker.values())

    @property
    def slots(self):
        return self.agents * self.capacity

    def creates(self, count, **fields):
        """count creates at once, dealt to the workers in turn: (sandboxes, errors)."""
        clients = itertools.islice(itertools.cycle(self.clients), count)
        requests = [(c, self.stack.request(**fields)) for c in clients]
        results = in_parallel([lambda c=c, r=r: c.sandboxes.CreateSandbox(r) for c, r in requests])
        good = [r for r in results if not isinstance(r, Exception)]
        bad = [r for r in results if isinstance(r, Exception)]
        for e in bad:
            self.assertIsInstance(e, grpc.RpcError, repr(e))
        return good, bad

    def check_full(self, sandboxes):
        """Every slot is used once: no overcommit, no duplicate, one live sandbox per record."""
        self.assertEqual(len({s.id for s in sandboxes}), self.slots)
        self.assertEqual(self.stack.allocated(), {f"agent-{i}": self.capacity for i in range(self.agents)})
        self.assertEqual(
            collections.Counter(s.agent for s in sandboxes),
            {f"agent-{i}": self.capacity for i in range(self.agents)},
        )
        live = self.stack.running()
        self.assertEqual({s.id: s.agent for s in sandboxes}, {sid: agent for sid, (agent, _) in live.items()})
        self.assertTrue(self.stack.consistent())

    def test_n_free_slots_n_creates(self):
        for round_ in range(full(2, 30)):
            with self.subTest(round=round_):
                good, bad = self.creates(self.slots)
                self.assertEqual([e.details() for e in bad], [])
                self.check_full(good)
                self.assertEqual({s.timings.worker for s in good}, set(self.stack.by_worker))
                for client in self.clients:
                    self.refused(
                        Code.RESOURCE_EXHAUSTED,
                        "default-pool",
                        client.sandboxes.CreateSandbox,
                        self.stack.request(),
                    )
                self.after()

    def test_more_creates_than_slots(self):
        """Exactly the surplus is refused, whatever the order."""
        surplus = 9
        good, bad = self.creates(self.slots + surplus)
        self.assertEqual(len(bad), surplus, [e.details() for e in bad])
        self.assertEqual({e.code() for e in bad}, {Code.RESOURCE_EXHAUSTED})
        self.check_full(good)

    def test_freed_slots_are_used_again(self):
        """A refusal is not remembered beyond the next free slot: each delete admits exactly one more."""
        good, _ = self.creates(self.slots)
        for sandbox in good[:4]:
            self.refused(Code.RESOURCE_EXHAUSTED, "default-pool", self.stack.create)
            self.stack.delete(sandbox.name, client=self.clients[0])
            again = self.stack.create(client=self.clients[-1])
            self.assertEqual(again.agent, sandbox.agent)

    def test_one_name_many_callers(self):
        good, bad = self.creates(16, name="the-one")
        self.assertEqual(len(good), 1)
        self.assertEqual({e.code() for e in bad}, {Code.ALREADY_EXISTS})
        self.assertEqual(list(self.stack.running()), [good[0].id])
        self.assertTrue(self.stack.consistent())

    def test_one_port_many_callers(self):
        """A port of the shared network has one owner per agent."""
        good, bad = self.creates(self.agents + 4, spec_args={"exposed_ports": [18080], "network": "shared"})
        self.assertEqual(
            sorted(s.agent for s in good),
            [f"agent-{i}" for i in range(self.agents)],
            [e.details() for e in bad],
        )
        self.assertEqual([list(s.endpoints) for s in good], [["127.0.0.1:18080"]] * self.agents)
        for e in bad:
            self.assertEqual(e.code(), Code.RESOURCE_EXHAUSTED)
            self.assertIn("18080", e.details())
        self.stack.delete(good[0].name)
        self.assertEqual(
            self.stack.create(spec_args={"exposed_ports": [18080], "network": "shared"}).agent, good[0].agent
        )

    def test_ports_in_ascending_and_descending_order(self):
        """Callers that want the same ports in opposite orders neither deadlock nor leave one half taken."""
        ports = [18100, 18101, 18102, 18103]
        requests = [
            self.stack.request(spec_args={"exposed_ports": p, "network": "shared"})
            for _ in range(self.agents)
            for p in (ports, ports[::-1])
        ]
        results = in_parallel(
            [
                lambda r=r, c=c: c.sandboxes.CreateSandbox(r)
                for r, c in zip(requests, itertools.cycle(self.clients))
            ]
        )
        good = [r for r in results if not isinstance(r, Exception)]
        self.assertEqual(sorted(s.agent for s in good), [f"agent-{i}" for i in range(self.agents)])
        self.after()
        self.assertEqual(self.stack.books()["ports"], 0)

    def test_churn(self):
        """Twice as many callers as slots, creating and deleting: refusals only for want of room, and the books balance."""
        end = time.monotonic() + full(4, 120)
        callers = self.slots * 2
        done, wrong = collections.Counter(), []

        def caller(i):
            mine = self.clients[i % len(self.clients)]
            other = self.clients[(i + 1) % len(self.clients)]
            n = 0
            while time.monotonic() < end and not wrong:
                n += 1
                name = f"churn-{i}-{n}"
                code, details = code_of(self.stack.create, name, client=mine)
                done[code] += 1
                if code == Code.OK:
                    code, details = code_of(self.stack.delete, name, client=other)
                if code not in (Code.OK, Code.RESOURCE_EXHAUSTED):
                    wrong.append((name, code, details))

        threads = [threading.Thread(target=caller, args=(i,), daemon=True) for i in range(callers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(180)
        self.assertEqual(wrong, [])
        self.assertGreater(done[Code.OK], self.slots)
        print("   ", {c.name: n for c, n in done.items()})
        self.stack.wait_empty()

    def test_descriptors_do_not_grow(self):
        """After many creates no process has more open files than before."""
        roles = ["registryd", "crdsync", *self.stack.agent_roles()]
        pids = (
            [self.stack.procs[r].pid for r in roles] + self.stack.worker_pids() + self.stack.launcher_pids()
        )

        def count():
            return {pid: observe.fd_count(pid) for pid in pids}

        def at_rest():
            """Launchers fill up their stock of network namespaces when nothing is to be started."""
            first = count()
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                if count() != first:
                    return None
                time.sleep(0.02)
            return first

        self.creates(self.slots)
        self.after()
        before = eventually(at_rest, "counts at rest")
        for _ in range(full(3, 20)):
            self.creates(self.slots)
            self.after()

        def not_grown():
            now = eventually(at_rest, "counts at rest")
            more = {" ".join(observe.cmdline(p)): (before[p], n) for p, n in now.items() if n > before[p]}
            assert not more, more
            return True

        eventually(not_grown, "as many descriptors as before")


class SlotsTwoWorkers(Slots):
    workers, agents, capacity = 2, 2, 8
    options = {"workers": workers, "agents": agents, "capacity": capacity}


class SlotsThreeWorkers(Slots):
    workers, agents, capacity = 3, 3, 8
    options = {"workers": workers, "agents": agents, "capacity": capacity}
    if not LONG:
        test_churn = test_descriptors_do_not_grow = test_freed_slots_are_used_again = None


class Placement(StackTest):
    """With one caller the lowest score wins: allocated, and 1000 for an agent without the image."""

    options = {"workers": 2, "agents": 3, "capacity": 4}

    def test_least_loaded(self):
        loads = collections.Counter()
        for _ in range(12):
            lowest = min(loads[a] for a in self.stack.agent_roles())
            sandbox = self.stack.create()
            self.assertEqual(loads[sandbox.agent], lowest, f"{sandbox.agent} of {loads}")
            loads[sandbox.agent] += 1
        self.refused(Code.RESOURCE_EXHAUSTED, "default-pool", self.stack.create)

    def test_unlimited_capacity(self):
        """Capacity 0 means no limit."""
        self.stack.start_agent("free", args=["--pool", "free-pool", "--capacity", "0"])
        eventually(lambda: "agent-free" in self.stack.ready_agents(), "agent-free ready")
        try:
            reply = code_of(self.stack.create, pool="free-pool", command=["/bin/true"])
            self.assertEqual(reply[0], Code.OK, reply[1])
            members, summary = self.stack.batch(40, pool="free-pool")
            self.assertEqual(summary.started, 40, [m.message for m in members.values() if m.code][:3])
        finally:
            self.stack.delete_all()
            self.stack.procs.pop("agent-free").term()

    def test_fastpath_and_fsb_services_share_slots(self):
        for i in range(6):
            self.stack.client.fastpath.CreateSandbox(
                fp.CreateRequest(
                    image="busybox:test",
                    pool_ref="default-pool",
                    command=["/bin/sleep", "1000"],
                    name=f"up-{i}",
                )
            )
            self.stack.create()
        self.refused(
            Code.RESOURCE_EXHAUSTED,
            "insufficient capacity",
            self.stack.client.fastpath.CreateSandbox,
            fp.CreateRequest(image="busybox:test", pool_ref="default-pool", command=["/bin/true"]),
        )


if __name__ == "__main__":
    main()
