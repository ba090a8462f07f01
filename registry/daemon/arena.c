/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting the arena: re-attach to the one that is there, make one where there is none, quarantine
 * one that can't be trusted. Nothing of a bad arena is ever mended: the store and the agents know
 * enough to rebuild it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon.h"
#include "registry/inspect.h"

static void epoch_path(struct rd_daemon *d, char *buf, size_t size)
{
	snprintf(buf, size, "%s/epoch", d->options->run_dir);
}

static uint64_t last_epoch(struct rd_daemon *d)
{
	char path[PATH_MAX];
	cleanup_free char *text = NULL;
	int64_t last = 0;
	size_t len;

	epoch_path(d, path, sizeof(path));
	if (io_read_file(AT_FDCWD, path, 32, &text, &len) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	if (str_to_i64(text, 0, INT64_MAX - 1, &last) < 0)
		log_warn("epoch file ignored", "path=%s text=%s", path, text);
	return (uint64_t)last;
}

static void keep_epoch(struct rd_daemon *d)
{
	char path[PATH_MAX], text[32];

	epoch_path(d, path, sizeof(path));
	snprintf(text, sizeof(text), "%" PRIu64 "\n", reg_epoch(d->reg));
	if (io_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, 1) < 0)
		log_warn("epoch not kept", "path=%s", path);
}

/*
 * Agents refuse commands from an older controller epoch than they have seen, and they outlive the
 * arena: the last epoch is kept in the run directory, and each new arena gets a later one.
 * Re-attaching keeps it: the workers' links are of the same epoch.
 */
static int make(struct rd_daemon *d)
{
	struct reg_limits limits = {
		.agents = d->options->max_agents,
		.sandboxes = d->options->max_sandboxes,
	};
	enum reg_status st = reg_create(d->options->arena, &limits, &d->reg);

	if (st == REG_OK)
		st = reg_epoch_bump(d->reg, last_epoch(d) + 1);
	if (st != REG_OK) {
		log_error("arena not created", "path=%s err=%s", d->options->arena,
			  reg_status_text(st));
		return st == REG_IN_USE ? RD_EXIT_ARENA : RD_EXIT_FAILED;
	}
	keep_epoch(d);
	log_info("arena created", "path=%s instance=%s epoch=%" PRIu64, d->options->arena,
		 reg_instance(d->reg), reg_epoch(d->reg));
	return RD_EXIT_OK;
}

/* By another live process, of this build or of one with another layout. */
static bool is_owned(const char *path)
{
	struct reg_inspect_header header = {0};
	struct reg_inspect *ins;

	if (reg_inspect_open(path, &ins))
		return false;
	reg_inspect_header(ins, &header);
	reg_inspect_close(ins);
	return header.owned;
}

/* To a name that nothing has: what was put aside before stays, too. */
static int move_away(const char *path, char *bad, size_t size)
{
	int64_t now = clock_unix_ns() / (int64_t)NS_PER_S;

	for (int n = 0; n < 1000; n++) {
		if ((size_t)snprintf(bad, size, "%s.bad-%" PRId64 "-%d", path, now, n) >= size)
			return -ENAMETOOLONG;
		if (!renameat2(AT_FDCWD, path, AT_FDCWD, bad, RENAME_NOREPLACE))
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int quarantine(struct rd_daemon *d, enum reg_status why)
{
	char bad[PATH_MAX];
	int rc;

	if (is_owned(d->options->arena)) {
		log_error("bad arena left alone: another fsb-registryd serves it", "path=%s err=%s",
			  d->options->arena, reg_status_text(why));
		return RD_EXIT_ARENA;
	}
	rc = move_away(d->options->arena, bad, sizeof(bad));
	if (rc) {
		log_error("bad arena not moved away", "path=%s err=%s errno=%d", d->options->arena,
			  reg_status_text(why), -rc);
		return RD_EXIT_FAILED;
	}
	log_error("arena quarantined", "path=%s kept_as=%s err=%s", d->options->arena, bad,
		  reg_status_text(why));
	return make(d);
}

static int own(struct rd_daemon *d)
{
	enum reg_status st = reg_own(d->reg);

	if (st == REG_OK) {
		log_info("arena attached", "path=%s instance=%s epoch=%" PRIu64, d->options->arena,
			 reg_instance(d->reg), reg_epoch(d->reg));
		return RD_EXIT_OK;
	}
	if (st == REG_IN_USE)
		log_error("another fsb-registryd serves this arena", "path=%s", d->options->arena);
	else
		log_error("owner role not taken", "path=%s err=%s", d->options->arena,
			  reg_status_text(st));
	return st == REG_IN_USE ? RD_EXIT_ARENA : RD_EXIT_FAILED;
}

static int attach_or_make(struct rd_daemon *d)
{
	enum reg_status st = reg_attach(d->options->arena, &d->reg);

	switch (st) {
	case REG_OK:
		return own(d);
	case REG_NO_ARENA:
		return make(d);
	case REG_BAD_MAGIC:
	case REG_BAD_LAYOUT:
	case REG_CORRUPT:
		return quarantine(d, st);
	default:
		log_error("arena not attached", "path=%s err=%s", d->options->arena,
			  reg_status_text(st));
		return RD_EXIT_FAILED;
	}
}

int rd_arena_open(struct rd_daemon *d)
{
	int code = attach_or_make(d);
	enum reg_status st;

	if (code != RD_EXIT_OK)
		return code;
	st = reg_join(d->reg, REG_KIND_REGISTRYD, &d->me);
	if (st != REG_OK) {
		log_error("not joined", "path=%s err=%s", d->options->arena, reg_status_text(st));
		return RD_EXIT_FAILED;
	}
	if (d->options->no_store)
		reg_store_loaded_set(d->reg);
	return RD_EXIT_OK;
}
