# SPDX-License-Identifier: Apache-2.0
"""An agent written from agent.proto alone: it starts nothing, records every command, and answers as the test says.

It proves the link's wire format against an independent implementation and makes every moment of a create observable: hook(start) is
called in the very moment a Start arrives.
"""

import concurrent.futures
import os
import queue
import threading
import time

from rpc import agent_pb2 as ap, grpc

HOLD = object()  # returned by a hook: no answer now; see FakeAgent.answer


class Link:
    def __init__(self, hello):
        self.hello = hello
        self.out = queue.Queue()
        self.open = True

    def send(self, **fields):
        self.out.put(ap.LinkResponse(**fields))


class FakeAgent:
    def __init__(self, stack, name="fake-0", pool="fake-pool", capacity=8, image=None):
        self.stack, self.name, self.pool, self.capacity, self.image = stack, name, pool, capacity, image
        self.path = os.path.join(stack.run_dir, "agents", name + ".sock")
        self.lock = threading.Lock()
        self.links, self.log, self.held = [], [], []
        self.sandboxes, self.fenced = {}, {}
        self.hook = lambda start: None
        self.server = None

    # ---- the server ----

    def start(self):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(64))
        handler = grpc.stream_stream_rpc_method_handler(
            self._link,
            request_deserializer=ap.LinkRequest.FromString,
            response_serializer=lambda m: m.SerializeToString(),
        )
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("fsb.agent.v1.AgentService", {"Link": handler}),)
        )
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.server.add_insecure_port("unix:" + self.path)
        self.server.start()
        self.beating = threading.Thread(target=self._beat, daemon=True)
        self.beating.start()
        return self

    def stop(self):
        server, self.server = self.server, None
        for link in self._open_links():
            link.out.put(None)
        if server is not None:
            server.stop(0).wait(5)
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _open_links(self, role=None):
        with self.lock:
            return [link for link in self.links if link.open and role in (None, link.hello.role)]

    def _beat(self):
        while self.server is not None:
            for link in self._open_links(ap.REGISTRYD):
                link.send(events=[ap.Event(heartbeat=ap.Heartbeat(running=len(self.sandboxes)))])
            time.sleep(0.5)

    def _link(self, requests, context):
        first = next(requests)
        link = Link(first.hello)
        reply = ap.HelloReply(
            agent_name=self.name,
            namespace="default",
            pool=self.pool,
            node="fake-node",
            capacity=self.capacity,
            images=[self.image] if self.image else [],
            host_ip="127.0.0.1",
        )
        with self.lock:
            if first.hello.role == ap.REGISTRYD:
                reply.sandboxes.extend(self.sandboxes.values())
            self.links.append(link)
        link.send(hello=reply)

        def reader():
            try:
                self._commands(link, first.commands)
                for request in requests:
                    self._commands(link, request.commands)
            except Exception:
                pass
            link.open = False
            link.out.put(None)

        threading.Thread(target=reader, daemon=True).start()
        while True:
            item = link.out.get()
            if item is None:
                link.open = False
                return
            yield item

    # ---- commands ----

    def _commands(self, link, commands):
        for command in commands:
            kind = command.WhichOneof("kind")
            with self.lock:
                self.log.append((kind, getattr(command, kind), link.hello.role))
            ack = getattr(self, "_" + kind)(link, command)
            if ack is not HOLD:
                ack.seq = command.seq
                link.send(acks=[ack])

    def _start(self, link, command):
        answer = self.hook(command.start)
        if answer is HOLD:
            with self.lock:
                self.held.append((link, command))
            return HOLD
        return answer or self._run(command.start)

    def _run(self, start):
        meta = start.meta
        with self.lock:
            if self.fenced.get(meta.id, -1) >= meta.generation:
                return ap.Ack(code=ap.FENCED, message=f"sandbox {meta.id} is fenced")
            report = ap.SandboxReport(
                meta=meta, spec=start.spec, state=ap.RUNNING, started_unix_ns=time.time_ns()
            )
            self.sandboxes[meta.id] = report
        return ap.Ack(code=ap.OK, start_ns=1000, started_unix_ns=report.started_unix_ns, running=True)

    def _stop(self, link, command):
        return self._gone(command.stop.id)

    def _remove(self, link, command):
        return self._gone(command.remove.id)

    def _gone(self, sid):
        with self.lock:
            report = self.sandboxes.pop(sid, None)
        if report is not None:
            meta = report.meta
            for link in self._open_links(ap.REGISTRYD):
                link.send(
                    events=[
                        ap.Event(
                            removed=ap.SandboxRemoved(
                                namespace=meta.namespace, name=meta.name, id=sid, generation=meta.generation
                            )
                        )
                    ]
                )
        return ap.Ack(code=ap.OK)

    def _fence(self, link, command):
        sid = command.fence.id
        with self.lock:
            report = self.sandboxes.get(sid)
            if report is not None:
                return ap.Ack(code=ap.OK, running=True, report=report)
            self.fenced[sid] = max(self.fenced.get(sid, -1), command.fence.generation)
        return ap.Ack(code=ap.OK, running=False)

    def _set_meta(self, link, command):
        with self.lock:
            if command.set_meta.id in self.sandboxes:
                self.sandboxes[command.set_meta.id].meta.CopyFrom(command.set_meta)
        return ap.Ack(code=ap.OK)

    # ---- for tests ----

    def answer(self, ack=None):
        """Answers the oldest held Start: with ack, or by running it."""
        with self.lock:
            link, command = self.held.pop(0)
        ack = ack or self._run(command.start)
        ack.seq = command.seq
        link.send(acks=[ack])

    def commands(self, kind, sid=None):
        """The commands of that kind so far (for a sandbox)."""

        def sid_of(k, c):
            return c.meta.id if k == "start" else c.id

        with self.lock:
            return [c for k, c, _ in self.log if k == kind and sid in (None, sid_of(k, c))]

    def drop_links(self, role=None):
        for link in self._open_links(role):
            link.out.put(None)
