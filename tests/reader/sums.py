#!/usr/bin/env python3
"""Sums of a run, from what was sent and what stands in the topics: nothing of Millstream's code, nor of its
tests' own accounts.

    sums.py --id KEY|/FIELD --sent FILE --out FILE --dead FILE [--source FILE] [--exactly-once]

`--sent` has a line for each message, `ID`, `ID dead`, `ID maybe` or `ID dead maybe`: which is known by its
number alone, what must become of it, and whether its sender has no answer. The other files are what
`millstream consume` printed (a JSON object a line), or Kafka's console consumer with partition, offset,
headers, key and value. A message of theirs is known by its key, or by a field of its JSON value.

Prints one line of sums, then a line for each violation; ends with 1 if there is any. A message sent twice
counts once, since its outputs must. What is there again is a violation with --exactly-once only: a crash may
repeat what was not committed. One whose sender has no answer must be settled if it stands in --source.
"""

import argparse
import collections
import json
import re
import sys

Record = collections.namedtuple("Record", "partition offset turn id")
TURN = "millstream-turn"
SHOWN_MAX = 20


def from_json(line):
    """A line of `millstream consume`."""
    record = json.loads(line)
    turns = [value for name, value in record["headers"] if name == TURN]
    return record["partition"], record["offset"], turns, record["key"], record["value"]


def from_console(line):
    """A line of Kafka's console consumer."""
    partition, offset, headers, key, value = line.split("\t")
    turns = re.findall(rf"(?:^|,){TURN}:(\d+)", headers)
    number = lambda text, name: int(text.removeprefix(name + ":"))
    return number(partition, "Partition"), number(offset, "Offset"), turns, key, value


def read(path, id_from):
    """The records of a file."""
    records = []
    for line in open(path, encoding="utf-8").read().splitlines():
        parse = from_json if line.startswith("{") else from_console
        partition, offset, turns, key, value = parse(line)
        known_by = key if id_from == "KEY" else json.loads(value)[id_from.removeprefix("/")]
        records.append(Record(partition, offset, turns[0] if turns else None, known_by))
    return records


def main():
    parser = argparse.ArgumentParser()
    for name in ("--id", "--sent", "--out", "--dead"):
        parser.add_argument(name, required=True)
    parser.add_argument("--source")
    parser.add_argument("--exactly-once", action="store_true")
    args = parser.parse_args()

    lines = [line.split() for line in open(args.sent, encoding="utf-8").read().splitlines()]
    sent = {line[0] for line in lines}
    must_die = {line[0] for line in lines if "dead" in line[1:]}
    required = {line[0] for line in lines if "maybe" not in line[1:]}
    out, dead = read(args.out, args.id), read(args.dead, args.id)
    source = read(args.source, args.id) if args.source else []
    arrived = {record.id for record in source}
    handled, died = {record.id for record in out}, {record.id for record in dead}

    violations = []
    for name, records in (("outputs", out), ("dead letters", dead), ("source", source)):
        places = collections.Counter((record.partition, record.offset) for record in records)
        violations += [f"two {name} at {place}" for place, count in places.items() if count > 1]
    if args.source:
        violations += [f"{id} was acknowledged and is not there" for id in sorted(required - arrived)]
    lost = sorted((required | arrived) - handled - died)
    violations += [f"{id} is lost" for id in lost]
    violations += [f"{id} came out and was never sent" for id in sorted((handled | died) - sent)]
    violations += [f"{id} was handled, and every attempt must fail" for id in sorted(handled & must_die)]
    violations += [f"{id} is dead, and can be handled" for id in sorted(died & sent - must_die)]
    # Of one message sent twice both may die: only what was handled is known.
    letters = {(record.partition, record.turn) for record in dead}
    again = len(out) - len(handled) + len(dead) - len(letters)
    if args.exactly_once and again:
        twice = collections.Counter(record.id for record in out)
        violations += [f"{id} was handled {n} times" for id, n in sorted(twice.items()) if n > 1]
        violations += [f"{again} are there again"]

    print(
        f"sent {len(lines)} ({len(sent)} different), handled {len(handled)}, dead {len(died)},"
        f" lost {len(lost)}, again {again}"
    )
    for violation in violations[:SHOWN_MAX]:
        print(f"violation: {violation}")
    if len(violations) > SHOWN_MAX:
        print(f"and {len(violations) - SHOWN_MAX} violations more")
    sys.exit(1 if violations else 0)


main()
