/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which images an agent has. The bit in the image's bitmap decides; a list of rows per agent says
 * where such bits may be, so that a change costs what it changes and not the arena's images. The
 * list is at least as long as the truth: an entry comes before its bit and goes after it. One
 * writer per agent.
 */
#include "internal.h"

#include <string.h>

static a32 *entry_at(const struct reg *reg, const struct reg_agent *a, uint32_t agent, uint32_t i)
{
	uint64_t off = reg->span[REGION_AGENT_IMAGES].off +
		       ((uint64_t)agent * REG_AGENT_IMAGES_MAX + i) * sizeof(a32);

	if (i < REG_IMAGES_INLINE)
		return (a32 *)(uintptr_t)&a->image[i];
	return i < REG_AGENT_IMAGES_MAX && reg__ensured(reg, off, sizeof(a32))
		       ? (a32 *)(void *)(reg->base + off)
		       : NULL;
}

/* The row in place i of the list; REG_NIL: none. */
static uint32_t listed(const struct reg *reg, const struct reg_agent *a, uint32_t agent, uint32_t i)
{
	const a32 *e = entry_at(reg, a, agent, i);
	/* relaxed: one writer; for readers a picture, checked by the bit */
	uint32_t row = e ? atomic_load_explicit(e, memory_order_relaxed) : 0;

	return row - 1;
}

static uint32_t length(const struct reg_agent *a)
{
	/* relaxed: as the entries */
	uint32_t n = atomic_load_explicit(&a->images, memory_order_relaxed);

	return n < REG_AGENT_IMAGES_MAX ? n : REG_AGENT_IMAGES_MAX;
}

static bool has(const struct reg *reg, uint32_t image, uint32_t agent)
{
	const a64 *bits = reg__image_bits(reg, image);

	/* relaxed: one writer */
	return bits &&
	       atomic_load_explicit(&bits[agent / 64], memory_order_relaxed) >> (agent % 64) & 1;
}

bool reg__agent_image_at(const struct reg *reg, uint32_t agent, uint32_t *at, uint32_t *ret_image)
{
	const struct reg_agent *a = reg__agent(reg, agent);

	for (uint32_t n = a ? length(a) : 0; *at < n;) {
		uint32_t image = listed(reg, a, agent, (*at)++);

		if (image != REG_NIL && has(reg, image, agent)) {
			*ret_image = image;
			return true;
		}
	}
	return false;
}

/* Room for n entries. */
static enum reg_status list_ensure(struct reg *reg, uint32_t agent, uint32_t n)
{
	if (n <= REG_IMAGES_INLINE)
		return REG_OK;
	return reg__ensure(reg,
			   reg->span[REGION_AGENT_IMAGES].off +
				   (uint64_t)agent * REG_AGENT_IMAGES_MAX * sizeof(a32),
			   (uint64_t)n * sizeof(a32));
}

static void list_put(struct reg *reg, struct reg_agent *a, uint32_t agent, uint32_t i,
		     uint32_t image)
{
	a32 *e = entry_at(reg, a, agent, i);

	if (e) /* relaxed: one writer */
		atomic_store_explicit(e, image + 1, memory_order_relaxed);
}

static void length_set(struct reg_agent *a, uint32_t n)
{
	/* relaxed: one writer */
	atomic_store_explicit(&a->images, n, memory_order_relaxed);
}

/* The bit goes, then the entry: the last one takes its place. */
static void drop_at(struct reg *reg, struct reg_agent *a, uint32_t agent, uint32_t i)
{
	uint32_t image = listed(reg, a, agent, i), last = length(a) - 1;
	a64 *bits = image == REG_NIL ? NULL : reg__image_bits(reg, image);

	if (bits)
		reg__member_remove(reg, bits, agent);
	(void)FAILPOINT("images.bit-cleared");
	list_put(reg, a, agent, i, listed(reg, a, agent, last));
	length_set(a, last);
}

void reg__images_clear(struct reg *reg, uint32_t agent)
{
	struct reg_agent *a = reg__agent(reg, agent);

	for (uint32_t n; (n = length(a));)
		drop_at(reg, a, agent, n - 1);
}

/* ---- changes ---- */

struct change {
	struct reg_self *me;
	struct reg_agent *a;
	uint32_t agent, pool;
};

/* A bit per image row: what the caller named. */
static bool marked(const struct reg_self *me, uint32_t image)
{
	return image < me->reg->max[CELLS_IMAGES] &&
	       me->image_marks[image / 64] >> (image % 64) & 1;
}

static void mark(struct reg_self *me, uint32_t image, bool on)
{
	uint64_t bit = UINT64_C(1) << (image % 64);

	if (on)
		me->image_marks[image / 64] |= bit;
	else
		me->image_marks[image / 64] &= ~bit;
}

static bool names_valid(const char *const *images, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!images[i] || !*images[i] || strlen(images[i]) > REG_IMAGE_MAX)
			return false;
	return true;
}

/* Rows that have no agent yet are invisible; should the call be refused, the sweep takes them. */
static enum reg_status intern_all(struct reg_self *me, const char *const *images, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct reg_row row;
		enum reg_status st = reg__image_intern(me, images[i], &row);

		if (st)
			return st;
	}
	return REG_OK;
}

/*
 * Entry, bit, then the look whether the row stands. Inside a read section a row that is found is
 * not another image's before the end. false: a sweep that saw no bit was faster.
 */
