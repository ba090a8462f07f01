#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# placement.sh BINARY [SECONDS]: the table of docs/placement.md: by homes and by whole passes, one process and two, releases of
# one's own and of the other's. Each case three times, the lowest of the medians (both processes' mean).
set -eu
bin=$1
seconds=${2:-0.3}

best() {
	for _ in 1 2 3; do "$bin" "$@" "$seconds"; done |
		awk '{ sum = n = 0; for (i = 1; i < NF; i++) if ($(i + 1) == "ns") { sum += $i; n++ } v = sum / n
		       if (v && (!best || v < best)) best = v } END { printf "%9.1f", best }'
}

"$bin" cas 1
"$bin" cas 2
printf '%8s %-6s %9s %9s %9s %9s\n' agents how "1 own" "1 any" "2 own" "2 foreign"
for agents in 100 1000 10000 100000; do
	for how in homes dense; do
		printf '%8u %-6s %s %s %s %s\n' "$agents" "$how" "$(best "$agents" 1 own "$how" old)" \
			"$(best "$agents" 1 own "$how" any)" "$(best "$agents" 2 own "$how" old)" \
			"$(best "$agents" 2 foreign "$how" old)"
	done
done
printf 'one free slot, 10,000 agents: %s ns alone\n' "$(best 10000 1 one-free homes old)"
