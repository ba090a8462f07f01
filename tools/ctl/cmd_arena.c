/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena check, arena dump: an arena file looked at from outside, of a living instance or a dead
 * one. Nothing is written to it, nobody joins it, no lock is taken; needs no server.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "arena_dump.h"
#include "base/instance.h"
#include "registry/inspect.h"

static struct {
	const char *arena, *instance, *output, *pool, *state;
	int64_t limit;
	bool strict;
} flags;

static const struct opt opts[] = {
	{.name = "arena",
	 .kind = OPT_STRING,
	 .arg = "PATH",
	 .help = "the arena file; default: that of the instance",
	 .string = &flags.arena},
	{.name = "instance",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .help = "the instance whose arena it is",
	 .def = "default",
	 .string = &flags.instance},
	{.name = "limit",
	 .kind = OPT_INT,
	 .arg = "N",
	 .help = "check: show at most so many findings of a class; 0: all",
	 .def = "100",
	 .min = 0,
	 .max = 1000000,
	 .number = &flags.limit},
	{.name = "strict",
	 .kind = OPT_FLAG,
	 .help = "check: fail on leftovers and stale hints, too",
	 .flag = &flags.strict},
	{.name = "pool",
	 .kind = OPT_STRING,
	 .arg = "POOL",
	 .help = "dump: only agents and sandboxes of this pool",
	 .string = &flags.pool},
	{.name = "state",
	 .kind = OPT_STRING,
	 .arg = "STATE",
	 .help = "dump: only sandboxes in this state, e.g. RUNNING",
	 .string = &flags.state},
	CTL_OUTPUT_OPT("text|json", "text", &flags.output),
	{.name = NULL},
};

static bool want_json(void)
{
	return !strcmp(flags.output, "json");
}

/* Says why on stderr: exit status 3. */
static int unreadable(const char *path, enum reg_status why)
{
	(void)fprintf(stderr, "Error: arena '%s': %s\n", path, reg_status_text(why));
	return ARENA_UNREADABLE;
}

/* ---- check ---- */

struct checking {
	struct mem *mem;
	struct table table;
	json_t *array;
	uint64_t shown[REG_FINDING_CLASSES];
};

static void on_finding(void *arg, const struct reg_finding *f)
{
	struct checking *c = arg;
	const char *class_ = reg_finding_class_name(f->class_);

	if (flags.limit && c->shown[f->class_] >= (uint64_t)flags.limit)
		return;
	c->shown[f->class_]++;
	if (want_json())
		json_array_append_new(c->array, json_pack("{s:s,s:s,s:s,s:s,s:s}", "class", class_,
							  "finding", f->name, "where", f->where,
							  "words", f->words, "text", f->text));
	else
		table_row(&c->table, mem_strdup(c->mem, class_), f->name,
			  mem_strdup(c->mem, f->where), mem_strdup(c->mem, f->words), f->text);
}

static void print_check_json(const char *path, struct checking *c, const struct reg_inspect_sum *s)
{
	json_t *object = json_pack("{s:s,s:b,s:i,s:I,s:I,s:I,s:I,s:b}", "arena", path, "live",
				   s->live, "looks", (int)s->looks, "broken",
				   (json_int_t)s->findings[REG_FINDING_BROKEN], "leftover",
				   (json_int_t)s->findings[REG_FINDING_LEFTOVER], "stale",
				   (json_int_t)s->findings[REG_FINDING_STALE], "transient",
				   (json_int_t)s->transient, "cut", s->cut);

	json_object_set_new(object, "counted",
			    json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "records",
				      (json_int_t)s->records, "slots_held",
				      (json_int_t)s->slots_held, "names", (json_int_t)s->names,
				      "request_ids", (json_int_t)s->request_ids, "ports",
				      (json_int_t)s->ports, "blobs", (json_int_t)s->blobs, "agents",
				      (json_int_t)s->agents, "pools", (json_int_t)s->pools,
				      "images", (json_int_t)s->images));
	json_object_set_new(object, "findings", c->array);
	msg_print_json(object);
}

static void print_check_text(const char *path, const struct checking *c,
			     const struct reg_inspect_sum *s)
{
	uint64_t shown = 0, all = 0;

	for (int i = 0; i < REG_FINDING_CLASSES; i++) {
		shown += c->shown[i];
		all += s->findings[i];
	}
	if (shown) {
		table_print(&c->table);
		putchar('\n');
	}
	if (shown < all)
		printf("%" PRIu64 " findings more; --limit 0 shows all\n", all - shown);
	printf("%s: %s, %u look%s: %" PRIu64 " broken, %" PRIu64 " left over, %" PRIu64
	       " stale; %" PRIu64 " were only passing%s\n",
	       path, s->live ? "live" : "dead", s->looks, s->looks == 1 ? "" : "s",
	       s->findings[REG_FINDING_BROKEN], s->findings[REG_FINDING_LEFTOVER],
	       s->findings[REG_FINDING_STALE], s->transient,
	       s->cut ? "; there is more than could be followed" : "");
	printf("%" PRIu64 " records, %" PRIu64 " slots held, %" PRIu64 " names, %" PRIu64
	       " request ids, %" PRIu64 " ports, %" PRIu64 " blobs, %" PRIu64 " agents, %" PRIu64
	       " pools, %" PRIu64 " images\n",
	       s->records, s->slots_held, s->names, s->request_ids, s->ports, s->blobs, s->agents,
	       s->pools, s->images);
}

