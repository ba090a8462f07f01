/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as a caller has them ready when it has decoded a message: made before the clock starts.
 */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include "subject.h"

enum { REQUEST_SPEC_BYTES = 512, REQUEST_NAME_BYTES = 20 };

enum request_kind {
	REQUEST_LEAST, /* a name and an id */
	REQUEST_FULL,  /* 20-byte name, id, request id, 512-byte spec */
};

struct request {
	struct reg_request req;
	char name[REQUEST_NAME_BYTES + 4], id[40], request_id[40];
	uint16_t port;
	uint8_t image;
	uint32_t agent; /* where it was placed; UINT32_MAX: not yet, or refused */
};

struct requests {
	const struct world *world;
	uint64_t counter; /* makes names unique within this process */
	uint64_t random;
	uint32_t seat, next;
	uint32_t ready; /* of one */
	uint8_t spec[REQUEST_SPEC_BYTES];
	struct request one[UNIT_MAX];
};

/* seat tells the processes' names apart. Aborts when out of memory. gives. */
struct requests *requests_new(const struct world *world, enum request_kind kind, uint32_t seat);
void requests_prepare(struct requests *requests, uint32_t n);
struct requests *requests_free(struct requests *requests);

#endif
