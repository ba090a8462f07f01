#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bench/run registry: each subject for a moment with its books, the plan of --quick against the summary, --check's verdicts."""

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.environ["FSB_SOURCE_DIR"]
BINARY = os.path.join(os.environ["FSB_BIN_DIR"], "bench_registry")
RUN = os.path.join(ROOT, "bench", "run")
sys.path.insert(0, os.path.join(ROOT, "bench", "registry"))

import cases  # noqa: E402
import tables  # noqa: E402
import targets  # noqa: E402

BASELINES = ("cas_pair", "cas_bare", "cas_private", "seed_algorithm", "fast_scan", "scan_private", "best_of_three", "stripes_slot", "stripes_full")
REGISTRY = ("slot", "full", "full_cold", "life", "batch64", "singles64")
LANE_KEYS = {
    "subject", "processes", "foreign", "unit", "leases_per_process", "pairs_per_block", "samples", "pairs_per_second",
    "reserve_ns", "release_ns", "both_ns", "refused", "refused_while_free", "port_conflicts", "image_misses",
    "image_misses_with_room", "unbalanced", "duplicates", "blocks", "blocks_together", "round_ns",
}  # fmt: skip


def plan_of_everything():
    """As short as it gets: five rounds of each."""
    lines = ["session everything 0", cases.world(100, 50, "half")]
    lines += cases.lanes(*BASELINES, *REGISTRY, "cas_contended 2")
    for subject in ("slot", "full", "life", "stripes_full", "fast_scan", "scan_private", "best_of_three", "seed_algorithm"):
        lines += cases.lanes(f"{subject} 2")
    lines += cases.lanes("slot 2 foreign", "life 2 foreign")
    lines += [cases.world(200, 50, "zipf", "ports"), *cases.lanes("slot", "full", "full 3", "life 2 foreign")]
    lines += ["session gang 0", cases.world(200, 50, "uniform"), *cases.lanes("gang1000", "full 2")]
    lines += [cases.world(100, 100, "all", free=0), *cases.lanes("full", "full 2", "life 2 foreign")]
    lines += [cases.world(100, 10, "none"), *cases.lanes("full 2"), cases.world(300, 99, "hot"), *cases.lanes("full 2")]
    lines += ["session checks 0"]
    for world in (cases.world(200, 100, "all", free=2, still=True), cases.world(200, 50, "hot", hot=2, still=True)):
        lines += [world, *cases.lanes("checker 2")]
    return "\n".join(lines) + "\n"


