#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every interleaving of those who change one agent's masks and its hint (registry/src/slots.c: hint_predict, the change of the bit,
hint_check): takers and releasers in two mask words, each reading the words one after the other. At rest the hint equals the load. Two
broken variants have to fail: comparing the prediction with what the change of the bit returned, and not looking at all; so that the
search is known to see them."""
import sys

END = "end"


def look(masks, actor, then):
    """Reads the two words one by one; the sum is in actor[2]."""
    kind, bit, at, total, extra = actor
    word = int(at[-1])
    total = (total if word else 0) + sum(masks[word])
    return (kind, bit, at[:-1] + "1", total, extra) if word == 0 else (kind, bit, then, total, extra)


def changed(masks, kind, bit):
    word, pos = bit
    of = list(masks[word])
    of[pos] = kind == "take"
    both = list(masks)
    both[word] = tuple(of)
    return tuple(both)


def step(masks, hint, actor, rule):
    kind, bit, at, total, extra = actor
    if at.startswith("load"):
        return masks, hint, look(masks, actor, "predict")
    if at == "predict":
        predicted = total + (1 if kind == "take" else -1)
        return masks, predicted, (kind, bit, "change", predicted, None)
    if at == "change":
        masks = changed(masks, kind, bit)
        if rule == "blind":
            return masks, hint, (kind, bit, END, 0, None)
        if rule == "returned":  # only the word that was changed tells something, and that at this moment
            same = sum(map(sum, masks)) == total
            return masks, hint, (kind, bit, END if same else "again0", 0, None)
        return masks, hint, (kind, bit, "see", 0, None)
    if at == "see":
        return masks, hint, (kind, bit, "check0", 0, hint)
    if at.startswith("check"):
        actor = look(masks, actor, "compare")
        if actor[2] == "compare":
            actor = (kind, bit, END if actor[3] == extra else "again0", 0, None)
        return masks, hint, actor
    if at.startswith("again"):  # reg__hint_publish
        return masks, hint, look(masks, actor, "write")
    if at == "write":
        return masks, total, (kind, bit, "verify0", 0, total)
    actor = look(masks, actor, "verified")
    if actor[2] == "verified":
        same = actor[3] == extra
        actor = (kind, bit, END, 0, None) if same else (kind, bit, "write", actor[3], None)
    return masks, hint, actor


def search(actors, rule):
    """The (hint, load) at rest that disagree."""
    masks = [[False, False, False], [False, False]]
    for kind, (word, pos) in actors:
        masks[word][pos] = kind == "give"
    masks = tuple(map(tuple, masks))
    start = (masks, sum(map(sum, masks)), tuple((kind, bit, "load0", 0, None) for kind, bit in actors))
    seen, stack, bad = {start}, [start], set()
    while stack:
        masks, hint, all_of = stack.pop()
        if all(a[2] == END for a in all_of) and hint != sum(map(sum, masks)):
            bad.add((hint, sum(map(sum, masks))))
        for i, actor in enumerate(all_of):
            if actor[2] == END:
                continue
            m, h, now = step(masks, hint, actor, rule)
            state = (m, h, all_of[:i] + (now,) + all_of[i + 1:])
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return bad


def main():
    cases = (
        (("take", (0, 0)), ("take", (0, 1))),
        (("take", (0, 0)), ("give", (0, 1))),
        (("take", (0, 0)), ("give", (1, 0))),
        (("take", (0, 0)), ("give", (0, 1)), ("take", (0, 2))),
        (("take", (0, 0)), ("give", (1, 0)), ("take", (1, 1))),
    )
    wrong = 0
    for actors in cases:
        bad = search(actors, "look")
        if bad:
            print(f"{actors}: hint and load at rest {bad}")
            wrong += 1
    for rule in ("returned", "blind"):
        if not any(search(actors, rule) for actors in cases):
            print(f"the broken variant '{rule}' is not found")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