static int check(struct ctl *ctl, const char *path, struct reg_inspect *ins)
{
	struct checking c = {.mem = &ctl->mem, .table = {.mem = &ctl->mem, .columns = 5}};
	struct reg_inspect_sum sum;
	enum reg_status st;

	c.array = json_array();
	table_row(&c.table, "CLASS", "FINDING", "WHERE", "WORDS", "MEANING");
	st = reg_inspect_check(ins, on_finding, &c, &sum);
	if (st) {
		json_decref(c.array);
		return unreadable(path, st);
	}
	if (want_json()) {
		print_check_json(path, &c, &sum);
	} else {
		print_check_text(path, &c, &sum);
		json_decref(c.array);
	}
	return sum.findings[REG_FINDING_BROKEN] ||
	       (flags.strict &&
		(sum.findings[REG_FINDING_LEFTOVER] || sum.findings[REG_FINDING_STALE]));
}

/* ---- the command ---- */

static int parse_state(unsigned int *ret, struct err *err)
{
	*ret = ARENA_ANY;
	if (!flags.state)
		return 0;
	for (unsigned int s = REG_CLAIMED; s <= REG_GONE; s++)
		if (!strcmp(flags.state, reg_state_name((enum reg_state)s))) {
			*ret = s;
			return 0;
		}
	return err_set(err, -EINVAL, "--state '%s': want one of CLAIMED, RESERVED, … GONE",
		       flags.state);
}

static int dump(struct ctl *ctl, const char *path, struct reg_inspect *ins, int npos, char **pos,
		struct err *err)
{
	struct arena_dump what = {.ctl = ctl, .ins = ins, .json = want_json(), .pool = flags.pool};
	struct reg_inspect_header header;
	int rc = parse_state(&what.state, err);

	for (int i = 0; i < npos && !rc; i++)
		rc = arena_section(pos[i], &what.sections, err);
	if (rc)
		return rc;
	if (!npos)
		what.sections = ARENA_ALL;
	reg_inspect_header(ins, &header);
	arena_dump(&what, &header);
	return header.verdict ? unreadable(path, header.verdict) : 0;
}

static int arena(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	char buf[PATH_MAX];
	const char *path = flags.arena;
	struct reg_inspect *ins;
	bool checks = !strcmp(pos[0], "check");
	int rc = ctl_check_output(flags.output, "text json", err);
	enum reg_status st;

	if (!rc && ((!checks && strcmp(pos[0], "dump")) || (checks && npos > 1)))
		rc = err_set(err, -EINVAL,
			     "usage: fsb-ctl arena check, or fsb-ctl arena dump [SECTION...]");
	if (!rc)
		rc = instance_arena(&path, flags.instance, buf, sizeof(buf), err);
	if (rc)
		return rc;
	st = reg_inspect_open(path, &ins);
	if (st)
		return unreadable(path, st);
	rc = checks ? check(ctl, path, ins) : dump(ctl, path, ins, npos - 1, pos + 1, err);
	reg_inspect_close(ins);
	return rc;
}

const struct ctl_command ctl_cmd_arena = {
	.name = "arena",
	.args = "check | dump [SECTION...]",
	.summary = "look into an arena file, of a living or a dead instance, without touching it",
	.opts = opts,
	.epilog =
		"check reports what in the arena contradicts itself: broken (must never be), "
		"leftover\n"
		"(of the dead, comes back by the next reap) and stale (a hint, heals by itself). "
		"On a\n"
		"live arena a finding counts when the same words contradict each other in three "
		"looks.\n"
		"Sections of dump: header, participants, pools, agents, sandboxes; default: all.\n"
		"Exit status: 0 nothing broken (--strict: no finding), 1 findings, 2 wrong usage,\n"
		"3 no arena, or one that cannot be read.\n"
		"  fsb-ctl arena check --arena /dev/shm/fsb-default.bad-1700000000-0\n"
		"  fsb-ctl arena dump sandboxes --state STARTING -o json",
	.min_pos = 1,
	.max_pos = 6,
	.verbatim_from = -1,
	.run = arena,
};
