/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking peer of fsb-agent for tests: agentlink under a loop that is run until the answer is
 * there. */
#ifndef TESTS_AGENT_AGENT_CLIENT_H
#define TESTS_AGENT_AGENT_CLIENT_H

#include "agentlink/agentlink.h"
#include "testing.h"

#define ACK(name)  FSB__AGENT__V1__ACK_CODE__##name
#define LINK_IMAGE "docker.io/library/busybox:latest"

typedef Fsb__V1__SandboxSpec Spec;

/* What was told of a sandbox; kept after the messages are gone. */
struct aseen {
	struct aseen *next;
	char id[65];
	bool reported, running, stopped; /* in the last hello */
	int exits, removals;		 /* events */
	int code, signal;
	bool oom, unknown;
};

struct aclient {
	struct gloop *loop;
	struct agentlink *link;
	struct aseen *seen;
	int ups, downs, heartbeats, image_events;
	int images; /* in the last hello or event */
};

struct aresult {
	bool done;
	enum agentlink_result result;
	int code;
	char message[512];
	uint64_t start_ns;
	bool running, has_report;
	int report_state;
	int64_t report_generation;
};

/* role: WORKER or REGISTRYD. Waits until the link is up, at most 15 s. */
void aclient_open(struct aclient *c, const struct testbed *bed, const char *agent,
		  Fsb__Agent__V1__PeerRole role, const char *instance, uint64_t epoch);
void aclient_close(struct aclient *c);
/* Runs the loop until cond or 15 s. */
#define aclient_until(c, cond)                                                                     \
	({                                                                                         \
		uint64_t until__end = clock_mono_ns() + 15 * NS_PER_S;                             \
		while (!(cond) && clock_mono_ns() < until__end)                                    \
			gloop_poll((c)->loop, 5);                                                  \
		(cond);                                                                            \
	})
struct aseen *aclient_seen(struct aclient *c, const char *id);

/* A spec that runs sh -c SCRIPT in the test image; static storage, change it before it is used. */
Spec *spec_sh(const char *script);
/* Each waits for the ack. */
struct aresult aclient_start(struct aclient *c, const char *id, const Spec *spec);
struct aresult aclient_start_generation(struct aclient *c, const char *id, int64_t generation,
					const Spec *spec);
struct aresult aclient_stop(struct aclient *c, const char *id, int grace_s, bool keep_files);
struct aresult aclient_remove(struct aclient *c, const char *id);
struct aresult aclient_fence(struct aclient *c, const char *id, int64_t generation);
/* Without waiting: the result is filled later. */
void aclient_start_async(struct aclient *c, const char *id, const Spec *spec, struct aresult *ret);
void aclient_stop_async(struct aclient *c, const char *id, int grace_s, struct aresult *ret);
/* The whole log (static buffer), following until the sandbox has exited; NULL when the call fails.
 */
const char *aclient_logs(struct aclient *c, const char *id, bool follow);
/* gstatus; *ret_message (static) says why. */
int aclient_load(struct aclient *c, const char *layout, const char *ref, const char *name,
		 const char **ret_message);
/* Starts, waits for the exit, returns what it wrote; the exit code in *ret_code. Removes it. */
const char *aclient_run(struct aclient *c, const char *id, const Spec *spec, int *ret_code);

#endif
