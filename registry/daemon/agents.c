/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents: one link each, kept up; join at hello, heartbeats, loss and return. An agent is
 *   not ready at once when its process is gone, or when it was never ready;
 *   lost after agent_timeout without a sign of life: its RUNNING sandboxes become LOST (sweep.c
 * does that walk); back with its next hello: merge.c compares what it reports with the arena.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon.h"

/*
 * So many agents are dialled for the first time at once, and one that has not answered after a
 * moment no longer holds the others up. Dialled all at once on two busy cores, 5,000 agents were
 * not through within the second that gRPC gives an attempt, and most began anew: ready after 16 s
 * and 6 s of CPU instead of 6 and 2.
 */
enum { FIRST_TRIES_MAX = 128 };
#define FIRST_TRY_NS (250 * NS_PER_MS)

static bool has_id(const struct rd_agent *a)
{
	return a->id.idx != UINT32_MAX;
}

static const char *agent_label(const struct rd_agent *a)
{
	return a->name[0] ? a->name : a->address;
}

static void seen_now(struct rd_agent *a)
{
	a->seen_ns = clock_mono_ns();
	a->seen_unix_ns = clock_unix_ns();
}

static void set_ready(struct rd_agent *a, bool ready)
{
	if (a->ready == ready || !has_id(a))
		return;
	a->ready = ready;
	reg_agent_set_ready(a->d->me, a->id, ready);
}

static void drop(struct rd_agent *a)
{
	if (has_id(a) && rd_map_get(&a->d->agent_by_idx, a->id.idx) == a)
		rd_map_del(&a->d->agent_by_idx, a->id.idx);
	a->dead = true;
}

/* ---- hello ---- */

/*
 * The arena has the agent just so. Then it is not joined anew: a join takes its readiness away for
 * a moment, and a restart of registryd must not make creates see "no capacity".
 */
static bool is_as_it_was(struct rd_agent *a, const struct reg_agent_info *info, reg_agent_id *ret)
{
	struct reg_agent_view row;
	reg_agent_id id;

	if (reg_agent_find(a->d->me, info->ns, info->name, &id) != REG_OK ||
	    reg_agent_get(a->d->me, id, &row) != REG_OK)
		return false;
	if (strcmp(row.pool, info->pool) != 0 || strcmp(row.node, info->node) != 0 ||
	    strcmp(row.address, info->address) != 0 || strcmp(row.host_ip, info->host_ip) != 0 ||
	    row.capacity != info->capacity || row.shared_network != info->shared_network ||
	    row.removed)
		return false;
	*ret = id;
	return true;
}

static enum reg_status join(struct rd_agent *a, const struct reg_agent_info *info)
{
	enum reg_status st = REG_INVALID;

	if (str_is_dns1123_subdomain(info->name) && str_is_dns1123_label(info->ns) &&
	    str_is_dns1123_subdomain(info->pool))
		st = is_as_it_was(a, info, &a->id) ? REG_OK
						   : reg_agent_join(a->d->me, info, &a->id);
	if (st != REG_OK)
		return st;
	snprintf(a->ns, sizeof(a->ns), "%s", info->ns);
	snprintf(a->name, sizeof(a->name), "%s", info->name);
	snprintf(a->pool, sizeof(a->pool), "%s", info->pool);
	return st;
}

/* The entry of that name under another address. */
static struct rd_agent *find_namesake(const struct rd_agent *a, const struct reg_agent_info *info)
{
	reg_agent_id id;
	struct rd_agent *other;

	if (reg_agent_find(a->d->me, info->ns, info->name, &id) != REG_OK)
		return NULL;
	other = rd_map_get(&a->d->agent_by_idx, id.idx);
	return other != a ? other : NULL;
}

