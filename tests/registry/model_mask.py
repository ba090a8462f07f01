#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every interleaving of those who change one slot word and its mask bit (registry/src/slots.c, place.c): a holder that releases,
claimers, claimers that release again, healers. At rest the bit equals the word. With a single second look instead of looking until
both agree a free slot can stay hidden: that variant has to fail here, so that the search is known to see it."""
import sys

END = "end"


def settle(word, bit, at, seen):
    """mask_settle: look at the word, write the bit when it differs, look again."""
    if at == "look":
        return word, bit, "write", word[0]
    return (word, bit, END, None) if bit == seen else (word, seen, "look", None)


def settle_once(word, bit, at, seen):
    if at == "look":
        return word, False, "again", None
    if at == "again":
        return word, bit, END if not word[0] else "repair", None
    return word, True, END, None


def claim(word, bit, at, seen, then):
    """chunk_claim and slot_take: the bit first, then the CAS on exactly this word, then a look at the bit."""
    if at == "start":
        return (word, bit, END, None) if bit else (word, True, "load", None)
    if at == "load":
        return (word, bit, END, None) if word[0] else (word, bit, "cas", word)
    if at == "cas":
        return ((True, word[1] + 1), bit, "taken", None) if word == seen else (word, bit, END, None)
    if at == "taken":
        return word, bit, then if bit else "mend", None
    return word, True, then, None


def step(kind, word, bit, at, seen, look):
    if at in ("look", "write", "again", "repair"):
        return look(word, bit, at, seen)
    if kind == "heal":
        return settle(word, bit, "look", None)
    if at == "free" or kind == "release":
        return (False, word[1]), bit, "look", None
    return claim(word, bit, at, seen, "free" if kind == "claim, release" else END)


def search(kinds, look):
    """The (used, bit) at rest that disagree."""
    start = ((True, 1), True, tuple((kind, "start", None) for kind in kinds))
    seen, stack, bad = {start}, [start], set()
    while stack:
        word, bit, actors = stack.pop()
        if all(at == END for _, at, _ in actors) and word[0] != bit:
            bad.add((word[0], bit))
        for i, (kind, at, saw) in enumerate(actors):
            if at == END:
                continue
            # a healer always settles
            rule = settle if kind == "heal" else look
            w, b, at, saw = step(kind, word, bit, at, saw, rule)
            state = (w, b, actors[:i] + ((kind, at, saw),) + actors[i + 1:])
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return bad


def main():
    both, wrong = "claim, release", 0
    for kinds in (("release", "claim"), ("release", "heal"), ("release", both), ("release", "claim", "heal"),
                  ("release", both, "heal"), ("release", both, "claim"), ("release", both, "claim", "heal"),
                  ("release", both, "heal", "heal"), ("release", both, both, "heal")):
        bad = search(kinds, settle)
        if bad:
            print(f"{kinds}: word and bit at rest {bad}")
            wrong += 1
    if not search(("release", both), settle_once):
        print("the broken variant is not found")
        wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
