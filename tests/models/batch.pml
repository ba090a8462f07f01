/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch becomes visible in one step (registry/src/batch.c, records.c): its members are CLAIMED with a mark and name the head; whoever
 * sees such a record looks at the head, and writes down that the member is RESERVED when the head is. The owner may be killed between any
 * two steps, a reaper takes back what it held, the records are used again by somebody else. What must hold:
 *
 *   - a member is never seen before the head's store, and while the owner lives always after it, until it is given back;
 *   - nobody's late step brings a record back: in the end all of them are free.
 *
 * Record 0 is the head, the others are members; another process takes records one by one; LOOKERS look at all of them.
 * Broken variants: HEAD_NO_GENERATION (the head's record may be another sandbox's by now), MARK_LATE (the head is shown before the
 * members name it), NO_SHOW (the owner leaves it to the lookers, and gives the head back), LOOKER_STORES (without comparing),
 * NO_SECOND_LOOK (at the member, when its head is not visible: it may have been shown and the head given back meanwhile).
 */
#ifndef MEMBERS
#define MEMBERS 1
#endif
#ifndef LOOKERS
#define LOOKERS 1
#endif
#ifndef SINGLES
#define SINGLES 1
#endif

#define RECORDS	(MEMBERS + 1)
#define FREE	0
#define CLAIMED	1
#define MARKED	2	/* CLAIMED as a member of a batch */
#define RESERVED 3
#define OWNER	1
#define OTHER	2
#define REAPER	3
#define WORD(st, own, gen) ((st) | (own) << 2 | (gen) << 4)
#define ST(w)	((w) & 3)
#define OWN(w)	(((w) >> 2) & 3)
#define GEN(w)	((w) >> 4)

byte rec[RECORDS], head_gen[RECORDS];	/* of members: the generation of record 0 that they name */
byte of_batch[RECORDS];			/* the generation under which the batch has it; not part of the algorithm */
bit shown, gone[RECORDS], dead, over;	/* the head's store was made; given back; the owner was killed; has ended */
byte running;

inline claim(r, who, ret_gen)
{
	atomic { ST(rec[r]) == FREE -> rec[r] = WORD(CLAIMED, who, GEN(rec[r]) + 1); ret_gen = GEN(rec[r]) }
}

inline mark(r)
{
	head_gen[r] = of_batch[0];
	rec[r] = WORD(MARKED, OWNER, GEN(rec[r]))
}

inline show_member(r)
{
#ifdef NO_SHOW
	skip
#else
	atomic { if :: rec[r] == WORD(MARKED, OWNER, of_batch[r]) -> rec[r] = WORD(RESERVED, OWNER, of_batch[r]) :: else fi }
#endif
}

/* reg_abort. Without showing them first the owner would find a member that is not RESERVED. */
inline give_back(r)
{
	atomic { rec[r] = WORD(CLAIMED, OWNER, of_batch[r]); gone[r] = 1 }
	rec[r] = WORD(FREE, 0, of_batch[r])
}

proctype owner()
{
	{
		atomic { claim(0, OWNER, of_batch[0]) }
		atomic { claim(1, OWNER, of_batch[1]) }
#if MEMBERS > 1
		atomic { claim(2, OWNER, of_batch[2]) }
#endif
#ifndef MARK_LATE
		mark(1);
#if MEMBERS > 1
		mark(2);
#endif
#endif
		atomic { rec[0] = WORD(RESERVED, OWNER, of_batch[0]); shown = 1 }
#ifdef MARK_LATE
		mark(1);
#if MEMBERS > 1
		mark(2);
#endif
#endif
		show_member(1);
#if MEMBERS > 1
		show_member(2);
#endif
		give_back(0);
		give_back(1);
#if MEMBERS > 1
		give_back(2);
#endif
		atomic { over = 1; running-- }
	} unless { dead }
}

/* Visible or not. A head that is not there any more has left its members RESERVED: so the member is looked at once more. */
inline look(r)
{
	atomic { w = rec[r]; before = shown }
	do
	:: atomic { ST(w) == MARKED -> named = head_gen[r] }
	   atomic {
		seen = (ST(rec[0]) == RESERVED
#ifndef HEAD_NO_GENERATION
			&& GEN(rec[0]) == named
#endif
			);
		named = 0
	   }
	   if
#ifdef LOOKER_STORES
	   :: atomic { seen -> rec[r] = WORD(RESERVED, OWN(w), GEN(w)); break }
#else
	   :: atomic { seen && rec[r] == w -> rec[r] = WORD(RESERVED, OWN(w), GEN(w)); break }
	   :: atomic { seen && rec[r] != w -> w = rec[r]; seen = 0 }
#endif
#ifdef NO_SECOND_LOOK
	   :: !seen -> break
#else
	   :: atomic { !seen && rec[r] == w -> break }
	   :: atomic { !seen && rec[r] != w -> w = rec[r] }
#endif
	   fi
	:: atomic { ST(w) != MARKED -> seen = (ST(w) == RESERVED); break }
	od;
	atomic {
		if
		:: of_batch[r] && GEN(w) == of_batch[r] && ST(w) != FREE ->
		   assert(!seen || shown);
		   assert(seen || !before || gone[r] || dead)
		:: else
		fi;
		w = 0; seen = 0; before = 0
	}
}

proctype looker()
{
	byte w, named;
	bit seen, before;

	look(0);
	look(1);
#if MEMBERS > 1
	look(2);
	look(1);
#endif
	running--
}

/* Somebody else, one record at a time. */
proctype other()
{
	byte n, r, gen;

	do
	:: n < SINGLES ->
	   n++;
	   if
	   :: r = 0
	   :: r = 1
	   fi;
	   if
	   :: atomic { ST(rec[r]) == FREE -> rec[r] = WORD(CLAIMED, OTHER, GEN(rec[r]) + 1); gen = GEN(rec[r]) }
	      rec[r] = WORD(RESERVED, OTHER, gen);
	      atomic { assert(rec[r] == WORD(RESERVED, OTHER, gen)); rec[r] = WORD(CLAIMED, OTHER, gen) }
	      rec[r] = WORD(FREE, 0, gen)
	   :: ST(rec[r]) != FREE
	   fi;
	   r = 0; gen = 0
	:: else -> break
	od;
	running--
}

inline reap(r)
{
	do
	:: atomic { OWN(rec[r]) == OWNER && ST(rec[r]) != FREE -> rec[r] = WORD(CLAIMED, REAPER, GEN(rec[r])); gone[r] = 1 }
	   rec[r] = WORD(FREE, 0, GEN(rec[r]))
	:: OWN(rec[r]) != OWNER || ST(rec[r]) == FREE -> break
	od
}

proctype reaper()
{
end:	dead;
	reap(0);
	reap(1);
#if MEMBERS > 1
	reap(2);
#endif
	running--
}

init
{
	byte n;

	atomic {
		run owner();
		run other();
		run reaper();
		do
		:: n < LOOKERS -> run looker(); n++
		:: else -> break
		od;
		running = 2 + LOOKERS
	}
	/* SIGKILL at any moment, or not before it ends; the reaper comes in its place */
	if
	:: atomic { !over -> dead = 1 }
	:: over
	fi;
	atomic { running == 0; n = 0 }
	do
	:: n < RECORDS -> assert(ST(rec[n]) == FREE); n++
	:: else -> break
	od
}
