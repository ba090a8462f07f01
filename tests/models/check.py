#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every interleaving within bounds, by spin: check.py slot|grace|batch. The protocol as it is must have no error, each broken variant must
have one, so that the search is known to see it. Bounds and states are printed; FSB_LONG=1 adds the large ones."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LONG = os.environ.get("FSB_LONG", "0") not in ("", "0")
DEPTH = 20000
CLAIMS = "WORKERS=2 REAPERS=0 DEATHS=0"
AGENT = "COMMANDS WORKERS=2 INDEXES=1 RECORDS=1 SCRUBS=0"

MODELS = {
    "slot": {
        "short": {
            "two workers and a scrubber": "WORKERS=2 DEATHS=0",
            "one dies": "WORKERS=2 DEATHS=1 SCRUBS=0",
            "one dies, a scrubber beside it": "COMMANDS WORKERS=1 RECORDS=1 DEATHS=1",
            "commands, exits and the fence, one dies": AGENT + " DEATHS=1",
            "commands to one agent from two at once": "COMMANDS WORKERS=2 RECORDS=1 SCRUBS=0 DEATHS=0",
        },
        "long": {
            "one dies, two indexes, a scrubber": "WORKERS=2 DEATHS=1",
            "two die, the reaper among them": "WORKERS=2 DEATHS=2 SCRUBS=0",
            "two reapers, two die": "WORKERS=2 INDEXES=1 REAPERS=2 DEATHS=2 SCRUBS=0",
            "three workers": "WORKERS=3 INDEXES=2 DEATHS=1 SCRUBS=0",
            "two slots": "WORKERS=2 SLOTS=2 DEATHS=1 SCRUBS=0",
            "commands, two die": AGENT + " DEATHS=2",
            "commands, two records, two indexes, one dies": "COMMANDS WORKERS=2 DEATHS=1 SCRUBS=0",
            "commands and a scrubber": "COMMANDS WORKERS=2 RECORDS=1 DEATHS=0",
        },
        "broken": {
            "MASK_DECIDES": CLAIMS + " CLAIMS=2",
            "MASK_DECIDES_IN_SECTION": CLAIMS + " CLAIMS=2",
            "MASK_DECIDES_GEN": CLAIMS + " CLAIMS=2",
            "SCRUB_TRUTH": CLAIMS,
            "SETTLE_ONCE": CLAIMS,
            "NO_FENCE": AGENT + " DEATHS=1",
            "NO_TOMBSTONE": AGENT + " DEATHS=1",
            "NO_RECHECK": "WORKERS=2 REAPERS=2 INDEXES=1 RECORDS=1 SCRUBS=0 DEATHS=1",
            "INDEX_FIRST": "WORKERS=2 INDEXES=1 SCRUBS=0 DEATHS=2",
            "NO_SLOT_GENERATION": "COMMANDS WORKERS=2 DEATHS=0",
            "NO_RECORD_GENERATION": AGENT + " DEATHS=0",
        },
    },
    "batch": {
        "short": {
            "a head and a member": "MEMBERS=1 SINGLES=2",
            "two members": "MEMBERS=2",
        },
        "long": {
            "two lookers": "MEMBERS=1 LOOKERS=2",
        },
        "broken": {
            "HEAD_NO_GENERATION": "MEMBERS=1",
            "MARK_LATE": "MEMBERS=1",
            "NO_SHOW": "MEMBERS=1",
            "LOOKER_STORES": "MEMBERS=1",
            "NO_SECOND_LOOK": "MEMBERS=1",
        },
    },
    "grace": {
        "short": {
            "one joins beside a member": "MEMBERS=1 JOINERS=1 REQUESTERS=1",
            "one joins, two requests": "MEMBERS=0 JOINERS=1 REQUESTERS=2",
            "two requests, two sections": "MEMBERS=1 JOINERS=0 REQUESTERS=2 SECTIONS=2",
            "one dies, its index is taken again": "MEMBERS=1 JOINERS=1 REQUESTERS=1 DEATHS=1",
            "the retire list": "RETIRE MEMBERS=1 JOINERS=1 REQUESTERS=1",
        },
        "long": {
            "two requests": "MEMBERS=1 JOINERS=1 REQUESTERS=2",
            "the retire list, one dies": "RETIRE MEMBERS=1 JOINERS=1 REQUESTERS=1 DEATHS=1",
            "the retire list, two requests": "RETIRE MEMBERS=1 JOINERS=0 REQUESTERS=2 SECTIONS=2 DRAINS=2",
            "two sections, one dies": "MEMBERS=1 JOINERS=1 REQUESTERS=1 SECTIONS=2 DEATHS=1",
        },
        "broken": {
            "JOIN_STORE": "MEMBERS=1 JOINERS=1 REQUESTERS=1",
            "JOIN_READS_FIRST": "MEMBERS=1 JOINERS=1 REQUESTERS=1",
            "DONE_NEWER": "MEMBERS=1 JOINERS=0 REQUESTERS=2 SECTIONS=2",
            "SKIP_ONE": "MEMBERS=1 JOINERS=1 REQUESTERS=1",
            "NUMBER_FIRST": "MEMBERS=1 JOINERS=1 REQUESTERS=1",
            "REQUEST_STORE": "MEMBERS=0 JOINERS=1 REQUESTERS=1",
            "DRAIN_BY_STRANGER": "RETIRE MEMBERS=0 JOINERS=1 REQUESTERS=1",
            "NO_GRACE": "MEMBERS=1 JOINERS=1 REQUESTERS=1",
        },
    },
}


