# SPDX-License-Identifier: Apache-2.0
"""fsb-simagent and fsb-load against the real fsb-registryd and fsb-fastpath; and fsb-simagent alone, spoken to from agent.proto."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))

from harness import Code, Stack, StackTest, eventually, fsb, main  # noqa: E402
from process import BIN, SRC, Proc  # noqa: E402
from rpc import agent_pb2 as ap, grpc, spec  # noqa: E402

IMAGE = "docker.io/library/busybox:test"
SIMS, CAPACITY = 20, 8


def program(name, *args, timeout=120):
    """(exit status, stdout, stderr)"""
    done = subprocess.run(
        [os.path.join(BIN, name), *args], capture_output=True, text=True, timeout=timeout, cwd="/"
    )
    return done.returncode, done.stdout, done.stderr


class Sim:
    """A simagent process with its statistics."""

    def __init__(self, proc, stats):
        self.proc, self.path = proc, stats

    def stats(self):
        """Asks for them anew."""
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.proc.signal(signal.SIGUSR1)
        eventually(lambda: os.path.exists(self.path), "statistics written")
        with open(self.path) as f:
            return json.load(f)


def add_sim(stack, role, agents, *args):
    stats = os.path.join(stack.run_dir, role + ".json")
    common = ["--agents", str(agents), "--stats", stats, "--images", "busybox:test"]
    sim = Sim(stack.spawn(role, "fsb-simagent", *common, *args), stats)
    return sim


class SimStack(StackTest):
    options = dict(agents=0, store=False)

    @classmethod
    def make_stack(cls):
        cls.stack = Stack(**cls.options).start(image=False)
        cls.sim = add_sim(cls.stack, "simagent", SIMS, "--capacity", str(CAPACITY))
        cls.wait_agents("sim-", SIMS)

    @classmethod
    def wait_agents(cls, prefix, count):
        eventually(
            lambda: len([n for n in cls.stack.ready_agents() if n.startswith(prefix)]) == count,
            f"{count} simulated agents ready",
            20,
        )

    def load(self, *args):
        """(exit status, what --json says)"""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            status, text, err = program("fsb-load", *self.load_args(out.name, *args))
            print(text, err, file=sys.stderr)
            result = out.read()
            return status, json.loads(result) if result else None

    def load_args(self, out, *args):
        return ["--target", "unix:" + self.stack.socket_of("fastpath"), "--json", out, *args]

    def load_in_background(self, out, *args):
        return Proc(
            "load",
            [os.path.join(BIN, "fsb-load"), *self.load_args(out, *args)],
            os.path.join(self.stack.logs, "load.log"),
            {"PATH": "/usr/bin"},
        )


class SimagentTest(SimStack):
    def test_create_and_delete(self):
        before = self.sim.stats()
        sandbox = self.stack.create()
        self.assertEqual(sandbox.phase, "Running")
        self.assertTrue(sandbox.agent.startswith("sim-"))
        self.assertEqual(self.stack.get(sandbox.name).phase, "Running")
        self.stack.delete(sandbox.name)
        self.assertIsNone(self.stack.find(sandbox.name))
        after = self.sim.stats()
        self.assertEqual(after["started"] - before["started"], 1)
        self.assertEqual(after["stopped"] - before["stopped"], 1)
        self.assertEqual(after["running"], 0)

    def test_is_called_simulated_everywhere(self):
        self.assertEqual({a.node for a in self.stack.agents().values()}, {"simulated"})
        endpoint = ["--endpoint", "unix:" + self.stack.socket_of("fastpath")]
        _, text, _ = program("fsb-ctl", *endpoint, "agents")
        self.assertEqual(text.count("Ready, simulated"), SIMS)
        _, text, _ = program("fsb-ctl", *endpoint, "agents", "-o", "json")
        self.assertTrue(all(agent["simulated"] for agent in json.loads(text)))
        self.assertTrue(self.sim.stats()["simulated"])
        for line in self.stack.procs["simagent"].log_text().splitlines():
            self.assertIn("simulated=true", line)
        self.assertIn("SIMULATED", program("fsb-simagent", "--help")[1])

    def test_capacity(self):
        members, summary = self.stack.batch(SIMS * CAPACITY)
        self.assertEqual(summary.started, SIMS * CAPACITY)
        self.assertEqual(set(self.stack.allocated().values()), {CAPACITY})
        self.refused(Code.RESOURCE_EXHAUSTED, "slot", self.stack.create)
        # The registry has never given one slot twice, or the agent would have refused.
        stats = self.sim.stats()
        self.assertEqual((stats["refused_full"], stats["running"]), (0, SIMS * CAPACITY))

    def test_worker_dies_during_a_start(self):
        """registryd asks (a fence) what became of the start, and adopts it; the agents stay connected to the next worker."""
        slow = add_sim(self.stack, "simslow", 2, "--name-prefix", "slow-", "--pool", "slow", "--ack-delay", "1s")
        self.wait_agents("slow-", 2)
        request = self.stack.request("orphan", pool="slow")
        call = self.stack.connect().sandboxes.CreateSandbox_async(request)
        eventually(lambda: slow.stats()["starts"] == 1, "the start has arrived")
        for pid in self.stack.worker_pids():
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(call.exception().code(), Code.UNAVAILABLE)
        self.stack.wait_serving()  # the connection is to a new worker from here on
        eventually(
            lambda: (self.stack.find("orphan") or fsb.Sandbox()).phase == "Running", "adopted", 20
        )
        self.assertEqual(slow.stats()["fences"], 1)
        eventually(lambda: len(self.stack.worker_pids()) == 2, "new workers")
        self.stack.delete("orphan")
        sandbox = self.stack.create(pool="slow")
        self.stack.delete(sandbox.name)
        self.assertEqual(self.stack.procs["simslow"].term(), 0)
        self.assertFalse(
            [f for f in os.listdir(os.path.join(self.stack.run_dir, "agents")) if f.startswith("slow-")]
        )

    def test_silent_agents_do_not_hold_up_others(self):
        """registryd dials a limited number of new agents at once; sockets that take a connection and say nothing are no hindrance."""
        folder, silent = os.path.join(self.stack.run_dir, "agents"), []
        self.addCleanup(lambda: [s.close() for s in silent])
        for i in range(1000):
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].bind(os.path.join(folder, f"silent-{i}~"))
            silent[-1].listen(16)
            os.rename(os.path.join(folder, f"silent-{i}~"), os.path.join(folder, f"silent-{i}.sock"))
        add_sim(self.stack, "simlate", 1, "--name-prefix", "late-", "--pool", "late")
        self.wait_agents("late-", 1)
        self.assertEqual(self.stack.procs["simlate"].term(), 0)
        for i in range(1000):
            os.unlink(os.path.join(folder, f"silent-{i}.sock"))

    def test_exits(self):
        add_sim(self.stack, "simexit", 1, "--name-prefix", "exit-", "--pool", "exits", "--exit-after", "50ms")
        self.wait_agents("exit-", 1)
        sandbox = self.stack.create(pool="exits")
        self.assertEqual(self.stack.wait(sandbox.name).phase, "Succeeded")
        self.stack.delete(sandbox.name)
        self.assertEqual(self.stack.procs["simexit"].term(), 0)

    def test_failures(self):
        add_sim(self.stack, "simfail", 1, "--name-prefix", "fail-", "--pool", "fails", "--fail-rate", "1")
        self.wait_agents("fail-", 1)
        self.refused(Code.INTERNAL, "simulated", self.stack.create, pool="fails")
        self.assertEqual(self.stack.procs["simfail"].term(), 0)


class LoadTest(SimStack):
    def check_sums(self, result, sims=SIMS):
        rate, books = result["rate"], result["books"]
        self.assertEqual(rate["arrivals"], rate["done"] + rate["errors"] + rate["dropped"])
        self.assertEqual(books["created"], books["deleted"] + books["recovered"])
        self.assertTrue(result["simulated"])
        self.assertEqual((result["agents"], result["simulated_agents"]), (sims, sims))

    def test_modes(self):
        for mode, more, what in (
            ("create", ["--exclusive"], "create"),
            ("create", ["--hold", "exp:20ms", "--foreign-deletes"], "create"),
            ("fastpath", [], "create"),
            ("get", ["--population", "20"], "get"),
            ("list", ["--population", "5"], "list"),
            ("batch", ["--batch", "10", "--rate", "20"], "batch"),
            ("echo", [], "echo"),
        ):
            with self.subTest(mode=mode, more=more):
                args = ["--rate", "100", "--duration-ms", "500", "--warmup-ms", "100", "--mode", mode, *more]
                status, result = self.load(*args)
                self.assertEqual(status, 0)
                self.check_sums(result)
                self.assertTrue(result["books"]["balanced"])
                self.assertGreater(result["rate"]["done"], 0)
                self.assertEqual(result["latency"][what]["count"], result["rate"]["done"])
                self.assertEqual(result["books"]["allocated_after"], 0)

    def test_closed_loop(self):
        status, result = self.load("--closed", "8", "--duration-ms", "500", "--warmup-ms", "100")
        self.assertEqual(status, 0)
        self.check_sums(result)
        self.assertGreater(result["rate"]["achieved_per_s"], 0)
        self.assertFalse(result["rate"]["reached"])  # no rate was asked for

    def test_a_stopped_worker_shows(self):
        """Whoever was due while a worker stood still has waited for it: half of all, for a fifth of the time or more."""
        stall = 0.8
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            load = self.load_in_background(out.name, "--rate", "200", "--duration-ms", "3000", "--warmup-ms", "0")
            before = self.sim.stats()["started"]
            eventually(lambda: self.sim.stats()["started"] > before + 20, "the load has begun")
            pid = self.stack.worker_pids()[0]
            begin = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            time.sleep(stall)
            stall = time.monotonic() - begin
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(load.wait(60), 0)
            result = json.load(open(out.name))
        self.check_sums(result)
        create = result["latency"]["create"]
        # One arrives within some ms of the stop; 100 ms are a hundred times the mean gap of that worker's arrivals.
        self.assertGreaterEqual(create["max_ns"], (stall - 0.1) * 1e9)
        self.assertGreaterEqual(create["p99_ns"], stall / 2 * 1e9)
        self.assertEqual(result["rate"]["dropped"], 0)

    def test_a_stopped_generator_shows(self):
        """Its own lateness is in the latencies, and told apart from the server's."""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            load = self.load_in_background(out.name, "--rate", "200", "--duration-ms", "2500", "--warmup-ms", "0")
            before = self.sim.stats()["started"]
            eventually(lambda: self.sim.stats()["started"] > before + 20, "the load has begun")
            with load.stopped():
                begin = time.monotonic()
                time.sleep(0.6)
                stall = time.monotonic() - begin
            self.assertEqual(load.wait(60), 0)
            latency = json.load(open(out.name))["latency"]
        self.assertGreaterEqual(latency["lag"]["max_ns"], (stall - 0.1) * 1e9)
        self.assertGreaterEqual(latency["create"]["max_ns"], (stall - 0.1) * 1e9)
        self.assertGreaterEqual(latency["create"]["p99_ns"], stall / 2 * 1e9)

    def test_a_rate_that_is_not_served(self):
        """Two unanswered at once and a slow agent: most of what is due is dropped, and nothing says otherwise."""
        add_sim(self.stack, "simslow", 4, "--name-prefix", "slow-", "--pool", "slow", "--ack-delay", "50ms")
        self.wait_agents("slow-", 4)
        status, result = self.load(
            *("--pool slow --rate 200 --duration-ms 1000 --warmup-ms 100 --in-flight-max 2".split())
        )
        self.assertEqual(status, 0)
        self.check_sums(result, 4)
        self.assertGreater(result["rate"]["dropped"], result["rate"]["done"])
        self.assertFalse(result["rate"]["reached"])
        self.assertLess(result["rate"]["achieved_per_s"], 100)
        self.assertEqual(self.stack.procs["simslow"].term(), 0)

    def test_refusals_have_reasons(self):
        status, result = self.load("--image", "nothing:here", *"--rate 100 --duration-ms 300 --warmup-ms 0".split())
        self.assertEqual(status, 0)
        self.check_sums(result)
        self.assertEqual(result["rate"]["errors"], result["rate"]["arrivals"])
        self.assertEqual([r["status"] for r in result["reasons"]], ["NOT_FOUND"])
        self.assertEqual(result["reasons"][0]["count"], result["rate"]["arrivals"])

    def test_what_is_left_is_a_failure(self):
        """A sandbox that bears the run's label and is in nobody's books."""
        self.stack.create("stray", labels={"fsb-load": "run-1"})
        args = "--prefix run-1 --rate 50 --duration-ms 200 --warmup-ms 0".split()
        status, result = self.load(*args)
        self.assertEqual(status, 1)
        self.assertEqual((result["books"]["leaked"], result["books"]["balanced"]), (1, False))
        self.assertIsNone(self.stack.find("stray"))
        self.assertEqual(self.load(*args)[0], 0)

    def test_exclusive(self):
        """A slot that somebody else has taken meanwhile."""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            load = self.load_in_background(out.name, "--exclusive", *"--rate 50 --duration-ms 1500".split())
            before = self.sim.stats()["started"]
            eventually(lambda: self.sim.stats()["started"] > before + 5, "the load has begun")
            self.stack.create("guest")
            self.assertEqual(load.wait(60), 1)
            books = json.load(open(out.name))["books"]
        self.assertEqual((books["allocated_before"], books["allocated_after"]), (0, 1))


