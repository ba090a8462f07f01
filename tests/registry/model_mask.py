#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every interleaving of those who change one slot word and its mask bit (registry/src/slots.c): a holder that releases, claimers,
claimers that release again, the same from a pass over the words, healers. At rest the bit equals the word. With a single second look
instead of looking until both agree a free slot can stay hidden, and without any look a held one can look free: these variants have to
fail here, so that the search is known to see them."""
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
    """reg__slot_take: the bit nominates (or a pass over the words does), the CAS on exactly this word decides, the bit follows."""
    if at == "start":
        return (word, bit, END, None) if bit else (word, bit, "load", None)
    if at == "load":
        return (word, bit, END, None) if word[0] else (word, bit, "cas", word)
    if at == "cas":
        return ((True, word[1] + 1), bit, "taken", None) if word == seen else (word, bit, END, None)
    return word, True, then, None


def step(kind, word, bit, at, seen, look):
    if at in ("look", "write", "again", "repair"):
        return look(word, bit, at, seen)
    if kind == "heal":
        return settle(word, bit, "look", None)
    if at == "free" or (kind == "release" and at == "start"):
        return (False, word[1]), bit, "clear", None
    if at == "clear":  # reg__slot_free: the bit after the word, then the word again
        return word, False, END if look is blind else "look", None
    if at == "start" and kind.startswith("pass"):
        at = "load"
    return claim(word, bit, at, seen, "free" if kind.endswith(", release") else END)


def blind(word, bit, at, seen):
    raise AssertionError("never looks")


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
    both, passing, wrong = "claim, release", "pass, release", 0
    for kinds in (("release", "pass"), ("release", passing), ("release", passing, "heal"), ("release", passing, both),
                  ("release", "pass", both, "heal"), ("release", "claim"), ("release", "heal"), ("release", both), ("release", "claim", "heal"),
                  ("release", both, "heal"), ("release", both, "claim"), ("release", both, "claim", "heal"),
                  ("release", both, "heal", "heal"), ("release", both, both, "heal")):
        bad = search(kinds, settle)
        if bad:
            print(f"{kinds}: word and bit at rest {bad}")
            wrong += 1
    for kinds, broken in ((("release", both, "heal"), settle_once), (("release", "pass"), blind)):
        if not search(kinds, broken):
            print(f"the broken variant {broken.__name__} is not found")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
