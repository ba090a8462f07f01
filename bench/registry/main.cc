// SPDX-License-Identifier: Apache-2.0
// Hands the cases, which are plain C, to Google Benchmark: it schedules them (repetitions
// interleaved at random, so that a noisy minute hits all of them) and writes the JSON that
// bench/run reads. Times are ours: a block of pairs is one iteration.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <string>
#include <vector>

#include "subject.h"

namespace
{

constexpr uint64_t kBlockNs = 200000;
constexpr uint64_t kSinglyBudgetNs = 30000000;

struct Case {
	const struct subject *subject;
	uint32_t agents;
	void *self;
	uint32_t pairs;
	uint64_t clock_ns;
};

void put_quantiles(benchmark::State &state, const std::string &prefix, const struct quantiles &q)
{
	state.counters[prefix + "_p50_ns"] = static_cast<double>(q.p50);
	state.counters[prefix + "_p90_ns"] = static_cast<double>(q.p90);
	state.counters[prefix + "_p99_ns"] = static_cast<double>(q.p99);
	state.counters[prefix + "_p99_9_ns"] = static_cast<double>(q.p999);
	state.counters[prefix + "_max_ns"] = static_cast<double>(q.max);
}

void run(benchmark::State &state, const Case &c)
{
	struct measurement m = {};
	std::vector<double> means;
	double total_ns = 0;

	means.reserve(state.max_iterations);
	for (auto _ : state) {
		auto ns = static_cast<double>(measure_block(c.subject, c.self, c.pairs));

		state.SetIterationTime(ns * 1e-9);
		means.push_back(ns / c.pairs);
		total_ns += ns;
	}
	auto blocks = static_cast<double>(means.size());
	measure_singly(c.subject, c.self, kSinglyBudgetNs, &m);
	state.counters["agents"] = c.agents;
	state.counters["blocks"] = blocks;
	state.counters["pairs_per_block"] = c.pairs;
	state.counters["pair_mean_ns"] = total_ns / blocks / c.pairs;
	state.counters["pair_block_median_ns"] =
		measure_median(means.data(), static_cast<uint32_t>(means.size()));
	state.counters["clock_ns"] = static_cast<double>(c.clock_ns);
	state.counters["samples"] = m.samples;
	put_quantiles(state, "reserve", m.reserve);
	put_quantiles(state, "release", m.release);
	put_quantiles(state, "pair", m.pair);
	state.counters["unbalanced"] = static_cast<double>(c.subject->unbalanced(c.self));
}

// Stays on the processor that it was started on.
void pin()
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

struct Options {
	double seconds = 0.2; // per case and repetition
	std::string only;     // "case" or "case/agents"; others are not even built
};

std::string name_of(const Case &c)
{
	std::string name = c.subject->name;

	return c.agents ? name + "/" + std::to_string(c.agents) : name;
}

std::vector<Case> open_cases(const Options &options, uint64_t clock_ns)
{
	static const uint32_t agents[] = {100, 1000, 10000};
	std::vector<Case> cases;

	for (const struct subject *const *s = subjects; *s; s++)
		for (uint32_t count : agents) {
			Case c = {*s, (*s)->by_agents ? count : 0, nullptr, 0, clock_ns};

			if (count != agents[0] && !(*s)->by_agents)
				continue;
			if (!options.only.empty() && options.only != c.subject->name &&
			    options.only != name_of(c))
				continue;
			c.self = (*s)->open(c.agents);
			c.pairs = measure_block_size(*s, c.self, kBlockNs);
			cases.push_back(c);
		}
	return cases;
}

void register_cases(const std::vector<Case> &cases, double seconds)
{
	for (const Case &c : cases) {
		double block =
			static_cast<double>(measure_block(c.subject, c.self, c.pairs)) * 1e-9;
		auto blocks = static_cast<int64_t>(seconds / block);

		benchmark::RegisterBenchmark(name_of(c).c_str(), run, c)
			->UseManualTime()
			->Iterations(blocks < 5 ? 5 : blocks);
	}
}

// Takes --seconds=X and --only=NAME out of argv; the rest is Google Benchmark's.
Options take_options(int *argc, char **argv)
{
	Options options;
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (std::strncmp(argv[i], "--seconds=", 10) == 0)
			options.seconds = std::atof(argv[i] + 10);
		else if (std::strncmp(argv[i], "--only=", 7) == 0)
			options.only = argv[i] + 7;
		else
			argv[kept++] = argv[i];
	}
	*argc = kept;
	argv[kept] = nullptr;
	return options;
}

} // namespace

extern "C" const struct subject *const subjects[] = {
	&subject_cas,  &subject_alone,	   &subject_full, &subject_full_cold,
	&subject_seed, &subject_fast_scan, nullptr,
};

int main(int argc, char **argv)
{
	Options options = take_options(&argc, argv);
	uint64_t left = 0;

	benchmark::Initialize(&argc, argv);
	if (benchmark::ReportUnrecognizedArguments(argc, argv))
		return 2;
	pin();
	std::vector<Case> cases = open_cases(options, measure_clock_cost_ns());
	register_cases(cases, options.seconds);
	benchmark::RunSpecifiedBenchmarks();
	for (const Case &c : cases)
		left += c.subject->close(c.self);
	benchmark::Shutdown();
	// The last line of stdout is for bench/run: what was still held when everything had been
	// given back.
	std::printf("unbalanced_at_end=%llu\n", static_cast<unsigned long long>(left));
	return left == 0 ? 0 : 1;
}
