/* SPDX-License-Identifier: Apache-2.0 */
/* Failpoints: read from the environment before main, so that no program needs a call for it. Empty
 * without FSB_FAILPOINTS. */
#include "base/failpoint.h"

#ifdef FSB_FAILPOINTS

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

enum action { ACTION_KILL, ACTION_STOP, ACTION_EXIT, ACTION_SLEEP, ACTION_ERR };

struct point {
	char name[64];
	enum action action;
	int64_t sleep_ms;
	int64_t at; /* act at this pass only; 0: at each */
	_Atomic int64_t passes;
};

enum { POINTS_MAX = 16 };
static struct point points[POINTS_MAX];
static int point_count;
static const char *role_now = "";
bool failpoint_armed;
static void (*hook)(const char *name);

static int parse_action(struct point *point, const char *text)
{
	static const char *const names[] = {[ACTION_KILL] = "kill",
					    [ACTION_STOP] = "stop",
					    [ACTION_EXIT] = "exit",
					    [ACTION_ERR] = "err"};

	if (strncmp(text, "sleep:", 6) == 0) {
		point->action = ACTION_SLEEP;
		return str_to_i64(text + 6, 0, 3600000, &point->sleep_ms);
	}
	for (int i = 0; i <= ACTION_ERR; i++)
		if (names[i] && strcmp(text, names[i]) == 0) {
			point->action = (enum action)i;
			return 0;
		}
	return -EINVAL;
}

/* name=action[@count]; changes text. */
static int parse_point(struct point *point, char *text)
{
	char *action = strchr(text, '='), *at = strchr(text, '@');

	if (!action || action == text || (size_t)(action - text) >= sizeof(point->name))
		return -EINVAL;
	*action++ = '\0';
	point->at = 0;
	if (at) {
		*at++ = '\0';
		if (str_to_i64(at, 1, INT64_MAX, &point->at) != 0)
			return -EINVAL;
	}
	memcpy(point->name, text, strlen(text) + 1);
	atomic_init(&point->passes, 0);
	return parse_action(point, action);
}

void failpoint_set(const char *text)
{
	char *copy, *save = NULL;

	point_count = 0;
	failpoint_armed = hook != NULL;
	if (!text || !*text)
		return;
	copy = strdup(text);
	if (!copy)
		abort();
	for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
		if (point_count == POINTS_MAX || parse_point(&points[point_count], one) != 0) {
			(void)fprintf(stderr,
				      "FSB_FAILPOINT '%s': '%s' is not "
				      "name=kill|stop|exit|sleep:MS|err[@N]\n",
				      text, one);
			_exit(2); /* a test that silently tests nothing is worse */
		}
		point_count++;
	}
	free(copy);
	failpoint_armed = point_count > 0 || hook;
}

void failpoint_hook(void (*fn)(const char *name))
{
	hook = fn;
	failpoint_armed = point_count > 0 || hook;
}

__attribute__((constructor)) static void failpoint_from_environment(void)
{
	failpoint_set(getenv("FSB_FAILPOINT"));
}

void failpoint_role(const char *role)
{
	role_now = role;
}

static bool role_matches(void)
{
	const char *wanted = getenv("FSB_FAILPOINT_ROLE");

	return !wanted || !*wanted || strcmp(wanted, role_now) == 0;
}

static void trace(const char *name)
{
	const char *path = getenv("FSB_FAILPOINT_TRACE");
	char line[80];
	int fd, n;

	if (!path || !*path)
		return;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%s\n", name);
	if (write(fd, line, (size_t)n) != n)
		abort();
	(void)close(fd);
}

static void nap(int64_t ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static bool act(const struct point *point)
{
	trace(point->name);
	switch (point->action) {
	case ACTION_KILL:
		(void)raise(SIGKILL);
		break;
	case ACTION_STOP:
		(void)kill(getpid(), SIGSTOP); /* the whole process, not the thread */
		break;
	case ACTION_EXIT:
		_exit(1);
	case ACTION_SLEEP:
		nap(point->sleep_ms);
		break;
	case ACTION_ERR:
		return true;
	}
	return false;
}

bool failpoint_hit(const char *name)
{
	if (hook)
		hook(name);
	for (int i = 0; i < point_count; i++) {
		struct point *point = &points[i];
		int64_t pass;

		if (strcmp(point->name, name) != 0 || !role_matches())
			continue;
		/* relaxed: a count, read by nobody else */
		pass = atomic_fetch_add_explicit(&point->passes, 1, memory_order_relaxed) + 1;
		if (point->at == 0 || point->at == pass)
			return act(point);
	}
	return false;
}

#endif
