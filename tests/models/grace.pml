/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grace periods over processes (registry/src/grace.c, parts.c): readers, the grace thread of each process, requesters that unpublish,
 * ask and reclaim, processes that join under a free index and die. A reader must never meet reclaimed memory.
 *
 * Plain stores go through a store buffer per thread (x86 TSO) and become visible later, in order; an exchange or a read-modify-write
 * empties the buffer first. No thread reads what it has stored itself, so nothing is forwarded. What liburcu does inside one
 * process is taken for granted: a local synchronisation ends when the section that ran at its beginning has ended.
 *
 * With RETIRE the requester does not wait: it leaves its number in the retire list, and member 0 (with DRAIN_BY_STRANGER somebody who
 * is no participant) reclaims what is not newer than the lowest number done by all who live (reg__grace_passed, retire.c). That a
 * requester may die between unpublishing and its number adds nothing: its reaper goes on there, as if it had been slow.
 *
 * Bounds: MEMBERS processes live from the start and JOINERS that join, with SECTIONS read sections each, REQUESTERS that replace the
 * object once each, DEATHS (a dead one is reaped, its index is free again). A broken variant is chosen by -D; each has to fail.
 */
#ifndef MEMBERS
#define MEMBERS 1
#endif
#ifndef JOINERS
#define JOINERS 1
#endif
#ifndef REQUESTERS
#define REQUESTERS 2
#endif
#ifndef SECTIONS
#define SECTIONS 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef DRAINS
#define DRAINS 1
#endif

#define INDEXES (MEMBERS + 1)
#define PROCS	(MEMBERS + JOINERS)
#define NONE	7

/* Addresses of shared words: the pointer to the object, the number requested, and per index LIVE and the number done. */
#define CUR	0
#define REQUESTED 1
#define LIVE(i)	(2 + 2 * (i))
#define DONE(i)	(3 + 2 * (i))
byte mem[2 + 2 * INDEXES];
byte lock[INDEXES];			/* process + 1: held while it lives */
bit freed[REQUESTERS + 1];		/* the objects' memory was given away */
byte section[PROCS];			/* odd: inside a read section */
byte retired[REQUESTERS], with_number[REQUESTERS];	/* the retire list: object + 1, 0 none */
bit dead[PROCS], over[PROCS];
byte deaths, index[PROCS];

/* Store buffers of the joining and reading threads, of the grace threads, of the requesters. */
#define READER(p) (p)
#define GRACE(p)  (PROCS + (p))
#define REQUESTER(q) (2 * PROCS + (q))
#define THREADS	(2 * PROCS + REQUESTERS)
chan buffer[THREADS] = [3] of { byte, byte };
#define STORE(t, a, v) buffer[t] ! a, v
#define FENCE(t) empty(buffer[t])

inline join(p, i)
{
	atomic { mem[LIVE(i)] == 0 && lock[i] == 0 -> lock[i] = p + 1; index[p] = i }
#ifdef JOIN_STORE
	STORE(READER(p), LIVE(i), 1);		/* a plain store may pass the look at the number and the first reads */
#else
	atomic { FENCE(READER(p)); mem[LIVE(i)] = 1 }
#endif
#ifdef JOIN_READS_FIRST
	enter(p);
	number = mem[REQUESTED];
	STORE(READER(p), DONE(i), number);	/* "done" in the midst of a section that began before */
	leave(p);
#else
	number = mem[REQUESTED];
	STORE(READER(p), DONE(i), number);
#endif
	number = 0
}

inline enter(p)
{
	section[p]++;
	atomic { object = mem[CUR]; assert(!freed[object]) }
}

/* What was found is good until the end of the section. */
inline leave(p)
{
	atomic { assert(!freed[object]); section[p]++; object = 0 }
}

inline read(p)
{
	do
	:: sections < SECTIONS -> sections++; enter(p); leave(p)
	:: break
	od
}

proctype reader(byte p, i)
{
	byte number, object, sections;

	{
		if
		:: i == NONE ->
		   if
		   :: join(p, 0)
		   :: join(p, MEMBERS)
		   :: goto out		/* no index */
		   fi
		:: else
		fi;
		read(p);
out:		atomic { over[p] = 1; sections = 0 }
	} unless { atomic { dead[p] -> number = 0; object = 0; sections = 0 } }
}

/* serve: the number, a local synchronisation, exactly that number. */
proctype grace(byte p)
{
	byte number, seen, was, at;

	{
end:		do
		:: atomic { lock[index[p]] == p + 1 && mem[LIVE(index[p])] && mem[DONE(index[p])] < mem[REQUESTED] &&
			    FENCE(GRACE(p)) ->
			at = index[p]; number = mem[REQUESTED]; was = mem[DONE(at)] }
		   atomic { seen = section[p] }
		   atomic { (seen % 2 == 0 || section[p] != seen) -> seen = 0 }
#ifdef DONE_NEWER
		   number = mem[REQUESTED];
#endif
		   atomic {
			FENCE(GRACE(p));
			if
			:: mem[DONE(at)] == was -> mem[DONE(at)] = number
			:: else
			fi;
			number = 0; was = 0; at = 0
		   }
		od
	} unless { atomic { dead[p] -> number = 0; seen = 0; was = 0; at = 0 } }
}

