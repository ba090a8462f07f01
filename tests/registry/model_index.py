#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every interleaving of two and three inserters of one unique key (registry/src/index.c): never two winners, never none, also when
another key's entry in the way disappears at any moment. Without the removal of tentative entries at higher places two can win:
that variant has to fail here, so that the search is known to see it."""
import sys

PLACES = 3
EMPTY, OTHER = "empty", "other key"  # else ("tentative", who) or ("committed", who)


def steps(places, me, state, removal):
    """All (places, state) after one step of inserter me; state is (phase, position looked at, own or first empty place)."""
    phase, at, mine = state

    def put(place, value):
        return places[:place] + (value,) + places[place + 1:]

    if phase == "look":
        if at == PLACES:
            if mine is None:
                return [(places, ("lost", 0, None))]  # no room: not our subject
            if places[mine] == EMPTY:
                return [(put(mine, ("tentative", me)), ("look again", 0, mine))]
            return [(places, ("look", 0, None))]
        if places[at][0] == "committed":
            return [(places, ("lost", 0, None))]
        return [(places, ("look", at + 1, at if mine is None and places[at] == EMPTY else mine))]
    if phase == "look again":
        if at == PLACES:
            if places[mine] == ("tentative", me):
                return [(put(mine, ("committed", me)), ("won", 0, mine))]
            return [(places, ("lost", 0, None))]  # somebody removed ours
        entry = places[at]
        if at == mine or entry in (EMPTY, OTHER):
            return [(places, ("look again", at + 1, mine))]
        if entry[0] == "committed" or at < mine:
            return [(places, ("retract", 0, mine))]
        if removal:
            return [(places, (("remove", entry), at, mine))]
        return [(places, ("look again", at + 1, mine))]
    if phase == "retract":
        return [(put(mine, EMPTY) if places[mine] == ("tentative", me) else places, ("lost", 0, None))]
    if isinstance(phase, tuple):  # a CAS on exactly the entry that was seen
        if places[at] == phase[1]:
            return [(put(at, EMPTY), ("look again", at + 1, mine))]
        return [(places, ("look again", at, mine))]
    return []


def explore(inserters, other_key, removal):
    """None, or what went wrong; and the number of states."""
    start = ((OTHER if other_key else EMPTY,) + (EMPTY,) * (PLACES - 1), (("look", 0, None),) * inserters)
    seen, todo = {start}, [start]
    while todo:
        places, states = todo.pop()
        if sum(place[0] == "committed" for place in places) > 1:
            return "two winners", len(seen)
        if all(state[0] in ("won", "lost") for state in states) and not any(state[0] == "won" for state in states):
            return "no winner", len(seen)
        after = [((EMPTY,) + places[1:], states)] if places[0] == OTHER else []
        for me, state in enumerate(states):
            after += [(now, states[:me] + (new,) + states[me + 1:]) for now, new in steps(places, me, state, removal)]
        for one in after:
            if one not in seen:
                seen.add(one)
                todo.append(one)
    return None, len(seen)


def main():
    bad = 0
    for inserters in (2, 3):
        for other_key in (False, True):
            wrong, states = explore(inserters, other_key, removal=True)
            print(f"{inserters} inserters, other key in the way: {other_key}: {states} states, {wrong or 'one winner'}")
            bad += wrong is not None
        bad += explore(inserters, True, removal=False)[0] != "two winners"
    sys.exit(1 if bad else 0)


main()
