# SPDX-License-Identifier: Apache-2.0
"""gRPC clients for fsb's services, made from the descriptors: grpcio is an implementation independent of ours."""

import os
import sys

import process  # noqa: F401: it knows where the stubs are

sys.path.insert(0, os.environ["FSB_GEN"])
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# Between calls nobody polls a connection that is being made but this, every five seconds by default.
os.environ.setdefault("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "20")

import grpc  # noqa: E402

import agent_pb2  # noqa: E402,F401
import fastpath_pb2 as fp  # noqa: E402
import fsb_pb2 as fsb  # noqa: E402
import health_pb2 as health  # noqa: E402
import spec_pb2 as spec  # noqa: E402,F401

Code = grpc.StatusCode
TIMEOUT = 30

OPTIONS = [
    # Each Client has a connection of its own, so that it is with one worker.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    # How long an attempt may take; a busy machine is no reason to give one up.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A test's one retry would hide what it looks for.
    ("grpc.enable_retries", 0),
]


class Service:
    """service.Method(request, timeout=s) for each method of a service descriptor."""

    def __init__(self, channel, descriptor):
        for method in descriptor.methods:
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{descriptor.full_name}/{method.name}",
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=method.output_type._concrete_class.FromString,
            )
            setattr(self, method.name, self._with_deadline(call))
            setattr(self, method.name + "_async", getattr(call, "future", call))

    @staticmethod
    def _with_deadline(call):
        return lambda request, timeout=TIMEOUT: call(request, timeout=timeout)


def _service(module, name):
    return module.DESCRIPTOR.services_by_name[name]


class Client:
    """One connection. target: "host:port" or "unix:/path"."""

    def __init__(self, target):
        self.target = target
        self.channel = grpc.insecure_channel(target, options=OPTIONS)
        self.fastpath = Service(self.channel, _service(fp, "FastPathService"))
        self.sandboxes = Service(self.channel, _service(fsb, "SandboxService"))
        self.admin = Service(self.channel, _service(fsb, "AdminService"))
        self.health = Service(self.channel, _service(health, "Health"))

    def raw(self, path, data, timeout=TIMEOUT):
        """Bytes as they are, for what no stub would send."""
        call = self.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        return call(data, timeout=timeout)

    def close(self):
        self.channel.close()


def code_of(call, *args, **kwargs):
    """(status code, details) of a call, OK included; a stream is read to its end."""
    try:
        reply = call(*args, **kwargs)
        if hasattr(reply, "__next__"):
            list(reply)
    except grpc.RpcError as e:
        return e.code(), e.details()
    return Code.OK, ""


def varint(n):
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    """One length-delimited field: for strings that the stubs refuse to encode."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload
