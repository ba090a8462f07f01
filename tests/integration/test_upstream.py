# SPDX-License-Identifier: Apache-2.0
"""fastpath.v1: the five calls as fast-sandbox's own clients use them, by grpcio: shapes, texts, defaults, our added fields."""

import hashlib
import time

import grpc

from harness import FOREVER, IMAGE, Code, StackTest, code_of, eventually, fp, fsb, health, main


class Upstream(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 4, "agent_args": ["--network", "shared"]}

    @property
    def api(self):
        return self.stack.client.fastpath

    def request(self, name, **fields):
        base = {
            "image": IMAGE,
            "pool_ref": "default-pool",
            "command": FOREVER,
            "namespace": "default",
            "name": name,
        }
        base.update(fields)
        return fp.CreateRequest(**base)

    def get(self, name, namespace="default"):
        return self.api.GetSandbox(fp.GetRequest(sandbox_name=name, namespace=namespace))

    def update(self, name, **fields):
        return self.api.UpdateSandbox(fp.UpdateRequest(sandbox_name=name, namespace="default", **fields))

    # ---- create ----

    def test_create_fast(self):
        before = time.time_ns()
        reply = self.api.CreateSandbox(self.request("one", exposed_ports=[18081, 18080]))
        self.assertEqual(reply.sandbox_name, "one")
        self.assertRegex(reply.sandbox_id, r"^[0-9a-f]{32}$")
        self.assertIn(reply.agent_pod, self.stack.agent_roles())
        self.assertEqual(list(reply.endpoints), ["127.0.0.1:18081", "127.0.0.1:18080"], "in request order")
        created = self.stack.get("one").created_unix_ns
        self.assertTrue(before <= created <= time.time_ns())
        self.assertEqual(reply.sandbox_id, hashlib.md5(f"one:default:{created}".encode()).hexdigest())

    def test_create_strong(self):
        reply = self.api.CreateSandbox(self.request("two", consistency_mode=fp.STRONG))
        self.assertEqual(self.stack.row("two")["status"]["sandboxID"], reply.sandbox_id)
        self.assertNotIn("sandbox.fast.io/created-by", self.stack.row("two")["metadata"].get("labels", {}))

    def test_create_without_a_name(self):
        before = time.time_ns()
        name = self.api.CreateSandbox(self.request("")).sandbox_name
        self.assertRegex(name, r"^sb-\d{19}$")
        self.assertTrue(before <= int(name[3:]) <= time.time_ns())

    def test_create_defaults(self):
        """Namespace "default"; short image names."""
        self.api.CreateSandbox(
            fp.CreateRequest(image="busybox:test", pool_ref="default-pool", command=FOREVER, name="short")
        )
        info = self.get("short")
        self.assertEqual((info.namespace, info.image), ("default", IMAGE))

    def test_create_output(self):
        """Env and cwd reach the process (E8 to E10)."""
        self.api.CreateSandbox(
            self.request(
                "env",
                command=["/bin/sh", "-c"],
                args=["echo $ONE $TWO $PWD"],
                envs={"ONE": "1", "TWO": "2"},
                working_dir="/app",
            )
        )
        self.stack.wait("env")
        self.assertEqual(self.stack.log_of("env"), b"1 2 /app\n")

    def test_create_errors(self):
        """The status codes are right now, the texts are upstream's."""
        self.refused(
            Code.INVALID_ARGUMENT,
            "invalid port 65536: must be between 1 and 65535",
            self.api.CreateSandbox,
            self.request("bad", exposed_ports=[65536]),
        )
        self.refused(
            Code.NOT_FOUND, "no-pool", self.api.CreateSandbox, self.request("bad", pool_ref="no-pool")
        )
        for i in range(8):
            self.api.CreateSandbox(self.request(f"fill-{i}"))
        self.refused(
            Code.RESOURCE_EXHAUSTED,
            "insufficient capacity or port conflict in pool default-pool",
            self.api.CreateSandbox,
            self.request("more"),
        )

    def test_port_conflict(self):
        """A port is exclusive on an agent (E18)."""
        first = self.api.CreateSandbox(self.request("p0", exposed_ports=[18080]))
        second = self.api.CreateSandbox(self.request("p1", exposed_ports=[18080]))
        self.assertNotEqual(first.agent_pod, second.agent_pod)
        self.refused(
            Code.RESOURCE_EXHAUSTED,
            ["insufficient capacity or port conflict in pool default-pool", "18080"],
            self.api.CreateSandbox,
            self.request("p2", exposed_ports=[18080]),
        )

    def test_our_fields(self):
        expire = int(time.time()) + 3600
        self.api.CreateSandbox(
            self.request(
                "ours",
                expire_time_seconds=expire,
                recovery_timeout_seconds=30,
                labels={"a": "b"},
                resources={"memory": "64Mi", "cpu": "500m", "pids": "20"},
                request_id="up-1",
            )
        )
        info = self.get("ours")
        self.assertEqual(
            (info.expire_time_seconds, info.generation), (expire, self.stack.get("ours").generation)
        )
        ours = self.stack.get("ours")
        self.assertEqual((dict(ours.labels), ours.recovery_timeout_seconds), ({"a": "b"}, 30))

    # ---- get, list ----

    def test_get(self):
        reply = self.api.CreateSandbox(self.request("seen", exposed_ports=[18090]))
        info = self.get("seen")
        self.assertEqual(
            (
                info.sandbox_id,
                info.sandbox_name,
                info.phase,
                info.agent_pod,
                info.image,
                info.pool_ref,
                list(info.endpoints),
            ),
            (
                reply.sandbox_id,
                "seen",
                "Running",
                reply.agent_pod,
                IMAGE,
                "default-pool",
                ["127.0.0.1:18090"],
            ),
        )
        self.assertAlmostEqual(info.created_at, time.time(), delta=10)
        self.refused(Code.NOT_FOUND, ["sandbox", "nobody", "not found"], self.get, "nobody")
        self.refused(Code.NOT_FOUND, "seen", self.get, "seen", "elsewhere")

    def test_list(self):
        """By namespace; an empty one means all."""
        self.stack.start_agent(9, args=["--namespace", "team", "--pool", "team-pool"])
        try:
            eventually(lambda: "agent-9" in self.stack.ready_agents(), "agent-9 ready")
            for i in range(3):
                self.api.CreateSandbox(self.request(f"l-{i}"))
            self.api.CreateSandbox(self.request("l-0", namespace="team", pool_ref="team-pool"))

            def names(namespace):
                return sorted(
                    (i.namespace, i.sandbox_name)
                    for i in self.api.ListSandboxes(fp.ListRequest(namespace=namespace)).items
                )

            mine = [("default", f"l-{i}") for i in range(3)]
            self.assertEqual(names("default"), mine)
            self.assertEqual(names("team"), [("team", "l-0")])
            self.assertEqual(names(""), mine + [("team", "l-0")])
            self.assertEqual(names("nobody"), [])
        finally:
            self.stack.delete_all()
            self.stack.procs.pop("agent-9").term()

    # ---- delete ----

    def test_delete(self):
        """Accepted at once, carried out; the name can be used again without a pause (E22, E23)."""
        first = self.api.CreateSandbox(self.request("del"))
        self.assertTrue(
            self.api.DeleteSandbox(fp.DeleteRequest(sandbox_name="del", namespace="default")).success
        )
        eventually(lambda: code_of(self.get, "del")[0] == Code.NOT_FOUND, "gone")
        self.assertNotEqual(self.api.CreateSandbox(self.request("del")).sandbox_id, first.sandbox_id)
        self.refused(
            Code.NOT_FOUND,
            ["ghost", "not found"],
            self.api.DeleteSandbox,
            fp.DeleteRequest(sandbox_name="ghost", namespace="default"),
        )

    def test_delete_right_after_create(self):
        """Before any row can be there (upstream's sandbox lives on)."""
        with self.stack.procs["crdsync"].stopped():
            for i in range(5):
                self.api.CreateSandbox(self.request(f"d-{i}"))
                self.assertTrue(
                    self.api.DeleteSandbox(
                        fp.DeleteRequest(sandbox_name=f"d-{i}", namespace="default")
                    ).success
                )
            eventually(lambda: not self.stack.running(), "all stopped")
        self.stack.wait_empty()

    def test_terminating_is_visible(self):
        """Phase Terminating while the process handles TERM (E25)."""
        self.api.CreateSandbox(
            self.request(
                "slow",
                command=[
                    "/bin/sh",
                    "-c",
                    "trap 'sleep 0.5; exit 0' TERM; echo up; while :; do sleep 0.05; done",
                ],
            )
        )
        eventually(lambda: self.stack.log_of("slow"), "the trap is set")
        self.api.DeleteSandbox(fp.DeleteRequest(sandbox_name="slow", namespace="default"))
        self.assertEqual(self.get("slow").phase, "Terminating")
        eventually(lambda: code_of(self.get, "slow")[0] == Code.NOT_FOUND, "gone")

    # ---- update ----

    def test_update_each_field(self):
        self.api.CreateSandbox(self.request("upd", labels={"keep": "1", "change": "old"}))
        expire = int(time.time()) + 3600
        for fields in (
            {"expire_time_seconds": expire},
            {"failure_policy": fp.MANUAL},
            {"recovery_timeout_seconds": 17},
            {"labels": {"change": "new", "add": "x"}},
            {},
        ):
            reply = self.update("upd", **fields)
            self.assertTrue(reply.success, reply.message)
            self.assertEqual(reply.message, "sandbox updated successfully")
            self.assertEqual(reply.sandbox.sandbox_name, "upd")
        ours = self.stack.get("upd")
        self.assertEqual(
            (ours.expire_time_seconds, ours.recovery_timeout_seconds, dict(ours.labels)),
            (expire, 17, {"keep": "1", "change": "new", "add": "x"}),
        )
        eventually(lambda: self.stack.get("upd").stored, "stored")
        row = self.stack.row("upd")
        self.assertEqual(row["spec"]["recoveryTimeoutSeconds"], 17)
        self.assertEqual(row["metadata"]["labels"]["change"], "new")
        self.assertTrue(self.update("upd", expire_time_seconds=0).success)
        self.assertEqual(self.stack.get("upd").expire_time_seconds, 0)
        eventually(lambda: "expireTime" not in self.stack.row("upd")["spec"], "removed from the store")

    def test_update_fails_in_band(self):
        """success=false and upstream's prefixes, not a status."""
        reply = self.update("nobody", labels={"a": "b"})
        self.assertFalse(reply.success)
        self.assertTrue(reply.message.startswith("failed to get sandbox: "), reply.message)
        self.assertIn("nobody", reply.message)
        self.api.CreateSandbox(self.request("bad"))
        for fields, words in (({"expire_time_seconds": -3}, "-3"), ({"recovery_timeout_seconds": -4}, "-4")):
            reply = self.update("bad", **fields)
            self.assertFalse(reply.success)
            self.assertTrue(reply.message.startswith("failed to update sandbox: "), reply.message)
            self.assertIn(words, reply.message)

    # ---- health, and that a new server is not another one for an old client ----

    def test_health(self):
        check = self.stack.client.health.Check
        for service in ("", "fastpath.v1.FastPathService", "fsb.v1.SandboxService"):
            self.assertEqual(
                check(health.HealthCheckRequest(service=service)).status, health.HealthCheckResponse.SERVING
            )
        self.refused(Code.NOT_FOUND, "", check, health.HealthCheckRequest(service="no.such.Service"))
        watch = self.stack.client.health.Watch(health.HealthCheckRequest(), timeout=10)
        self.assertEqual(next(watch).status, health.HealthCheckResponse.SERVING)
        watch.cancel()

    def test_tcp_and_unix(self):
        """The same service on both; the socket is 0660."""
        self.stack.connect().fastpath.CreateSandbox(self.request("tcp"))
        self.stack.connect_unix().fastpath.CreateSandbox(self.request("unix"))
        self.assertEqual(len(self.api.ListSandboxes(fp.ListRequest()).items), 2)
        import os
        import stat

        self.assertEqual(stat.S_IMODE(os.stat(self.stack.socket_of("fastpath")).st_mode), 0o660)

    def test_phases(self):
        """Succeeded and Failed with the exit code; upstream never sees an exit."""
        for code in (0, 5):
            name = f"exit-{code}"
            self.api.CreateSandbox(self.request(name, command=["/bin/sh", "-c", f"exit {code}"]))
            self.stack.wait(name)
            info = self.get(name)
            self.assertEqual((info.phase, info.exit_code), ("Succeeded" if code == 0 else "Failed", code))

    def test_admin(self):
        """Agents, pools, images and figures name what is there."""
        agents = self.stack.agents()
        self.assertEqual(set(agents) & set(self.stack.agent_roles()), set(self.stack.agent_roles()))
        for agent in (agents[r] for r in self.stack.agent_roles()):
            self.assertEqual(
                (agent.capacity, agent.allocated, agent.state, agent.pool, list(agent.images)),
                (4, 0, "Ready", "default-pool", [IMAGE]),
            )
        pools = {p.name: p for p in self.stack.client.admin.ListPools(fsb.ListPoolsRequest()).items}
        pool = pools["default-pool"]
        self.assertEqual((pool.agents, pool.ready_agents, pool.capacity, pool.allocated), (2, 2, 8, 0))
        images = {
            i.image: i.agents for i in self.stack.client.admin.ListImages(fsb.ListImagesRequest()).items
        }
        self.assertEqual(images[IMAGE], 2)
        before = self.stack.stats()
        self.stack.create("counted")
        stats = self.stack.stats()
        self.assertEqual(stats.sandboxes, 1)
        self.assertTrue(stats.store_loaded)
        self.assertEqual(len(stats.workers), 2)
        self.assertEqual(sorted(w.pid for w in stats.workers), self.stack.worker_pids())
        # Every stage of a create is timed where it happens; the store's comes when it is written.
        eventually(lambda: {h.name for h in self.stack.stats().histograms if h.count} >=
                   {"reserve", "agent", "start", "total", "store_lag"}, "all stages are recorded")
        for h in self.stack.stats().histograms:
            self.assertLessEqual(h.p50_ns, h.p99_ns)
            self.assertLessEqual(h.p99_ns, h.p999_ns)
            self.assertLessEqual(h.p999_ns, h.max_ns)
        for name in ("reserved_total", "committed_total"):
            self.assertEqual(stats.counters[name], before.counters[name] + 1, name)
        with self.assertRaises(grpc.RpcError):
            self.stack.create("counted")
        after = self.stack.stats()
        self.assertEqual(after.refusals["NAME_EXISTS"], before.refusals["NAME_EXISTS"] + 1)
        self.assertEqual(after.counters["refused_total"], before.counters["refused_total"] + 1)


class StrongByDefault(StackTest):
    """--fastpath-consistency-mode strong: a request that says nothing is STRONG."""

    options = {"workers": 2, "agents": 1, "fastpath_args": ["--fastpath-consistency-mode", "strong"]}

    def test_default_mode(self):
        self.stack.client.fastpath.CreateSandbox(
            fp.CreateRequest(image=IMAGE, pool_ref="default-pool", command=FOREVER, name="plain")
        )
        self.assertIsNotNone(self.stack.row("plain"))
        with self.stack.procs["crdsync"].stopped():
            fast = self.stack.create("asked-fast", consistency=fsb.CONSISTENCY_FAST)
            self.assertEqual(fast.phase, "Running")


if __name__ == "__main__":
    main()