def run(command, where):
    return subprocess.run(command, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def search(model, bounds, optimise):
    """(errors, states, what spin says of the first error). Anything but a finished search is an exception."""
    with tempfile.TemporaryDirectory(prefix="fsb-model-") as where:
        shutil.copy(os.path.join(HERE, model + ".pml"), where)
        made = run(["spin", "-a", *("-D" + b for b in bounds.split()), model + ".pml"], where)
        if made.returncode or "Error" in made.stdout:
            raise RuntimeError(made.stdout)
        # NOREDUCE: deaths interrupt local steps, too
        built = run(["gcc", "-w", optimise, "-DSAFETY", "-DNOREDUCE", "-DCOLLAPSE", "-o", "pan", "pan.c"], where)
        if built.returncode:
            raise RuntimeError(built.stdout)
        out = run(["./pan", f"-m{DEPTH}", "-n"], where).stdout
    errors, states = re.search(r"errors: (\d+)", out), re.search(r"(\d+) states, stored", out)
    if not errors or not states or "too small" in out or "out of memory" in out or "Search not completed" in out and errors[1] == "0":
        raise RuntimeError(out)
    first = re.search(r"pan:1: (.*) \(at depth", out)
    return int(errors[1]), int(states[1]), first[1] if first else ""


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in MODELS:
        print("usage: check.py slot|grace|batch", file=sys.stderr)
        return 2
    model, wrong, begun = sys.argv[1], 0, time.monotonic()
    cases = [(name, bounds, False) for name, bounds in MODELS[model]["short"].items()]
    if LONG:
        cases += [(name, bounds, False) for name, bounds in MODELS[model]["long"].items()]
    cases += [(name, bounds + " " + name, True) for name, bounds in MODELS[model]["broken"].items()]
    print(f"{model}.pml, {'long' if LONG else 'short'} bounds")
    for name, bounds, broken in cases:
        start = time.monotonic()
        errors, states, first = search(model, bounds, "-O1" if name in MODELS[model]["long"] else "-O0")
        good = "assertion" in first if broken else errors == 0
        wrong += not good
        verdict = ("found: " + first if errors else "no error") + ("" if good else "   <-- WRONG")
        print(f"{'broken ' if broken else '       '}{name:46} {states:9} states {time.monotonic() - start:6.1f} s  {verdict}")
        print(f"       {'':46} {bounds}", flush=True)
    print(f"{len(cases)} searches, {wrong} wrong, {time.monotonic() - begun:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
