/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real fsb-fastpath among parts played by the test: the test makes the arena as fsb-registryd
 * would, serves fsb.agent.v1 as one agent, and confirms store writes as fsb-crdsync would when it
 * is told to. All on one loop, so a blocking client call keeps the agent alive.
 */
#ifndef TESTS_FASTPATH_STACK_H
#define TESTS_FASTPATH_STACK_H

#include <sys/types.h>

#include "agent.pb-c.h"
#include "base/gclient.h"
#include "base/gserver.h"
#include "fastpath.pb-c.h"
#include "fsb.pb-c.h"
#include "health.pb-c.h"
#include "registry/registry.h"

enum start_mode {
	START_ACK,	 /* started */
	START_REFUSE,	 /* acknowledged with refuse_code */
	START_HOLD,	 /* never acknowledged */
	START_LATE,	 /* acknowledged by stack_release */
	START_DROP,	 /* the link breaks, and it was not started */
	START_DROP_RUNS, /* the link breaks, and it was started */
};

enum { STACK_RUNNING_MAX = 256, STACK_LINKS_MAX = 16 };

struct stack {
	char dir[64], arena[96], agent_address[96], client_address[96];
	struct reg *reg;
	struct reg_self *me, *store; /* store NULL: no fsb-crdsync */
	bool store_writes;	     /* it confirms what is dirty */
	struct gloop *loop;
	struct gloop_timer *tick;
	struct gserver *agent;
	reg_agent_id agent_id;
	struct gchannel *channel;
	pid_t pid; /* of the master */

	/* The agent. */
	enum start_mode mode;
	int refuse_code;
	struct gcall *links[STACK_LINKS_MAX];
	char running[STACK_RUNNING_MAX][REG_ID_MAX + 1];
	int starts, stops, removes, fences, metas;
	uint64_t start_stored; /* stored_revision of the sandbox when its start came */
	char last_image[128], last_arg[128], last_label[64], last_request_id[128];
	struct late {
		struct gcall *call;
		uint64_t seq;
		char id[REG_ID_MAX + 1];
	} late[STACK_RUNNING_MAX];
	int n_late;
	const char *log_text;
	int log_repeat;

	/* The last call. */
	int status;
	struct err err;
	struct pb_arena *reply_arena;
	const void *reply;
};

extern struct stack s;

/* Acknowledges what START_LATE has kept, to the links that are still there. */
void stack_release(void);

/* args: more flags, NULL-terminated. capacity: of the agent. Asserts that everything came up. */
void stack_up(int32_t capacity, const char *const *args);
/* The same, but the store has not been read yet (reg_store_loaded_set makes it so). */
void stack_up_unloaded(void);
/* Another fsb-fastpath in the place of one that is gone. */
void stack_restart(const char *const *args);
/* Asserts that the master exits 0, and that the books balance. */
void stack_down(void);

/* One unary call; returns its status. s.reply is valid until the next call. */
int stack_call(const char *path, const void *request, const ProtobufCMessageDescriptor *reply);
#define CALL_FASTPATH(method, request, type)                                                       \
	stack_call("/fastpath.v1.FastPathService/" method, request,                                \
		   &fastpath__v1__##type##__descriptor)
#define CALL_FSB(method, request, type)                                                            \
	stack_call("/fsb.v1.SandboxService/" method, request, &fsb__v1__##type##__descriptor)

/* Serves the loop until *counter >= want, 10 s at most; asserts. */
void stack_until(const int *counter, int want);
/* Lets go of everything of the arena but the file. */
void stack_arena_leave(void);
/* Serves the loop for that long. */
void stack_serve(unsigned int ms);
/* A second channel (so another worker) for calls that stay open. */
struct gchannel *stack_channel(void);

#endif
