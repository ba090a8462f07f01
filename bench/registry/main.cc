// SPDX-License-Identifier: Apache-2.0
// Hands the sessions of a plan to Google Benchmark, which runs their rounds and times them. All
// that is measured is plain C. Usage: bench_registry --plan=FILE --out=FILE [--benchmark_...]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "session.h"

namespace
{

void run(benchmark::State &state, struct session *session, uint32_t rounds)
{
	uint32_t round = 0;

	for (auto _ : state) {
		round++;
		state.SetIterationTime(session_round(session, round, round == rounds) * 1e-9);
	}
}

// Takes what is ours out of argv; the rest is Google Benchmark's.
const char *take_option(int *argc, char **argv, const char *name)
{
	const char *value = nullptr;
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (std::strncmp(argv[i], name, std::strlen(name)) == 0)
			value = argv[i] + std::strlen(name);
		else
			argv[kept++] = argv[i];
	}
	*argc = kept;
	argv[kept] = nullptr;
	return value;
}

// One session at a time: its worlds need the memory.
void run_session(struct session *session)
{
	uint32_t rounds = session_open(session);

	benchmark::ClearRegisteredBenchmarks();
	benchmark::RegisterBenchmark(session_name(session), run, session, rounds)
		->UseManualTime()
		->Iterations(rounds);
	// its default reporter serves one run only
	benchmark::ConsoleReporter reporter(benchmark::ConsoleReporter::OO_Tabular);
	benchmark::RunSpecifiedBenchmarks(&reporter);
	session_close(session);
}

} // namespace

int main(int argc, char **argv)
{
	const char *plan_path = take_option(&argc, argv, "--plan=");
	const char *out_path = take_option(&argc, argv, "--out=");

	benchmark::Initialize(&argc, argv);
	if (!plan_path || !out_path || benchmark::ReportUnrecognizedArguments(argc, argv)) {
		std::fprintf(stderr, "usage: bench_registry --plan=FILE --out=FILE\n");
		return 2;
	}
	struct plan *plan = plan_read(plan_path);
	std::FILE *out = std::fopen(out_path, "we");
	if (!out) {
		std::perror(out_path);
		return 2;
	}
	for (uint32_t i = 0; i < plan_sessions(plan); i++)
		run_session(plan_session(plan, i));
	report_write(plan, out);
	bool failed = std::fclose(out) != 0 || report_unbalanced(plan) != 0;
	plan_free(plan);
	benchmark::Shutdown();
	return failed ? 1 : 0;
}
