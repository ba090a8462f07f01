/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry may answer, one moment at a time: see lin.h. */
#include "lin_spec.h"

#include <string.h>

/* ---- calls into events ---- */
static bool same_handle(reg_sandbox_id a, reg_sandbox_id b)
{
	return a.idx == b.idx && a.gen == b.gen;
}

static const struct lin_member *member_of(const struct lin_case *c, uint32_t box)
{
	return &c->h->ops[c->boxes[box].op].member[c->boxes[box].member];
}

static int box_of(const struct lin_case *c, reg_sandbox_id handle)
{
	for (uint32_t i = 0; i < c->box_count; i++)
		if (same_handle(member_of(c, i)->sandbox, handle))
			return (int)i;
	return -1;
}

static void add(struct lin_case *c, enum event_kind kind, uint32_t op, uint32_t arg, int needs)
{
	if (c->event_count == LIN_EVENTS) {
		c->contradictory = true; /* a history of this size is the recorder's fault */
		return;
	}
	c->events[c->event_count++] = (struct event){.kind = kind,
						     .op = (uint8_t)op,
						     .arg = (uint8_t)arg,
						     .from = c->h->ops[op].from,
						     .to = c->h->ops[op].to,
						     .needs = (int16_t)needs};
}

static void find_boxes(struct lin_case *c)
{
	for (uint32_t i = 0; i < c->h->count; i++) {
		const struct lin_op *op = &c->h->ops[i];

		for (uint32_t m = 0; op->kind == LIN_RESERVE && op->status == REG_OK && m < op->n;
		     m++) {
			if (c->box_count == LIN_SANDBOXES ||
			    box_of(c, op->member[m].sandbox) >= 0) {
				c->contradictory = true;
				return;
			}
			c->boxes[c->box_count++] =
				(struct lin_box){(uint8_t)i, (uint8_t)m, LIN_NONE};
		}
	}
}

static bool wants_image(const struct lin_case *c, const struct lin_op *op)
{
	bool any = false;

	for (uint32_t a = 0; a < c->h->world.agents; a++)
		any |= c->h->world.image[a];
	for (uint32_t m = 0; any && m < op->n; m++)
		if (op->member[m].image == 0 && !c->h->world.image[op->member[m].agent])
			return true;
	return false;
}

static void add_reserved(struct lin_case *c, uint32_t i)
{
	const struct lin_op *op = &c->h->ops[i];
	int needs = -1;

	for (uint32_t m = 0; m < op->n; m++)
		if (op->member[m].agent >= c->h->world.agents ||
		    op->member[m].slot >= c->h->world.slots[op->member[m].agent]) {
			c->contradictory = true;
			return;
		}
	if (wants_image(c, op)) {
		needs = (int)c->event_count;
		add(c, EV_IMAGE, i, 0, -1);
	}
	if (c->h->world.gangs_at_once) {
		add(c, EV_PUBLISH, i, LIN_NONE, needs);
		return;
	}
	for (uint32_t m = 0; m < op->n; m++)
		add(c, EV_PUBLISH, i, m, needs);
}

static void add_refused(struct lin_case *c, uint32_t i)
{
	const struct lin_op *op = &c->h->ops[i];
	bool ports = false;

	for (uint32_t m = 0; m < op->n; m++)
		ports |= op->member[m].ports != 0;
	switch (op->status) {
	case REG_NAME_EXISTS:
	case REG_NAME_TERMINATING:
	case REG_REQUEST_SEEN:
	case REG_REQUEST_MISMATCH:
		for (uint32_t m = 0; m < op->n; m++)
			if (op->member[m].status == op->status) {
				add(c, EV_KEY, i, m, -1);
				return;
			}
		break;
	case REG_NO_CAPACITY:
	case REG_PORT_CONFLICT:
		if (!ports && op->status == REG_NO_CAPACITY) {
			add(c, EV_FULL, i, 0, -1);
			return;
		}
		if (!ports)
			break;
		for (uint32_t a = 0; a < c->h->world.agents; a++)
			add(c, EV_AGENT, i, a, -1);
		if (op->status == REG_PORT_CONFLICT)
			add(c, EV_PORT, i, 0, -1);
		return;
	default:
		break;
	}
	c->contradictory = true;
}

