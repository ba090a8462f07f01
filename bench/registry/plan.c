/* SPDX-License-Identifier: Apache-2.0 */
/* Reads plans. They are written by bench/run, so a mistake ends the program. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "session_types.h"

_Noreturn static void bad(const char *path, int line, const char *what)
{
	(void)fprintf(stderr, "bench_registry: %s:%d: %s\n", path, line, what);
	exit(2);
}

static bool number(const char *text, double low, double high, double *ret)
{
	char *end;
	double value;

	if (!text)
		return false;
	errno = 0;
	value = strtod(text, &end);
	if (errno || end == text || *end || !(value >= low && value <= high))
		return false;
	*ret = value;
	return true;
}

static const char *session_line(struct plan *plan, char **save)
{
	const char *name = strtok_r(NULL, " ", save);
	struct session *session;
	double seconds;

	if (!name || plan->session_count == SESSIONS_MAX ||
	    !number(strtok_r(NULL, " ", save), 0, 3600, &seconds))
		return "expected: session NAME SECONDS";
	session = calloc(1, sizeof(*session));
	base_bug(!session);
	(void)snprintf(session->name, sizeof(session->name), "%s", name);
	session->seconds = seconds;
	plan->sessions[plan->session_count++] = session;
	return NULL;
}

static bool images_of(const char *text, enum world_images *ret)
{
	for (int i = 0; text && i < IMAGES_MAX; i++)
		if (strcmp(text, world_images_name(i)) == 0) {
			*ret = i;
			return true;
		}
	return false;
}

static bool world_option(const char *text, struct world_spec *spec)
{
	double value;

	if (strcmp(text, "still") == 0) {
		spec->still = true;
		return true;
	}
	if (strncmp(text, "free=", 5) == 0 && number(text + 5, 0, 1e9, &value)) {
		spec->free_slots = (int64_t)value;
		return true;
	}
	if (strncmp(text, "hot=", 4) == 0 && number(text + 4, 0, 1e9, &value)) {
		spec->free_hot_slots = (int64_t)value;
		return true;
	}
	return false;
}

static const char *world_line(struct session *session, char **save)
{
	struct world_spec spec = {.free_slots = -1, .free_hot_slots = -1};
	double agents, fill;
	const char *text;

	if (!session || session->world_count == WORLDS_MAX)
		return "a world belongs to a session, which has room for 16";
	if (!number(strtok_r(NULL, " ", save), 1, 131072, &agents) ||
	    !number(strtok_r(NULL, " ", save), 1, 100, &fill) ||
	    !images_of(strtok_r(NULL, " ", save), &spec.images))
		return "expected: world AGENTS FILL IMAGES ports|noports";
	text = strtok_r(NULL, " ", save);
	if (!text || (strcmp(text, "ports") != 0 && strcmp(text, "noports") != 0))
		return "expected ports or noports";
	spec.ports = strcmp(text, "ports") == 0;
	while ((text = strtok_r(NULL, " ", save)))
		if (!world_option(text, &spec))
			return "unknown option of a world";
	spec.agents = (uint32_t)agents;
	spec.fill_percent = (uint32_t)fill;
	session->worlds[session->world_count++].spec = spec;
	return NULL;
}

static const char *lane_line(struct session *session, char **save)
{
	const char *name = strtok_r(NULL, " ", save), *option;
	const struct subject *subject = name ? subject_find(name) : NULL;
	struct world_run *world;
	struct lane_run *run;
	double processes;

	if (!session || !session->world_count)
		return "a lane belongs to a world";
	world = &session->worlds[session->world_count - 1];
	if (!subject || world->lane_count == LANES_MAX ||
	    !number(strtok_r(NULL, " ", save), 1, SEATS_MAX, &processes))
		return "expected: lane SUBJECT PROCESSES, and no more than 48 of them";
	if (!world->lanes)
		world->lanes = calloc(LANES_MAX, sizeof(*world->lanes));
	base_bug(!world->lanes);
	option = strtok_r(NULL, " ", save);
	run = &world->lanes[world->lane_count++];
	run->lane.subject = subject;
	run->lane.processes = (uint32_t)processes;
	run->lane.foreign = option && strcmp(option, "foreign") == 0;
	world->has_arena |= subject->arena;
	return NULL;
}

static const char *plan_line(struct plan *plan, char *line)
{
	struct session *session =
		plan->session_count ? plan->sessions[plan->session_count - 1] : NULL;
	char *save = NULL;
	const char *word;

	line[strcspn(line, "\n")] = '\0';
	word = strtok_r(line, " ", &save);
	if (!word)
		return NULL;
	if (strcmp(word, "session") == 0)
		return session_line(plan, &save);
	if (strcmp(word, "world") == 0)
		return world_line(session, &save);
	if (strcmp(word, "lane") == 0)
		return lane_line(session, &save);
	return "expected session, world or lane";
}

struct plan *plan_read(const char *path)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	FILE *file = fopen(path, "re");
	char line[256];

	base_bug(!plan);
	if (!file)
		bad(path, 0, strerror(errno));
	for (int n = 1; fgets(line, sizeof(line), file); n++) {
		const char *wrong = plan_line(plan, line);

		if (wrong)
			bad(path, n, wrong);
	}
	(void)fclose(file);
	return plan;
}

uint32_t plan_sessions(const struct plan *plan)
{
	return plan->session_count;
}

struct session *plan_session(struct plan *plan, uint32_t idx)
{
	return plan->sessions[idx];
}

static void lanes_free(struct world_run *world)
{
	for (uint32_t i = 0; i < world->lane_count; i++) {
		free(world->lanes[i].round_ns);
		free(world->lanes[i].give.ticks);
		free(world->lanes[i].take.ticks);
		free(world->lanes[i].pair.ticks);
	}
	free(world->lanes);
}

struct plan *plan_free(struct plan *plan)
{
	for (uint32_t s = 0; plan && s < plan->session_count; s++) {
		for (uint32_t w = 0; w < plan->sessions[s]->world_count; w++)
			lanes_free(&plan->sessions[s]->worlds[w]);
		free(plan->sessions[s]);
	}
	free(plan);
	return NULL;
}
