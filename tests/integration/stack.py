# SPDX-License-Identifier: Apache-2.0
"""class Stack: one private fsb instance, with its own name, run directory, arena and ports.

Each program is a child that can be given environment (failpoints), stopped, killed and started again by the name of its role.
"""

import collections
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys

import observe
from process import BIN, BUILD, KEEP, SRC, Proc, eventually, guard
from rpc import Client, Code, fsb, grpc, health, spec

IMAGE = "docker.io/library/busybox:test"

# Ends at once on TERM (process 1 of a pid namespace ignores TERM unless it has a handler) and else sleeps.
FOREVER = ["/bin/sh", "-c", "trap 'exit 143' TERM; sleep 100000 & wait"]
# Nothing but KILL ends it.
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo armed; while :; do sleep 1; done"]

_count = 0
_layout = None


def image_layout():
    """An OCI layout directory with busybox, made once per test process by tools/mkimage."""
    global _layout
    if _layout is None:
        folder = f"/var/tmp/fsb-test-image-{os.getpid()}"
        guard().tell(folder)
        mkimage = [os.path.join(SRC, "tools", "mkimage"), folder, IMAGE]
        subprocess.run(
            ["setpriv", "--pdeathsig", "TERM", "--", *mkimage], check=True, stdout=subprocess.DEVNULL
        )
        _layout = folder
    return _layout


Options = collections.namedtuple(
    "Options", "workers agents capacity store arena registryd_args fastpath_args agent_args crdsync_args"
)
DEFAULTS = Options(
    workers=2,
    agents=2,
    capacity=4,
    store=True,
    arena=None,
    registryd_args=(),
    fastpath_args=(),
    agent_args=(),
    crdsync_args=(),
)


