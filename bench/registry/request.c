/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: made once, then only the digits change. */
#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

/* Over all stints of a process: a name is never used twice. */
static uint64_t used;

static void request_init(struct requests *requests, struct request *r, enum request_kind kind)
{
	(void)snprintf(r->name, sizeof(r->name), "bench-%02u-%011d", requests->seat % 100, 0);
	(void)snprintf(r->id, sizeof(r->id), "%032d", 0);
	(void)snprintf(r->request_id, sizeof(r->request_id), "7f1d2c3b-00%02u-4000-8000-%012d",
		       requests->seat % 100, 0);
	(void)snprintf(r->id, 5, "%04u", requests->seat % 10000);
	r->id[4] = '0';
	r->req = (struct reg_request){
		.ns = WORLD_NAMESPACE,
		.pool = WORLD_POOL,
		.name = r->name,
		.id = r->id,
		.request_id = kind == REQUEST_FULL ? r->request_id : NULL,
		.spec = kind == REQUEST_FULL ? requests->spec : NULL,
		.spec_len = kind == REQUEST_FULL ? REQUEST_SPEC_BYTES : 0,
		.ports = &r->port,
		.port_count = requests->world->spec.ports,
	};
}

struct requests *requests_new(const struct world *world, enum request_kind kind, uint32_t seat)
{
	struct requests *requests = calloc(1, sizeof(*requests));

	base_bug(!requests);
	requests->world = world;
	requests->seat = seat;
	requests->counter = used;
	requests->random = used * 31 + seat;
	for (uint32_t i = 0; i < REQUEST_SPEC_BYTES; i++)
		requests->spec[i] = (uint8_t)(i * 37);
	for (uint32_t i = 0; i < UNIT_MAX; i++)
		request_init(requests, &requests->one[i], kind);
	return requests;
}

/* The last digits of text become value in decimal: what snprintf would do, ten times faster. */
static void put_digits(char *text, size_t len, uint64_t value)
{
	while (len) {
		text[--len] = (char)('0' + value % 10);
		value /= 10;
	}
}

void requests_prepare(struct requests *requests, uint32_t n)
{
	int64_t now = clock_unix_ns();

	base_bug(n > UNIT_MAX);
	for (uint32_t i = 0; i < n; i++) {
		struct request *r = &requests->one[i];
		uint64_t value = ++requests->counter;

		put_digits(r->name + REQUEST_NAME_BYTES - 11, 11, value);
		put_digits(r->id + 12, 20, value);
		put_digits(r->request_id + 24, 12, value);
		r->image = requests->world->draws[value % WORLD_DRAWS];
		r->req.image = world_image(r->image);
		r->req.request_hash = value * UINT64_C(0x9e3779b97f4a7c15);
		r->req.created_unix_ns = now;
		r->agent = UINT32_MAX;
		r->port = (uint16_t)(8000 + world_random(&requests->random) % WORLD_PORTS);
	}
	used = requests->counter;
	requests->next = 0;
	requests->ready = n;
}

struct requests *requests_free(struct requests *requests)
{
	free(requests);
	return NULL;
}
