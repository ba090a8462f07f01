/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the faces share. A face turns one protocol's messages into a service call and the answer
 * back, and decides nothing. Replies are built in a pool that is dropped once they are encoded.
 */
#ifndef FASTPATH_FACE_H
#define FASTPATH_FACE_H

#include "base/gserver.h"
#include "fsb.pb-c.h"
#include "service.h"

/* Each ends with a NULL path. */
extern const struct gmethod fp_methods_fastpath[];
extern const struct gmethod fp_methods_sandbox[];
extern const struct gmethod fp_methods_admin[];
extern const struct gmethod fp_methods_health[];

/* Bump allocation: many small pieces, one end. The first ones live in the struct itself. */
struct fp_pool_chunk;
struct fp_pool {
	struct fp_pool_chunk *chunks;
	size_t used, room; /* of the newest chunk, or of inline_ */
	char *at;
	bool failed; /* out of memory: every later piece is NULL, too */
	_Alignas(16) char inline_[6144];
};
void fp_pool_init(struct fp_pool *pool);
void fp_pool_done(struct fp_pool *pool);
/* Zeroed; NULL when out of memory. */
void *fp_pool_alloc(struct fp_pool *pool, size_t size);
/* The empty string when out of memory, which pool->failed tells. */
char *fp_pool_str(struct fp_pool *pool, const char *text);

/* An array in the pool that doubles: lists are made in one walk over the registry. */
struct fp_items {
	struct fp_pool *pool;
	void **at;
	size_t n, room;
};
/* NULL is left out. */
void fp_items_push(struct fp_items *items, void *item);

struct fp_service *fp_face_service(struct gcall *call);
/* Room for the endpoints and labels of a view, in the pool. */
size_t fp_face_endpoints(struct fp_service *svc, struct fp_pool *pool,
			 const struct reg_sandbox_view *view, char ***ret);
/* NULL when out of memory. */
Fsb__V1__Sandbox *fp_face_sandbox(struct fp_service *svc, struct fp_pool *pool,
				  const struct reg_sandbox_view *view);
Fsb__V1__Timings *fp_face_timings(struct fp_pool *pool, const struct fp_timings *timings);
/* Answers with msg, or with RESOURCE_EXHAUSTED when the pool has failed; drops the pool. */
void fp_face_reply(struct gcall *call, struct fp_pool *pool, const ProtobufCMessage *msg);
/* AdminService.GetStats. */
void fp_face_get_stats(struct gcall *call, const ProtobufCMessage *msg);
void fp_face_fail(struct gcall *call, const struct fp_fail *fail);

#endif
