# SPDX-License-Identifier: Apache-2.0
"""Tables and the plot of a run of bench_registry."""

import statistics

from targets import NOTES, check_rows, cost

TITLES = {
    "cas_pair": "uncontended CAS pair (a bit of a word)",
    "cas_bare": "uncontended CAS pair (bare word)",
    "cas_private": "CAS pair, a line per process",
    "cas_contended": "CAS pair, one line for all",
    "slot": "slot decision alone",
    "full": "full reserve + abort",
    "full_cold": "full, 2048 leases in turn",
    "life": "reserve … commit, stop … stopped",
    "stripes_slot": "prototype: level bitmaps, slot",
    "stripes_full": "prototype with name and record",
    "fast_scan": "best plain scan under a mutex",
    "scan_private": "plain scan, a table per process",
    "best_of_three": "best of 3 from an O(n) list",
    "seed_algorithm": "replaced registry's algorithm",
    "batch64": "reserve of 64 at once",
    "singles64": "64 reserves one by one",
    "gang1000": "gang of 1000 at once",
    "checker": "checker",
}
MISREAD = (
    'The seed\'s published "1.3 ms / 14 ms" at 100 / 1000 agents are a misread unit: its own table is in ns (1.3 / 14 µs), and\n'
    "that benchmark never allocates. They are not compared with here; seed_algorithm is its algorithm, run here."
)


def human_ns(ns):
    if ns < 1000:
        return f"{ns:.1f} ns" if ns < 100 else f"{ns:.0f} ns"
    return f"{ns / 1000:.2f} µs" if ns < 100000 else f"{ns / 1000:.0f} µs"


def human_rate(rate):
    return f"{rate / 1e6:.2f} M/s" if rate >= 1e6 else f"{rate / 1e3:.1f} k/s"