static void add_move(struct lin_case *c, uint32_t i)
{
	const struct lin_op *op = &c->h->ops[i];
	int box = box_of(c, op->sandbox);
	bool moves = op->status == REG_OK || (op->kind == LIN_COMMIT && op->status == REG_DELETING);

	if (box < 0) {
		c->contradictory = true;
		return;
	}
	if (op->status == REG_OK && (op->kind == LIN_ABORT || op->kind == LIN_STOPPED)) {
		if (c->boxes[box].ender != LIN_NONE)
			c->contradictory = true;
		c->boxes[box].ender = (uint8_t)i;
	}
	add(c, moves ? EV_MOVE : EV_REFUSED, i, (uint32_t)box, -1);
}

static void add_look(struct lin_case *c, uint32_t i)
{
	const struct lin_op *op = &c->h->ops[i];
	bool seen[LIN_SANDBOXES] = {false};

	if (op->kind == LIN_GET) {
		if (op->status == REG_OK && box_of(c, op->sandbox) < 0)
			c->contradictory = true;
		add(c, EV_GET, i, 0, -1);
		return;
	}
	for (uint32_t k = 0; k < op->n; k++) {
		int box = box_of(c, op->seen[k]);

		if (box < 0 || seen[box]) {
			c->contradictory = true;
			return;
		}
		seen[box] = true;
	}
	for (uint32_t b = 0; b < c->box_count; b++) {
		uint8_t ender = c->boxes[b].ender;

		if (!seen[b] && (c->h->ops[c->boxes[b].op].from > op->to ||
				 (ender != LIN_NONE && c->h->ops[ender].to < op->from)))
			continue; /* can't be visible then */
		add(c, seen[b] ? EV_SEEN : EV_UNSEEN, i, b, -1);
	}
}

void lin_case_init(struct lin_case *c, const struct lin_history *h)
{
	*c = (struct lin_case){.h = h};
	find_boxes(c);
	for (uint32_t i = 0; i < h->count && !c->contradictory; i++) {
		const struct lin_op *op = &h->ops[i];

		if (op->kind == LIN_RESERVE && op->status == REG_OK)
			add_reserved(c, i);
		else if (op->kind == LIN_RESERVE)
			add_refused(c, i);
		else if (op->kind <= LIN_STOPPED)
			add_move(c, i);
	}
	for (uint32_t i = 0; i < h->count && !c->contradictory; i++) /* now the enders are known */
		if (h->ops[i].kind >= LIN_GET)
			add_look(c, i);
}

bool lin_looks_only(const struct event *e)
{
	return e->kind >= EV_REFUSED;
}

/* ---- holdings ---- */
/* Who looks, and when. */
struct moment {
	const struct lin_op *op;
	uint64_t at;
};

static bool open_then(const struct lin_op *op, const struct moment *when)
{
	return op->from <= when->at && when->at <= op->to;
}

static unsigned phase(const struct lin_state *state, uint32_t box)
{
	return state->box[box] & (BOX_DELETING - 1);
}

static bool visible(const struct lin_state *state, uint32_t box)
{
	return phase(state, box) >= BOX_RESERVED && phase(state, box) <= BOX_STOPPING;
}

/* Not there yet, or gone already, but perhaps still holding: by name, "in flight" and "on its way
 * out". */
static bool perhaps(const struct lin_case *c, const struct lin_state *state, uint32_t box,
		    const struct moment *when)
{
	if (phase(state, box) == BOX_NONE)
		return open_then(&c->h->ops[c->boxes[box].op], when);
	return phase(state, box) == BOX_GONE && c->boxes[box].ender != LIN_NONE &&
	       open_then(&c->h->ops[c->boxes[box].ender], when);
}

