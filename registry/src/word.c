/* SPDX-License-Identifier: Apache-2.0 */
/* The transitions of a record word, as pure functions: what may follow what. No atomics here. */
#include "word.h"

/* LOST or RESTORED with an owner: it is being given a slot at its agent. What else happens to it is
 * marked meanwhile. */
static bool in_adoption(uint64_t w)
{
	return (word_state(w) == REG_LOST || word_state(w) == REG_RESTORED) &&
	       word_owner(w) != CELL_OWNER_NONE;
}

/* A delete that was asked for while the record was RESERVED is answered by the caller without a
 * transition. */
enum reg_status rec_to_starting(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	if (word_state(w) != REG_RESERVED || word_owner(w) != me)
		return REG_BAD_STATE;
	if (rec_flags(w) & REC_DELETING) {
		*ret_next = w;
		return REG_DELETING;
	}
	*ret_next = rec_move(w, REG_STARTING, me, rec_flags(w));
	return REG_OK;
}

enum reg_status rec_to_committed(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	if (word_state(w) != REG_STARTING || word_owner(w) != me)
		return REG_BAD_STATE;
	if (rec_flags(w) & REC_DELETING) {
		*ret_next = rec_move(w, REG_STOPPING, CELL_OWNER_NONE, REC_DELETING);
		return REG_DELETING;
	}
	*ret_next = rec_move(w, rec_flags(w) & REC_EXIT_SEEN ? REG_EXITED : REG_RUNNING,
			     CELL_OWNER_NONE, 0);
	return REG_OK;
}

/* Holds everything; what its head becomes, it is. */
enum reg_status rec_to_member(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	if (word_state(w) != REG_CLAIMED || word_owner(w) != me || rec_flags(w))
		return REG_BAD_STATE;
	*ret_next = rec_move(w, REG_CLAIMED, me, REC_GANG);
	return REG_OK;
}

/* Its head is visible: so is it, and whoever finds that out writes it down. */
enum reg_status rec_to_shown(uint64_t w, uint64_t *ret_next)
{
	if (word_state(w) != REG_CLAIMED || rec_flags(w) != REC_GANG)
		return REG_BAD_STATE;
	*ret_next = rec_move(w, REG_RESERVED, word_owner(w), 0);
	return REG_OK;
}

/* CLAIMED under the same owner: invisible, and its owner (or who reaps it) takes everything back.
 */
enum reg_status rec_to_abort(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	unsigned int state = word_state(w);

	if ((state != REG_RESERVED && state != REG_STARTING && state != REG_CLAIMED) ||
	    word_owner(w) != me)
		return REG_BAD_STATE;
	*ret_next = rec_move(w, REG_CLAIMED, me, rec_flags(w) | REC_DELETING);
	return REG_OK;
}

enum reg_status rec_to_stop(uint64_t w, enum reg_stop_reason reason, uint64_t *ret_next)
{
	unsigned int flags = rec_flags(w);

	if (reason == REG_STOP_EXPIRE) {
		if (word_state(w) != REG_RUNNING)
			return REG_BAD_STATE;
		*ret_next = rec_move(w, REG_STOPPING, CELL_OWNER_NONE, flags | REC_EXPIRING);
		return REG_OK;
	}
	switch (word_state(w)) {
	case REG_RESERVED:
	case REG_STARTING:
	case REG_STOPPING:
	case REG_RESTORED:
		*ret_next = rec_move(w, word_state(w), word_owner(w), flags | REC_DELETING);
		return REG_OK;
	case REG_LOST:
		if (in_adoption(w)) {
			*ret_next = rec_move(w, REG_LOST, word_owner(w), flags | REC_DELETING);
			return REG_OK;
		}
		/* fall through */
	case REG_RUNNING:
	case REG_EXITED:
	case REG_EXPIRED:
		*ret_next = rec_move(w, REG_STOPPING, CELL_OWNER_NONE, flags | REC_DELETING);
		return REG_OK;
	default:
		return REG_BAD_STATE;
	}
}