def run_plan(text):
    with tempfile.TemporaryDirectory() as directory:
        plan, out = os.path.join(directory, "plan"), os.path.join(directory, "out.json")
        with open(plan, "w", encoding="utf-8") as file:
            file.write(text)
        child = subprocess.Popen([BINARY, f"--plan={plan}", f"--out={out}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = child.communicate(timeout=100)[0]
        left = glob.glob(f"/dev/shm/fsb-bench-{child.pid}-*")
        result = None
        if os.path.exists(out) and os.path.getsize(out):
            with open(out, encoding="utf-8") as file:
                result = json.load(file)
        return child.returncode, said, left, result


def result_of_plan(text, cost):
    """What bench_registry would have written, with made-up costs."""
    worlds, session = [], None
    quantiles = {"p50": 100.0, "p90": 110.0, "p99": 150.0, "p99_9": 200.0, "max": 1000.0}
    for line in text.splitlines():
        word, *rest = line.split()
        if word == "session":
            session = rest[0]
        elif word == "world":
            options = dict(option.split("=") for option in rest[4:] if "=" in option)
            worlds.append({
                "session": session, "agents": int(rest[0]), "fill": int(rest[1]), "images": rest[2], "ports": rest[3] == "ports",
                "free_slots": int(options.get("free", -1)), "free_hot": int(options.get("hot", -1)), "lanes": [],
            })  # fmt: skip
        else:
            lane = dict.fromkeys(LANE_KEYS, 0) | {"spread": 1, "checks": rest[0] == "checker", "takes_only": False}
            lane |= {"subject": rest[0], "processes": int(rest[1]), "foreign": rest[2:] == ["foreign"], "unit": 1}
            lane |= {"round_ns": [cost(rest[0])] * 5} | {key: quantiles for key in ("reserve_ns", "release_ns", "both_ns")}
            worlds[-1]["lanes"].append(lane)
    return {"clock_ns": 20.0, "worlds": worlds}


def good_summary():
    """Each target exactly at its limit."""
    return {name: (1 if limit is None else limit) for name, _, limit, _ in targets.TARGETS}


class Everything(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.code, cls.said, cls.left, cls.result = run_plan(plan_of_everything())

    def test_ends_well_and_leaves_nothing(self):
        self.assertEqual((self.code, self.left), (0, []), self.said)

    def test_every_lane_is_complete(self):
        wanted = sum(line.startswith("lane ") for line in plan_of_everything().splitlines())
        lanes = [lane for world in self.result["worlds"] for lane in world["lanes"]]
        self.assertEqual(len(lanes), wanted)
        for lane in lanes:
            if lane["checks"]:
                continue
            self.assertEqual(LANE_KEYS - set(lane), set(), lane["subject"])
            self.assertEqual(len(lane["round_ns"]), 5, lane["subject"])
            if lane["processes"] == 1:
                self.assertNotIn(None, lane["round_ns"], lane["subject"])
            self.assertGreater(min(ns or 1 for ns in lane["round_ns"]), 0, lane["subject"])
            self.assertLessEqual(lane["blocks_together"], lane["blocks"])
            self.assertGreater(lane["samples"], 0, lane["subject"])
            quantiles = [lane["reserve_ns"][q] for q in ("p50", "p90", "p99", "p99_9", "max")]
            self.assertEqual(quantiles, sorted(quantiles), lane["subject"])

    def test_the_books_balance(self):
        for world in self.result["worlds"]:
            for lane in world["lanes"]:
                where = f"{lane['subject']} {lane['processes']} {world['agents']} {world['images']}"
                self.assertEqual((lane["unbalanced"], lane["duplicates"]), (0, 0), where)
                self.assertEqual((lane["refused_while_free"], lane["image_misses_with_room"]), (0, 0), where)

    def test_where_no_agent_has_the_image_each_placement_is_a_miss(self):
        none = [lane for world in self.result["worlds"] if world["images"] == "none" for lane in world["lanes"]]
        half = [lane for world in self.result["worlds"] if world["images"] == "half" for lane in world["lanes"]]
        self.assertGreaterEqual(none[0]["image_misses"], none[0]["samples"])
        self.assertEqual([lane["image_misses"] for lane in half if lane["subject"] == "full"], [0, 0])

    def test_tables_print(self):
        tables.print_worlds(self.result)
        tables.print_summary(targets.summarise(self.result, None))


class Plans(unittest.TestCase):
    def options(self, **given):
        return argparse.Namespace(**({"quick": False, "full": False, "case": []} | given))

    def test_quick_measures_every_target(self):
        result = result_of_plan(cases.plan(self.options(quick=True), 2), lambda subject: 1000.0)
        summary = targets.summarise(result, 1.5)
        self.assertEqual([name for name, value in summary.items() if value is None], [])

    def test_ratios_are_the_right_way_round(self):
        costs = {"full": 100.0, "slot": 50.0, "seed_algorithm": 20000.0, "fast_scan": 400.0, "stripes_full": 80.0, "batch64": 1000.0, "singles64": 4000.0}
        result = result_of_plan(cases.plan(self.options(quick=True), 2), lambda subject: costs.get(subject, 10.0))
        summary = targets.summarise(result, 1.5)
        wanted = {
            "full_pair_vs_seed_algorithm_1000": 200, "full_pair_vs_fast_scan_1000": 4, "full_pair_vs_prototype_1000": 1.25,
            "slot_pair_vs_cas_1000": 5, "full_pair_vs_cas_1000": 10, "batch64_vs_64_singles": 0.25, "p99_over_p50_1000": 1.5,
            "scale_2_of_private": 1, "growth_100k": 1, "adversarial_vs_p50": 1, "load_spread": 1, "rpc_1000_vs_echo_p50": 1.5,
        }  # fmt: skip
        self.assertEqual({name: summary[name] for name in wanted}, wanted)

    def test_rounds_without_a_figure_are_left_out(self):
        result = result_of_plan(cases.plan(self.options(quick=True), 2), lambda subject: 10.0)
        for world in result["worlds"]:
            for lane in world["lanes"]:
                if lane["processes"] == 2:
                    lane["round_ns"] = [None, 20.0, None, 20.0, 20.0]
                    lane["round_ns"] = lane["round_ns"] if lane["subject"] != "cas_private" else [10.0] * 5
        self.assertEqual(targets.summarise(result, None)["scale_2_of_private"], 0.5)
        tables.print_worlds(result)

    def test_full_is_the_whole_product(self):
        lines = cases.plan(self.options(full=True), 2).splitlines()
        names = {line.split()[1] for line in lines if line.startswith("session ") and "-" in line}
        self.assertEqual(len(names), len(cases.AGENTS) * len(cases.FILLS) * len(cases.IMAGES) * len(cases.PORTS))

    def test_case_chooses(self):
        lines = cases.plan(self.options(case=["agents=1000,fill=50|90,images=hot,ports=yes,processes=2"]), 2).splitlines()
        self.assertEqual([line for line in lines if line.startswith("world")], ["world 1000 50 hot ports", "world 1000 90 hot ports"])
        self.assertIn("lane full 2", lines)
        self.assertNotIn("lane full 1", lines)
        for bad in ("agents=7", "colour=red", "fill"):
            with self.assertRaises(ValueError):
                cases.plan(self.options(case=[bad]), 2)

    def test_a_bad_plan_is_refused(self):
        for text in ("lane full 1\n", "session a\n", "session a 1\nworld 10 50 red noports\n", "session a 1\nworld 10 50 all noports\nlane x 1\n"):
            code, said, _, _ = run_plan(text)
            self.assertEqual(code, 2, text)
            self.assertIn("plan:", said)


class Check(unittest.TestCase):
    def check(self, content):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(content)
            file.flush()
            done = subprocess.run([RUN, "check", file.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def test_all_at_their_limits_are_met(self):
        code, said = self.check(json.dumps({"summary": good_summary()}))
        self.assertEqual(code, 0, said)
        self.assertNotIn("missed", said)

    def test_each_miss_fails(self):
        for name, relation, limit, _ in targets.TARGETS:
            if relation is None:
                continue
            worse = limit + 0.01 if relation == "<=" else limit - 0.01
            code, said = self.check(json.dumps({"summary": good_summary() | {name: worse}}))
            self.assertEqual(code, 1, name)
            line = [line for line in said.splitlines() if line.split()[:1] == [name]]
            self.assertIn("missed", line[0])
            self.assertEqual(said.count("missed"), 1, name)

    def test_what_was_not_measured_fails(self):
        code, said = self.check(json.dumps({"summary": good_summary() | {"growth_10k": None}}))
        self.assertEqual(code, 1)
        self.assertIn("not measured", said)

    def test_garbage_fails(self):
        for content in ("", "{}", "[1]", '{"summary": '):
            self.assertEqual(self.check(content)[0], 1, content)

    def test_usage(self):
        for arguments in (["check"], [], ["nothing"], ["registry", "--quick", "--full"]):
            done = subprocess.run([RUN, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 2, arguments)


if __name__ == "__main__":
    unittest.main()