class Stack:
    def __init__(self, **options):
        global _count
        _count += 1
        self.opt = DEFAULTS._replace(**options)
        self.instance = f"test-{os.getpid()}-{_count}"
        self.run_dir = f"/run/fsb-{self.instance}"
        self.arena = self.opt.arena or f"/dev/shm/fsb-{self.instance}"
        self.logs = os.path.join(self.run_dir, "log")
        self.procs = {}
        self.clients = []
        self._default = None
        self.serial = 0
        guard().tell(f"{self.run_dir} {self.instance} {self.arena}")
        os.makedirs(self.logs, mode=0o750)

    # ---- processes ----

    def spawn(self, role, program, *args, env=None):
        """Starts BIN/program as role; env is added to a clean environment."""
        assert role not in self.procs or not self.procs[role].alive(), role
        full_env = {
            "PATH": BIN + ":/usr/sbin:/usr/bin:/sbin:/bin",
            "FSB_LOG": os.environ.get("FSB_LOG", "info"),
        }
        full_env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        full_env.update(env or {})
        argv = [os.path.join(BIN, program), "--instance", self.instance, "--run-dir", self.run_dir, *args]
        self.procs[role] = Proc(role, argv, os.path.join(self.logs, role + ".log"), full_env)
        return self.procs[role]

    def start_registryd(self, env=None):
        args = ["--arena", self.arena, *self.opt.registryd_args]
        if not self.opt.store:
            args.append("--no-store")
        return self.spawn("registryd", "fsb-registryd", *args, env=env)

    def start_crdsync(self, env=None):
        return self.spawn("crdsync", "fsb-crdsync", "--arena", self.arena, *self.opt.crdsync_args, env=env)

    def start_agent(self, index=0, env=None, args=()):
        name = f"agent-{index}"
        return self.spawn(
            name,
            "fsb-agent",
            "--name",
            name,
            "--capacity",
            str(self.opt.capacity),
            *self.opt.agent_args,
            *args,
            env=env,
        )

    def start_fastpath(self, role="fastpath", env=None, workers=None, listen="127.0.0.1:0", args=()):
        """The main one listens on TCP and R/fastpath.sock; others, by another role name, on R/ROLE.sock alone."""
        more = ["--arena", self.arena, "--workers", str(workers or self.opt.workers)]
        if role == "fastpath":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.run_dir, "fastpath.port"))
            more += ["--listen", listen]
        else:
            more += ["--listen", "", "--unix", self.socket_of(role)]
        return self.spawn(role, "fsb-fastpath", *more, *self.opt.fastpath_args, *args, env=env)

    def socket_of(self, role):
        return os.path.join(self.run_dir, role + ".sock")

    def agent_roles(self):
        return [f"agent-{i}" for i in range(self.opt.agents)]

    def start(self, image=True):
        self.start_registryd()
        if self.opt.store:
            self.start_crdsync()
        for i in range(self.opt.agents):
            self.start_agent(i)
        self.start_fastpath()
        self.wait_ready()
        if image and self.opt.agents:
            self.load_image()
        return self

    def wait_ready(self, timeout=30):
        """SERVING, and each agent of ours connected."""
        self.wait_serving(timeout)
        if self.opt.agents:
            eventually(lambda: self.ready_agents() >= set(self.agent_roles()), "all agents ready", timeout)

    def ready_agents(self):
        return {a.name for a in self.agents().values() if a.state == "Ready"}

    def wait_serving(self, timeout=30, client=None):
        def serving():
            for role, proc in self.procs.items():
                if not proc.alive() and role in ("registryd", "crdsync", "fastpath"):
                    raise RuntimeError(f"{role} has exited with {proc.popen.returncode}")
            try:
                reply = (client or self.client).health.Check(health.HealthCheckRequest(), timeout=5)
            except (grpc.RpcError, FileNotFoundError):
                return False
            return reply.status == health.HealthCheckResponse.SERVING

        eventually(serving, "health SERVING", timeout)

    def load_image(self, name=IMAGE):
        reply = self.client.admin.LoadImage(fsb.LoadImageRequest(layout_path=image_layout(), name=name))
        eventually(
            lambda: all(reply.image in a.images for n, a in self.agents().items() if n.startswith("agent-")),
            "image known in the registry",
        )
        return reply

    def worker_pids(self, role="fastpath"):
        return observe.children(self.procs[role].pid)

    def launcher_pids(self):
        """Launchers belong to no child of ours once their agent is gone: found by the run directory on their command line."""
        return [
            p
            for p in observe.instance_processes(self.run_dir, self.instance)
            if os.path.basename((observe.cmdline(p) or [""])[0]) == "fsb-launcher"
        ]

    @staticmethod
    def _is_launcher_of(pid, agent):
        """By whatever argument names it: the name itself, --name=NAME, or its socket."""
        return any(
            a in (agent, f"--name={agent}") or a.endswith(f"/{agent}.launcher") for a in observe.cmdline(pid)
        )

    def launcher_pid(self, agent):
        found = [p for p in self.launcher_pids() if self._is_launcher_of(p, agent)]
        assert len(found) == 1, (agent, [observe.cmdline(p) for p in self.launcher_pids()])
        return found[0]

    def kill_agent(self, index, launcher=False):
        """kill -9 of an agent, and of the launcher that would outlive it."""
        role = f"agent-{index}"
        pids = [p for p in self.launcher_pids() if self._is_launcher_of(p, role)] if launcher else []
        self.procs[role].kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: not observe.alive(pid), "the launcher is dead")

    def kill_fastpath(self, role):
        """kill -9 of a master and its workers; a socket that is not the main one goes too."""
        self.procs.pop(role).kill()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_of(role))

    # ---- clients ----

    def connect(self, target=None):
        client = Client(target or f"127.0.0.1:{self.port()}")
        self.clients.append(client)
        return client

    def connect_unix(self, role="fastpath"):
        return self.connect("unix:" + self.socket_of(role))

    def port(self):
        def read():
            with contextlib.suppress(FileNotFoundError), open(
                os.path.join(self.run_dir, "fastpath.port")
            ) as f:
                return f.read().strip()

        return int(eventually(read, "fastpath.port written", 20))

    @property
    def client(self):
        if self._default is None:
            self._default = self.connect_unix()
        return self._default

    def worker_clients(self):
        """{number of a worker, as in GetStats: a client whose connection it serves}, for all workers."""
        found = {}
        for _ in range(self.opt.workers * 8):
            client = self.connect()
            reply = client.sandboxes.CreateSandbox(self.request())
            self.delete(reply.name)
            if found.setdefault(reply.timings.worker, client) is not client:
                client.close()
            if len(found) == self.opt.workers:
                assert set(found) == {w.worker for w in self.stats().workers}, self.stats()
                return found
        raise AssertionError(f"connections reach workers {sorted(found)} only, of {self.opt.workers}")

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients, self._default = [], None

    # ---- short forms of requests ----

    def unique(self, prefix="sb"):
        self.serial += 1
        return f"{prefix}-{self.serial}"

    def request(self, name=None, command=FOREVER, image=IMAGE, strong=False, spec_args=None, **options):
        """An fsb.v1 CreateSandboxRequest."""
        if strong:
            options["consistency"] = fsb.CONSISTENCY_STRONG
        return fsb.CreateSandboxRequest(
            name=self.unique() if name is None else name,
            spec=spec.SandboxSpec(image=image, command=command, **(spec_args or {})),
            options=fsb.SandboxOptions(**options),
        )

    def create(self, name=None, client=None, timeout=30, **fields):
        return (client or self.client).sandboxes.CreateSandbox(self.request(name, **fields), timeout=timeout)

    def batch(
        self,
        count,
        name=None,
        client=None,
        command=FOREVER,
        mode=fsb.PARTIAL,
        timeout=120,
        overrides=(),
        spec_args=None,
        **options,
    ):
        """({index: member}, summary); each index once and one summary, at the end, or it fails."""
        request = fsb.CreateBatchRequest(
            name=name or self.unique("batch"),
            count=count,
            mode=mode,
            overrides=overrides,
            spec=spec.SandboxSpec(image=IMAGE, command=command, **(spec_args or {})),
            options=fsb.SandboxOptions(**options),
        )
        members, summary = {}, None
        for reply in (client or self.client).sandboxes.CreateBatch(request, timeout=timeout):
            assert summary is None, "a message after the summary"
            for member in reply.members:
                assert member.index not in members, f"member {member.index} twice"
                members[member.index] = member
            if reply.HasField("summary"):
                summary = reply.summary
        assert summary is not None, "no summary"
        return members, summary

    def get(self, name, namespace="", client=None):
        return (client or self.client).sandboxes.Get(fsb.GetSandboxRequest(name=name, namespace=namespace))

    def find(self, name, namespace="", client=None):
        """Like get; None when there is no such sandbox."""
        try:
            return self.get(name, namespace, client)
        except grpc.RpcError as e:
            if e.code() == Code.NOT_FOUND:
                return None
            raise

    def list(self, client=None, **filters):
        return {
            s.name: s
            for s in (client or self.client).sandboxes.List(fsb.ListSandboxesRequest(**filters)).items
        }

    def delete(self, name, namespace="", client=None, grace=-1, wait=True, timeout=30):
        (client or self.client).sandboxes.Delete(
            fsb.DeleteSandboxRequest(name=name, namespace=namespace, grace_seconds=grace, wait=wait),
            timeout=timeout,
        )

    def wait(self, name, phase="", namespace="", client=None, timeout_ms=20000):
        return (client or self.client).sandboxes.Wait(
            fsb.WaitSandboxRequest(name=name, namespace=namespace, phase=phase, timeout_ms=timeout_ms),
            timeout=timeout_ms / 1000 + 10,
        )

    def log_of(self, name, follow=False, namespace="", timeout=30):
        return b"".join(
            c.data
            for c in self.client.sandboxes.Logs(
                fsb.SandboxLogsRequest(name=name, namespace=namespace, follow=follow), timeout=timeout
            )
        )

    def run(self, command, timeout_ms=20000, **fields):
        """Creates, waits for the exit, reads the log, deletes: (sandbox, log text)."""
        sandbox = self.create(command=command, **fields)
        ended = self.wait(sandbox.name, timeout_ms=timeout_ms)
        log = self.log_of(sandbox.name)
        self.delete(sandbox.name)
        return ended, log.decode(errors="replace")

    def agents(self):
        return {a.name: a for a in self.client.admin.ListAgents(fsb.ListAgentsRequest()).items}

    def allocated(self):
        return {name: a.allocated for name, a in self.agents().items()}

    def stats(self):
        return self.client.admin.GetStats(fsb.GetStatsRequest())

    # ---- the truth outside of fsb ----

    def running(self):
        return observe.running(self.instance)

    def mains(self):
        """{sandbox id: its main process}, which is its oldest one."""
        return {sid: min(pids) for sid, (_, pids) in self.running().items()}

    def store_path(self):
        return os.path.join(self.run_dir, "store.db")

    def rows(self):
        """{(namespace, name): object} of the Sandbox objects in the SQLite store, whatever its tables are called."""
        if not os.path.exists(self.store_path()):
            return {}
        found = {}
        with contextlib.closing(sqlite3.connect(self.store_path(), timeout=10)) as db:
            tables = [r[0] for r in db.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                for row in db.execute(f'select * from "{table}"'):
                    for value in row:
                        if isinstance(value, bytes):
                            value = value.decode(errors="replace")
                        if isinstance(value, str) and value.startswith("{"):
                            obj = json.loads(value)
                            if obj.get("kind") == "Sandbox":
                                found[obj["metadata"]["namespace"], obj["metadata"]["name"]] = obj
        return found

    def row(self, name, namespace="default"):
        return self.rows().get((namespace, name))

    def books(self):
        """The arena's own count from its truth words (helper program integration_books)."""
        out = subprocess.run(
            [os.path.join(BUILD, "tests", "integration_books"), self.arena],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout
        return json.loads(out)

    # ---- verdicts ----

    def consistent(self):
        """What runs has a record that says so, what the records say runs does, on the agent they name, once."""
        records = {s.id: s for s in self.list().values()}
        live = self.running()
        for sid, (agent, _) in live.items():
            assert sid in records, f"sandbox {sid} runs on {agent} without a record"
            assert records[sid].phase in (
                "Running",
                "Terminating",
            ), f"{sid} runs, its record says {records[sid].phase}"
            assert records[sid].agent == agent, f"{sid} runs on {agent}, its record says {records[sid].agent}"
        for sid, record in records.items():
            assert record.phase not in (
                "Pending",
                "Bound",
                "Terminating",
            ), f"{record.name} is still {record.phase}"
            if record.phase == "Running":
                assert sid in live, f"{record.name} is Running, but no process is"
        holders = collections.Counter(r.agent for r in records.values() if r.phase in ("Running", "Lost"))
        for name, count in self.allocated().items():
            assert count == holders[name], f"agent {name}: allocated {count}, holders {holders[name]}"
        books = self.books()
        assert books["contradictions"] == 0, books
        assert books["slots_held"] == sum(holders.values()), (books, holders)
        return True

    def delete_all(self):
        names = list(self.list().values())
        calls = [
            self.client.sandboxes.Delete_async(
                fsb.DeleteSandboxRequest(name=s.name, namespace=s.namespace, grace_seconds=-1, wait=True),
                timeout=30,
            )
            for s in names
        ]
        for call in calls:
            try:
                call.result()
            except grpc.RpcError as e:
                if e.code() != Code.NOT_FOUND:
                    raise

    def check_empty(self):
        """No sandbox, no slot, no process, no cgroup, no mount, no file, no row."""
        assert not self.list(), list(self.list())
        left = observe.leftovers(self.run_dir, self.instance)
        assert not left, left
        busy = {n: a for n, a in self.allocated().items() if a}
        assert not busy, f"slots still allocated: {busy}"
        if self.opt.store and "crdsync" in self.procs and self.procs["crdsync"].alive():
            assert not self.rows(), f"rows left in the store: {sorted(self.rows())}"
            stats = self.stats()
            assert stats.sandboxes == 0 and stats.dirty == 0, stats
        books = self.books()
        wrong = {k: v for k, v in books.items() if k != "sandboxes" and v}
        assert not wrong, f"the arena's books are not empty: {books}"
        return True

    def wait_empty(self, timeout=15):
        eventually(self.check_empty, "everything of the deleted sandboxes gone", timeout)

    # ---- the end ----

    def stop_processes(self):
        """Orderly, in the order of `fsb down`; everything must exit 0. Returns complaints."""
        wrong = []
        roles = [r for r in self.procs if r not in ("registryd", "crdsync")]
        for role in (
            [r for r in roles if not r.startswith("agent")]
            + ["crdsync", "registryd"]
            + [r for r in roles if r.startswith("agent")]
        ):
            proc = self.procs.get(role)
            if proc is None or not proc.alive():
                continue
            try:
                code = proc.term()
                if code != 0:
                    wrong.append(f"{role} has ended with {code} on SIGTERM")
            except AssertionError as e:
                wrong.append(str(e))
                proc.kill()
        for pid in self.launcher_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return wrong

    def stop(self, check=True):
        """Ends everything; with check a list of what was wrong or left, measured before the sweep."""
        wrong = []
        try:
            self.close_clients()
            wrong = self.stop_processes()
            if check:
                try:
                    eventually(
                        lambda: not observe.instance_processes(self.run_dir, self.instance),
                        "all processes gone",
                        10,
                    )
                except AssertionError:
                    wrong.append(f"processes left: {observe.instance_processes(self.run_dir, self.instance)}")
                wrong += observe.leftovers(self.run_dir, self.instance)
                wrong += [f"mount {m}" for m in observe.mounts(self.run_dir)]
                wrong += [f"cgroup {c}" for c in observe.cgroup_dirs(self.instance)]
                wrong += [f"socket {f}" for f in os.listdir(self.run_dir) if f.endswith(".sock")]
                wrong += [f"arena file {f}" for f in observe.arena_files(self.arena) if f != self.arena]
            if wrong:
                self.dump()
        finally:
            for proc in self.procs.values():
                if proc.alive():
                    proc.kill()
            if KEEP:
                os.system(
                    f"mkdir -p /var/tmp/fsb-test-logs && cp -r {self.logs} /var/tmp/fsb-test-logs/{self.instance}"
                )
            observe.sweep(self.run_dir, self.instance, self.arena)
            guard().tell("-" + self.run_dir)
        return wrong

    def dump(self, lines=25):
        """The ends of all logs, for a failed test."""
        for role, proc in self.procs.items():
            how = "runs" if proc.alive() else f"has ended with {proc.popen.returncode}"
            print(f"---- {role} ({how})", *proc.log_text().splitlines()[-lines:], sep="\n", file=sys.stderr)
        for name in sorted(os.listdir(self.logs)):
            if name.endswith(".launcher.log"):
                with open(os.path.join(self.logs, name), errors="replace") as f:
                    print(f"---- {name}", *f.read().splitlines()[-lines:], sep="\n", file=sys.stderr)