static bool asks_ports(const struct lin_op *op, uint8_t ports)
{
	for (uint32_t m = 0; m < op->n; m++)
		if (op->member[m].ports & ports)
			return true;
	return false;
}

/* Slots that others in flight may hold for a moment, nobody says where. */
static uint32_t held_somewhere(const struct lin_case *c, const struct moment *when)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->h->count; i++) {
		const struct lin_op *op = &c->h->ops[i];

		if (op == when->op || op->kind != LIN_RESERVE || !open_then(op, when))
			continue;
		if (asks_ports(op, 0xff) || (op->n > 1 && op->status != REG_OK))
			n += op->n;
	}
	return n;
}

/* Slots of one agent that nobody holds, nor perhaps holds. */
static uint32_t free_on(const struct lin_case *c, const struct lin_state *state, uint32_t agent,
			const struct moment *when)
{
	uint32_t free_slots = 0;

	for (uint32_t slot = 0; slot < c->h->world.slots[agent]; slot++) {
		bool held = false;

		for (uint32_t b = 0; b < c->box_count && !held; b++) {
			const struct lin_member *m = member_of(c, b);

			held = m->agent == agent && m->slot == slot &&
			       (visible(state, b) || perhaps(c, state, b, when));
		}
		free_slots += !held;
	}
	return free_slots;
}

static bool port_held(const struct lin_case *c, const struct lin_state *state, uint32_t agent,
		      uint8_t ports, const struct moment *when)
{
	for (uint32_t b = 0; b < c->box_count; b++) {
		const struct lin_member *m = member_of(c, b);

		if (m->agent == agent && m->ports & ports &&
		    (visible(state, b) || perhaps(c, state, b, when)))
			return true;
	}
	for (uint32_t i = 0; i < c->h->count; i++) {
		const struct lin_op *op = &c->h->ops[i];

		if (op != when->op && op->kind == LIN_RESERVE && asks_ports(op, ports) &&
		    open_then(op, when))
			return true; /* tried here for a moment */
	}
	return false;
}

static uint8_t ports_of(const struct lin_op *op)
{
	uint8_t ports = 0;

	for (uint32_t m = 0; m < op->n; m++)
		ports |= op->member[m].ports;
	return ports;
}

/* ---- refusals ---- */
static bool full(const struct lin_case *c, const struct lin_state *state, const struct moment *when)
{
	uint32_t free_slots = 0;

	for (uint32_t a = 0; a < c->h->world.agents; a++)
		free_slots += free_on(c, state, a, when);
	return free_slots <= when->op->n - 1 + held_somewhere(c, when);
}

static bool agent_refuses(const struct lin_case *c, const struct lin_state *state, uint32_t agent,
			  const struct moment *when)
{
	return free_on(c, state, agent, when) <= when->op->n - 1 + held_somewhere(c, when) ||
	       (when->op->status == REG_PORT_CONFLICT &&
		port_held(c, state, agent, ports_of(when->op), when));
}

static bool port_somewhere(const struct lin_case *c, const struct lin_state *state,
			   const struct moment *when)
{
	for (uint32_t a = 0; a < c->h->world.agents; a++)
		if (port_held(c, state, a, ports_of(when->op), when))
			return true;
	return false;
}

static bool image_full(const struct lin_case *c, const struct lin_state *state,
		       const struct moment *when)
{
	uint8_t ports = ports_of(when->op);
	uint32_t free_slots = 0;

	for (uint32_t a = 0; a < c->h->world.agents; a++)
		if (c->h->world.image[a] && !(ports && port_held(c, state, a, ports, when)))
			free_slots += free_on(c, state, a, when);
	return free_slots <= held_somewhere(c, when);
}

