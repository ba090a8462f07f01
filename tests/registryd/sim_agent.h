/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SIMULATED agent: speaks fsb.agent.v1 and starts nothing. For what the real one can't be made to
 * do at will: a report that contradicts the arena, an exit before the commit, silence.
 */
#ifndef TESTS_SIM_AGENT_H
#define TESTS_SIM_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent.pb-c.h"
#include "base/gloop.h"

enum { SIM_SANDBOXES_MAX = 16, SIM_COMMANDS_MAX = 64 };

struct sim_sandbox {
	char id[64], name[64];
	int64_t generation, created_unix_ns;
	Fsb__Agent__V1__ReportState state;
	int32_t exit_code;
	bool in_use;
};

struct sim_agent {
	struct gloop *loop;
	struct gserver *server;
	struct gcall *stream; /* registryd's; NULL: none */
	char address[128];
	const char *name;
	int32_t capacity;
	bool deaf; /* acknowledges nothing */
	int hellos;
	struct sim_sandbox sandboxes[SIM_SANDBOXES_MAX]; /* what it "runs" or remembers */
	char commands[SIM_COMMANDS_MAX][96];		 /* "stop ID", "stop-keep ID", "fence ID" */
	int command_count;
	uint64_t epoch;
};

/* Listens on DIR/agents/NAME.sock. */
struct sim_agent *sim_agent_new(struct gloop *loop, const char *run_dir, const char *name,
				int32_t capacity);
/* Ends its server; the socket file goes. Returns NULL. */
struct sim_agent *sim_agent_free(struct sim_agent *agent);
struct sim_sandbox *sim_agent_runs(struct sim_agent *agent, const char *id, const char *name,
				   int64_t created_unix_ns);
void sim_agent_heartbeat(struct sim_agent *agent);
void sim_agent_exited(struct sim_agent *agent, struct sim_sandbox *sandbox, int32_t code);
void sim_agent_removed(struct sim_agent *agent, const struct sim_sandbox *sandbox);
/* Such a command has arrived. */
bool sim_agent_was_told(const struct sim_agent *agent, const char *command);

#endif
