# SPDX-License-Identifier: Apache-2.0
"""Every fsb process stopped, agents and launchers too, but not the sandboxes; the arena removed: a restart finds all again."""

import os
import signal
import time

from harness import FOREVER, IMAGE, Code, StackTest, eventually, fp, full, main


class TotalLoss(StackTest):
    options = {"workers": 2, "agents": 3, "capacity": 8}
    store = True

    def kill_everything(self, sig=signal.SIGKILL, remove_arena=True):
        """All processes but the sandboxes'."""
        self.stack.close_clients()
        for proc in self.stack.procs.values():
            if proc.alive():
                proc.signal(sig)
        for proc in self.stack.procs.values():
            proc.wait(40)
        for pid in self.stack.launcher_pids():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.stack.launcher_pids(), "launchers gone")
        if remove_arena:
            os.unlink(self.stack.arena)

    def restart(self):
        self.stack.start(image=False)

    def populate(self, count):
        """{name: sandbox}: several kinds, each with something that must come back."""
        made = {}
        for i in range(count):
            made[f"run-{i}"] = self.stack.create(
                f"run-{i}",
                strong=self.store and i % 3 == 0,
                request_id=f"rid-{i}",
                labels={"n": str(i)},
                spec_args={"envs": {"N": str(i)}},
            )
        made["port"] = self.stack.create("port", spec_args={"exposed_ports": [18333], "network": "shared"})
        made["later"] = self.stack.create("later", expire_time_seconds=int(time.time()) + 3600)
        return made

    def check_found(self, made, mains):
        """The same sandboxes, on the same agents, with the same processes; nothing else."""
        eventually(self.stack.consistent, "consistent after the rebuild", 20)
        listed = self.stack.list()
        self.assertEqual(set(listed), set(made))
        for name, was in made.items():
            now = listed[name]
            self.assertEqual(
                (now.id, now.agent, now.phase, now.image, now.created_unix_ns, dict(now.labels)),
                (was.id, was.agent, "Running", was.image, was.created_unix_ns, dict(was.labels)),
            )
        self.assertEqual(self.stack.mains(), mains)
        self.assertEqual(listed["port"].endpoints, made["port"].endpoints)
        self.assertEqual(listed["later"].expire_time_seconds, made["later"].expire_time_seconds)

    def check_usable(self, made):
        """The rebuilt state guards what it holds: names, request ids, ports, slots; and everything can be deleted."""
        self.refused(Code.ALREADY_EXISTS, "run-0", self.stack.create, "run-0")
        self.assertEqual(
            self.stack.create(
                "run-1", request_id="rid-1", labels={"n": "1"}, spec_args={"envs": {"N": "1"}}
            ).id,
            made["run-1"].id,
        )
        for _ in range(2):
            other = self.stack.create(spec_args={"exposed_ports": [18333], "network": "shared"})
            self.assertNotEqual(other.agent, made["port"].agent)
        self.refused(
            Code.RESOURCE_EXHAUSTED,
            "18333",
            self.stack.create,
            spec_args={"exposed_ports": [18333], "network": "shared"},
        )
        new, log = self.stack.run(["/bin/sh", "-c", "echo works; exit 6"])
        self.assertEqual((new.exit_code, log), (6, "works\n"))

    def check_cycle(self, before_restart=lambda: None, **how):
        made = self.populate(full(9, 15))
        mains = self.stack.mains()
        self.assertEqual(len(mains), len(made))
        if self.store:
            eventually(lambda: len(self.stack.rows()) == len(made), "all stored")
        self.kill_everything(**how)
        self.assertEqual(self.stack.mains(), mains, "sandboxes run on")
        before_restart()
        self.restart()
        self.check_found(made, mains)
        self.check_usable(made)

    def test_arena_lost(self):
        self.check_cycle()

    def test_arena_kept(self):
        self.check_cycle(remove_arena=False)

    def test_orderly_stop_arena_lost(self):
        self.check_cycle(sig=signal.SIGTERM)

    def test_arena_lost_while_everything_runs(self):
        """Only the file goes, and registryd dies: the others notice and attach the new arena."""
        made = self.populate(6)
        mains = self.stack.mains()
        if self.store:
            eventually(lambda: len(self.stack.rows()) == len(made), "all stored")
        workers = set(self.stack.worker_pids())
        os.unlink(self.stack.arena)
        self.stack.procs["registryd"].kill()
        self.stack.start_registryd()
        if self.store:
            self.assertEqual(
                self.stack.procs["crdsync"].wait(40), 3, "crdsync ends when the arena is another one"
            )
            self.stack.start_crdsync()
        eventually(
            lambda: len(set(self.stack.worker_pids()) - workers) == len(workers),
            "workers of the new arena",
            30,
        )
        self.stack.wait_ready()
        self.check_found(made, mains)
        self.check_usable(made)


