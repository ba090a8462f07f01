/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots: claim, start, commit, abort, exit, release (registry/src/place.c, slots.c, reserve.c, lifecycle.c, records.c), reaper and
 * scrubber (reap.c), the agent's fence (agent/src/fence.c). Each step is one access to one shared word; up to DEATHS processes are
 * killed between any two steps, the locks of the dead fall with them. What must hold:
 *
 *   - never two owners: nobody gets, starts on or frees a slot that a living process or a running sandbox holds;
 *   - a stale lease or report is refused;
 *   - nothing is lost: when all have ended, one reaping and scrubbing leaves each slot free or BUSY with a sandbox that runs;
 *   - nothing is hidden: then, and without deaths also before that, each mask bit agrees with its slot word.
 *
 * Bounds: WORKERS processes with CLAIMS claims each, REAPERS, SCRUBS scrubbers, SLOTS slots, RECORDS records, INDEXES participants'
 * indexes for the workers (fewer than workers: a dead one's is used again), DEATHS. COMMANDS: with the agent.
 * Broken variants, chosen by -D, each of which has to fail (check.py): MASK_DECIDES (who takes the bit stores the word, a scrubber
 * repairs the bit after a grace period), MASK_DECIDES_IN_SECTION (the release inside the read section, too), MASK_DECIDES_GEN (and the
 * scrubber compares the generation), NO_FENCE (the reaper frees what may have been sent), NO_TOMBSTONE (it asks, but the agent
 * does not remember), NO_RECHECK (it acts on its first look), INDEX_FIRST (it gives the index away before it has taken everything
 * back), SCRUB_TRUTH (the scrubber frees words that no record names), SETTLE_ONCE, NO_SLOT_GENERATION, NO_RECORD_GENERATION.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef CLAIMS
#define CLAIMS 1
#endif
#ifndef REAPERS
#define REAPERS 1
#endif
#ifndef SCRUBS
#define SCRUBS 1
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef RECORDS
#define RECORDS 2
#endif
#ifndef INDEXES
#define INDEXES 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifdef MASK_DECIDES_GEN
#define MASK_DECIDES_IN_SECTION
#endif
#ifdef MASK_DECIDES_IN_SECTION
#define MASK_DECIDES
#endif

#define AUDITOR (WORKERS + REAPERS)	/* process and participant numbers: workers, reapers, then the auditor */
#define PROCS	(AUDITOR + 1)
#define PARTS	(INDEXES + REAPERS + 1)
#define NOBODY	15
#define BIT(n)	(1 << (n))
#define RUNS	PARTS			/* the bit of the agent among those who believe that they hold a slot */

/* A slot word: state 2 | owner 4 | record 2 | generation. A record word: state 3 | owner 4 | exit seen 1 | generation. */
#define S_FREE	0
#define S_RESERVED 1
#define S_BUSY	2
#define SLOT(st, own, r, g) ((st) | (own) << 2 | (r) << 6 | (g) << 8)
#define ST(w)	((w) & 3)
#define OWN(w)	(((w) >> 2) & 15)
#define REC(w)	(((w) >> 6) & 3)
#define GEN(w)	((w) >> 8)
#define R_FREE	0
#define R_CLAIMED 1
#define R_RESERVED 2
#define R_STARTING 3
#define R_RUNNING 4
#define R_EXITED 5
#define RECORD(st, own, seen, g) ((st) | (own) << 3 | (seen) << 7 | (g) << 8)
#define RST(w)	((w) & 7)
#define ROWN(w)	(((w) >> 3) & 15)
#define SEEN(w)	(((w) >> 7) & 1)
#define PLACE(s, g) (1 | (s) << 1 | (g) << 8)	/* bit 0: held */
#define HELD(p)	((p) & 1)
#define PSLOT(p) (((p) >> 1) & 3)
/* A participant's word: free 0, live 1, left 2 | incarnation. */
#define PART(st, inc) ((st) | (inc) << 2)
#define PST(w)	((w) & 3)

short slot[SLOTS], rec[RECORDS], place[RECORDS];
bit mask[SLOTS];
byte part[PARTS], lock[PARTS];		/* lock: process + 1, 0 none */
byte deaths, running;			/* how many died; how many processes have not come to their end */
bit dead[PROCS], ended[PROCS];
/* Who believes that the slot is his: a bit per living process and one for a running sandbox. Not part of the algorithm. */
short holders[SLOTS];

#ifdef MASK_DECIDES
byte reading, waited_for;		/* read sections; those that the grace period under way still waits for */
#endif

#ifdef COMMANDS
chan command[PROCS] = [1] of { byte, byte, byte, byte };	/* record, generation, slot, sender */
chan ack[PROCS] = [1] of { bit };
chan fence[PARTS] = [1] of { byte, byte };
chan fenced[PARTS] = [1] of { bit };
chan report = [2] of { byte, byte };			/* exits */
byte runs[RECORDS], runs_on[RECORDS], tombstone[RECORDS];
#endif

/* ---- one slot ---- */

#ifdef SETTLE_ONCE
/* One second look instead of looking until both agree. */
inline settle(s)
{
	atomic { used = (ST(slot[s]) != S_FREE) }
	mask[s] = used;
	if
	:: atomic { used == (ST(slot[s]) != S_FREE) -> used = 0 }
	:: atomic { used != (ST(slot[s]) != S_FREE) -> used = !used }
	   atomic { mask[s] = used; used = 0 }
	fi
}
#else
/* mask_settle: the bit follows the word until both agree. */
inline settle(s)
{
	do
	:: used = (ST(slot[s]) != S_FREE);
	   if
	   :: atomic { mask[s] == used -> used = 0; break }
	   :: mask[s] != used -> mask[s] = used
	   fi
	od
}
#endif

#ifdef MASK_DECIDES
inline leave_section() { reading = reading & ~BIT(me); waited_for = waited_for & ~BIT(me) }

/* Who takes the mask bit has the slot, and stores its word. */
inline slot_claim(s)
{
	reading = reading | BIT(me);
	if
	:: atomic { mask[s] == 0 -> mask[s] = 1; w = slot[s]; got = 1 }
	   atomic {
		w = SLOT(S_RESERVED, me, r, GEN(w) + 1);
		slot[s] = w;
		assert(holders[s] == 0);
		holders[s] = holders[s] | BIT(me)
	   }
	:: mask[s]
	fi;
	atomic { leave_section() }
}

inline slot_free(s, g, rr)
{
#ifdef MASK_DECIDES_IN_SECTION
	reading = reading | BIT(me);
#endif
	if
	:: atomic { GEN(slot[s]) == g && ST(slot[s]) != S_FREE -> slot[s] = SLOT(S_FREE, 0, 0, g) }
	   mask[s] = 0
	:: GEN(slot[s]) != g || ST(slot[s]) == S_FREE
	fi
#ifdef MASK_DECIDES_IN_SECTION
	; atomic { leave_section() }
#endif
}

/* A bit without a slot: repaired after a grace period and another look. */
inline scrub_slot(s)
{
	if
	:: atomic { mask[s] && ST(slot[s]) == S_FREE -> w = slot[s]; waited_for = reading }
	   waited_for == 0;
	   atomic {
		if
#ifdef MASK_DECIDES_GEN
		:: mask[s] && slot[s] == w -> mask[s] = 0
#else
		:: mask[s] && ST(slot[s]) == S_FREE -> mask[s] = 0
#endif
		:: else
		fi;
		w = 0
	   }
	:: else
	fi
}
#else
/*
 * reg__slot_take: the CAS on the word decides, the bit follows. Bits nominate only, so here the word is looked at whatever its
 * bit says, as the authoritative pass does.
 */
inline slot_claim(s)
{
	if
	:: atomic { ST(slot[s]) == S_FREE -> w = slot[s] }
	   if
	   :: atomic { slot[s] == w ->
		w = SLOT(S_RESERVED, me, r, GEN(w) + 1);
		slot[s] = w;
		assert(holders[s] == 0);
		holders[s] = holders[s] | BIT(me);
		got = 1 }
	      mask[s] = 1
	   :: atomic { slot[s] != w -> w = 0 }
	   fi
	:: ST(slot[s]) != S_FREE
	fi
}

#ifdef NO_SLOT_GENERATION
#define SAME(w, g, rr) (ST(w) != S_FREE && REC(w) == rr)
#else
#define SAME(w, g, rr) (ST(w) != S_FREE && REC(w) == rr && GEN(w) == g)
#endif
/* reg__slot_free: exactly that slot if it still is that record's; the bit follows, and then the word is looked at again. */
inline slot_free(s, g, rr)
{
	atomic {
		if
		:: SAME(slot[s], g, rr) ->
		   slot[s] = SLOT(S_FREE, 0, 0, GEN(slot[s]));
		   assert((holders[s] & ~BIT(me)) == 0)
		:: else
		fi
	}
	mask[s] = 0;
	settle(s)
}

#ifdef SCRUB_TRUTH
/* Frees what no record names: nobody could be on the way there, could he? */
inline scrub_slot(s)
{
	if
	:: atomic { ST(slot[s]) == S_RESERVED && place[REC(slot[s])] != PLACE(s, GEN(slot[s])) -> w = slot[s] }
	   atomic {
		if
		:: slot[s] == w -> slot[s] = SLOT(S_FREE, 0, 0, GEN(w)); assert(holders[s] == 0)
		:: else
		fi;
		w = 0
	   }
	:: else
	fi;
	settle(s)
}
#else
inline scrub_slot(s) { settle(s) }
#endif
#endif

/* ---- one record ---- */

/* reg__unplace: by the record's owner, by whoever reports its exit, by the scrubber; also by several at once, and late. */
inline unplace(rr, g)
{
	if
	:: atomic { HELD(place[rr]) -> pl = place[rr] }
	   if
	   :: GEN(rec[rr]) == (g) ->
	      slot_free(PSLOT(pl), GEN(pl), rr);
	      atomic { if :: place[rr] == pl -> place[rr] = pl & ~1 :: else fi; pl = 0 }
	   :: atomic { GEN(rec[rr]) != (g) -> pl = 0 }
	   fi
	:: !HELD(place[rr])
	fi
}

/* reg__undo of a record that is CLAIMED by me. */
inline undo(rr)
{
	unplace(rr, GEN(rec[rr]));
	rec[rr] = RECORD(R_FREE, 0, 0, GEN(rec[rr]))
}

/* reg_abort; also of an orphan. A living owner's record is not changed under it. */
inline abort(rr, from)
{
	atomic {
		assert(RST(rec[rr]) == from && ROWN(rec[rr]) == me);
		rec[rr] = RECORD(R_CLAIMED, me, 0, GEN(rec[rr]));
		holders[PSLOT(place[rr])] = holders[PSLOT(place[rr])] & ~BIT(me)
	}
	undo(rr)
}

/* reg_commit: the slot first, the record second. */
inline commit(rr)
{
	atomic {
		s = PSLOT(place[rr]);
		if
		:: ST(slot[s]) == S_RESERVED && GEN(slot[s]) == GEN(place[rr]) && REC(slot[s]) == rr ->
		   slot[s] = SLOT(S_BUSY, NOBODY, rr, GEN(slot[s]))
		:: else
		fi
	}
	atomic {
		assert(RST(rec[rr]) == R_STARTING && ROWN(rec[rr]) == me);
		holders[s] = holders[s] & ~BIT(me);
		s = 0;
		if
		:: SEEN(rec[rr]) ->
		   assert(runs[rr] != GEN(rec[rr]));
		   rec[rr] = RECORD(R_EXITED, NOBODY, 0, GEN(rec[rr]));
		   got = 1; own_gen = GEN(rec[rr])
		:: else -> rec[rr] = RECORD(R_RUNNING, NOBODY, 0, GEN(rec[rr]))
		fi
	}
	if
	:: got -> got = 0; unplace(rr, own_gen); own_gen = 0
	:: else
	fi
}

/* ---- participants ---- */

/* reg_join: the lock first, the word second. me stays NOBODY when there is no index. */
inline join_at(i)
{
	if
	:: me == NOBODY && PST(part[i]) == 0 ->
	   if
	   :: atomic { lock[i] == 0 -> lock[i] = p + 1 }
	      atomic {
		if
		:: PST(part[i]) == 0 -> part[i] = PART(1, (part[i] >> 2) + 1); me = i
		:: else -> lock[i] = 0
		fi
	      }
	   :: lock[i] != 0
	   fi
	:: else
	fi
}

inline join()
{
	join_at(0)
#if INDEXES > 1
	; join_at(1)
#endif
}

inline leave()
{
	part[me] = PART(0, part[me] >> 2);
	lock[me] = 0
}

/* reap_record: what the dead one had not sent is undone, what it may have sent becomes mine. */
inline reap_record(who, k)
{
	if
	:: atomic { RST(rec[k]) == R_EXITED -> own_gen = GEN(rec[k]) }
	   unplace(k, own_gen); own_gen = 0
	:: else
	fi;
	if
	:: atomic { (RST(rec[k]) == R_CLAIMED || RST(rec[k]) == R_RESERVED) && ROWN(rec[k]) == who ->
		rec[k] = RECORD(R_CLAIMED, me, 0, GEN(rec[k])) }
	   undo(k)
	:: atomic { RST(rec[k]) == R_STARTING && ROWN(rec[k]) == who ->
		rec[k] = RECORD(R_STARTING, me, SEEN(rec[k]), GEN(rec[k])) }
	   atomic {
		s = PSLOT(place[k]);
		if
		:: ST(slot[s]) == S_RESERVED && GEN(slot[s]) == GEN(place[k]) && OWN(slot[s]) == who ->
		   slot[s] = SLOT(S_RESERVED, me, k, GEN(slot[s]))
		:: else
		fi;
		s = 0
	   }
	:: else
	fi
}

/* reap_slot: reserved by the dead one, whose record is not any more: placed here, or never got so far. */
inline reap_slot(who, s)
{
	if
	:: atomic { ST(slot[s]) == S_RESERVED && OWN(slot[s]) == who -> w = slot[s] }
	   if
	   :: atomic { place[REC(w)] == PLACE(s, GEN(w)) ->
		if
		:: slot[s] == w -> slot[s] = SLOT(S_BUSY, NOBODY, REC(w), GEN(w))
		:: else
		fi;
		w = 0 }
	   :: place[REC(w)] != PLACE(s, GEN(w)) -> slot_free(s, GEN(w), REC(w)); w = 0
	   fi
	:: else
	fi;
#ifndef MASK_DECIDES
	settle(s)
#endif
}

inline reap_holdings(who)
{
	reap_record(who, 0);
#if RECORDS > 1
	reap_record(who, 1);
#endif
	reap_slot(who, 0);
#if SLOTS > 1
	reap_slot(who, 1);
#endif
}

/* reg_reap of one participant: the first look, the role (its lock), the second look. */
inline reap(who)
{
	if
	:: atomic { PST(part[who]) && lock[who] == 0 -> was = part[who] }
#ifdef NO_RECHECK
	   reap_holdings(who);
	   atomic { if :: part[who] == was -> part[who] = PART(0, was >> 2) :: else fi; was = 0 }
#else
	   if
	   :: atomic { lock[who] == 0 -> lock[who] = p + 1 }
	      if
	      :: atomic { part[who] == was -> was = 0 }
#ifdef INDEX_FIRST
		 part[who] = PART(0, part[who] >> 2);
#endif
		 reap_holdings(who);
#ifndef INDEX_FIRST
		 part[who] = PART(0, part[who] >> 2);
#endif
		 lock[who] = 0
	      :: atomic { part[who] != was -> was = 0; lock[who] = 0 }
	      fi
	   :: atomic { lock[who] != 0 -> was = 0 }
	   fi
#endif
	:: PST(part[who]) == 0 || lock[who] != 0
	fi
}

/* Started perhaps: the agent is asked first, and refuses that sandbox from then on when it has not got it. */
inline orphan(n)
{
	if
	:: RST(rec[n]) == R_STARTING && ROWN(rec[n]) == me ->
#ifdef COMMANDS
#ifndef NO_FENCE
	   fence[me] ! n, GEN(rec[n]);
	   fenced[me] ? got;
#endif
	   if
	   :: got -> got = 0; commit(n)
	   :: else -> abort(n, R_STARTING)
	   fi
#endif
	:: else
	fi
}

inline orphans()
{
#ifdef COMMANDS
	orphan(0)
#if RECORDS > 1
	; orphan(1)
#endif
#else
	skip
#endif
}

#ifdef COMMANDS
#ifdef NO_RECORD_GENERATION
#define MEANT(rr, g) true
#else
#define MEANT(rr, g) (GEN(rec[rr]) == g)
#endif
/* reg_exited, then reg_stop and reg_stopped, by a report that may come twice, late, and to several. */
inline finish(rr, g)
{
	atomic {
		if
		:: MEANT(rr, g) && RST(rec[rr]) == R_STARTING ->
		   rec[rr] = RECORD(R_STARTING, ROWN(rec[rr]), 1, GEN(rec[rr]))
		:: MEANT(rr, g) && RST(rec[rr]) == R_RUNNING ->
		   assert(runs[rr] != GEN(rec[rr]));
		   rec[rr] = RECORD(R_EXITED, NOBODY, 0, GEN(rec[rr]));
		   got = 1
		:: else
		fi
	}
	if
	:: got -> got = 0; unplace(rr, g)
	:: else
	fi;
	if
	:: atomic { RST(rec[rr]) == R_EXITED && GEN(rec[rr]) == g -> rec[rr] = RECORD(R_CLAIMED, me, 0, g) }
	   undo(rr)
	:: else
	fi
}

inline start(rr)
{
	atomic {
		assert(RST(rec[rr]) == R_RESERVED && ROWN(rec[rr]) == me);
		rec[rr] = RECORD(R_STARTING, me, 0, GEN(rec[rr]))
	}
	command[p] ! rr, GEN(rec[rr]), PSLOT(place[rr]), me;
	ack[p] ? got;
	if
	:: got -> got = 0; commit(rr)
	:: else -> abort(rr, R_STARTING)
	fi
}
#endif

/* reg_reserve, then abort or start. */
inline work()
{
	atomic {
		if
		:: RST(rec[0]) == R_FREE -> r = 0
#if RECORDS > 1
		:: RST(rec[0]) != R_FREE && RST(rec[1]) == R_FREE -> r = 1
#endif
		:: else -> r = RECORDS
		fi;
		if
		:: r < RECORDS -> rec[r] = RECORD(R_CLAIMED, me, 0, GEN(rec[r]) + 1)
		:: else
		fi
	}
	if
	:: r < RECORDS ->
	   slot_claim(0);
#if SLOTS > 1
	   if :: !got -> n = 1; slot_claim(1) :: else fi;
#endif
	   if
	   :: got ->
	      atomic { place[r] = PLACE(n, GEN(w)); n = 0; w = 0; got = 0 }
	      rec[r] = RECORD(R_RESERVED, me, 0, GEN(rec[r]));
#ifdef COMMANDS
	      if
	      :: start(r)
	      :: abort(r, R_RESERVED)
	      fi
#else
	      abort(r, R_RESERVED)
#endif
	   :: else -> n = 0; undo(r)
	   fi
	:: else
	fi;
	r = 0
}

#ifdef COMMANDS
inline scrub_record(n)
{
	if
	:: atomic { RST(rec[n]) == R_EXITED -> own_gen = GEN(rec[n]) }
	   unplace(n, own_gen); own_gen = 0
	:: else
	fi
}
#endif

/* ---- processes ---- */

proctype worker(byte p)
{
	byte me = NOBODY, r, s, n, g, claims, own_gen;
	short w, pl;
	bit got, used;

	{
		join();
		if
		:: me != NOBODY ->
		   do
		   :: claims < CLAIMS -> claims++; work()
#ifdef COMMANDS
		   :: report ? r, g -> finish(r, g); r = 0; g = 0
#endif
		   :: leave(); break
		   od
		:: else
		fi;
		atomic { ended[p] = 1; running--; me = 0; claims = 0 }
	} unless { atomic { dead[p] -> me = 0; r = 0; s = 0; n = 0; g = 0; own_gen = 0; claims = 0; w = 0; pl = 0; got = 0; used = 0 } }
}

proctype reaper(byte p, me)
{
	byte s, was, own_gen;
	short w, pl;
	bit got, used;

	{
		do
		:: reap(0);
#if INDEXES > 1
		   reap(1);
#endif
#if REAPERS > 1
		   reap(INDEXES + 1 - (me - INDEXES));
#endif
		   orphans();
#if PASSES > 1
		   s = 0
#else
		   break
#endif
		:: break
		od;
		atomic { ended[p] = 1; running-- }
	} unless { atomic { dead[p] -> s = 0; was = 0; own_gen = 0; w = 0; pl = 0; got = 0; used = 0 } }
}

/* reg_scrub */
proctype scrubber()
{
	byte me = NOBODY, own_gen;
	short w, pl;
	bit used;

	scrub_slot(0);
#if SLOTS > 1
	scrub_slot(1);
#endif
#ifdef COMMANDS
	scrub_record(0);
#if RECORDS > 1
	scrub_record(1);
#endif
#endif
	running--
}

#ifdef COMMANDS
/* A command of a worker that may be dead by now. Only who sent it may hold the slot still: it waits for the answer. */
#define SERVE(k) \
	:: atomic { command[k] ? rr, g, s, who -> \
		if \
		:: g <= tombstone[rr] -> if :: dead[k] :: !dead[k] -> ack[k] ! 0 fi \
		:: else -> \
		   assert(!(holders[s] & BIT(RUNS))); \
		   assert(dead[k] == 0 || holders[s] == 0); \
		   assert(dead[k] || (holders[s] & ~BIT(who)) == 0); \
		   runs[rr] = g; runs_on[rr] = s; \
		   holders[s] = holders[s] | BIT(RUNS); \
		   if :: dead[k] :: !dead[k] -> ack[k] ! 1 fi \
		fi; \
		rr = 0; g = 0; s = 0; who = 0 }
#ifdef NO_TOMBSTONE
#define TOMBSTONES 0
#else
#define TOMBSTONES 1
#endif
/* "Do you run it?" If not, a tombstone. Who asked may be dead, too. */
#define FENCE(k) \
	:: atomic { fence[k] ? rr, g -> \
		if \
		:: runs[rr] == g -> if :: nfull(fenced[k]) -> fenced[k] ! 1 :: full(fenced[k]) fi \
		:: else -> \
		   if :: TOMBSTONES && tombstone[rr] < g -> tombstone[rr] = g :: else fi; \
		   if :: nfull(fenced[k]) -> fenced[k] ! 0 :: full(fenced[k]) fi \
		fi; \
		rr = 0; g = 0 }
/* It ends by itself; reported twice. */
#define EXIT(k) \
	:: atomic { runs[k] && empty(report) -> \
		holders[runs_on[k]] = holders[runs_on[k]] & ~BIT(RUNS); \
		report ! k, runs[k]; report ! k, runs[k]; \
		runs[k] = 0; runs_on[k] = 0 }
proctype agent()
{
	byte rr, g, s, who;

end:	do
	SERVE(0)
#if WORKERS > 1
	SERVE(1)
#endif
#if WORKERS > 2
	SERVE(2)
#endif
#if REAPERS > 0
	FENCE(INDEXES)
#endif
#if REAPERS > 1
	FENCE(INDEXES + 1)
#endif
	FENCE(PARTS - 1)
	EXIT(0)
#if RECORDS > 1
	EXIT(1)
#endif
	od
}
#endif

/* SIGKILL at any moment; the kernel drops the locks of the dead. */
#define KILL(k) \
	:: atomic { deaths < DEATHS && !ended[k] && !dead[k] -> \
		dead[k] = 1; deaths++; running--; \
		do \
		:: i < PARTS -> \
		   if \
		   :: lock[i] == k + 1 -> \
		      lock[i] = 0; \
		      do \
		      :: s < SLOTS -> holders[s] = holders[s] & ~BIT(i); s++ \
		      :: else -> s = 0; break \
		      od \
		   :: else \
		   fi; \
		   i++ \
		:: else -> i = 0; break \
		od }
proctype killer()
{
	byte i, s;

end:	do
	KILL(0)
#if WORKERS > 1
	KILL(1)
#endif
#if WORKERS > 2
	KILL(2)
#endif
#if REAPERS > 0
	KILL(WORKERS)
#endif
#if REAPERS > 1
	KILL(WORKERS + 1)
#endif
	od
}

init
{
	byte p = AUDITOR, me = PARTS - 1, s, n, was, r, g, own_gen;
	short w, pl;
	bit got, used;

	atomic {
		do
		:: n < WORKERS -> run worker(n); n++
		:: else -> n = 0; break
		od;
		do
		:: n < REAPERS ->
		   part[INDEXES + n] = PART(1, 1); lock[INDEXES + n] = WORKERS + n + 1;
		   run reaper(WORKERS + n, INDEXES + n); n++
		:: else -> n = 0; break
		od;
		do
		:: n < SCRUBS -> run scrubber(); n++
		:: else -> n = 0; break
		od;
		running = WORKERS + REAPERS + SCRUBS;
#ifdef COMMANDS
		run agent();
#endif
		run killer()
	}
	/* All have ended or died: what the next reaping and scrubbing has to put right. */
	atomic { running == 0;
		/* without deaths nothing is hidden even before a scrub */
		assert(deaths || mask[0] == (ST(slot[0]) != S_FREE));
		lock[me] = p + 1;
		do
		:: n < REAPERS -> if :: ended[WORKERS + n] -> lock[INDEXES + n] = 0 :: else fi; n++
		:: else -> n = 0; break
		od }
	atomic {
		do
		:: n < PARTS - 1 -> reap(n); n++
		:: else -> n = 0; break
		od }
	orphans();
#ifdef COMMANDS
	do
	:: report ? r, g -> finish(r, g); r = 0; g = 0
	:: empty(report) -> break
	od;
	/* who had read a report may have died with it: the agent's list, as it is sent at each connection, says it again */
	if :: RST(rec[0]) == R_RUNNING && !runs[0] -> g = GEN(rec[0]); finish(0, g) :: else fi;
#if RECORDS > 1
	if :: RST(rec[1]) == R_RUNNING && !runs[1] -> g = GEN(rec[1]); finish(1, g) :: else fi;
#endif
#endif
	scrub_slot(0);
#if SLOTS > 1
	scrub_slot(1);
#endif
#ifdef COMMANDS
	scrub_record(0);
#if RECORDS > 1
	scrub_record(1);
#endif
#endif
	atomic {
		do
		:: n < SLOTS ->
		   assert(mask[n] == (ST(slot[n]) != S_FREE));
		   if
		   :: ST(slot[n]) == S_FREE -> assert(holders[n] == 0)
		   :: else ->
		      assert(ST(slot[n]) == S_BUSY && place[REC(slot[n])] == PLACE(n, GEN(slot[n])));
		      assert(RST(rec[REC(slot[n])]) == R_RUNNING)
		   fi;
		   n++
		:: else -> n = 0; break
		od;
		do
		:: n < RECORDS ->
		   assert(RST(rec[n]) == R_FREE || RST(rec[n]) == R_RUNNING || RST(rec[n]) == R_EXITED);
		   assert(HELD(place[n]) == (RST(rec[n]) == R_RUNNING));
#ifdef COMMANDS
		   assert(RST(rec[n]) != R_RUNNING || runs[n] == GEN(rec[n]) || nempty(report));
		   assert(runs[n] == 0 || (RST(rec[n]) == R_RUNNING && runs[n] == GEN(rec[n])));
#endif
		   n++
		:: else -> break
		od
	}
}