/* An agent has one entry: an older one goes, unless it is alive. false: has logged why not. */
static bool take(struct rd_agent *a, const struct reg_agent_info *info)
{
	struct rd_agent *other = find_namesake(a, info);
	const uint32_t before = a->id.idx;
	enum reg_status st;

	if (other && rd_agent_is_up(other)) {
		log_error("two agents of one name", "agent=%s namespace=%s address=%s other=%s",
			  info->name, info->ns, a->address, other->address);
		return false;
	}
	if (other)
		drop(other);
	st = join(a, info);
	if (st == REG_OK && before != UINT32_MAX && before != a->id.idx)
		rd_map_del(&a->d->agent_by_idx, before); /* it has changed its name */
	if (st == REG_OK && rd_map_put(&a->d->agent_by_idx, a->id.idx, a) == 0)
		return true;
	log_error("agent not taken", "agent=%s namespace=%s pool=%s address=%s err=%s", info->name,
		  info->ns, info->pool, a->address, reg_status_text(st));
	a->id = (reg_agent_id){UINT32_MAX, 0};
	return false;
}

static void set_images(struct rd_agent *a, char *const *images, size_t n)
{
	enum reg_status st;

	if (n > REG_AGENT_IMAGES_MAX) {
		log_warn("agent has too many images", "agent=%s images=%zu used=%d", a->name, n,
			 REG_AGENT_IMAGES_MAX);
		n = REG_AGENT_IMAGES_MAX;
	}
	st = reg_agent_set_images(a->d->me, a->id, (const char *const *)images, (uint32_t)n);
	if (st != REG_OK)
		log_warn("images not noted", "agent=%s err=%s", a->name, reg_status_text(st));
}

static void note_process(struct rd_agent *a, uint64_t pid)
{
	a->process = (struct procid){0};
	if (a->socket_path && pid > 0 && pid <= INT32_MAX)
		(void)procid_of((pid_t)pid, &a->process); /* else of another pid namespace */
}

static void on_up(void *arg, const Fsb__Agent__V1__HelloReply *hello)
{
	struct rd_agent *a = arg;
	bool new_here = !has_id(a);
	const struct reg_agent_info info = {
		.ns = hello->namespace_[0] ? hello->namespace_ : "default",
		.name = hello->agent_name,
		.pool = hello->pool[0] ? hello->pool : "default-pool",
		.node = hello->node,
		.address = a->address,
		.host_ip = hello->host_ip,
		.shared_network = hello->shared_network,
		.capacity = hello->capacity,
	};

	a->first_try = false;
	if (a->dead || !take(a, &info))
		return;
	seen_now(a);
	note_process(a, hello->agent_pid);
	set_images(a, hello->images, hello->n_images);
	rd_merge_reports(a, hello);
	a->lost = false;
	a->ready = false; /* a join has told the arena so */
	set_ready(a, true);
	reg_agent_heartbeat(a->d->me, a->id, a->seen_unix_ns);
	rd_sweep_soon(a->d);
	log_info(new_here ? "agent joined" : "agent is back",
		 "agent=%s namespace=%s pool=%s node=%s capacity=%d sandboxes=%zu images=%zu "
		 "address=%s",
		 a->name, a->ns, info.pool, info.node, info.capacity, hello->n_sandboxes,
		 hello->n_images, a->address);
}

/* ---- signs of life ---- */

static bool process_is_gone(const struct rd_agent *a)
{
	return a->process.pid && !procid_alive(&a->process);
}

static void on_down(void *arg, const char *reason)
{
	struct rd_agent *a = arg;

	a->first_try = false;
	if (a->dead)
		return;
	if (has_id(a))
		log_warn("agent link down", "agent=%s err=%s", agent_label(a), reason);
	else
		log_info("agent does not answer yet", "err=%s", reason);
	if (process_is_gone(a))
		set_ready(a, false);
}

static void on_event(void *arg, const Fsb__Agent__V1__Event *event)
{
	struct rd_agent *a = arg;

	if (a->dead || !has_id(a))
		return;
	seen_now(a);
	switch (event->kind_case) {
	case FSB__AGENT__V1__EVENT__KIND_HEARTBEAT:
		reg_agent_heartbeat(a->d->me, a->id, a->seen_unix_ns);
		break;
	case FSB__AGENT__V1__EVENT__KIND_EXITED:
		rd_exit_event(a, event->exited);
		break;
	case FSB__AGENT__V1__EVENT__KIND_REMOVED:
		rd_removed_event(a, event->removed);
		break;
	case FSB__AGENT__V1__EVENT__KIND_IMAGES:
		set_images(a, event->images->images, event->images->n_images);
		break;
	default:
		break;
	}
}

