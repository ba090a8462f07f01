# SPDX-License-Identifier: Apache-2.0
"""Names are unique before anything is started; a repeated request_id gives the first result."""

from fakeagent import HOLD, FakeAgent
from harness import FOREVER, IMAGE, Code, StackTest, code_of, eventually, fp, full, in_parallel, main


class Names(StackTest):
    options = {"workers": 2, "agents": 1, "capacity": 8}

    def test_duplicate_starts_nothing(self):
        """The agent is not even asked: the fake one has seen one Start."""
        with FakeAgent(self.stack) as agent:
            eventually(lambda: "fake-0" in self.stack.ready_agents(), "fake agent ready")
            self.stack.create("dup", pool="fake-pool", image="x")
            self.refused(Code.ALREADY_EXISTS, "dup", self.stack.create, "dup", pool="fake-pool", image="x")
            self.refused(
                Code.ALREADY_EXISTS, "dup", self.stack.create, "dup", pool="fake-pool", image="x", strong=True
            )
            self.refused(Code.ALREADY_EXISTS, "dup", self.stack.create, "dup")
            self.refused(
                Code.ALREADY_EXISTS,
                "dup",
                self.stack.client.fastpath.CreateSandbox,
                fp.CreateRequest(name="dup", image=IMAGE, pool_ref="default-pool"),
            )
            self.assertEqual(len(agent.commands("start")), 1)
            self.assertEqual(self.stack.running(), {})
            self.assertEqual(self.stack.allocated(), {"agent-0": 0, "fake-0": 1})
            self.stack.delete("dup")
        self.forget_fake()

    def forget_fake(self):
        """After the fake agent: it is unreachable, and holds nothing."""
        eventually(
            lambda: "fake-0" not in self.stack.ready_agents(), "the fake agent is not ready any more", 20
        )

    def test_duplicate_while_the_first_is_starting(self):
        with FakeAgent(self.stack) as agent:
            agent.hook = lambda start: HOLD
            eventually(lambda: "fake-0" in self.stack.ready_agents(), "fake agent ready")
            first = self.stack.client.sandboxes.CreateSandbox_async(
                self.stack.request("early", pool="fake-pool", image="x"), timeout=20
            )
            eventually(lambda: agent.held, "start arrived")
            self.refused(
                Code.ALREADY_EXISTS, "early", self.stack.create, "early", client=self.stack.connect()
            )
            agent.answer()
            self.assertEqual(first.result().phase, "Running")
            self.assertEqual(len(agent.commands("start")), 1)
            self.stack.delete("early")
        self.forget_fake()

    def test_same_name_in_two_namespaces(self):
        """Names are per namespace (the second has no pool of its own: not refused for the name)."""
        self.stack.create("twin")
        code, details = code_of(self.stack.create, "twin", namespace="other")
        self.assertNotEqual(code, Code.ALREADY_EXISTS, details)

    def test_terminating_name(self):
        """Until the stop is confirmed the name is taken, and the message says by what."""
        self.stack.create(
            "slow",
            command=["/bin/sh", "-c", "trap 'sleep 1; exit 0' TERM; echo up; while :; do sleep 0.05; done"],
        )
        eventually(lambda: b"up" in self.stack.log_of("slow"), "the trap is set")
        self.stack.delete("slow", wait=False, grace=10)
        self.refused(Code.ALREADY_EXISTS, ["slow", "terminating"], self.stack.create, "slow")
        eventually(lambda: self.stack.find("slow") is None, "stop confirmed")
        self.stack.create("slow")

    def test_name_is_free_at_once_after_a_confirmed_delete(self):
        ids = set()
        for _ in range(5):
            ids.add(self.stack.create("reuse").id)
            self.stack.delete("reuse")
        self.assertEqual(len(ids), 5)

    def test_exited_name_is_taken_until_deleted(self):
        self.stack.create("done", command=["/bin/true"])
        self.stack.wait("done")
        self.refused(Code.ALREADY_EXISTS, "done", self.stack.create, "done")
        self.stack.delete("done")
        self.stack.create("done")

    def test_generated_names(self):
        replies = in_parallel([lambda: self.stack.create("") for _ in range(6)])
        names = [r.name for r in replies]
        self.assertEqual(len(set(names)), 6)
        for name in names:
            self.assertRegex(name, r"^sb-\d{19}$")

    # ---- request ids ----

    def test_repeat_returns_the_first_result(self):
        first = self.stack.create("idem", request_id="r-1")
        for client in (self.stack.client, self.stack.connect(), self.stack.connect()):
            again = self.stack.create("idem", request_id="r-1", client=client)
            self.assertEqual((again.id, again.name, again.agent), (first.id, first.name, first.agent))
        self.assertEqual(list(self.stack.running()), [first.id])
        classic = fp.CreateRequest(
            image=IMAGE, pool_ref="default-pool", command=FOREVER, request_id="r-2", name="idem-2"
        )
        one = self.stack.client.fastpath.CreateSandbox(classic)
        two = self.stack.connect().fastpath.CreateSandbox(classic)
        self.assertEqual(one, two)
        self.assertEqual(len(self.stack.running()), 2)

    def test_repeat_without_a_name(self):
        """The name that the server chose does not make the repeat another request."""
        first = self.stack.create("", request_id="r-3")
        again = self.stack.create("", request_id="r-3")
        self.assertEqual((again.id, again.name), (first.id, first.name))

    def test_repeat_after_the_exit(self):
        first = self.stack.create("once", request_id="r-4", command=["/bin/true"])
        self.stack.wait("once")
        self.assertEqual(self.stack.create("once", request_id="r-4", command=["/bin/true"]).id, first.id)

    def test_other_request_under_the_same_id(self):
        first = self.stack.create("mine", request_id="r-5")
        self.refused(Code.INVALID_ARGUMENT, "r-5", self.stack.create, "other", request_id="r-5")
        self.refused(
            Code.INVALID_ARGUMENT, "r-5", self.stack.create, "mine", request_id="r-5", command=["/bin/true"]
        )
        self.assertEqual(list(self.stack.running()), [first.id])

    def test_many_callers_with_one_id(self):
        clients = [self.stack.connect() for _ in range(4)]
        for i in range(full(8, 200)):
            replies = in_parallel(
                [lambda c=c: self.stack.create("", request_id=f"r-6-{i}", client=c) for c in clients * 3]
            )
            self.assertEqual([r for r in replies if isinstance(r, Exception)], [])
            self.assertEqual(len({r.id for r in replies}), 1)
            self.assertEqual(list(self.stack.running()), [replies[0].id])
            self.stack.delete(replies[0].name)

    def test_repeat_while_the_first_is_starting(self):
        """It gets the first call's result, not an error and not a second start."""
        with FakeAgent(self.stack) as agent:
            agent.hook = lambda start: HOLD
            eventually(lambda: "fake-0" in self.stack.ready_agents(), "fake agent ready")
            request = self.stack.request("", pool="fake-pool", image="x", request_id="r-7")
            calls = [
                c.sandboxes.CreateSandbox_async(request, timeout=20)
                for c in (self.stack.client, self.stack.connect(), self.stack.connect())
            ]
            eventually(lambda: agent.held, "start arrived")
            agent.answer()
            results = [c.result() for c in calls]
            self.assertEqual(len({r.id for r in results}), 1)
            self.assertEqual(len(agent.commands("start")), 1)
            self.stack.delete(results[0].name)
        self.forget_fake()

    def test_failed_create_frees_its_id(self):
        """The id of a create that was refused can be used again: the failure is not its result."""
        request = self.stack.request("late", command=["/no/such/program"], request_id="r-8")
        for _ in range(2):
            self.refused(
                Code.INVALID_ARGUMENT, "/no/such/program", self.stack.client.sandboxes.CreateSandbox, request
            )
        self.stack.wait_empty()

    def test_id_is_free_after_the_delete(self):
        first = self.stack.create("", request_id="r-9")
        self.stack.delete(first.name)
        self.assertNotEqual(self.stack.create("", request_id="r-9").id, first.id)

    def test_request_id_of_another_namespace(self):
        self.stack.create("", request_id="r-10")
        code, details = code_of(self.stack.create, "", request_id="r-10", namespace="other")
        self.assertEqual(code, Code.NOT_FOUND, details)


if __name__ == "__main__":
    main()