class Peer:
    """One Link stream to a simulated agent, from agent.proto alone."""

    def __init__(self, path, role, instance="arena-1", epoch=1):
        self.out, self.seq = queue.Queue(), 0
        self.acks, self.events, self.closed = queue.Queue(), queue.Queue(), None
        self.channel = grpc.insecure_channel("unix:" + path, options=[("grpc.use_local_subchannel_pool", 1)])
        call = self.channel.stream_stream(
            "/fsb.agent.v1.AgentService/Link",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=ap.LinkResponse.FromString,
        )
        self.out.put(ap.LinkRequest(hello=ap.Hello(role=role, instance=instance, controller_epoch=epoch)))
        self.stream = call(iter(self.out.get, None))
        self.hello = next(self.stream).hello

    def command(self, **kind):
        """Its acknowledgement; events that come before it are kept."""
        self.seq += 1
        self.out.put(ap.LinkRequest(commands=[ap.Command(seq=self.seq, **kind)]))
        return self.next(lambda r: [a for a in r.acks if a.seq == self.seq])

    def next(self, choose):
        for response in self.stream:
            for event in response.events:
                self.events.put(event)
            found = choose(response)
            if found:
                return found[0]
        raise AssertionError("the stream has ended")

    def event(self, kind):
        while True:
            if self.events.empty():
                self.next(lambda r: r.events)
            event = self.events.get()
            if event.WhichOneof("kind") == kind:
                return getattr(event, kind)

    def close(self):
        self.out.put(None)
        self.channel.close()