static void declare_lost(struct rd_agent *a)
{
	a->lost = true;
	set_ready(a, false);
	log_error("agent lost", "agent=%s address=%s", agent_label(a), a->address);
	rd_sweep_soon(a->d);
}

static bool socket_exists(const struct rd_agent *a)
{
	return !a->socket_path || access(a->socket_path, F_OK) == 0;
}

/* Its time begins now, not when it was found. */
static void dial(struct rd_agent *a, uint64_t now)
{
	a->dialled = a->first_try = true;
	a->seen_ns = now;
	agentlink_keep_up(a->link, true);
}

static void dial_some(struct rd_daemon *d, uint64_t now)
{
	uint32_t trying = 0;

	for (const struct rd_agent *a = d->agents; a; a = a->next)
		trying += a->first_try && !a->dead && now - a->seen_ns < FIRST_TRY_NS;
	for (struct rd_agent *a = d->agents; a && trying < FIRST_TRIES_MAX; a = a->next) {
		if (a->dialled || a->dead)
			continue;
		dial(a, now);
		trying++;
	}
}

static void check_one(struct rd_agent *a, uint64_t now)
{
	if (!a->dialled)
		return;
	if (a->ready && !rd_agent_is_up(a) && process_is_gone(a)) {
		log_warn("agent process is gone", "agent=%s pid=%d", a->name, a->process.pid);
		set_ready(a, false);
	}
	/* a link that is up and silent, like one that is down, says nothing */
	if (!a->lost && now - a->seen_ns > a->d->options->agent_timeout_ns)
		declare_lost(a);
	if (a->lost && !a->from_flag && !socket_exists(a) &&
	    now - a->seen_ns > 2 * a->d->options->agent_timeout_ns)
		drop(a);
}

static void free_agent(struct rd_agent *a)
{
	rd_merge_forget(a);
	agentlink_free(a->link);
	free(a->address);
	free(a);
}

void rd_agents_check(struct rd_daemon *d)
{
	uint64_t now = clock_mono_ns();
	struct rd_agent **at = &d->agents;

	if (!d->store_loaded)
		return;
	dial_some(d, now);
	while (*at) {
		struct rd_agent *a = *at;

		if (!a->dead)
			check_one(a, now);
		if (a->dead) {
			*at = a->next;
			free_agent(a);
		} else {
			at = &a->next;
		}
	}
}

/* ---- entries ---- */

/* Addresses differ in their last bytes: told apart by a hash (FNV-1a) before they are compared. */
static uint32_t hash_of(const char *address)
{
	uint32_t h = UINT32_C(2166136261);

	for (; *address; address++)
		h = (h ^ (unsigned char)*address) * UINT32_C(16777619);
	return h;
}

static struct rd_agent *find_address(struct rd_daemon *d, const char *address)
{
	const uint32_t hash = hash_of(address);

	for (struct rd_agent *a = d->agents; a; a = a->next) {
		if (a->address_hash == hash && !a->dead && strcmp(a->address, address) == 0)
			return a;
	}
	return NULL;
}

static int make_link(struct rd_agent *a, struct err *err)
{
	const struct agentlink_hello hello = {
		.role = FSB__AGENT__V1__PEER_ROLE__REGISTRYD,
		.instance = reg_instance(a->d->reg),
		.controller_epoch = reg_epoch(a->d->reg),
		.participant = reg_self_idx(a->d->me),
	};
	const struct agentlink_handlers handlers = {
		.on_up = on_up,
		.on_down = on_down,
		.on_event = on_event,
		.arg = a,
	};

	a->link = agentlink_new(a->d->loop, a->address, &hello, &handlers, err);
	return a->link ? 0 : -EINVAL;
}

