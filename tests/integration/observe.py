# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about one fsb instance: processes, cgroups, mounts, files.

Nothing here asks fsb. An instance is known by its run directory, which is part of every fsb process's command line and of every
overlay mount, and by its name, which is part of every cgroup path; both are unique to a test.
"""

import errno
import os
import re
import signal
import time


def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def _mentions(data, path):
    """The path stands in data, and not as the beginning of a longer name."""
    return re.search(re.escape(path.encode()) + rb"(?![\w.-])", data) is not None


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def state(pid):
    """The letter of /proc/PID/stat; None when there is no such process."""
    stat = _read(f"/proc/{pid}/stat")
    return chr(stat[stat.rindex(b")") + 2]) if stat else None


def start_ticks(pid):
    stat = _read(f"/proc/{pid}/stat")
    return int(stat[stat.rindex(b")") + 2 :].split()[19]) if stat else None


def alive(pid):
    return state(pid) not in (None, "Z", "X")


def parent(pid):
    stat = _read(f"/proc/{pid}/stat")
    return int(stat[stat.rindex(b")") + 2 :].split()[1]) if stat else None


def children(pid):
    return sorted(p for p in pids() if parent(p) == pid and alive(p))


def cmdline(pid):
    return [a.decode(errors="replace") for a in _read(f"/proc/{pid}/cmdline").split(b"\0")[:-1]]


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cgroup_mounts():
    roots = []
    for line in _read("/proc/self/mountinfo").decode().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] in ("cgroup", "cgroup2"):
            roots.append(left.split()[4])
    return roots


def cgroup_dirs(instance):
    """Every cgroup directory at or below fsb/INSTANCE, in every hierarchy."""
    found = []
    for root in cgroup_mounts():
        top = os.path.join(root, "fsb", instance)
        for path, _, _ in os.walk(top):
            found.append(path)
    return found


def sandbox_pids(instance):
    """{sandbox id: (agent, set of pids)} from cgroup.procs of every hierarchy; empty cgroups have an empty set."""
    found = {}
    for root in cgroup_mounts():
        top = os.path.join(root, "fsb", instance)
        for agent in _listdir(top):
            for sandbox in _listdir(os.path.join(top, agent)):
                group = os.path.join(top, agent, sandbox)
                if not os.path.isdir(group):
                    continue
                members = found.setdefault(sandbox, (agent, set()))[1]
                for path, _, files in os.walk(group):
                    if "cgroup.procs" in files:
                        procs = _read(os.path.join(path, "cgroup.procs"))
                        members.update(int(p) for p in procs.split())
    return found


def running(instance):
    """{sandbox id: (agent, pids)} of the sandboxes that have a live process."""
    found = {}
    for sandbox, (agent, members) in sandbox_pids(instance).items():
        live = {p for p in members if alive(p)}
        if live:
            found[sandbox] = (agent, live)
    return found


def _listdir(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def instance_processes(run_dir, instance):
    """{pid: command line} of everything that belongs to the instance by command line, cgroup or mounts."""
    own_mounts = os.readlink("/proc/self/ns/mnt")
    group = re.compile(rb"/fsb/" + re.escape(instance.encode()) + rb"(/|$)", re.M)
    found = {}
    for pid in pids():
        if pid == os.getpid() or not alive(pid):
            continue
        mine = (
            _mentions(_read(f"/proc/{pid}/cmdline"), run_dir)
            or group.search(_read(f"/proc/{pid}/cgroup")) is not None
        )
        if not mine:
            try:
                foreign = os.readlink(f"/proc/{pid}/ns/mnt") != own_mounts
            except OSError:
                continue
            mine = foreign and _mentions(_read(f"/proc/{pid}/mountinfo"), run_dir)
        if mine:
            found[pid] = " ".join(cmdline(pid))
    return found


def mounts(run_dir):
    """Lines of mountinfo that name the run directory, here and in the namespaces of the instance's own processes."""
    lines = set()
    for pid in ["self"] + [p for p in pids() if _mentions(_read(f"/proc/{p}/cmdline"), run_dir)]:
        for line in _read(f"/proc/{pid}/mountinfo").splitlines():
            if _mentions(line, run_dir):
                lines.add(line.decode(errors="replace").split(" ", 3)[3])
    return sorted(lines)


def state_dirs(run_dir):
    """Paths below R/state/AGENT/: one for each sandbox whose files an agent still keeps."""
    top = os.path.join(run_dir, "state")
    return sorted(
        os.path.join(agent, name)
        for agent in _listdir(top)
        for name in _listdir(os.path.join(top, agent))
        if not name.startswith(".") and os.path.isdir(os.path.join(top, agent, name))
    )


def arena_files(arena):
    folder, base = os.path.split(arena)
    return sorted(os.path.join(folder, f) for f in _listdir(folder) if f == base or f.startswith(base + "."))


def leftovers(run_dir, instance):
    """What sandboxes have left behind while the stack itself may still run: a list of sentences, empty when clean."""
    left = [
        f"process {p} of sandbox {sid} on {agent}: {' '.join(cmdline(p))}"
        for sid, (agent, members) in running(instance).items()
        for p in members
    ]
    left += [f"cgroup of sandbox {sid} on {agent}" for sid, (agent, _) in sandbox_pids(instance).items()]
    left += [f"state directory {d}" for d in state_dirs(run_dir)]
    left += [f"mount {m}" for m in mounts(run_dir) if "/state/" in m]
    return left


def _kill_all(run_dir, instance):
    for _ in range(200):
        found = instance_processes(run_dir, instance)
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def sweep(run_dir, instance, arena):
    """Takes away whatever an instance has left, by force. For the end of a test, never for a check."""
    _kill_all(run_dir, instance)
    for line in reversed(_read("/proc/self/mountinfo").splitlines()):
        if _mentions(line, run_dir):
            os.system("umount -l '%s' 2>/dev/null" % line.split()[4].decode())
    for path in sorted(cgroup_dirs(instance), key=len, reverse=True):
        for _ in range(100):
            try:
                os.rmdir(path)
            except OSError as e:
                if e.errno == errno.EBUSY:
                    time.sleep(0.01)
                    continue
            break
    for path in arena_files(arena):
        try:
            os.unlink(path)
        except OSError:
            pass
    os.system("rm -rf --one-file-system '%s'" % run_dir)