enum reg_status rec_to_stopped(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	switch (word_state(w)) {
	case REG_STOPPING:
		if (rec_flags(w) & REC_DELETING)
			*ret_next = rec_move(w, REG_CLAIMED, me, rec_flags(w));
		else
			*ret_next = rec_move(w, REG_EXPIRED, CELL_OWNER_NONE, 0);
		return REG_OK;
	case REG_RUNNING:
	case REG_EXITED:
	case REG_LOST:
		return rec_to_exited(w, ret_next);
	default:
		return REG_BAD_STATE;
	}
}

enum reg_status rec_to_exited(uint64_t w, uint64_t *ret_next)
{
	unsigned int state = word_state(w), flags = rec_flags(w);

	if (state == REG_STARTING || in_adoption(w)) {
		/* faster than its own acknowledgement: the commit or the adoption finds the flag */
		*ret_next =
			rec_move(w, (enum reg_state)state, word_owner(w), flags | REC_EXIT_SEEN);
		return REG_OK;
	}
	switch (state) {
	case REG_RUNNING:
	case REG_LOST:
	case REG_RESTORED: /* a delete asked for while RESTORED stays marked, so that it can be
			      asked for again */
		*ret_next = rec_move(w, REG_EXITED, CELL_OWNER_NONE, flags & REC_DELETING);
		return REG_OK;
	case REG_STOPPING:
	case REG_EXITED:
	case REG_EXPIRED:
		*ret_next = w;
		return REG_OK;
	default:
		return REG_BAD_STATE;
	}
}

/* RUNNING: nothing to do. */
enum reg_status rec_to_adopting(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	*ret_next = w;
	if (word_state(w) == REG_RUNNING)
		return REG_OK;
	if ((word_state(w) != REG_LOST && word_state(w) != REG_RESTORED) || in_adoption(w))
		return REG_BAD_STATE;
	*ret_next = rec_move(w, (enum reg_state)word_state(w), me, rec_flags(w));
	return REG_OK;
}

enum reg_status rec_to_adopted(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	if (!in_adoption(w) || word_owner(w) != me)
		return REG_BAD_STATE;
	if (rec_flags(w) & REC_DELETING) {
		*ret_next = rec_move(w, REG_STOPPING, CELL_OWNER_NONE, REC_DELETING);
		return REG_DELETING;
	}
	*ret_next = rec_move(w, rec_flags(w) & REC_EXIT_SEEN ? REG_EXITED : REG_RUNNING,
			     CELL_OWNER_NONE, 0);
	return REG_OK;
}

/* The adoption failed, or its owner died. */
enum reg_status rec_to_unadopted(uint64_t w, uint32_t me, uint64_t *ret_next)
{
	unsigned int state = rec_flags(w) & REC_EXIT_SEEN ? REG_EXITED : word_state(w);

	if (!in_adoption(w) || word_owner(w) != me)
		return REG_BAD_STATE;
	*ret_next =
		rec_move(w, (enum reg_state)state, CELL_OWNER_NONE, rec_flags(w) & REC_DELETING);
	return REG_OK;
}

enum reg_status rec_to_lost(uint64_t w, uint64_t *ret_next)
{
	if ((word_state(w) != REG_RUNNING && word_state(w) != REG_RESTORED) || in_adoption(w))
		return REG_BAD_STATE;
	*ret_next = rec_move(w, REG_LOST, CELL_OWNER_NONE, rec_flags(w) & REC_DELETING);
	return REG_OK;
}

enum reg_status rec_to_found(uint64_t w, uint64_t *ret_next)
{
	if (word_state(w) != REG_LOST || in_adoption(w))
		return REG_BAD_STATE;
	*ret_next = rec_move(w, REG_RUNNING, CELL_OWNER_NONE, rec_flags(w) & REC_DELETING);
	return REG_OK;
}
