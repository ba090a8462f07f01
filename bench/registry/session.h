/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: worlds that exist at the same time, and lanes (a subject in a world by so many
 * processes) that are measured in turn, a stint of milliseconds each, round after round. So a
 * disturbance of the machine meets the subject and its baselines alike, and ratios are formed
 * within each round. Included from C++ (main.cc).
 */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct plan;
struct session;

/*
 * Reads a plan, one thing per line:
 *   session NAME SECONDS
 *   world AGENTS FILL% all|half|uniform|zipf|hot|none ports|noports [free=N] [hot=N] [still]
 *   lane SUBJECT PROCESSES [foreign]
 * Ends the program with a sentence when it can't. gives.
 */
struct plan *plan_read(const char *path);
uint32_t plan_sessions(const struct plan *plan);
struct session *plan_session(struct plan *plan, uint32_t idx);
struct plan *plan_free(struct plan *plan);

const char *session_name(const struct session *session);
/* Builds the worlds, starts the processes, measures once without counting. Returns the rounds that
 * fill its seconds. */
uint32_t session_open(struct session *session);
/* One stint of each lane; the last round looks at the books, too. Returns the ns that the blocks
 * took. */
double session_round(struct session *session, uint32_t round, bool last);
void session_close(struct session *session);

/* The results of all sessions, as JSON. */
void report_write(const struct plan *plan, FILE *file);
/* What did not balance, over all. */
uint64_t report_unbalanced(const struct plan *plan);

#ifdef __cplusplus
}
#endif

#endif
