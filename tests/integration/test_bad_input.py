# SPDX-License-Identifier: Apache-2.0
"""Bad input: a typed error whose message names the value, nothing started, nothing leaked, the service goes on."""

import os
import random
import socket
import time

from harness import FOREVER, IMAGE, Code, StackTest, code_of, eventually, fp, fsb, full, main, spec
from rpc import field, varint

CREATE = "/fastpath.v1.FastPathService/CreateSandbox"
CREATE_FSB = "/fsb.v1.SandboxService/CreateSandbox"


class BadInput(StackTest):
    options = {"workers": 2, "agents": 2, "capacity": 4}

    def setUp(self):
        super().setUp()
        self.reserved = sum(a.reserved_total for a in self.stack.agents().values())

    def after(self):
        """Nothing of it is there, and a good create works."""
        self.assertEqual(self.stack.list(), {})
        self.stack.wait_empty()
        for proc in self.stack.procs.values():
            self.assertTrue(proc.alive(), proc.role)
        self.stack.create("good")
        self.stack.delete("good")
        super().after()

    def both(self, code, words, message=None, **fields):
        """Refused by both services, before a slot was taken. fields: of fastpath.v1.CreateRequest."""
        base = {"image": IMAGE, "pool_ref": "default-pool", "command": ["/bin/true"]}
        base.update(fields)
        self.refused(code, words, self.stack.client.fastpath.CreateSandbox, fp.CreateRequest(**base))
        ours = fsb.CreateSandboxRequest(
            name=base.get("name", ""),
            spec=spec.SandboxSpec(
                **{
                    k: base[k]
                    for k in ("image", "command", "args", "envs", "working_dir", "exposed_ports", "resources")
                    if k in base
                }
            ),
            options=fsb.SandboxOptions(
                pool=base["pool_ref"],
                **{
                    k: base[k]
                    for k in (
                        "namespace",
                        "expire_time_seconds",
                        "recovery_timeout_seconds",
                        "labels",
                        "request_id",
                    )
                    if k in base
                },
            ),
        )
        self.refused(code, words, self.stack.client.sandboxes.CreateSandbox, ours)

    def check_nothing_reserved(self):
        self.assertEqual(sum(a.reserved_total for a in self.stack.agents().values()), self.reserved)

    def test_image(self):
        self.both(Code.INVALID_ARGUMENT, "image", image="")
        self.both(Code.INVALID_ARGUMENT, "UPPER", image="UPPER/case")
        self.both(Code.INVALID_ARGUMENT, "a b", image="a b")
        self.both(Code.INVALID_ARGUMENT, "../../etc", image="../../etc/passwd")
        self.both(Code.INVALID_ARGUMENT, "x" * 80, image="x" * 600)
        self.check_nothing_reserved()

    def test_unknown_image(self):
        """Known nowhere: the agent that was asked says so, and the message names it."""
        self.both(Code.NOT_FOUND, "docker.io/library/no-such-image:latest", image="no-such-image")
        self.both(Code.NOT_FOUND, "registry.example.com/a/b:9", image="registry.example.com/a/b:9")

    def test_pool(self):
        self.both(Code.NOT_FOUND, "no-such-pool", pool_ref="no-such-pool")
        self.both(Code.INVALID_ARGUMENT, "Bad_Pool", pool_ref="Bad_Pool")
        self.both(Code.NOT_FOUND, "default-pool", namespace="elsewhere")
        self.check_nothing_reserved()

    def test_names(self):
        for name in (
            "UPPER",
            "under_score",
            "-dash",
            "dash-",
            "dot..dot",
            ".dot",
            "sp ace",
            "slash/x",
            "../up",
            "ü",
            "a" * 254,
        ):
            self.both(Code.INVALID_ARGUMENT, name[:60], name=name)
        for namespace in ("UPPER", "a.b", "-x", "n" * 64):
            self.both(Code.INVALID_ARGUMENT, namespace[:60], namespace=namespace)
        self.check_nothing_reserved()

    def test_longest_name(self):
        """253 bytes in labels of 63 are right."""
        name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
        self.assertEqual(len(name), 253)
        self.assertEqual(self.stack.create(name).name, name)
        self.stack.delete(name)

    def test_ports(self):
        for port in (0, -1, 65536, 2147483647):
            self.both(
                Code.INVALID_ARGUMENT,
                f"invalid port {port}: must be between 1 and 65535",
                exposed_ports=[80, port],
            )
        self.both(Code.INVALID_ARGUMENT, "8080", exposed_ports=[8080, 8080])
        self.both(Code.INVALID_ARGUMENT, "33", exposed_ports=range(1000, 1033))
        self.check_nothing_reserved()

    def test_edge_ports(self):
        shared = {"exposed_ports": [1, 65535], "network": "shared"}
        self.assertEqual(
            list(self.stack.create("edge", spec_args=shared).endpoints), ["127.0.0.1:1", "127.0.0.1:65535"]
        )
        self.stack.delete("edge")

    def test_command(self):
        self.both(Code.INVALID_ARGUMENT, "/no/such/program", command=["/no/such/program"])
        self.both(Code.INVALID_ARGUMENT, "no-such-word", command=["no-such-word", "arg"])
        self.both(Code.INVALID_ARGUMENT, "/etc", command=["/etc"])
        self.both(Code.INVALID_ARGUMENT, "command", command=[""])
        self.stack.wait_empty()

    def test_working_dir_and_env(self):
        self.both(Code.INVALID_ARGUMENT, "relative/dir", working_dir="relative/dir")
        self.both(Code.INVALID_ARGUMENT, "A=B", envs={"A=B": "x"})
        self.both(Code.INVALID_ARGUMENT, "environment", envs={"": "x"})

    def test_resources(self):
        for name, value in (
            ("memory", "lots"),
            ("memory", "-1"),
            ("cpu", "0"),
            ("cpu", "1e400"),
            ("pids", "1.5"),
        ):
            self.both(Code.INVALID_ARGUMENT, [value, name], resources={name: value})
        self.both(Code.INVALID_ARGUMENT, "bananas", resources={"bananas": "1"})

    def test_size(self):
        """The encoded spec has a limit of 64 KiB; just under it is served."""
        self.both(Code.INVALID_ARGUMENT, "65536", args=["x" * 66000])
        self.both(Code.INVALID_ARGUMENT, "65536", envs={f"V{i}": "y" * 1000 for i in range(70)})
        self.check_nothing_reserved()
        big = self.stack.create("big", command=["/bin/sh", "-c", "echo ${#1}", "sh", "z" * 65000])
        self.stack.wait("big")
        self.assertEqual(self.stack.log_of("big"), b"65000\n")
        self.assertTrue(big.id)
        self.stack.delete("big")

    def test_message_over_four_megabytes(self):
        code, details = code_of(
            self.stack.client.fastpath.CreateSandbox,
            fp.CreateRequest(image=IMAGE, pool_ref="default-pool", args=["x" * (5 << 20)]),
        )
        self.assertIn(code, (Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT), details)

    def test_options(self):
        now = int(time.time())
        self.both(Code.INVALID_ARGUMENT, "-5", expire_time_seconds=-5)
        self.both(Code.INVALID_ARGUMENT, str(now - 100), expire_time_seconds=now - 100)
        self.both(Code.INVALID_ARGUMENT, "-7", recovery_timeout_seconds=-7)
        self.both(Code.INVALID_ARGUMENT, "r" * 60, request_id="r" * 200)
        self.both(Code.INVALID_ARGUMENT, "label", labels={f"k{i}": "v" * 100 for i in range(300)})

    def test_unknown_enum(self):
        request = fp.CreateRequest(image=IMAGE, pool_ref="default-pool")
        for name, value in (("consistency_mode", 7), ("failure_policy", 9)):
            bad = fp.CreateRequest()
            bad.CopyFrom(request)
            setattr(bad, name, value)
            self.refused(Code.INVALID_ARGUMENT, str(value), self.stack.client.fastpath.CreateSandbox, bad)
        for name, value in (("consistency", 7), ("wait_for", 6), ("failure_policy", 5)):
            bad = self.stack.request()
            setattr(bad.options, name, value)
            self.refused(Code.INVALID_ARGUMENT, str(value), self.stack.client.sandboxes.CreateSandbox, bad)
        self.refused(Code.INVALID_ARGUMENT, "vlan", self.stack.create, spec_args={"network": "vlan"})

    def test_not_in_this_release(self):
        """AutoRecreate and reset: UNIMPLEMENTED, with the reason."""
        self.refused(
            Code.UNIMPLEMENTED,
            "lifecycle",
            self.stack.client.fastpath.CreateSandbox,
            fp.CreateRequest(image=IMAGE, pool_ref="default-pool", failure_policy=fp.AUTO_RECREATE),
        )
        self.refused(Code.UNIMPLEMENTED, "lifecycle", self.stack.create, failure_policy=1)
        self.stack.create("is")
        for fields in (
            {"reset_revision": "2026-01-01T00:00:00.000000001Z"},
            {"failure_policy": fp.AUTO_RECREATE},
        ):
            self.refused(
                Code.UNIMPLEMENTED,
                "lifecycle",
                self.stack.client.fastpath.UpdateSandbox,
                fp.UpdateRequest(sandbox_name="is", namespace="default", **fields),
            )
        self.assertEqual(self.stack.get("is").phase, "Running")
        self.stack.delete("is")

    def test_no_such_sandbox(self):
        client = self.stack.client
        self.refused(Code.NOT_FOUND, "ghost", self.stack.get, "ghost")
        self.refused(Code.NOT_FOUND, "ghost", self.stack.delete, "ghost")
        self.refused(Code.NOT_FOUND, "ghost", self.stack.wait, "ghost")
        self.refused(Code.NOT_FOUND, "ghost", client.sandboxes.Logs, fsb.SandboxLogsRequest(name="ghost"))
        self.refused(Code.NOT_FOUND, "ghost", client.fastpath.GetSandbox, fp.GetRequest(sandbox_name="ghost"))
        self.refused(
            Code.NOT_FOUND, "ghost", client.fastpath.DeleteSandbox, fp.DeleteRequest(sandbox_name="ghost")
        )
        self.refused(Code.INVALID_ARGUMENT, "name", self.stack.get, "")
        self.refused(Code.INVALID_ARGUMENT, "name", self.stack.delete, "")
        self.stack.create("is")
        self.refused(Code.INVALID_ARGUMENT, "Sideways", self.stack.wait, "is", phase="Sideways")
        self.refused(Code.INVALID_ARGUMENT, "-3", self.stack.wait, "is", timeout_ms=-3)
        self.stack.delete("is")

    # ---- bytes that no stub would send ----

    def test_malformed(self):
        for path in (CREATE, CREATE_FSB, "/fsb.v1.SandboxService/Get", "/fsb.v1.SandboxService/List"):
            for data in (
                b"\xff",
                b"\x0a\x7fshort",
                b"\x0b\x0b\x0b",
                varint(1 << 63),
                b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                b"\x00\x01",
                os.urandom(1) + b"\xff" * 20,
            ):
                with self.subTest(path=path, data=data):
                    self.refused(Code.INVALID_ARGUMENT, "", self.stack.client.raw, path, data)
        self.check_nothing_reserved()

    def test_strings(self):
        """A NUL would cut a name short unseen, invalid UTF-8 could not be told back."""
        good = field(1, IMAGE.encode()) + field(2, b"default-pool")
        for name in (b"a\0b", b"\0", b"\xff\xfe", b"a\xc0\x80b", b"\xed\xa0\x80"):
            with self.subTest(name=name):
                self.refused(Code.INVALID_ARGUMENT, "", self.stack.client.raw, CREATE, good + field(8, name))
                self.refused(
                    Code.INVALID_ARGUMENT,
                    "",
                    self.stack.client.raw,
                    CREATE,
                    good + field(9, field(1, name) + field(2, b"v")),
                )
                self.refused(Code.INVALID_ARGUMENT, "", self.stack.client.raw, CREATE, good + field(4, name))
        self.check_nothing_reserved()

    def test_submessage_bomb(self):
        """Four megabytes of empty submessages would be two million objects."""
        bomb = field(9, b"") * ((4 << 20) // 2 - 100)
        code, details = code_of(self.stack.client.raw, CREATE, bomb)
        self.assertIn(code, (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED), details)

    def test_unknown_fields_are_ignored(self):
        """A newer client's fields do no harm."""
        data = (
            field(1, IMAGE.encode())
            + field(2, b"default-pool")
            + field(4, b"/bin/true")
            + field(8, b"newer")
            + field(999, b"future")
            + varint(1000 << 3)
            + varint(5)
        )
        self.stack.client.raw(CREATE, data)
        self.stack.wait("newer")
        self.stack.delete("newer")

    def test_unknown_methods(self):
        for path in (
            "/fastpath.v1.FastPathService/NoSuchMethod",
            "/no.such.Service/Get",
            "/",
            "/fsb.v1.SandboxService/",
        ):
            with self.subTest(path=path):
                begin = time.monotonic()
                self.refused(Code.UNIMPLEMENTED, "", self.stack.client.raw, path, b"", timeout=10)
                self.assertLess(time.monotonic() - begin, 5, "answered, not left to the deadline")

    def test_random_bytes(self):
        rng = random.Random(20)
        allowed = (Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.UNIMPLEMENTED)
        good = fp.CreateRequest(
            image=IMAGE,
            pool_ref="default-pool",
            command=["/bin/true"],
            name="fuzz",
            exposed_ports=[80],
            envs={"A": "b"},
        ).SerializeToString()
        for _ in range(full(300, 20000)):
            data = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            code, details = code_of(self.stack.client.raw, CREATE, bytes(data))
            self.assertIn(code, allowed + (Code.OK, Code.ALREADY_EXISTS), (bytes(data), details))
            if code == Code.OK:
                self.stack.delete_all()

    def test_not_http2(self):
        """Garbage on the port, half-open connections, connections that say nothing."""
        idle = [socket.create_connection(("127.0.0.1", self.stack.port())) for _ in range(50)]
        for data in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            os.urandom(4096),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
            b"",
        ):
            with socket.create_connection(("127.0.0.1", self.stack.port())) as s:
                s.sendall(data)
        self.stack.create("through", client=self.stack.connect())
        self.stack.delete("through")
        for s in idle:
            s.close()

    def test_bad_image_load(self):
        def request(path, **more):
            return fsb.LoadImageRequest(layout_path=path, name="bad", **more)

        load = self.stack.client.admin.LoadImage
        empty = os.path.join(self.stack.run_dir, "empty-layout")
        os.makedirs(empty, exist_ok=True)
        codes = (Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
        self.refused(codes, "/no/such/dir", load, request("/no/such/dir"))
        self.refused(codes, "relative", load, request("relative"))
        self.refused(codes, empty, load, request(empty))
        with open(os.path.join(empty, "index.json"), "w") as f:
            f.write("{broken")
        self.refused(codes, empty, load, request(empty))
        self.assertNotIn("docker.io/library/bad:latest", self.stack.agents()["agent-0"].images)

    def test_capacity_is_enforced_at_the_agent_too(self):
        """A create that is over an agent's memory is refused by the kernel's or the agent's limit, not served wrongly."""
        code, details = code_of(
            self.stack.create, "tiny", command=FOREVER, spec_args={"resources": {"memory": "1"}}
        )
        self.assertIn(code, (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED), details)
        eventually(lambda: self.stack.find("tiny") is None, "nothing of it")


if __name__ == "__main__":
    main()
