# SPDX-License-Identifier: Apache-2.0
"""The summary of a run of bench_registry: ratios formed within rounds of one session, and what they ought to be."""

import statistics

# name, relation, limit, meaning. None: printed, not judged.
TARGETS = (
    ("full_pair_vs_seed_algorithm_1000", ">=", 100, "times faster than the replaced registry's algorithm in C"),
    ("full_pair_vs_fast_scan_1000", ">=", 4, "times faster than the best plain scan, 1,000 agents"),
    ("full_pair_vs_fast_scan_10000", ">=", 30, "times faster than the best plain scan, 10,000 agents"),
    ("full_pair_vs_prototype_1000", "<=", 1.5, "prototypes (level bitmaps, name, record) that a full pair costs"),
    ("slot_pair_vs_cas_1000", "<=", 6, "CAS pairs that choosing, taking and freeing a slot costs"),
    ("full_pair_vs_cas_1000", "<=", 14, "CAS pairs that a full reserve and abort costs"),
    ("p99_over_p50_1000", "<=", 4, "p99 over p50 of a full reserve, singly timed"),
    ("scale_2_of_private", ">=", 0.85, "gain of a second process, over its gain on private lines (full pair)"),
    ("scale_2_foreign", None, None, "the same when each releases what the other one reserved (whole life)"),
    ("growth_10k", "<=", 1.3, "cost of a full pair at 10,000 agents over 1,000"),
    ("growth_100k", "<=", 2.5, "cost of a full pair at 100,000 agents over 1,000"),
    ("batch64_vs_64_singles", "<=", 0.5, "cost of reserving 64 at once over 64 single reserves"),
    ("adversarial_vs_p50", "<=", 3, "p50 of a reserve for the one free slot among 10,000 agents over p50 at 50 % fill"),
    ("load_spread", "<=", 3, "highest minus lowest load of equal agents at the end, worst case"),
    ("refused_while_free", "<=", 0, "refusals although a slot was certainly free throughout the call"),
    ("image_misses_with_room", "<=", 0, "placed without the image although one with it certainly had room"),
    ("unbalanced", "<=", 0, "leaks and duplicates, over all cases"),
    ("rpc_1000_vs_echo_p50", None, None, "p50 of a create over gRPC, 1,000 simulated agents, over an echo at the same server"),
)

# Beside the targets, for orientation.
NOTES = (
    ("fast_scan_vs_cas_1000", "CAS pairs that the best plain scan costs, 1,000 agents: how good this baseline is"),
    ("full_pair_vs_cas_uniform_1000", "as full_pair_vs_cas_1000, with 16 images asked for in turn, 8 of them on each agent"),
    ("full_pair_vs_prototype_uniform_1000", "the same against the prototype"),
    ("scale_2_uniform", "scale_2_of_private with these"),
    ("scale_2_nothing_shared", "as scale_2_of_private, for scans of a table per process: below 1, the processors share what they compute with"),
    ("contended_cas_p99_ns", "p99 of a CAS on the shared word, ns: how far the two processors are apart; look at scale_2 with it"),
    ("scale_2_slot", "as scale_2_of_private, for the slot alone"),
    ("contended_cas_pair_vs_cas", "what a CAS pair costs when two processes share the word"),
    ("full_cold_vs_full_1000", "a full pair with 2,048 leases in turn over one with 256"),
    ("growth_10k_cold", "growth_10k with 2,048 leases in turn"),
    ("adversarial_foreign_vs_p50", "adversarial, two processes, each releasing what the other one reserved"),
    ("gang1000_member_vs_single", "a member of a gang of 1,000 over a single reserve"),
)


def whole_rounds(*lanes):
    """The rounds in which each of them has a figure: several processes have none when they never ran together."""
    return [rounds for rounds in zip(*(lane["round_ns"] for lane in lanes)) if None not in rounds]


def cost(lane):
    rounds = [ns for ns in lane["round_ns"] if ns is not None]
    return statistics.median(rounds) if rounds else None


class Lanes:
    """Finds lanes, and forms ratios of them round by round."""

    def __init__(self, result):
        self.lanes = [(world, lane) for world in result["worlds"] for lane in world["lanes"]]

    def find(self, session, subject, processes=1, foreign=False, **where):
        for world, lane in self.lanes:
            if (
                world["session"] == session
                and lane["subject"] == subject
                and lane["processes"] == processes
                and lane["foreign"] == foreign
                and all(world[key] == value for key, value in where.items())
            ):
                return lane
        return None

    def ratio(self, one, other, factor=1.0):
        """Median over rounds of one's cost over the other's in the same round."""
        if not one or not other:
            return None
        rounds = whole_rounds(one, other)
        return factor * statistics.median(a / b for a, b in rounds) if rounds else None


def scale(lanes, one, two, private_one, private_two):
    """What two processes gain over one, over what two gain on private lines, round by round."""
    if not (one and two and private_one and private_two):
        return None
    rounds = whole_rounds(one, two, private_one, private_two)
    return statistics.median((a / b) / (c / d) for a, b, c, d in rounds) if rounds else None


def quantile_ratio(one, other, name="p50"):
    if not one or not other or "reserve_ns" not in one or "reserve_ns" not in other:
        return None
    return one["reserve_ns"][name] / other["reserve_ns"][name]


