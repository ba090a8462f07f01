# SPDX-License-Identifier: Apache-2.0
"""What bench_registry is told to measure: sessions of worlds and lanes, as the text of a plan (registry/session.h)."""

import itertools

AGENTS = (100, 1000, 10000, 100000)
FILLS = (10, 50, 90, 99)
IMAGES = ("all", "half", "uniform", "zipf", "hot", "none")
PORTS = ("noports", "ports")
KEYS = ("agents", "fill", "images", "ports", "processes")

# Seconds of measuring per session: (--quick, otherwise).
SECONDS = {"thousand": (11, 90), "growth": (6, 60), "adversarial": (3, 25), "equal": (2, 15), "checks": (3, 40)}
MATRIX_SECONDS = 2.5


def world(agents, fill, images, ports="noports", **options):
    words = [f"{key}={value}" for key, value in options.items() if value is not True]
    words += [key for key, value in options.items() if value is True]
    return " ".join(["world", str(agents), str(fill), images, ports] + words)


def lanes(*names):
    """ "full", "full 2", "life 2 foreign": without a number, one process."""
    return ["lane " + (name if " " in name else name + " 1") for name in names]


def session(name, quick, *lines):
    return [f"session {name} {SECONDS[name][0 if quick else 1]}", *lines]


def thousand(quick, cores):
    """1,000 agents, half of them with the one image that is asked for: everything against everything."""
    many = sorted({1, 2, cores})
    lines = [world(1000, 50, "half")]
    for subject in ("cas_private", "cas_contended", "slot", "full", "life", "stripes_slot", "stripes_full", "fast_scan", "scan_private"):
        lines += lanes(*(f"{subject} {n}" for n in many if n <= cores and (n > 1 or subject != "cas_contended")))
    lines += lanes("cas_pair", "cas_bare", "seed_algorithm", "best_of_three", "full_cold", "batch64", "singles64", "gang1000")
    if cores > 1:
        lines += lanes("slot 2 foreign", "life 2 foreign")
    # the same with 16 images in turn
    lines += [world(1000, 50, "uniform")] + lanes("slot", "full", "stripes_full") + (lanes("full 2") if cores > 1 else [])
    return session("thousand", quick, *lines)


def growth(quick):
    lines = []
    for agents in AGENTS:
        lines += [world(agents, 50, "half")] + lanes("cas_pair", "slot", "full", "stripes_full", "fast_scan", "best_of_three")
        if agents in (1000, 10000):
            lines += lanes("full_cold")
        if agents <= (1000 if quick else 10000):
            lines += lanes("seed_algorithm")
    return session("growth", quick, *lines)


def adversarial(quick, cores):
    lines = [world(10000, 50, "all"), *lanes("full")]
    lines += [world(10000, 100, "all", free=0), *lanes("full")]
    if cores > 1:
        lines += lanes("full 2", "life 2 foreign")
    return session("adversarial", quick, *lines)


def equal(quick, cores):
    """Equal agents: what the loads look like at the end."""
    many = sorted({1, min(2, cores), cores})
    lines = []
    for images, fill in (("all", 50), ("all", 90), ("half", 50), ("none", 50), ("hot", 50)):
        lines += [world(1000, fill, images)] + lanes(*(f"full {n}" for n in many))
        if cores > 1:
            lines += lanes("life 2 foreign")
    return session("equal", quick, *lines)


def checks(quick, cores):
    """Few slots left, taken and freed by all: each refusal and each miss is judged."""
    lines = [world(10000, 100, "all", free=1, still=True), *lanes("checker")]
    lines += [world(1000, 50, "hot", hot=1, still=True), *lanes("checker")]
    for n in sorted({min(2, cores), cores} - {1}):
        lines += [world(10000, 100, "all", free=n, still=True), *lanes(f"checker {n}")]
        lines += [world(10000, 100, "all", free=2 * n, still=True), *lanes(f"checker {n}")]
        lines += [world(1000, 50, "hot", hot=n, still=True), *lanes(f"checker {n}")]
        lines += [world(1000, 50, "hot", hot=2 * n, still=True), *lanes(f"checker {n}")]
    return session("checks", quick, *lines)


def matrix_case(agents, fill, images, ports, processes):
    """One world of the matrix; all its numbers of processes share it."""
    name = f"{agents}-{fill}-{images}-{ports}"
    free = agents * 16 * (100 - fill) // 100
    lines = [f"session {name} {MATRIX_SECONDS}", world(agents, fill, images, ports), *lanes("cas_pair")]
    for n in processes:
        lines += lanes(f"cas_private {n}", f"slot {n}", f"full {n}", f"life {n}")
        if n > 1:
            lines += lanes(f"life {n} foreign")
    if free >= 500:
        lines += lanes("batch64", "singles64")
    if free >= 2000:
        lines += lanes("gang1000")
    return lines


def cross_section():
    """One dimension at a time around 1,000 agents at 50 %, and the corners that hurt."""
    cases = {(agents, fill, "half", "noports") for agents in AGENTS for fill in FILLS}
    cases |= {(agents, 50, images, "noports") for agents in (1000, 10000) for images in IMAGES}
    cases |= {(1000, fill, images, "noports") for fill in (90, 99) for images in IMAGES}
    cases |= {(agents, fill, "half", "ports") for agents in (100, 1000, 10000) for fill in (50, 90)}
    # The file of a nearly full arena of 100,000 agents takes 3 GB: --full has it.
    cases -= {(100000, fill, "half", "noports") for fill in (90, 99)}
    return sorted(cases)


def matches(case, processes, wanted):
    values = dict(zip(KEYS, (*case, processes)))
    return all(str(values[key]) in options for key, options in wanted.items())


def parse_case(text):
    """ "agents=1000,fill=50|90,images=hot": a dimension that is not named is free."""
    wanted = {}
    for part in text.split(","):
        key, equals, values = part.partition("=")
        if key not in KEYS or not equals:
            raise ValueError(f"--case: '{part}' is not one of {', '.join(KEYS)} with a value")
        wanted[key] = [{"yes": "ports", "no": "noports"}.get(value, value) for value in values.split("|")]
    return wanted


def matrix(cases, cores, wanted):
    lines = []
    for case in cases:
        processes = [n for n in range(1, cores + 1) if not wanted or any(matches(case, n, one) for one in wanted)]
        if processes:
            lines += matrix_case(*case, processes)
    return lines


def plan(options, cores):
    """The whole plan as text."""
    wanted = [parse_case(text) for text in options.case]
    product = list(itertools.product(AGENTS, FILLS, IMAGES, PORTS))
    if wanted:
        lines = matrix(product, cores, wanted)
        if not lines:
            raise ValueError("--case: no case of the matrix is like that")
        return "\n".join(lines) + "\n"
    lines = thousand(options.quick, cores) + growth(options.quick) + adversarial(options.quick, cores)
    lines += equal(options.quick, cores) + checks(options.quick, cores)
    if not options.quick:
        lines += matrix(product if options.full else cross_section(), cores, [])
    return "\n".join(lines) + "\n"
