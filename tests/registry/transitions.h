/* SPDX-License-Identifier: Apache-2.0 */
/* The transitions that take no participant, in the shape of those that do, for tables of them. */
#ifndef TESTS_REGISTRY_TRANSITIONS_H
#define TESTS_REGISTRY_TRANSITIONS_H

#include "word.h"

static inline enum reg_status do_delete(uint64_t w, uint32_t me, uint64_t *next)
{
	(void)me;
	return rec_to_stop(w, REG_STOP_DELETE, next);
}

static inline enum reg_status do_expire(uint64_t w, uint32_t me, uint64_t *next)
{
	(void)me;
	return rec_to_stop(w, REG_STOP_EXPIRE, next);
}

static inline enum reg_status do_exited(uint64_t w, uint32_t me, uint64_t *next)
{
	(void)me;
	return rec_to_exited(w, next);
}

static inline enum reg_status do_lost(uint64_t w, uint32_t me, uint64_t *next)
{
	(void)me;
	return rec_to_lost(w, next);
}

static inline enum reg_status do_found(uint64_t w, uint32_t me, uint64_t *next)
{
	(void)me;
	return rec_to_found(w, next);
}

#endif
