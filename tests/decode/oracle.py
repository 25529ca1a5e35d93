"""Says what the conformance kit makes of bodies.

    oracle.py KIT BODIES LATEST

One body in hex a line in, one JSON a line out. Every organization exists and every chat is mapped, since decode
judges neither.
"""
import json
import sys

sys.path.insert(0, sys.argv[1])
import check  # noqa: E402


class Everything:
    def __contains__(self, _):
        return True

    def get(self, _chat, _default):
        return [None]


class Reference(check.Expected):
    def __init__(self, latest):
        super().__init__(Everything(), Everything(), latest)
        self.org, self.facts = None, {}

    def fold(self, org, fact):
        self.org = org
        self.facts.setdefault(fact.user, fact)


def shown(fact):
    message = fact.message and {key: value for key, value in fact.message.items() if key != "root"}
    return {**fact._asdict(), "message": message}


def is_excused(body):
    """Whether this is one of the two cases that the kit reads laxly: a key given twice (it takes the last), and
    new_chat_members that are empty without being a list (it takes them as absent)."""
    found = []

    def pairs(members):
        fields = dict(members)
        lax = fields.get("new_chat_members")
        found.append(len(fields) < len(members) or (not lax and lax is not None and not isinstance(lax, list)))
        return fields
    try:
        json.loads(body.decode(), object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return False
    return any(found)


def main():
    with open(sys.argv[2], encoding="ascii") as lines:
        for line in lines:
            body, reference = bytes.fromhex(line), Reference(int(sys.argv[3]))
            reference.take(body)
            if reference.facts:
                verdict = {"org": reference.org, "facts": [shown(fact) for fact in reference.facts.values()]}
            elif reference.dead:
                (reason, org), = reference.dead.values()
                verdict = {"org": org or None, "refused": reason}
            else:
                verdict = {"ignored": reference.ignored == 1}
            print(json.dumps({"verdict": verdict, "is_excused": is_excused(body)}))


main()