def print_table(rows):
    """The first and the last column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        last = len(row) - 1
        cells = (cell.ljust(w) if i in (0, last) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        print(("  " + "  ".join(cells)).rstrip())


def who(lane):
    text = TITLES.get(lane["subject"], lane["subject"])
    return text + (", foreign releases" if lane["foreign"] else "")


def lane_row(lane):
    reserve, release = lane.get("reserve_ns"), lane.get("release_ns")
    pair = cost(lane)
    row = [who(lane), str(lane["processes"]), human_ns(pair) if pair else "-", human_rate(lane.get("pairs_per_second", 0) * lane["unit"])]
    row += [human_ns(reserve[q]) if reserve else "-" for q in ("p50", "p99", "p99_9", "max")]
    row += [human_ns(release["p50"]) if release else "-"]
    trouble = [
        f"{lane[key]} {text}"
        for key, text in (
            ("refused", "refused"),
            ("port_conflicts", "port conflicts"),
            ("image_misses", "without image"),
            ("unbalanced", "UNBALANCED"),
            ("duplicates", "DUPLICATE"),
        )
        if lane[key]
    ]
    retries = lane.get("retries")
    return row + [
        f"{retries:.4f}" if retries is not None else "-",
        str(lane["spread"]) if "spread" in lane and lane["reserve_ns"] else "-",
        ", ".join(trouble),
    ]


HEADER = ["", "processes", "pair", "rate", "reserve p50", "p99", "p99.9", "max", "release p50", "retries", "spread", ""]


def free_text(slots):
    if slots == 0:
        return "full: what is given back is the one free slot"
    return f"{slots} free slot" + ("s" if slots > 1 else "")


def world_title(world):
    fill = f"{world['fill']} % filled" if world["free_slots"] < 0 else free_text(world["free_slots"])
    if world["free_hot"] >= 0:
        fill += f", {world['free_hot']} free with the image"
    return f"{world['agents']} agents, {fill}, images: {world['images']}" + (", a port each" if world["ports"] else "")


def print_worlds(result):
    print(
        f"pair: a reservation and its release, mean of blocks, median over blocks and rounds; batches: the reserve alone. p50 to max:\n"
        f"singly timed, the clock's {result['clock_ns']:.0f} ns in each. retries: repeated attempts per reserve. spread: of loads at the end."
    )
    for world in result["worlds"]:
        lanes = [lane for lane in world["lanes"] if not lane["checks"]]
        checkers = [lane for lane in world["lanes"] if lane["checks"]]
        print(f"\n{world_title(world)}:")
        if lanes:
            print_table([HEADER] + [lane_row(lane) for lane in lanes])
        for lane in checkers:
            print(
                f"  checked, {lane['processes']} processes: {lane['refused']} refused, {lane['refused_while_free']} of them wrongly;"
                f" {lane['image_misses']} without the image, {lane['image_misses_with_room']} of them wrongly"
            )


def print_summary(summary):
    print("\ntargets (ratios within this run):")
    print_table(check_rows(summary))
    print("\nbeside them:")
    print_table([[name, "-" if summary.get(name) is None else f"{summary[name]:g}", text] for name, text in NOTES])
    print("\n" + MISREAD)


# ---- plot ----


def plot_growth(axes, result):
    names = ("seed_algorithm", "best_of_three", "fast_scan", "stripes_full", "full", "slot")
    for subject in names:
        points = [
            (world["agents"], cost(lane) or 0)
            for world in result["worlds"]
            if world["session"] == "growth"
            for lane in world["lanes"]
            if lane["subject"] == subject
        ]
        if points:
            axes.plot(*zip(*sorted(points)), marker="o", label=TITLES[subject], linewidth=3 if subject in ("full", "slot") else 1.2)
    cas = [cost(lane) for world in result["worlds"] for lane in world["lanes"] if lane["subject"] == "cas_pair"]
    if cas:
        axes.axhline(statistics.median(cas), linestyle=":", color="gray", label="CAS pair: the floor")
    axes.set(xscale="log", yscale="log", xlabel="number of agents", ylabel="ns for one reservation and its release")
    axes.set_title("Cost against the number of agents (one process, half filled)")


def plot_scale(axes, result):
    subjects = ("cas_private", "scan_private", "cas_contended", "slot", "full", "life", "stripes_full", "fast_scan")
    lanes = [lane for world in result["worlds"] if world["session"] == "thousand" and world["images"] == "half" for lane in world["lanes"]]
    labels, ones, twos = [], [], []
    for subject in subjects:
        for foreign in (False, True):
            one = [lane for lane in lanes if lane["subject"] == subject and lane["processes"] == 1]
            two = [lane for lane in lanes if lane["subject"] == subject and lane["processes"] == 2 and lane["foreign"] == foreign]
            if not two or not cost(two[0]):
                continue
            labels.append(TITLES[subject] + (", foreign releases" if foreign else ""))
            ones.append(1e3 / cost(one[0]) if one else 0)
            twos.append(2e3 / cost(two[0]))
    places = range(len(labels))
    axes.barh([p + 0.2 for p in places], ones, height=0.4, label="one process")
    axes.barh([p - 0.2 for p in places], twos, height=0.4, label="two processes together")
    axes.set_yticks(list(places), labels, fontsize=7)
    axes.set(xscale="log", xlabel="million pairs per second (longer is better)")
    axes.set_title("What a second process gains (1,000 agents)")


def plot_quantiles(axes, result):
    names = ("p50", "p90", "p99", "p99_9", "max")
    for world in result["worlds"]:
        if world["session"] != "thousand" or world["images"] != "half":
            continue
        for lane in world["lanes"]:
            if lane["subject"] in ("slot", "full", "fast_scan") and "reserve_ns" in lane:
                label = f"{TITLES[lane['subject']]}, {lane['processes']} process" + ("es" if lane["processes"] > 1 else "")
                axes.plot(range(5), [lane["reserve_ns"][q] for q in names], marker="o", label=label + (", foreign" if lane["foreign"] else ""))
    axes.set_xticks(range(5), ["half", "9 of 10", "99 of 100", "999 of 1000", "slowest"])
    axes.set(yscale="log", xlabel="so many reserves were at least this quick", ylabel="ns for one reserve, clock included")
    axes.set_title("Single reserves (1,000 agents)")


def plot_fill(axes, result):
    found = {}
    for world in result["worlds"]:
        if world["images"] != "half" or world["ports"] or world["free_slots"] >= 0 or world["session"] in ("thousand", "growth"):
            continue
        for lane in world["lanes"]:
            if lane["subject"] == "full" and lane["processes"] == 1:
                found.setdefault(world["agents"], []).append((world["fill"], cost(lane)))
    for agents, points in sorted(found.items()):
        axes.plot(*zip(*sorted(points)), marker="o", label=f"{agents} agents")
    if not found:
        axes.text(0.5, 0.5, "not measured by --quick", ha="center", transform=axes.transAxes)
    else:
        axes.set(yscale="log", xlabel="slots held, %", ylabel="ns for one reservation and its release")
    axes.set_title("Cost against the fill (one process, full reserve)")


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(14, 10))
    for draw, where in zip((plot_growth, plot_scale, plot_quantiles, plot_fill), axes.flat):
        draw(where, result)
        if where.get_legend_handles_labels()[0]:
            where.legend(fontsize=7)
        where.grid(True, which="both", alpha=0.25)
    machine = result["machine"]
    figure.suptitle(f"fsb registry, simulated agents; {machine['cpu']} x{machine['cpus']}, commit {machine['commit']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120, format="png")
    pyplot.close(figure)