static bool add_found(struct change *c, const char *ref, uint32_t n)
{
	struct reg *reg = c->me->reg;
	struct reg_row row;

	if (!reg__find_image(reg, ref, &row))
		return false;
	if (has(reg, row.idx, c->agent) && reg__row_stands(reg, CELLS_IMAGES, row))
		return true;
	list_put(reg, c->a, c->agent, n, row.idx);
	length_set(c->a, n + 1);
	(void)FAILPOINT("images.listed");
	reg__room_begin(c->me, c->pool);
	reg__member_add(reg, reg__image_bits(reg, row.idx), c->agent);
	(void)FAILPOINT("images.bit-set");
	reg__room_end(c->me, c->pool);
	if (reg__row_stands(reg, CELLS_IMAGES, row))
		return true;
	drop_at(reg, c->a, c->agent, n);
	return false;
}

static enum reg_status add(struct change *c, const char *ref)
{
	for (;;) {
		struct reg_row row;
		enum reg_status st = reg__image_intern(c->me, ref, &row);
		uint32_t n = length(c->a);
		bool added;

		if (st)
			return st;
		if (n == REG_AGENT_IMAGES_MAX && !has(c->me->reg, row.idx, c->agent))
			return REG_TOO_LARGE;
		reg__read_lock();
		added = add_found(c, ref, n);
		reg__read_unlock();
		if (added)
			return REG_OK;
	}
}

static enum reg_status change_begin(struct reg_self *me, reg_agent_id agent, struct change *ret)
{
	struct reg_agent *a;
	enum reg_status st = reg__agent_of(me->reg, agent, &a);

	if (st)
		return st;
	*ret = (struct change){
		.me = me,
		.a = a,
		.agent = agent.idx,
		/* relaxed: one writer */
		.pool = atomic_load_explicit(&a->pool, memory_order_relaxed),
	};
	return REG_OK;
}

/* Entries without a bit: left by a death, or of a row that was swept. */
static void list_tidy(struct change *c)
{
	for (uint32_t i = length(c->a); i--;) {
		uint32_t image = listed(c->me->reg, c->a, c->agent, i);

		if (image == REG_NIL || !has(c->me->reg, image, c->agent))
			drop_at(c->me->reg, c->a, c->agent, i);
	}
}

static void marks_clear(struct reg_self *me)
{
	memset(me->image_marks, 0, (me->reg->max[CELLS_IMAGES] + 63) / 64 * sizeof(uint64_t));
}

static void marks_of(struct reg_self *me, const char *const *images, uint32_t count, bool on)
{
	for (uint32_t i = 0; i < count; i++) {
		struct reg_row row;

		if (reg__find_image(me->reg, images[i], &row))
			mark(me, row.idx, on);
	}
}

/* How many there will be: those that stay, and each new one once. New ones are not on the list, so
 * that a mark on them drops nothing. */
static uint32_t count_after(struct change *c, const char *const *add_refs, uint32_t add_n)
{
	struct reg *reg = c->me->reg;
	uint32_t n = 0;

	for (uint32_t i = 0; i < length(c->a); i++)
		n += !marked(c->me, listed(reg, c->a, c->agent, i));
	for (uint32_t i = 0; i < add_n; i++) {
		struct reg_row row;

		if (!reg__find_image(reg, add_refs[i], &row) || marked(c->me, row.idx) ||
		    has(reg, row.idx, c->agent))
			continue;
		n++;
		mark(c->me, row.idx, true);
	}
	return n;
}

static void drop_marked(struct change *c, bool when)
{
	for (uint32_t i = length(c->a); i--;)
		if (marked(c->me, listed(c->me->reg, c->a, c->agent, i)) == when)
			drop_at(c->me->reg, c->a, c->agent, i);
}

static enum reg_status add_all(struct change *c, const char *const *images, uint32_t count)
{
	enum reg_status st = REG_OK;

	for (uint32_t i = 0; i < count && !st; i++)
		st = add(c, images[i]);
	return st;
}

enum reg_status reg_agent_set_images(struct reg_self *me, reg_agent_id agent,
				     const char *const *images, uint32_t count)
{
	struct change c;
	enum reg_status st = change_begin(me, agent, &c);

	if (st)
		return st;
	if (count > REG_AGENT_IMAGES_MAX)
		return REG_TOO_LARGE;
	if (!names_valid(images, count))
		return REG_INVALID;
	st = intern_all(me, images, count);
	if (!st)
		st = list_ensure(me->reg, agent.idx, count);
	if (st)
		return st;
	list_tidy(&c);
	marks_clear(me);
	marks_of(me, images, count, true);
	drop_marked(&c, false);
	return add_all(&c, images, count);
}

enum reg_status reg_agent_change_images(struct reg_self *me, reg_agent_id agent,
					const char *const *add_refs, uint32_t add_n,
					const char *const *drop_refs, uint32_t drop_n)
{
	struct change c;
	uint32_t after;
	enum reg_status st = change_begin(me, agent, &c);

	if (st)
		return st;
	if (add_n > REG_AGENT_IMAGES_MAX || drop_n > REG_AGENT_IMAGES_MAX)
		return REG_TOO_LARGE;
	if (!names_valid(add_refs, add_n) || !names_valid(drop_refs, drop_n))
		return REG_INVALID;
	st = intern_all(me, add_refs, add_n);
	if (st)
		return st;
	list_tidy(&c);
	marks_clear(me);
	marks_of(me, drop_refs, drop_n, true);
	marks_of(me, add_refs, add_n, false); /* what is named in both stays */
	after = count_after(&c, add_refs, add_n);
	if (after > REG_AGENT_IMAGES_MAX)
		return REG_TOO_LARGE;
	st = list_ensure(me->reg, agent.idx, after);
	if (st)
		return st;
	drop_marked(&c, true);
	return add_all(&c, add_refs, add_n);
}