/* The key that stands in the way of m is box's, too, and this is a reason for that status. */
static bool key_held(const struct lin_case *c, const struct lin_state *state, uint32_t box,
		     const struct moment *when, const struct lin_member *m)
{
	const struct lin_member *other = member_of(c, box);
	bool leaving = perhaps(c, state, box, when);

	switch (m->status) {
	case REG_NAME_EXISTS:
		return other->name == m->name && (visible(state, box) || leaving);
	case REG_NAME_TERMINATING:
		return other->name == m->name && (phase(state, box) == BOX_STOPPING || leaving);
	case REG_REQUEST_SEEN:
		return other->rid == m->rid && (visible(state, box) || leaving) &&
		       (other->hash == m->hash || leaving);
	default:
		return other->rid == m->rid && (visible(state, box) || leaving) &&
		       other->hash != m->hash;
	}
}

/* Somebody else in flight, refused in the end, had it for a moment. */
static bool key_tried(const struct lin_case *c, const struct moment *when,
		      const struct lin_member *m)
{
	bool by_name = m->status == REG_NAME_EXISTS || m->status == REG_NAME_TERMINATING;

	for (uint32_t i = 0; i < c->h->count; i++) {
		const struct lin_op *x = &c->h->ops[i];

		if (x == when->op || x->kind != LIN_RESERVE || x->status == REG_OK ||
		    !open_then(x, when))
			continue;
		for (uint32_t k = 0; k < x->n; k++)
			if (by_name ? x->member[k].name == m->name : x->member[k].rid == m->rid)
				return true;
	}
	return false;
}

static bool key_refused(const struct lin_case *c, const struct lin_state *state,
			const struct moment *when, const struct lin_member *m)
{
	int box = box_of(c, m->sandbox);

	if (box >= 0)
		return key_held(c, state, (uint32_t)box, when, m);
	if (key_tried(c, when, m))
		return true;
	for (uint32_t b = 0; !m->sandbox.gen && b < c->box_count; b++) /* gone before it was read */
		if (key_held(c, state, b, when, m))
			return true;
	return false;
}

/*
 * A look whose answer others in flight may explain: some moment of the window has to do, and
 * whatever explains it has to be in flight then. The window ends with the first call that has to
 * come after this; it begins with the last change that came before.
 */
static bool look_at(const struct lin_case *c, const struct event *e, const struct lin_state *state,
		    const struct moment *when)
{
	switch (e->kind) {
	case EV_KEY:
		return key_refused(c, state, when, &when->op->member[e->arg]);
	case EV_FULL:
		return full(c, state, when);
	case EV_AGENT:
		return agent_refuses(c, state, e->arg, when);
	case EV_PORT:
		return port_somewhere(c, state, when);
	default:
		return image_full(c, state, when);
	}
}

static bool look(const struct lin_case *c, const struct event *e, const struct lin_state *state,
		 struct lin_window window)
{
	struct moment when = {&c->h->ops[e->op], window.from > e->from ? window.from : e->from};
	uint64_t first = when.at;

	if (look_at(c, e, state, &when))
		return true;
	for (uint32_t i = 0; i < c->h->count;
	     i++) { /* more is in flight only where a call begins */
		when.at = c->h->ops[i].from;
		if (when.at > first && when.at <= window.to && look_at(c, e, state, &when))
			return true;
	}
	return false;
}

/* ---- changes ---- */
static bool clashes(const struct lin_member *a, const struct lin_member *b)
{
	return a->name == b->name || (a->rid != LIN_NONE && a->rid == b->rid) ||
	       (a->agent == b->agent && (a->slot == b->slot || a->ports & b->ports));
}

static bool publish(const struct lin_case *c, const struct event *e, struct lin_state *state)
{
	for (uint32_t b = 0; b < c->box_count; b++) {
		if (c->boxes[b].op != e->op || (e->arg != LIN_NONE && c->boxes[b].member != e->arg))
			continue;
		for (uint32_t other = 0; other < c->box_count; other++)
			if (visible(state, other) && clashes(member_of(c, b), member_of(c, other)))
				return false;
		state->box[b] = BOX_RESERVED;
	}
	return true;
}

