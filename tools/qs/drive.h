/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The quick start's run against a stack that is up: a batch over several connections, waits, logs,
 * single creates, deletes. Every failed check prints a line and is counted; nothing is retried.
 */
#ifndef QS_DRIVE_H
#define QS_DRIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/gclient.h"

#include "sample.h"

enum { MAX_CONNECTIONS = 64, N_SINGLES = 50, MAX_NAMES = 1024 };

/* One sandbox of the batch or one of the singles. */
struct member {
	struct drive *drive;
	int index;
	char name[128];
	bool started, succeeded, log_right, deleted;
	uint64_t sent_ns;
	char log[256];
	size_t log_len;
};

/* How often each worker or agent was used. */
struct tally {
	char names[MAX_NAMES][64];
	int counts[MAX_NAMES];
	int n;
};

/* Calls in flight, while drive_all runs. */
struct parallel {
	int open;
};

struct drive {
	/* set by the caller */
	const char *endpoint, *image;
	int connections, sandboxes;

	struct gloop *loop;
	struct gchannel *channels[MAX_CONNECTIONS];
	struct member *members; /* sandboxes, then N_SINGLES */
	int failures;		/* of checks */
	int reported;
	struct parallel parallel;

	/* results */
	int started, succeeded;
	uint64_t batch_wall_ns;
	struct sample batch_reply,
		batch_start; /* request to a member's reply; agent's command to exec */
	struct sample single_create, single_start, single_reserve;
	struct tally workers, agents;
	uint64_t lag_p50_ns, lag_p99_ns, lag_max_ns;
	bool drained;
};

int drive_open(struct drive *d, struct err *err);
void drive_close(struct drive *d);

/* In this order. Each returns 0, or negative errno when going on makes no sense. */
int drive_connect(struct drive *d, struct err *err);
int drive_batch(struct drive *d, struct err *err);
int drive_wait(struct drive *d, int first, int count, struct err *err);
int drive_logs(struct drive *d, struct err *err);
int drive_singles(struct drive *d, struct err *err);
int drive_store(struct drive *d, struct err *err);
int drive_delete(struct drive *d, struct err *err);

#endif