/* Unpublish, ask, wait for each that lives, reclaim. */
proctype requester(byte q)
{
	byte number, old, i;

	atomic {		/* administration of one kind is done by one at a time: the old one is the requester's alone */
		old = mem[CUR];
#ifdef NUMBER_FIRST
		mem[REQUESTED] = mem[REQUESTED] + 1; number = mem[REQUESTED]
	}
	atomic { old = mem[CUR]; mem[CUR] = q + 1 }
#else
#ifdef REQUEST_STORE
		empty(buffer[REQUESTER(0)]) && (REQUESTERS == 1 || empty(buffer[REQUESTER(REQUESTERS - 1)]));
		old = mem[CUR];
		STORE(REQUESTER(q), CUR, q + 1);
		number = mem[REQUESTED] + 1;
		STORE(REQUESTER(q), REQUESTED, number)
	}
#else
		mem[CUR] = q + 1
	}
	atomic { FENCE(REQUESTER(q)); mem[REQUESTED] = mem[REQUESTED] + 1; number = mem[REQUESTED] }
#endif
#endif
#ifdef RETIRE
	atomic { with_number[q] = number; retired[q] = old + 1; number = 0; old = 0 }
#else
#ifndef NO_GRACE
	do
#ifdef SKIP_ONE
	:: i == 0 -> i++
	:: i > 0 && i < INDEXES ->
#else
	:: i < INDEXES ->
#endif
	   if
	   :: atomic { mem[LIVE(i)] == 0 -> i++ }
	   :: mem[LIVE(i)] ->
	      if
	      :: atomic { mem[DONE(i)] >= number -> i++ }
	      :: mem[DONE(i)] < number ->
		 atomic { if :: lock[i] == 0 -> i++ :: else fi }	/* dead, or look again */
	      fi
	   fi
	:: i == INDEXES -> break
	od;
#endif
	atomic { freed[old] = 1; number = 0; old = 0; i = 0 }
#endif
}

#ifdef RETIRE
/* Of one index: its number first, then whether it lives, is behind, and holds its lock. */
inline passed_by(i)
{
	done = mem[DONE(i)];
	if
	:: done < passed && mem[LIVE(i)] ->
	   if
	   :: mem[DONE(i)] < passed -> atomic { if :: lock[i] -> passed = done :: else fi }
	   :: mem[DONE(i)] >= passed
	   fi
	:: done >= passed || mem[LIVE(i)] == 0
	fi;
	done = 0
}

#define DRAIN(q) \
	atomic { \
		if \
		:: retired[q] && with_number[q] <= passed -> freed[retired[q] - 1] = 1; retired[q] = 0; with_number[q] = 0 \
		:: else \
		fi }

/* reg__retire_drain, at any time, DRAINS times */
proctype drainer()
{
	byte passed, done, rounds;

	{
		do
		:: rounds < DRAINS ->
		   atomic { rounds++; passed = 255 }
		   passed_by(0);
#if INDEXES > 1
		   passed_by(1);
#endif
		   DRAIN(0);
#if REQUESTERS > 1
		   DRAIN(1);
#endif
		   passed = 0
		:: break
		od;
		rounds = 0
#ifdef DRAIN_BY_STRANGER
	}
#else
	} unless { atomic { dead[0] -> passed = 0; done = 0; rounds = 0 } }
#endif
}
#endif

/* Store buffers drain at any time. */
proctype drain()
{
	byte a, v;

end:	do
	:: atomic { buffer[0] ? a, v -> mem[a] = v; a = 0; v = 0 }
#if PROCS > 1
	:: atomic { buffer[1] ? a, v -> mem[a] = v; a = 0; v = 0 }
#endif
#if PROCS > 2
	:: atomic { buffer[2] ? a, v -> mem[a] = v; a = 0; v = 0 }
#endif
	:: atomic { buffer[REQUESTER(0)] ? a, v -> mem[a] = v; a = 0; v = 0 }
#if REQUESTERS > 1
	:: atomic { buffer[REQUESTER(1)] ? a, v -> mem[a] = v; a = 0; v = 0 }
#endif
	od
}

#if DEATHS > 0
/* SIGKILL, and the reaper that makes the index free. What stood in a buffer has been written by then. */
#define KILL(p) \
	:: atomic { deaths < DEATHS && !dead[p] && !over[p] && empty(buffer[READER(p)]) && empty(buffer[GRACE(p)]) -> \
		dead[p] = 1; deaths++; \
		if \
		:: lock[index[p]] == p + 1 -> lock[index[p]] = 0 \
		:: else \
		fi }
#define REAP(i) \
	:: atomic { mem[LIVE(i)] && lock[i] == 0 -> mem[LIVE(i)] = 0 }
proctype killer()
{
end:	do
	KILL(0)
#if PROCS > 1
	KILL(1)
#endif
#if PROCS > 2
	KILL(2)
#endif
	REAP(0)
#if INDEXES > 1
	REAP(1)
#endif
#if INDEXES > 2
	REAP(2)
#endif
	od
}
#endif

init
{
	byte n;

	atomic {
		do
		:: n < PROCS ->
		   index[n] = (n < MEMBERS -> n : NONE);
		   if
		   :: n < MEMBERS -> mem[LIVE(n)] = 1; lock[n] = n + 1; run reader(n, n)
		   :: else -> index[n] = 0; run reader(n, NONE)
		   fi;
		   run grace(n);
		   n++
		:: else -> n = 0; break
		od;
		do
		:: n < REQUESTERS -> run requester(n); n++
		:: else -> n = 0; break
		od;
		run drain();
#ifdef RETIRE
		run drainer();
#endif
#if DEATHS > 0
		run killer()
#endif
	}
}