static bool stop(uint8_t *box, enum reg_state before)
{
	static const enum reg_state states[] = {[BOX_RESERVED] = REG_RESERVED,
						[BOX_STARTING] = REG_STARTING,
						[BOX_RUNNING] = REG_RUNNING,
						[BOX_STOPPING] = REG_STOPPING};
	unsigned now = *box & (BOX_DELETING - 1);

	if (now == BOX_NONE || now == BOX_GONE || states[now] != before)
		return false;
	*box = (uint8_t)((now == BOX_RUNNING ? BOX_STOPPING : now) | BOX_DELETING);
	return true;
}

static bool move(const struct lin_op *op, uint8_t *box)
{
	unsigned now = *box & (BOX_DELETING - 1);
	bool deleting = *box & BOX_DELETING;

	switch (op->kind) {
	case LIN_STARTING:
		if (now != BOX_RESERVED || deleting)
			return false;
		*box = BOX_STARTING;
		return true;
	case LIN_COMMIT:
		if (now != BOX_STARTING || deleting != (op->status == REG_DELETING))
			return false;
		*box = deleting ? BOX_STOPPING | BOX_DELETING : BOX_RUNNING;
		return true;
	case LIN_ABORT:
		if (now != BOX_RESERVED && now != BOX_STARTING)
			return false;
		*box = BOX_GONE;
		return true;
	case LIN_STOP:
		return stop(box, op->state);
	case LIN_STOPPED:
		if (now != BOX_STOPPING || !deleting)
			return false;
		*box = BOX_GONE;
		return true;
	default:
		return false;
	}
}

static bool refused(const struct lin_op *op, uint8_t box)
{
	unsigned now = box & (BOX_DELETING - 1);

	if (op->kind == LIN_STARTING && op->status == REG_DELETING)
		return now == BOX_RESERVED && box & BOX_DELETING;
	if (op->kind == LIN_STOP || op->kind == LIN_STOPPED)
		return (op->status == REG_STALE || op->status == REG_BAD_STATE) && now == BOX_GONE;
	return false;
}

static bool got(const struct lin_case *c, const struct lin_state *state, const struct lin_op *op)
{
	static const uint8_t phases[] = {[REG_RESERVED] = BOX_RESERVED,
					 [REG_STARTING] = BOX_STARTING,
					 [REG_RUNNING] = BOX_RUNNING,
					 [REG_STOPPING] = BOX_STOPPING};
	int box = box_of(c, op->sandbox);

	if (op->status == REG_OK)
		return op->state <= REG_STOPPING && visible(state, (uint32_t)box) &&
		       phase(state, (uint32_t)box) == phases[op->state] &&
		       !!(state->box[box] & BOX_DELETING) == op->deleting &&
		       member_of(c, (uint32_t)box)->name == op->name &&
		       member_of(c, (uint32_t)box)->agent == op->agent &&
		       member_of(c, (uint32_t)box)->slot == op->slot;
	for (uint32_t b = 0; b < c->box_count; b++)
		if (visible(state, b) && member_of(c, b)->name == op->name)
			return false;
	return op->status == REG_NOT_FOUND;
}

bool lin_apply(const struct lin_case *c, const struct event *e, struct lin_window window,
	       struct lin_state *state)
{
	const struct lin_op *op = &c->h->ops[e->op];

	switch (e->kind) {
	case EV_PUBLISH:
		return publish(c, e, state);
	case EV_MOVE:
		return move(op, &state->box[e->arg]);
	case EV_REFUSED:
		return refused(op, state->box[e->arg]);
	case EV_KEY:
	case EV_FULL:
	case EV_AGENT:
	case EV_PORT:
	case EV_IMAGE:
		return look(c, e, state, window);
	case EV_GET:
		return got(c, state, op);
	case EV_SEEN:
		return visible(state, e->arg);
	case EV_UNSEEN:
		return !visible(state, e->arg);
	}
	return false;
}