class ProtocolTest(unittest.TestCase):
    """Word by word of agent.proto."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="fsb-sim-")
        self.addCleanup(folder.cleanup)
        args = "--agents 2 --capacity 2 --images busybox:test,alpine --pool p --seed 3".split()
        argv = [os.path.join(BIN, "fsb-simagent"), "--run-dir", folder.name, *args]
        self.proc = Proc("sim", argv, os.path.join(folder.name, "log"), {"PATH": "/usr/bin"})
        self.addCleanup(lambda: self.assertEqual(self.proc.term(), 0))
        self.path = os.path.join(folder.name, "agents", "sim-0.sock")
        eventually(lambda: os.path.exists(self.path), "the socket is there")

    def peer(self, role=ap.WORKER, **more):
        peer = Peer(self.path, role, **more)
        self.addCleanup(peer.close)
        return peer

    @staticmethod
    def start(sid, generation=1, image="busybox:test"):
        meta = spec.SandboxMeta(id=sid, namespace="default", name=sid, generation=generation)
        return dict(start=ap.Start(meta=meta, spec=spec.SandboxSpec(image=image).SerializeToString()))

    @staticmethod
    def stop(sid, **more):
        return dict(stop=ap.Stop(id=sid, generation=1, **more))

    def test_hello(self):
        hello = self.peer().hello
        self.assertEqual((hello.agent_name, hello.pool, hello.capacity), ("sim-0", "p", 2))
        self.assertEqual((hello.namespace, hello.node, hello.agent_pid), ("default", "simulated", self.proc.pid))
        self.assertEqual(list(hello.images), [IMAGE, "docker.io/library/alpine:latest"])
        other = Peer(self.path.replace("sim-0", "sim-1"), ap.WORKER)
        self.assertEqual(other.hello.agent_name, "sim-1")
        other.close()

    def test_start_stop(self):
        registryd, worker = self.peer(ap.REGISTRYD), self.peer()
        ack = worker.command(**self.start("a"))
        self.assertEqual(ack.code, ap.OK, ack)
        self.assertGreater(ack.started_unix_ns, 0)
        report = self.peer(ap.REGISTRYD).hello.sandboxes
        self.assertEqual([(r.meta.id, r.meta.name, r.state) for r in report], [("a", "a", ap.RUNNING)])
        self.assertEqual(spec.SandboxSpec.FromString(report[0].spec).image, "busybox:test")
        self.assertFalse(self.peer().hello.sandboxes)  # a worker is not told
        self.assertEqual(worker.command(remove=ap.Remove(id="a")).code, ap.STILL_RUNNING)
        self.assertEqual(worker.command(**self.stop("a")).code, ap.OK)
        removed = registryd.event("removed")
        self.assertEqual((removed.id, removed.name, removed.generation), ("a", "a", 1))
        self.assertTrue(worker.events.empty())
        for again in (self.stop("a"), dict(remove=ap.Remove(id="a")), self.stop("never")):
            self.assertEqual(worker.command(**again).code, ap.OK)
        self.assertGreaterEqual(registryd.event("heartbeat").running, 0)

    def test_kept_files(self):
        registryd, worker = self.peer(ap.REGISTRYD), self.peer()
        worker.command(**self.start("a"))
        worker.command(**self.stop("a", keep_files=True))
        self.assertEqual(registryd.event("removed").id, "a")
        (report,) = self.peer(ap.REGISTRYD).hello.sandboxes
        self.assertEqual((report.state, report.stopped, report.exit.code), (ap.EXITED, True, -1))
        worker.command(remove=ap.Remove(id="a"))
        self.assertFalse(self.peer(ap.REGISTRYD).hello.sandboxes)

    def test_repeats(self):
        worker = self.peer()
        first = worker.command(**self.start("a", 5))
        again = worker.command(**self.start("a", 5))
        self.assertEqual((again.code, again.report.meta.id), (ap.OK, "a"))
        self.assertEqual(again.started_unix_ns, first.started_unix_ns)
        self.assertEqual(worker.command(**self.start("a", 4)).code, ap.FENCED)
        self.assertEqual(worker.command(**self.start("a", 6)).code, ap.EXISTS)

    def test_refusals(self):
        worker = self.peer()
        self.assertEqual(worker.command(**self.start("a", image="other")).code, ap.IMAGE_NOT_FOUND)
        self.assertEqual(worker.command(**self.start("../a")).code, ap.BAD_SPEC)
        for sid in ("a", "b"):
            self.assertEqual(worker.command(**self.start(sid)).code, ap.OK)
        ack = worker.command(**self.start("c"))
        self.assertEqual(ack.code, ap.RESOURCES)
        self.assertIn("2 of 2", ack.message)
        worker.command(**self.stop("a"))
        self.assertEqual(worker.command(**self.start("c")).code, ap.OK)

    def test_fence(self):
        registryd, worker = self.peer(ap.REGISTRYD), self.peer()
        fenced = registryd.command(fence=ap.Fence(id="a", generation=2))
        self.assertEqual((fenced.code, fenced.running), (ap.OK, False))
        self.assertEqual(worker.command(**self.start("a", 2)).code, ap.FENCED)
        self.assertEqual(worker.command(**self.start("a", 3)).code, ap.OK)
        found = registryd.command(fence=ap.Fence(id="a", generation=3))
        self.assertEqual((found.running, found.report.meta.id), (True, "a"))

    def test_epochs(self):
        """A peer of an older epoch is refused; another arena is taken over by its registryd only."""
        old = self.peer()
        self.assertEqual(old.command(**self.start("a")).code, ap.OK)
        new = self.peer(epoch=2)
        self.assertEqual(old.command(**self.start("b")).code, ap.STALE_EPOCH)
        stranger = self.peer(instance="arena-2")
        self.assertEqual(stranger.command(**self.start("b")).code, ap.STALE_EPOCH)
        self.assertEqual(new.command(**self.start("b")).code, ap.OK)
        self.peer(ap.REGISTRYD, instance="arena-2")
        self.assertEqual(stranger.command(**self.stop("b")).code, ap.OK)
        self.assertEqual(new.command(**self.start("b")).code, ap.STALE_EPOCH)

    def test_tcp(self):
        args = "--no-unix --agents 3 --tcp 127.0.0.1:21711".split()
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            proc = Proc("sim", [os.path.join(BIN, "fsb-simagent"), *args], log, {"PATH": "/usr/bin"})
            eventually(lambda: "ready" in proc.log_text(), "ready")
            channel = grpc.insecure_channel("127.0.0.1:21713")
            call = channel.stream_stream(
                "/fsb.agent.v1.AgentService/Link",
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=ap.LinkResponse.FromString,
            )
            requests = queue.Queue()
            requests.put(ap.LinkRequest(hello=ap.Hello(instance="x")))
            self.assertEqual(next(call(iter(requests.get, None))).hello.agent_name, "sim-2")
            requests.put(None)
            channel.close()
            self.assertEqual(proc.term(), 0)

    def test_two_of_one_name(self):
        status, _, err = program("fsb-simagent", "--run-dir", os.path.dirname(os.path.dirname(self.path)))
        self.assertEqual(status, 1)
        self.assertIn("another agent listens", err)


class UsageTest(unittest.TestCase):
    def test_bad_options(self):
        for name, args, words in (
            ("fsb-simagent", "--agents 0", "--agents"),
            ("fsb-simagent", "--ack-delay soon", "--ack-delay"),
            ("fsb-simagent", "--exit-after uniform:2:1", "--exit-after"),
            ("fsb-simagent", "--fail-rate 2", "--fail-rate"),
            ("fsb-simagent", "--images Bad:Name:x", "--images"),
            ("fsb-simagent", "--name-prefix UPPER", "--name-prefix"),
            ("fsb-simagent", "--no-unix", "--tcp"),
            ("fsb-simagent", "surplus", "no arguments"),
            ("fsb-load", "--mode dance", "--mode"),
            ("fsb-load", "--rate fast", "--rate"),
            ("fsb-load", "--rate 0", "--rate"),
            ("fsb-load", "--hold -1", "--hold"),
            ("fsb-load", "--prefix no_label", "--prefix"),
            ("fsb-load", "--mode get", "--population"),
            ("fsb-load", "--connections 0", "--connections"),
        ):
            with self.subTest(name=name, args=args):
                status, out, err = program(name, *args.split())
                self.assertEqual((status, out), (2, ""))
                self.assertTrue(err.startswith(name + ": ") and words in err and err.count("\n") == 1, err)

    def test_too_many_agents_for_the_limit(self):
        with tempfile.TemporaryDirectory() as folder:
            argv = [os.path.join(BIN, "fsb-simagent"), "--agents", "100", "--run-dir", folder]
            done = subprocess.run(["prlimit", "--nofile=150", *argv], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 1)
            self.assertIn("the limit is 150", done.stderr)
            self.assertFalse(os.listdir(os.path.join(folder, "agents")))


class RpcTest(unittest.TestCase):
    def test_bench_rpc(self):
        """All of it in small; no figure is judged."""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            args = ["--bin", BIN, "--json", out.name, *"--agents 20 --seconds 0.4 --rounds 1".split()]
            done = subprocess.run([os.path.join(SRC, "bench", "rpc"), *args], capture_output=True, text=True, timeout=100)
            print(done.stdout, done.stderr, file=sys.stderr)
            self.assertEqual(done.returncode, 0)
            result = json.load(out)
        self.assertEqual((result["simulated"], result["summary"]["simulated_agents"]), (True, 20))
        self.assertIn("SIMULATED", done.stdout)
        self.assertEqual((result["wrong"], result["summary"]["unbalanced"]), ([], 0))
        self.assertGreater(result["summary"]["rpc_20_vs_echo_p50"], 0)
        self.assertEqual(result["sim"]["started"], result["sim"]["stopped"])
        self.assertGreater(result["sizes"]["fsb-fastpath"]["rss_anon_kib"], 0)
        self.assertFalse([f for f in os.listdir("/run") if f.startswith("fsb-rpc-")])


if __name__ == "__main__":
    main()
