# SPDX-License-Identifier: Apache-2.0
"""Batches: 100 members in one call in both modes, members that differ, batches that do not fit."""

import collections
import threading
import time

from harness import IMAGE, Code, StackTest, code_of, eventually, fsb, grpc, main, spec

SLOTS = 4 * 32
SHOW = ["/bin/sh", "-c", 'echo "index=$FSB_INDEX host=$(hostname)"']


class Batch(StackTest):
    options = {"workers": 2, "agents": 4, "capacity": 32}

    def overrides(self, count):
        return [fsb.MemberOverride(index=i, envs={"FSB_INDEX": str(i)}) for i in range(count)]

    def check_hundred(self, mode):
        members, summary = self.stack.batch(
            100, name="hundred", command=SHOW, mode=mode, overrides=self.overrides(100)
        )
        self.assertEqual((summary.requested, summary.started, summary.failed), (100, 100, 0))
        self.assertEqual(sorted(members), list(range(100)))
        self.assertEqual(summary.name, "hundred")
        for i, member in members.items():
            self.assertEqual((member.code, member.sandbox.name), (0, f"hundred-{i}"), member.message)
        spread = collections.Counter(m.sandbox.agent for m in members.values())
        self.assertEqual(sorted(spread.values()), [25, 25, 25, 25], spread)
        self.assertEqual(len({m.sandbox.id for m in members.values()}), 100)
        for i in range(100):
            ended = self.stack.wait(f"hundred-{i}")
            self.assertEqual((ended.phase, ended.exit_code), ("Succeeded", 0), ended.message)
        hosts = set()
        for i in range(100):
            log = self.stack.log_of(f"hundred-{i}").decode()
            self.assertRegex(log, rf"^index={i} host=\S+\n$")
            hosts.add(log.split("host=")[1])
        self.assertEqual(len(hosts), 100, "each sandbox has a hostname of its own")
        eventually(lambda: not any(self.stack.allocated().values()), "slots free after the exits")

    def test_hundred_partial(self):
        self.check_hundred(fsb.PARTIAL)

    def test_hundred_all_or_nothing(self):
        self.check_hundred(fsb.ALL_OR_NOTHING)

    def test_hundred_strong(self):
        """Every row is in the store at the summary."""
        members, summary = self.stack.batch(100, name="strong", consistency=fsb.CONSISTENCY_STRONG)
        self.assertEqual(summary.started, 100, [m.message for m in members.values() if m.code][:3])
        rows = self.stack.rows()
        self.assertEqual(len([n for ns, n in rows if n.startswith("strong-")]), 100)
        self.assertEqual(len(self.stack.running()), 100)

    def test_overrides(self):
        """Command, args and env of one member replace or add to the batch's; the others keep theirs."""
        members, summary = self.stack.batch(
            4,
            name="mix",
            command=["/bin/sh", "-c"],
            spec_args={"args": ["echo $A $B; exit 3"], "envs": {"A": "a", "B": "b"}},
            overrides=[
                fsb.MemberOverride(index=1, args=["echo one $A; exit 4"]),
                fsb.MemberOverride(index=2, command=["/bin/echo"], args=["two", "words"]),
                fsb.MemberOverride(index=3, envs={"B": "mine", "C": "c"}),
            ],
        )
        self.assertEqual(summary.started, 4, members)
        want = [("a b\n", 3), ("one a\n", 4), ("two words\n", 0), ("a mine\n", 3)]
        for i, (text, code) in enumerate(want):
            ended = self.stack.wait(f"mix-{i}")
            self.assertEqual((self.stack.log_of(f"mix-{i}").decode(), ended.exit_code), (text, code))

    def watch_starts(self):
        """A thread that notes every sandbox that ever has a process or a state directory; call the result to end it."""
        seen, stop = set(), threading.Event()

        def body():
            while not stop.is_set():
                seen.update(self.stack.running())
                time.sleep(0.002)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()

        def finish():
            stop.set()
            thread.join()
            return seen

        return finish

    def refusal(self, count, mode, **fields):
        """(code, message) of a batch that must not start anything: of the call, or of its members when the call ends well."""
        try:
            members, summary = self.stack.batch(count, mode=mode, **fields)
        except grpc.RpcError as e:
            return e.code(), e.details()
        self.assertEqual(summary.started, 0)
        self.assertEqual(summary.failed, count)
        first = min(members)
        return {c.value[0]: c for c in Code}[members[first].code], members[first].message

    def test_all_or_nothing_over_capacity(self):
        finish = self.watch_starts()
        code, message = self.refusal(SLOTS + 1, fsb.ALL_OR_NOTHING)
        self.assertEqual(finish(), set(), "something was started")
        self.assertEqual(code, Code.RESOURCE_EXHAUSTED, message)
        self.assertIn("default-pool", message)
        self.assertEqual(self.stack.list(), {})
        self.stack.check_empty()
        members, summary = self.stack.batch(SLOTS, mode=fsb.ALL_OR_NOTHING)
        self.assertEqual(summary.started, SLOTS, "and exactly the capacity fits")

    def test_partial_over_capacity(self):
        members, summary = self.stack.batch(SLOTS + 12)
        self.assertEqual((summary.requested, summary.started, summary.failed), (SLOTS + 12, SLOTS, 12))
        refused = [m for m in members.values() if m.code]
        self.assertEqual({m.code for m in refused}, {Code.RESOURCE_EXHAUSTED.value[0]})
        for member in refused:
            self.assertIn("default-pool", member.message)
        self.assertEqual(len(self.stack.running()), SLOTS)
        self.assertEqual(set(self.stack.allocated().values()), {32})

    def test_all_or_nothing_with_one_bad_member(self):
        """One member's command does not exist: none stays, and the message names it."""
        code, message = self.refusal(
            20, fsb.ALL_OR_NOTHING, overrides=[fsb.MemberOverride(index=7, command=["/no/such"])]
        )
        self.assertNotEqual(code, Code.OK)
        self.stack.wait_empty()
        self.assertEqual(self.stack.list(), {})

    def test_partial_with_one_bad_member(self):
        members, summary = self.stack.batch(20, overrides=[fsb.MemberOverride(index=7, command=["/no/such"])])
        self.assertEqual((summary.started, summary.failed), (19, 1))
        self.assertEqual([i for i, m in members.items() if m.code], [7])
        self.assertIn("/no/such", members[7].message)
        self.assertEqual(len(self.stack.running()), 19)

    def test_all_or_nothing_with_a_taken_name(self):
        self.stack.create("gang-3")
        code, message = self.refusal(6, fsb.ALL_OR_NOTHING, name="gang")
        self.assertEqual(code, Code.ALREADY_EXISTS, message)
        self.assertIn("gang-3", message)
        self.assertEqual(list(self.stack.list()), ["gang-3"])
        self.assertEqual(len(self.stack.running()), 1)

    def test_two_gangs_for_one_room(self):
        """Two all-or-nothing batches that fit one at a time: never both, never parts of both."""
        sizes, results = SLOTS // 2 + 10, []

        def gang(i):
            try:
                results.append(
                    self.stack.batch(
                        sizes, name=f"gang{i}", mode=fsb.ALL_OR_NOTHING, client=self.stack.connect()
                    )[1].started
                )
            except grpc.RpcError as e:
                results.append(e.code())

        threads = [threading.Thread(target=gang, args=(i,)) for i in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        started = [r for r in results if r == sizes]
        self.assertLessEqual(len(started), 1, results)
        eventually(lambda: len(self.stack.running()) == sizes * len(started), "only whole gangs run")
        self.assertTrue(self.stack.consistent())

    def test_request_id_of_a_batch(self):
        """Member i has request id ID/i: a repeat of the batch gives the same sandboxes and starts nothing."""
        first, _ = self.stack.batch(10, name="idem", request_id="batch-1")
        again, summary = self.stack.batch(10, name="idem", request_id="batch-1")
        self.assertEqual(
            {i: m.sandbox.id for i, m in first.items()}, {i: m.sandbox.id for i, m in again.items()}
        )
        self.assertEqual(len(self.stack.running()), 10)

    def test_bad_batches(self):
        def request(count, overrides=(), mode=fsb.PARTIAL, image=IMAGE, name="bad"):
            return fsb.CreateBatchRequest(
                name=name,
                count=count,
                mode=mode,
                overrides=overrides,
                spec=spec.SandboxSpec(image=image, command=["/bin/true"]),
            )

        call = self.stack.client.sandboxes.CreateBatch
        for count in (0, -1, 10001):
            self.refused(Code.INVALID_ARGUMENT, [str(count), "10000"], call, request(count))
        self.refused(Code.INVALID_ARGUMENT, "5", call, request(5, [fsb.MemberOverride(index=5)]))
        self.refused(Code.INVALID_ARGUMENT, "-1", call, request(5, [fsb.MemberOverride(index=-1)]))
        self.refused(Code.INVALID_ARGUMENT, "image", call, request(5, image=""))
        self.refused(Code.INVALID_ARGUMENT, "Bad_Name", call, request(5, name="Bad_Name"))
        unknown = request(5)
        unknown.mode = 9
        self.refused(Code.INVALID_ARGUMENT, "9", call, unknown)
        self.assertEqual(self.stack.list(), {})

    def test_client_goes_away(self):
        """A cancelled batch leaves either running, listed members or nothing, and no slot in between."""
        stream = self.stack.client.sandboxes.CreateBatch(
            fsb.CreateBatchRequest(
                name="left", count=100, spec=spec.SandboxSpec(image=IMAGE, command=["/bin/sleep", "1000"])
            )
        )
        next(stream)
        stream.cancel()
        eventually(self.stack.consistent, "books balance after the cancel", 15)
        self.assertEqual(code_of(self.stack.create)[0], Code.OK)


if __name__ == "__main__":
    main()
