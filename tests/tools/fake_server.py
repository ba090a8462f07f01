# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the fast path with fixed answers, so that every word fsb-ctl prints can be checked.

usage: fake_server.py GENERATED_DIR SOCKET     (GENERATED_DIR holds protoc's Python code)
Each request is appended to SOCKET.requests as one line: the method, then the message as compact JSON.
"""
import sys
from concurrent import futures

sys.path.insert(0, sys.argv[1])
import grpc  # noqa: E402
from google.protobuf import json_format  # noqa: E402
import fastpath_pb2 as fp  # noqa: E402
import fsb_pb2 as fsb  # noqa: E402
import health_pb2 as health  # noqa: E402

SOCKET = sys.argv[2]
CREATED = 1700000000


def note(method, request):
    with open(SOCKET + ".requests", "a", encoding="utf-8") as out:
        out.write(method + " " + json_format.MessageToJson(request, indent=None, sort_keys=True) + "\n")


def info(name):
    return fp.SandboxInfo(sandbox_id="0123456789abcdef0123456789abcdef", phase="Running", agent_pod="agent-0",
                          endpoints=["10.0.0.1:80", "10.0.0.1:443"], created_at=CREATED, image="busybox",
                          pool_ref="default-pool", sandbox_name=name, namespace="default", generation=1)


def sandbox(name, phase="Succeeded", **more):
    return fsb.Sandbox(id="0123456789abcdef0123456789abcdef", name=name, namespace="default", pool="default-pool",
                       agent="agent-0", image="busybox", phase=phase, created_unix_ns=CREATED * 10**9, generation=1,
                       stored=True, **more)


def refuse(context, code, text):
    context.abort(code, text)


def create(request, context):
    if request.name == "taken":
        refuse(context, grpc.StatusCode.ALREADY_EXISTS, "sandbox 'taken' exists")
    return fp.CreateResponse(sandbox_id="0123456789abcdef0123456789abcdef", agent_pod="agent-0",
                             endpoints=[f"10.0.0.1:{p}" for p in request.exposed_ports], sandbox_name=request.name)


def get(request, context):
    if request.sandbox_name == "nobody":
        refuse(context, grpc.StatusCode.NOT_FOUND, "no sandbox 'nobody' in namespace 'default'")
    return info(request.sandbox_name)


def update(request, context):
    if request.WhichOneof("update") == "reset_revision" and request.sandbox_name == "old":
        return fp.UpdateResponse(success=False, message="failed to update sandbox: no")
    return fp.UpdateResponse(success=True, message="sandbox updated successfully", sandbox=info(request.sandbox_name))


def wait(request, context):
    if request.name == "killed":
        return sandbox("killed", "Failed", exit_code=-1, signal=9, oom_killed=True)
    return sandbox(request.name, "Failed" if request.name == "bad" else "Succeeded",
                   exit_code=3 if request.name == "bad" else 0)


def batch(request, context):
    for i in range(request.count):
        failed = request.mode == fsb.PARTIAL and i == 1
        yield fsb.CreateBatchResponse(members=[fsb.BatchMember(
            index=i, code=8 if failed else 0, message="no free slot" if failed else "",
            sandbox=None if failed else sandbox(f"{request.name}-{i}", "Running"))])
    lost = 1 if request.mode == fsb.PARTIAL else 0
    yield fsb.CreateBatchResponse(summary=fsb.BatchSummary(name=request.name, requested=request.count,
                                                           started=request.count - lost, failed=lost,
                                                           reserve_ns=1500000, total_ns=9000000))


def logs(request, context):
    yield fsb.SandboxLogsChunk(data=b"line one\n")
    yield fsb.SandboxLogsChunk(data=b"\x00\xff two\n")


AGENT = fsb.AgentInfo(name="agent-0", namespace="default", pool="default-pool", node="node", address="unix:/a.sock",
                      capacity=32, allocated=3, state="Ready", images=["docker.io/library/busybox:latest"],
                      reserved_total=17)
STATS = fsb.GetStatsResponse(sandboxes=3, dirty=1, store_lag_ns=1500000, store_loaded=True,
                             workers=[fsb.WorkerStats(worker=0, pid=11, creates=5, refusals=1)],
                             histograms=[fsb.Histogram(name="reserve", count=5, p50_ns=800, p90_ns=1000, p99_ns=2000,
                                                       p999_ns=2500, max_ns=3000)], counters={"conflicts": 2},
                             refusals={"NO_CAPACITY": 4},
                             unmet=[fsb.PoolDemand(namespace="default", pool="default-pool", unmet_demand=4)])

UNARY = {
    "fastpath.v1.FastPathService": {
        "CreateSandbox": (fp.CreateRequest, create),
        "GetSandbox": (fp.GetRequest, get),
        "ListSandboxes": (fp.ListRequest, lambda r, c: fp.ListResponse(items=[info("web"), info("a-longer-name")])),
        "DeleteSandbox": (fp.DeleteRequest, lambda r, c: fp.DeleteResponse(success=True)),
        "UpdateSandbox": (fp.UpdateRequest, update),
    },
    "fsb.v1.SandboxService": {
        "CreateSandbox": (fsb.CreateSandboxRequest, lambda r, c: sandbox(r.name, "Running")),
        "List": (fsb.ListSandboxesRequest, lambda r, c: fsb.ListSandboxesResponse(items=[sandbox("web", "Running")])),
        "Wait": (fsb.WaitSandboxRequest, wait),
        "Delete": (fsb.DeleteSandboxRequest, lambda r, c: fsb.DeleteSandboxResponse()),
    },
    "fsb.v1.AdminService": {
        "ListAgents": (fsb.ListAgentsRequest, lambda r, c: fsb.ListAgentsResponse(items=[AGENT])),
        "ListPools": (fsb.ListPoolsRequest, lambda r, c: fsb.ListPoolsResponse(items=[fsb.PoolInfo(
            name="default-pool", namespace="default", agents=2, ready_agents=1, capacity=64, allocated=3)])),
        "LoadImage": (fsb.LoadImageRequest, lambda r, c: fsb.LoadImageResponse(
            image="docker.io/library/busybox:latest", digest="sha256:00", bytes=9, agents=2)),
        "ListImages": (fsb.ListImagesRequest, lambda r, c: fsb.ListImagesResponse(items=[fsb.ImageInfo(
            image="docker.io/library/busybox:latest", agents=2)])),
        "GetStats": (fsb.GetStatsRequest, lambda r, c: STATS),
    },
    "grpc.health.v1.Health": {
        "Check": (health.HealthCheckRequest, lambda r, c: health.HealthCheckResponse(
            status=health.HealthCheckResponse.NOT_SERVING if r.service == "down" else
            health.HealthCheckResponse.SERVING)),
    },
}
STREAMS = {
    "fsb.v1.SandboxService": {"CreateBatch": (fsb.CreateBatchRequest, batch), "Logs": (fsb.SandboxLogsRequest, logs)},
}


def handler(make, service, method, request, function):
    def noted(message, context):
        note(f"{service}/{method}", message)
        return function(message, context)

    return make(noted, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString())


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    for service in {**UNARY, **STREAMS}:
        methods = {m: handler(grpc.unary_unary_rpc_method_handler, service, m, *f)
                   for m, f in UNARY.get(service, {}).items()}
        methods |= {m: handler(grpc.unary_stream_rpc_method_handler, service, m, *f)
                    for m, f in STREAMS.get(service, {}).items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    server.add_insecure_port("unix:" + SOCKET)
    server.start()
    server.wait_for_termination()


main()
