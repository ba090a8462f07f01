/* SPDX-License-Identifier: Apache-2.0 */
/* The sequential registry of lin.h: calls taken apart into events of one moment each. */
#ifndef TESTS_REGISTRY_LIN_SPEC_H
#define TESTS_REGISTRY_LIN_SPEC_H

#include "lin.h"

enum { LIN_EVENTS = 128 };

enum event_kind {
	EV_PUBLISH, /* members of a reservation appear */
	EV_MOVE,    /* starting, commit, abort, stop, stopped */
	/* the rest only looks: whatever holds may be taken as soon as it holds */
	EV_REFUSED, /* a transition that was not possible */
	EV_KEY,	    /* a name or a request id was held */
	EV_FULL,    /* fewer free slots than asked for */
	EV_AGENT,   /* this agent: no slot, or (when that was the reason) a port in use */
	EV_PORT,    /* some agent has one of the ports in use */
	EV_IMAGE,   /* no agent with the image had room */
	EV_GET,
	EV_SEEN,   /* this sandbox was visible */
	EV_UNSEEN, /* it was not */
};

struct event {
	enum event_kind kind;
	uint8_t op, arg; /* arg: agent, sandbox or member */
	uint64_t from, to;
	int16_t needs; /* this event comes before; -1: none */
};

/* A sandbox of the history: made by one member of one reservation. */
struct lin_box {
	uint8_t op, member;
	uint8_t ender; /* the call that ended it; LIN_NONE: none */
};

enum box_state { BOX_NONE, BOX_RESERVED, BOX_STARTING, BOX_RUNNING, BOX_STOPPING, BOX_GONE };
#define BOX_DELETING 8 /* beside the state */

struct lin_case {
	const struct lin_history *h;
	struct event events[LIN_EVENTS];
	uint32_t event_count;
	struct lin_box boxes[LIN_SANDBOXES];
	uint32_t box_count;
	bool contradictory; /* no order could help: a handle twice, one from nowhere, … */
};

struct lin_state {
	uint8_t box[LIN_SANDBOXES];
};

/* The moments that are left for the next event. */
struct lin_window {
	uint64_t from, to;
};

void lin_case_init(struct lin_case *c, const struct lin_history *h);
/* Possible in this state? A change changes it. */
bool lin_apply(const struct lin_case *c, const struct event *e, struct lin_window window,
	       struct lin_state *state);
bool lin_looks_only(const struct event *e);

#endif