def of_thousand(lanes, summary):
    def at(subject, processes=1, foreign=False):
        return lanes.find("thousand", subject, processes, foreign, images="half")

    def uniform(subject, processes=1):
        return lanes.find("thousand", subject, processes, images="uniform")

    full, cas = at("full"), at("cas_pair")
    private = at("cas_private"), at("cas_private", 2)
    summary["full_pair_vs_seed_algorithm_1000"] = lanes.ratio(at("seed_algorithm"), full)
    summary["full_pair_vs_fast_scan_1000"] = lanes.ratio(at("fast_scan"), full)
    summary["full_pair_vs_prototype_1000"] = lanes.ratio(full, at("stripes_full"))
    summary["slot_pair_vs_cas_1000"] = lanes.ratio(at("slot"), cas)
    summary["full_pair_vs_cas_1000"] = lanes.ratio(full, cas)
    if full:
        summary["p99_over_p50_1000"] = full["reserve_ns"]["p99"] / full["reserve_ns"]["p50"]
    summary["scale_2_of_private"] = scale(lanes, full, at("full", 2), *private)
    summary["scale_2_foreign"] = scale(lanes, at("life"), at("life", 2, True), *private)
    summary["batch64_vs_64_singles"] = lanes.ratio(at("batch64"), at("singles64"))
    summary["full_pair_vs_cas_uniform_1000"] = lanes.ratio(uniform("full"), cas)
    summary["full_pair_vs_prototype_uniform_1000"] = lanes.ratio(uniform("full"), uniform("stripes_full"))
    summary["scale_2_uniform"] = scale(lanes, uniform("full"), uniform("full", 2), *private)
    summary["fast_scan_vs_cas_1000"] = lanes.ratio(at("fast_scan"), cas)
    summary["scale_2_nothing_shared"] = scale(lanes, at("scan_private"), at("scan_private", 2), *private)
    summary["scale_2_slot"] = scale(lanes, at("slot"), at("slot", 2), *private)
    summary["contended_cas_pair_vs_cas"] = lanes.ratio(at("cas_contended", 2), cas)
    if at("cas_contended", 2):
        summary["contended_cas_p99_ns"] = at("cas_contended", 2)["reserve_ns"]["p99"]
    summary["full_cold_vs_full_1000"] = lanes.ratio(at("full_cold"), full)
    summary["gang1000_member_vs_single"] = lanes.ratio(at("gang1000"), at("singles64"), 64 / 1000)
    for name, subject in (("cas_pair_ns", "cas_pair"), ("slot_pair_ns_1000", "slot"), ("full_pair_ns_1000", "full")):
        lane = at(subject)
        summary[name] = cost(lane) if lane else None


def of_growth(lanes, summary):
    def full(agents, subject="full"):
        return lanes.find("growth", subject, agents=agents)

    summary["full_pair_vs_fast_scan_10000"] = lanes.ratio(full(10000, "fast_scan"), full(10000))
    summary["growth_10k"] = lanes.ratio(full(10000), full(1000))
    summary["growth_100k"] = lanes.ratio(full(100000), full(1000))
    summary["growth_10k_cold"] = lanes.ratio(full(10000, "full_cold"), full(1000, "full_cold"))


def of_adversarial(lanes, summary):
    usual = lanes.find("adversarial", "full", free_slots=-1)
    one_left = lanes.find("adversarial", "full", free_slots=0)
    summary["adversarial_vs_p50"] = quantile_ratio(one_left, usual)
    summary["adversarial_foreign_vs_p50"] = quantile_ratio(lanes.find("adversarial", "life", 2, True, free_slots=0), usual)


def of_all(lanes, summary):
    """Worst or sum over every case that was run."""

    def total(key):
        return sum(lane[key] for _, lane in lanes.lanes)

    # Among agents of different image sets a spread says nothing.
    spreads = [
        max(lane.get("spread", 0), lane.get("spread_others", 0))
        for world, lane in lanes.lanes
        if world["images"] in ("all", "half", "none", "hot") and not world["ports"] and "spread" in lane
    ]
    summary["load_spread"] = max(spreads) if spreads else None
    summary["refused_while_free"] = total("refused_while_free")
    summary["image_misses_with_room"] = total("image_misses_with_room")
    summary["unbalanced"] = total("unbalanced") + total("duplicates")


def summarise(result, rpc):
    """Flat, in the order of TARGETS and NOTES; None for what was not measured."""
    lanes = Lanes(result)
    found = {}
    for part in (of_thousand, of_growth, of_adversarial, of_all):
        part(lanes, found)
    found["rpc_1000_vs_echo_p50"] = rpc
    names = [name for name, *_ in TARGETS] + [name for name, _ in NOTES]
    names += ["cas_pair_ns", "slot_pair_ns_1000", "full_pair_ns_1000"]
    return {name: round(found[name], 3) if found.get(name) is not None else None for name in names}


def verdict(name, relation, limit, summary):
    """ "met", "missed", "not measured", or "" where nothing is demanded."""
    value = summary.get(name)
    if relation is None:
        return ""
    if value is None:
        return "not measured"
    return "met" if (value >= limit if relation == ">=" else value <= limit) else "missed"


def check_rows(summary):
    rows = [["target", "limit", "measured", "", "what it is"]]
    for name, relation, limit, meaning in TARGETS:
        value = summary.get(name)
        shown = "-" if value is None else f"{value:g}"
        limits = f"{relation.replace('>=', '≥').replace('<=', '≤')} {limit:g}" if relation else ""
        rows.append([name, limits, shown, verdict(name, relation, limit, summary), meaning])
    return rows


def all_met(summary):
    """A target that was not measured is not met."""
    return all(verdict(name, relation, limit, summary) in ("met", "") for name, relation, limit, _ in TARGETS)