class TotalLossWithStore(TotalLoss):
    def test_store_lost_too(self):
        """Rebuilt from the agents alone; then written to a new store."""

        def lose():
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(self.stack.store_path() + suffix):
                    os.unlink(self.stack.store_path() + suffix)

        self.check_cycle(before_restart=lose)
        eventually(lambda: ("default", "run-0") in self.stack.rows(), "written to the new store")

    def test_things_that_happened_meanwhile(self):
        """Exits, an expiry and an agent that does not come back while nothing watched."""
        self.stack.create("exits", command=["/bin/sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait"])
        done = self.stack.create("done", command=["/bin/sh", "-c", "exit 4"])
        self.stack.wait("done")
        self.stack.create("expires", expire_time_seconds=int(time.time()) + 2)
        label = self.stack.create("label")
        self.stack.client.fastpath.UpdateSandbox(
            fp.UpdateRequest(sandbox_name="label", namespace="default", labels={"late": "yes"})
        )
        eventually(lambda: self.stack.stats().dirty == 0 and len(self.stack.rows()) == 4, "all stored")
        exits = self.stack.get("exits")
        pid = self.stack.mains()[exits.id]
        self.kill_everything()
        os.kill(pid, signal.SIGKILL)
        self.restart()
        ended = self.stack.wait("exits")
        self.assertEqual((ended.phase, ended.exit_code), ("Failed", -1))
        self.assertEqual(
            (self.stack.get("done").phase, self.stack.get("done").exit_code, self.stack.get("done").id),
            ("Failed", 4, done.id),
        )
        self.assertEqual(self.stack.wait("expires", phase="Expired").phase, "Expired")
        eventually(lambda: self.stack.get("label").phase == "Running", "Running")
        self.assertEqual(
            (self.stack.get("label").id, dict(self.stack.get("label").labels)), (label.id, {"late": "yes"})
        )
        eventually(self.stack.consistent, "consistent")

    def test_not_serving_before_the_store_is_read(self):
        """Creates get UNAVAILABLE and health says NOT_SERVING until crdsync has inserted the rows; no name is given away."""
        first = self.stack.create("first")
        eventually(lambda: self.stack.row("first"), "row")
        self.kill_everything()
        self.stack.start_registryd()
        for i in range(3):
            self.stack.start_agent(i)
        self.stack.start_fastpath()
        client = self.stack.connect_unix()
        eventually(lambda: os.path.exists(self.stack.socket_of("fastpath")), "fastpath listens", 20)
        details = eventually(lambda: self.unavailable(client), "UNAVAILABLE", 20)
        self.assertIn("store", details)
        self.stack.start_crdsync()
        self.stack.wait_ready()
        self.refused(Code.ALREADY_EXISTS, "first", self.stack.create, "first")
        eventually(lambda: self.stack.get("first").phase == "Running", "found again")
        self.assertEqual(self.stack.get("first").id, first.id)

    def unavailable(self, client):
        details = self.refused(
            (Code.UNAVAILABLE,), "", self.stack.create, "first", client=client, command=FOREVER
        )
        assert "store" in details, details
        return details


class TotalLossNoStore(TotalLoss):
    """fsb-registryd --no-store: there never was a store; the agents alone know."""

    options = dict(TotalLoss.options, store=False)
    store = False

    def test_image_known_after_the_restart(self):
        self.kill_everything()
        self.restart()
        self.assertEqual(set(self.stack.agents()["agent-0"].images), {IMAGE})


del TotalLoss

if __name__ == "__main__":
    main()