static struct rd_agent *add(struct rd_daemon *d, const char *address, bool from_flag)
{
	struct err err = ERR_INIT;
	struct rd_agent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->d = d;
	a->id.idx = UINT32_MAX;
	a->from_flag = from_flag;
	seen_now(a);
	a->address = strdup(address);
	if (!a->address || make_link(a, &err) < 0) {
		log_error("agent not dialled", "address=%s err=%s", address, err.msg);
		free_agent(a);
		return NULL;
	}
	a->address_hash = hash_of(a->address);
	if (strncmp(a->address, "unix:", 5) == 0)
		a->socket_path = a->address + 5;
	a->next = d->agents;
	d->agents = a;
	return a; /* dialled at the next tick: a socket file is there before its process listens */
}

void rd_agent_add(struct rd_daemon *d, const char *address, bool from_flag)
{
	struct rd_agent *a = find_address(d, address);

	if (a)
		a->from_flag |= from_flag;
	else
		(void)add(d, address, from_flag); /* has logged */
}

void rd_agent_socket_gone(struct rd_daemon *d, const char *address)
{
	struct rd_agent *a = find_address(d, address);

	/* a new process may have bound the path anew before the old one's link breaks */
	if (a && !socket_exists(a) && (!a->process.pid || process_is_gone(a)))
		set_ready(a, false);
}

/*
 * A predecessor's agents: ready or not as they stand in the arena, until they answer or their time
 * is over. Without them nobody would notice an agent that went while no registryd ran.
 */
void rd_agents_from_arena(struct rd_daemon *d)
{
	struct reg_agent_view view;
	uint32_t cursor = 0;

	while (reg_agent_next(d->me, &cursor, &view)) {
		struct rd_agent *a;

		if (view.removed || (!view.ready && !view.allocated))
			continue;
		rd_agent_add(d, view.address, false);
		a = find_address(d, view.address);
		if (!a || has_id(a) || rd_map_put(&d->agent_by_idx, view.id.idx, a) < 0)
			continue;
		a->id = view.id;
		a->ready = view.ready;
		if (view.heartbeat_unix_ns)
			a->seen_unix_ns = view.heartbeat_unix_ns;
		memcpy(a->ns, view.ns, sizeof(a->ns));
		memcpy(a->name, view.name, sizeof(a->name));
		if (!socket_exists(a))
			set_ready(a, false);
	}
}

void rd_agent_forgotten(struct rd_daemon *d, reg_agent_id id)
{
	struct rd_agent *a = rd_map_get(&d->agent_by_idx, id.idx);

	if (!a || a->id.gen != id.gen)
		return;
	rd_map_del(&d->agent_by_idx, id.idx);
	a->id = (reg_agent_id){UINT32_MAX, 0};
	a->ready = false;
}

void rd_agents_dial(struct rd_daemon *d)
{
	for (struct rd_agent *a = d->agents; a; a = a->next)
		a->seen_ns = clock_mono_ns(); /* its time begins now */
}

bool rd_agent_is_up(const struct rd_agent *agent)
{
	return agent && !agent->dead && agentlink_is_up(agent->link) && has_id(agent);
}

struct rd_agent *rd_agent_of(struct rd_daemon *d, const struct reg_sandbox_view *view)
{
	if (view->agent.idx != UINT32_MAX)
		return rd_map_get(&d->agent_by_idx, view->agent.idx);
	for (struct rd_agent *a = d->agents; view->agent_name[0] && a; a = a->next) {
		if (!a->dead && has_id(a) && strcmp(a->name, view->agent_name) == 0 &&
		    strcmp(a->ns, view->ns) == 0)
			return a;
	}
	return NULL;
}

bool rd_agent_is_out(struct rd_daemon *d, const struct rd_agent *agent)
{
	if (agent)
		return agent->lost;
	return d->store_loaded && clock_mono_ns() - d->loaded_ns > d->options->agent_timeout_ns;
}

void rd_agents_done(struct rd_daemon *d)
{
	while (d->agents) {
		struct rd_agent *a = d->agents;

		d->agents = a->next;
		free_agent(a);
	}
	rd_map_done(&d->agent_by_idx);
}
