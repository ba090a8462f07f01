# SPDX-License-Identifier: Apache-2.0
"""Read your own writes through any worker, with crdsync stopped or gone too; later the store holds the newest state."""

import signal
import time

from harness import FOREVER, IMAGE, Code, StackTest, code_of, eventually, fp, fsb, full, main


class Reads(StackTest):
    options = {"workers": 3, "agents": 2, "capacity": 8}

    def setUp(self):
        super().setUp()
        if not self.stack.__dict__.get("by_worker"):
            self.stack.by_worker = self.stack.worker_clients()
            self.stack.wait_empty()
        self.writer, self.reader, self.third = self.stack.by_worker.values()

    def round_trip(self, name):
        """Create by one worker; get, list, wait and delete by others, each at once."""
        made = self.stack.create(name, client=self.writer)
        got = self.stack.get(name, client=self.reader)
        self.assertEqual((got.id, got.phase, got.agent), (made.id, "Running", made.agent))
        self.assertIn(name, self.stack.list(client=self.third))
        self.assertEqual(self.stack.wait(name, phase="Running", client=self.third).id, made.id)
        classic = self.reader.fastpath.GetSandbox(fp.GetRequest(sandbox_name=name, namespace="default"))
        self.assertEqual((classic.sandbox_id, classic.phase), (made.id, "Running"))
        self.assertIn(
            name, [i.sandbox_name for i in self.third.fastpath.ListSandboxes(fp.ListRequest()).items]
        )
        self.stack.delete(name, client=self.reader)
        for client in (self.writer, self.reader, self.third):
            self.assertIsNone(self.stack.find(name, client=client))
            self.assertNotIn(name, self.stack.list(client=client))

    def test_other_workers_see_it_at_once(self):
        for i in range(full(20, 500)):
            self.round_trip(f"ryw-{i}")

    def test_with_crdsync_stopped(self):
        with self.stack.procs["crdsync"].stopped():
            for i in range(full(10, 200)):
                self.round_trip(f"stopped-{i}")
            self.assertEqual(self.stack.rows(), {})

    def test_exit_is_seen_by_a_waiter_on_another_worker(self):
        with self.stack.procs["crdsync"].stopped():
            made = self.stack.create(command=["/bin/sh", "-c", "sleep 0.3; exit 7"], client=self.writer)
            ended = self.stack.wait(made.name, client=self.reader)
        self.assertEqual((ended.phase, ended.exit_code), ("Failed", 7))

    def change_things(self):
        """Creates, updates, exits and deletes, so that the newest state of each differs from its first."""
        for name in ("keep", "label", "gone", "exits", "expires", "again"):
            self.stack.create(name, command=["/bin/sh", "-c", "exit 5"] if name == "exits" else FOREVER)
        update = self.stack.client.fastpath.UpdateSandbox
        for value in ("old", "new"):
            self.assertTrue(
                update(
                    fp.UpdateRequest(sandbox_name="label", namespace="default", labels={"v": value})
                ).success
            )
        self.assertTrue(
            update(
                fp.UpdateRequest(
                    sandbox_name="expires", namespace="default", expire_time_seconds=int(time.time()) + 3600
                )
            ).success
        )
        self.stack.delete("gone")
        self.stack.wait("exits")
        old = self.stack.get("again").id
        self.stack.delete("again")
        self.assertNotEqual(self.stack.create("again").id, old)

    def check_store(self):
        """The store holds what List says, in its newest state, and nothing else."""
        rows = self.stack.rows()
        listed = self.stack.list()
        assert {n for _, n in rows} == set(listed), (sorted(rows), sorted(listed))
        for (namespace, name), obj in rows.items():
            sandbox = listed[name]
            assert obj["apiVersion"] == "sandbox.fast.io/v1alpha1", obj
            assert namespace == "default", obj
            assert obj["spec"]["image"] == sandbox.image, obj
            assert obj["spec"]["poolRef"] == "default-pool", obj
            assert obj["status"]["phase"] == sandbox.phase, obj
            assert obj["status"]["sandboxID"] == sandbox.id, obj
            if sandbox.phase == "Running":
                assert obj["status"]["assignedPod"] == sandbox.agent, obj
        assert rows["default", "label"]["metadata"]["labels"]["v"] == "new", rows["default", "label"]
        assert "expireTime" in rows["default", "expires"]["spec"], rows["default", "expires"]
        stats = self.stack.stats()
        assert stats.dirty == 0 and stats.store_lag_ns == 0, stats
        assert all(s.stored for s in listed.values()), [s.name for s in listed.values() if not s.stored]
        return True

    def test_store_converges_after_a_stop(self):
        with self.stack.procs["crdsync"].stopped():
            self.change_things()
            self.assertGreater(self.stack.stats().dirty, 0)
            eventually(lambda: self.stack.stats().store_lag_ns > 0, "the lag is measured")
            self.assertFalse(self.stack.get("keep").stored)
        eventually(self.check_store, "the store holds the newest state")

    def test_store_converges_after_a_kill(self):
        self.stack.create("before")
        eventually(lambda: self.stack.row("before"), "row written")
        self.stack.procs["crdsync"].kill()
        self.stack.delete("before")
        self.change_things()
        self.stack.start_crdsync()
        eventually(self.check_store, "the store holds the newest state")

    def test_store_converges_under_signals(self):
        """Stopped and continued in the middle of its writes."""
        crdsync = self.stack.procs["crdsync"]
        for i in range(full(10, 200)):
            crdsync.signal(signal.SIGSTOP if i % 2 == 0 else signal.SIGCONT)
            self.stack.create(f"s-{i}", command=["/bin/true"])
            if i % 3:
                self.stack.delete(f"s-{i}")
        crdsync.signal(signal.SIGCONT)
        self.change_things()
        eventually(self.check_store, "the store holds the newest state")

    def test_created_and_deleted_between_writes_is_never_written(self):
        with self.stack.procs["crdsync"].stopped():
            self.stack.create("brief")
            self.stack.delete("brief")
        self.stack.create("witness")
        eventually(lambda: self.stack.row("witness"), "row of a later create")
        self.assertIsNone(self.stack.row("brief"))

    def test_wait_for_stored(self):
        """FAST with wait_for stored: the row is there at the reply."""
        for i in range(5):
            sandbox = self.stack.create(f"stored-{i}", wait_for=fsb.WAIT_STORED)
            self.assertTrue(sandbox.stored)
            self.assertEqual(self.stack.row(f"stored-{i}")["status"]["sandboxID"], sandbox.id)

    def test_wait_for_stored_without_crdsync(self):
        """UNAVAILABLE, and one rollback: nothing runs, the name is free."""
        with self.stack.procs["crdsync"].stopped():
            code, details = code_of(self.stack.create, "never", wait_for=fsb.WAIT_STORED, timeout=2)
            self.assertIn(code, (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED), details)
            eventually(lambda: self.stack.find("never") is None, "rolled back")
            eventually(lambda: not self.stack.running(), "nothing runs")
            self.stack.create("never")

    def test_object_shape(self):
        """The CRD's own JSON: spec, metadata and status as the Go controller would read them."""
        self.stack.client.fastpath.CreateSandbox(
            fp.CreateRequest(
                image=IMAGE,
                pool_ref="default-pool",
                command=["/bin/sh", "-c"],
                args=["sleep 1000"],
                namespace="default",
                name="shape",
                envs={"B": "2", "A": "1"},
                working_dir="/tmp",
                recovery_timeout_seconds=90,
                labels={"team": "red"},
                expire_time_seconds=4102444800,
            )
        )
        obj = eventually(lambda: self.stack.row("shape"), "row")
        self.assertEqual((obj["apiVersion"], obj["kind"]), ("sandbox.fast.io/v1alpha1", "Sandbox"))
        want = {
            "image": IMAGE,
            "poolRef": "default-pool",
            "command": ["/bin/sh", "-c"],
            "args": ["sleep 1000"],
            "workingDir": "/tmp",
            "failurePolicy": "Manual",
            "recoveryTimeoutSeconds": 90,
            "expireTime": "2100-01-01T00:00:00Z",
            "envs": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        }
        self.assertEqual({k: obj["spec"].get(k) for k in want}, want)
        meta = obj["metadata"]
        self.assertEqual(meta["labels"]["team"], "red")
        self.assertEqual(meta["labels"]["sandbox.fast.io/created-by"], "fastpath-fast")
        self.assertRegex(meta["annotations"]["sandbox.fast.io/createTimestamp"], r"^\d{19}$")
        self.assertNotIn("sandbox.fast.io/allocation", meta["annotations"])


if __name__ == "__main__":
    main()
