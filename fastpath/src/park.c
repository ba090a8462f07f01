/* SPDX-License-Identifier: Apache-2.0 */
/* Parked calls and the thread that wakes them (see park.h). */
#include "park.h"

#include <errno.h>
#include <signal.h>

#include "base/clock.h"

enum { LOOK_SHARE = 4 /* the pause after a round of looks is this many times its length */ };

static void park_look(struct fp_parks *parks, struct fp_park *park)
{
	struct reg_sandbox_view view;
	enum reg_status status = reg_view(parks->me, park->sandbox, &view);

	park->check(park, status, status == REG_OK ? &view : NULL);
}

static void parks_look(struct fp_parks *parks)
{
	uint64_t begin = clock_mono_ns(), end;
	struct fp_park *park;

	/* What is parked during the round was looked at by fp_park_add; what a check removes comes
	 * off either list. */
	for (park = TAILQ_FIRST(&parks->waiting); park; park = TAILQ_NEXT(park, link))
		park->on = &parks->looking;
	TAILQ_CONCAT(&parks->looking, &parks->waiting, link);
	while ((park = TAILQ_FIRST(&parks->looking))) {
		TAILQ_REMOVE(&parks->looking, park, link);
		TAILQ_INSERT_TAIL(&parks->waiting, park, link);
		park->on = &parks->waiting;
		park_look(parks, park);
	}
	end = clock_mono_ns();
	parks->next_look_ns = end + LOOK_SHARE * (end - begin);
}

static void on_timer(void *arg)
{
	struct fp_parks *parks = arg;

	parks->timer_set = false;
	parks_look(parks);
}

static void on_bump(void *arg)
{
	struct fp_parks *parks = arg;
	uint64_t now = clock_mono_ns();

	/* Before the look: a bump during it posts again. */
	__atomic_store_n(&parks->posted, 0, __ATOMIC_SEQ_CST);
	if (parks->timer_set || TAILQ_EMPTY(&parks->waiting))
		return;
	if (now >= parks->next_look_ns) {
		parks_look(parks);
		return;
	}
	parks->timer_set = true;
	gloop_timer_set(parks->timer, parks->next_look_ns - now);
}

static void *watch_main(void *arg)
{
	struct fp_parks *parks = arg;
	uint32_t seen = reg_watch_seq(parks->me);

	while (!__atomic_load_n(&parks->stop, __ATOMIC_ACQUIRE)) {
		reg_watch_wait(parks->me, seen, UINT64_MAX);
		seen = reg_watch_seq(parks->me);
		if (__atomic_exchange_n(&parks->posted, 1, __ATOMIC_SEQ_CST))
			continue;
		/* Out of memory: the flag is taken back, and the next bump tries again. */
		if (gloop_post(parks->loop, on_bump, parks))
			__atomic_store_n(&parks->posted, 0, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

int fp_parks_init(struct fp_parks *parks, struct gloop *loop, struct reg_self *me)
{
	sigset_t all, old;
	int rc;

	*parks = (struct fp_parks){.loop = loop, .me = me};
	TAILQ_INIT(&parks->waiting);
	TAILQ_INIT(&parks->looking);
	parks->timer = gloop_timer_new(loop, on_timer, parks);
	if (!parks->timer)
		return -ENOMEM;
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&parks->thread, NULL, watch_main, parks);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	parks->thread_started = rc == 0;
	return -rc;
}

void fp_parks_done(struct fp_parks *parks)
{
	if (parks->thread_started) {
		__atomic_store_n(&parks->stop, 1, __ATOMIC_RELEASE);
		reg_watch_kick(parks->me);
		pthread_join(parks->thread, NULL);
		parks->thread_started = false;
	}
	if (parks->timer)
		parks->timer = gloop_timer_free(parks->timer);
}

void fp_park_add(struct fp_parks *parks, struct fp_park *park)
{
	enum reg_status status = reg_watch(parks->me, park->sandbox);

	TAILQ_INSERT_TAIL(&parks->waiting, park, link);
	park->on = &parks->waiting;
	if (status == REG_OK)
		park_look(parks, park);
	else
		park->check(park, status, NULL);
}

void fp_park_del(struct fp_park *park)
{
	if (!park->on)
		return;
	TAILQ_REMOVE(park->on, park, link);
	park->on = NULL;
}
