/* SPDX-License-Identifier: Apache-2.0 */
/* For measuring only: thin entries to placement, without keys and publication. */
#include "registry/bench.h"

#include "internal.h"

enum reg_status reg_bench_target(struct reg_self *me, const char *ns, const char *pool,
				 const char *image, struct reg_bench_target *ret)
{
	struct reg_row of_pool, of_image;

	if (!reg__pool_of(me, ns, (uint32_t)strlen(ns), pool, (uint32_t)strlen(pool), &of_pool))
		return REG_NO_POOL;
	*ret = (struct reg_bench_target){
		.pool = of_pool.idx,
		.image = reg__image_of(me, image, (uint32_t)strlen(image), &of_image) ? of_image.idx
										      : REG_NIL,
	};
	return REG_OK;
}

enum reg_status reg_bench_open(struct reg_self *me, const struct reg_request *req,
			       struct reg_lease *ret)
{
	struct reg_lease lease = {.agent = {REG_NIL}};
	struct reg_want want = {
		.req = req,
		.ns_len = (uint32_t)strlen(req->ns),
		.name_len = (uint32_t)strlen(req->name),
		.id_len = (uint32_t)strlen(req->id),
		.pool_len = (uint32_t)strlen(req->pool),
		.image_len = (uint32_t)strlen(req->image),
	};
	struct reg_row pool;
	enum reg_status st;

	if (!reg__pool_of(me, req->ns, want.ns_len, req->pool, want.pool_len, &pool))
		return REG_NO_POOL;
	reg__want_keys(&want);
	st = reg__rec_new(me, &want, pool.idx, 1, &lease.sandbox);
	if (!st)
		*ret = lease;
	return st;
}

enum reg_status reg_bench_take(struct reg_self *me, const struct reg_bench_target *target,
			       struct reg_lease *lease)
{
	return reg__place(me, target->pool, target->image, lease->sandbox.idx, lease);
}

void reg_bench_give(struct reg_self *me, const struct reg_lease *lease)
{
	struct reg_rec *rec = reg__rec(me->reg, lease->sandbox.idx);

	if (rec)
		reg__unplace(me, lease->sandbox.idx, rec, lease->sandbox.gen);
}

void reg_bench_close(struct reg_self *me, const struct reg_lease *lease)
{
	reg__undo(me, lease->sandbox.idx);
}
