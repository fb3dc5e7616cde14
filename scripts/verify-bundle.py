"""Verifies an audit bundle of a FlexMesh consortium with the standard library of Python 3.8 or later alone.
Usage: verify-bundle.py FILE [CONSORTIUM], the id (sha256:...) that you expect, from a source that you trust. Prints
what the bundle proves, or the first thing that is wrong, and then ends with 1. It checks the rules of
protocols/transparency-log, section "Audit bundle", like `flexmesh audit verify`, and shares no code with it."""
import base64, functools, hashlib, json, sys
P, L, D = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493, -121665 * pow(121666, 2**255 - 21, 2**255 - 19)
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
TYPE = "application/vnd.flexmesh.%s.v1+json"
class Refused(Exception): pass
def need(condition, message):
    if not condition: raise Refused(message)
ERRORS = Refused, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError
# Ed25519 (RFC 8032), strict: canonical points that are not of small order, S below L, no cofactor.
def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P
def multiply(s, p):
    q = (0, 1, 1, 0)
    while s > 0: q, p, s = add(q, p) if s & 1 else q, add(p, p), s >> 1
    return q
def decompress(data):
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    need(len(data) == 32 and y < P, "a point is not canonical")
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    x = x * pow(2, (P - 1) // 4, P) % P if (x * x - xx) % P else x
    need((x * x - xx) % P == 0 and (x or not sign), "bytes are not a point")
    x = P - x if x & 1 != sign else x
    return need(multiply(8, (x, y, 1, x * y % P))[0] % P, "a point is of small order") or (x, y, 1, x * y % P)
BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
@functools.lru_cache(maxsize=None)
def is_signature(key, message, signature):
    try: a, r, s = decompress(key), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    except Refused: return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    x, y, z, _ = add(multiply(s, BASE), multiply(k, (P - a[0], a[1], 1, P - a[3])))
    return len(signature) == 64 and s < L and (x - r[0] * z) % P == 0 and (y - r[1] * z) % P == 0
def unbase64(text):
    data = base64.b64decode(text, validate=True)
    return need(base64.b64encode(data).decode() == text, "base64 is not canonical") or data
digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
def canonical(data):  # Sorted keys, no white space.
    value = json.loads(data.decode())
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return need(text.encode() == data, "JSON is not canonical") or value
def key_of(peer):
    number = functools.reduce(lambda so_far, letter: so_far * 58 + ALPHABET.index(letter), peer, 0)
    need(len(peer) == 52 and number >> 256 == 0x2408011220, "not a peer id: " + peer)
    return (number & (1 << 256) - 1).to_bytes(32, "big")
def open_envelope(text, *types):  # A DSSE envelope whose every signature verifies: payload, value, signers.
    envelope = canonical(text.encode())
    kind, payload = envelope["payloadType"], unbase64(envelope["payload"])
    need(len(envelope) == 3 and (kind in types or not types), "an envelope of type " + kind)
    message = b"DSSEv1 %d %s %d " % (len(kind), kind.encode(), len(payload)) + payload
    signers = [one["key"] for one in envelope["signatures"]]
    need(signers and len(set(signers)) == len(signers), "an envelope without signature, or signed twice by one key")
    valid = [is_signature(key_of(one["key"]), message, unbase64(one["sig"])) for one in envelope["signatures"]]
    need(all(valid), "a wrong signature of " + " or ".join(signers))
    return payload, canonical(payload), signers
def open_own(text, kind):
    _, value, signers = open_envelope(text, TYPE % kind)
    return need(signers == [value["publisher"]], "a %s is not signed by its publisher" % kind) or value
# Merkle trees (RFC 9162, section 2.1); checkpoints and cosignatures (C2SP).
node = lambda left, right: hashlib.sha256(b"\1" + left + right).digest()
key_id = lambda name, kind, key: hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]
def root_of(hashes):  # An odd last hash moves up a level.
    while len(hashes) > 1:
        pairs = [node(*hashes[i : i + 2]) for i in range(0, len(hashes) - 1, 2)]
        hashes = pairs + hashes[len(pairs) * 2 :]
    return hashes[0] if hashes else hashlib.sha256().digest()
def climb(index, last, old, new, proof):  # The roots of the earlier tree and of the later one.
    for other in proof:
        need(last > 0, "a proof is too long")
        if index & 1 or index == last:
            old, new = node(other, old), node(other, new)
            while index and not index & 1: index, last = index >> 1, last >> 1
        else: new = node(new, other)
        index, last = index >> 1, last >> 1
    return need(last == 0, "a proof is too short") or (old, new)
def is_consistent(size1, size2, root1, root2, proof):
    if size1 == size2: return not proof and root1 == root2
    path, index, last = proof if size1 & (size1 - 1) else [root1] + proof, size1 - 1, size2 - 1
    while index & 1: index, last = index >> 1, last >> 1
    return proof and climb(index, last, path[0], path[0], path[1:]) == (root1, root2)
def open_checkpoint(note, origin, key):  # Text, size, root and signatures as (name, key id and signature).
    text, _, lines = note.rpartition("\n\n")
    name, size, root = text.split("\n")
    need(name == origin and str(int(size)) == size and lines.endswith("\n"), "not a checkpoint of " + origin)
    parts = [line.split(" ") for line in lines[:-1].split("\n")]
    signatures = [(name, unbase64(code)) for dash, name, code in parts if dash == "\u2014"]
    need(len(signatures) == len(parts), "a signature line of " + origin)
    own = [sig[4:] for signer, sig in signatures if (signer, sig[:4]) == (origin, key_id(origin, 1, key))]
    signed = own and all(is_signature(key, (text + "\n").encode(), sig) for sig in own)
    return need(signed, origin + " has not signed") or (text + "\n", int(size), unbase64(root), signatures)
def has_cosigned(text, signatures, name, key):
    lines = [sig for signer, sig in signatures if (signer, sig[:4]) == (name, key_id(name, 4, key)) and len(sig) == 76]
    times = [b"cosignature/v1\ntime %d\n" % int.from_bytes(sig[4:12], "big") for sig in lines]
    return any(is_signature(key, time + text.encode(), sig[12:]) for time, sig in zip(times, lines))
def next_roster(members, version, threshold, prev, text, consortium):  # Signed lists of an older kind.
    payload, roster, signers = open_envelope(text, TYPE % "roster")
    need((roster["consortium"], roster["rosterVersion"], roster["prev"]) == (consortium, version + 1, prev), "a roster")
    after = {one["peerId"]: one for one in roster["members"]}
    same = [after.get(peer, {}).get("institution") == one["institution"] for peer, one in members.items()]
    need(all(same) and len(after) == len(roster["members"]), "a roster drops, renames or repeats a member")
    founders = [peer for peer, one in members.items() if one["role"] == "founder" and "revoked" not in one]
    need(len(set(signers) & set(founders)) >= threshold, "too few founders have signed roster %d" % (version + 1))
    return after, version + 1, roster["threshold"], digest(payload)
def apply(members, rules, value, answers):  # A leave, or a change that enough members support.
    change = value.get("change", {"kind": "revoke", "seat": value["publisher"]})
    active = [peer for peer, one in members.items() if "revoked" not in one]
    word, group = rules[change["kind"]].split(" ")
    least, founders = 1 if word == "1" or len(active) < 3 else 2, [p for p in active if members[p]["role"] == "founder"]
    is_few = not founders or len([p for p in founders if p != change.get("seat")]) < least
    word, founders = ("majority", active) if group == "founders" and is_few else (word, founders)
    voters = founders if group == "founders" else active
    size, voters = len(voters), [peer for peer in voters if peer != change.get("seat")]
    count = size if word == "all" else size // 2 + 1 if word == "majority" else int(word)
    support = [p for p in voters if p == value["publisher"] or answers.get(p) == "endorse"]
    need("change" not in value or len(support) >= max(min(count, len(voters)), least), "a change with too few votes")
    if change["kind"] == "admit": members[change["peerId"]] = {"institution": change["institution"], "role": "member"}
    if change["kind"] == "revoke": members[change["seat"]] = dict(members[change["seat"]], revoked=True)
    return change["rules"] if change["kind"] == "rules" else rules
def verify(data, expected=None):
    *lines, end, rest = data.split(b"\n")
    end = canonical(end)
    seal, is_end = open_own(end["envelope"], "audit-bundle"), rest == b"" and len(end) == 2 and end["type"] == "end"
    sealed = digest(b"\n".join(lines) + b"\n"), len(lines)
    need(is_end and (seal["digest"], seal["records"]) == sealed, "the file is cut, or a line is not sealed")
    (head, *records), consortium = map(canonical, lines), seal["consortium"]
    need((head["type"], head["consortium"], head["exporter"]) == ("bundle", consortium, seal["publisher"]), "header")
    take = lambda kind: records.pop(0) if records and records[0]["type"] == kind else None
    types = TYPE % "charter", (TYPE % "charter").replace("v1", "v2")
    payload, charter, signers = open_envelope(take("charter")["envelope"], *types)
    need(digest(payload) == consortium == (expected or consortium), "the bundle is of consortium " + digest(payload))
    members, threshold = {one["peerId"]: one for one in charter["founders"]}, charter.get("threshold", 1)
    need(sorted(members) == sorted(signers), "the charter is not signed by its founders")
    state, kinds = (1, threshold, consortium), "admit revoke rotate rules renew withdraw".split()
    rules = charter.get("rules", {kind: "%d founders" % threshold for kind in kinds})
    for one in iter(lambda: take("roster"), None):
        members, *state = next_roster(members, *state, one["envelope"], consortium)
    applied, witnesses, logs = [one["statement"] for one in iter(lambda: take("applied"), None)], {}, {}
    result, known, answers, finals = [], {}, {}, {}
    for record in iter(lambda: take("witness-key"), None):
        value = open_own(record["envelope"], "witness-key")
        name = "flexmesh/%s/%s/witness" % (consortium[7:], value["publisher"])
        key = unbase64(value["key"].split("+", 2)[2])
        need(value["key"].startswith(name + "+" + key_id(name, 4, key[1:]).hex()) and key[:1] == b"\4", "a witness key")
        need(value["consortium"] == consortium and value["publisher"] not in witnesses, "a witness key")
        witnesses[value["publisher"]] = name, key[1:]
    for log in iter(lambda: take("log"), None):
        peer, digests, leaves, origin = log["publisher"], [], [], "flexmesh/%s/%s" % (consortium[7:], log["publisher"])
        need(peer not in logs, "a log twice")
        latest, final = [n in log and open_checkpoint(log[n], origin, key_of(peer)) for n in ("checkpoint", "final")]
        for _ in range(log["statements"]):
            record = take("statement")
            payload, value, signers = open_envelope(record["envelope"])
            place = consortium, peer, len(digests) + 1, digests[-1] if digests else "sha256:" + "0" * 64
            is_next = place == tuple(value[n] for n in ("consortium", "publisher", "seq", "prev"))
            need(is_next and signers == [peer], "a log that forks, or that its publisher has not signed")
            digests, leaves = digests + [digest(payload)], leaves + [hashlib.sha256(b"\0" + payload).digest()]
            known[digests[-1]] = value
            if "answer" in value: answers.setdefault(value["proposal"], {}).setdefault(peer, value["answer"])
            need(("proof" in record) == bool(latest and len(leaves) <= latest[1]), "a proof is missing")
            place = len(leaves) - 1, (latest or (0, 0))[1] - 1, leaves[-1], leaves[-1]
            need("proof" not in record or climb(*place, map(unbase64, record["proof"]))[1] == latest[2], "a proof")
        for _, size, root, _ in filter(None, (latest, final)):
            need(size <= len(leaves) and root_of(leaves[:size]) == root, "statements of %s are missing" % peer)
        need(("consistency" in log) == bool(latest and final and final[1]) and bool(latest or not final), "consistency")
        proof = list(map(unbase64, log.get("consistency", [])))
        need("consistency" not in log or is_consistent(final[1], latest[1], final[2], latest[2], proof), "consistency")
        need(not latest or len(latest[3]) == 1, "a line of a checkpoint that counts for nothing")
        logs[peer], finals[peer] = digests, final
    for statement in applied: rules = apply(members, rules, known[statement], answers.get(statement, {}))
    need(list(logs) == list(members), "the logs are not those of the members")
    active = [peer for peer in members if "revoked" not in members[peer]]
    for peer, final in finals.items():
        others = [one for one in active if final and one != peer and one in witnesses]
        cosigned = [one for one in others if has_cosigned(final[0], final[3], *witnesses[one])]
        enough = final and len(cosigned) >= ((len(active) - 1) // 2 + 1 if len(active) > 1 else 0)
        need(enough or peer not in active, "the log of %s is not cosigned by the quorum" % members[peer]["institution"])
        need(not final or len(final[3]) == 1 + len(cosigned), "a line of a checkpoint that counts for nothing")
        names = [members[one]["institution"] for one in [peer] + cosigned]
        facts = names[0], len(logs[peer]), final[1] if final else 0, ", ".join(names[1:])
        result.append("%s: %d statements, %d final, cosigned by %s" % facts)
    heads = [open_own(record["envelope"], "head") for record in iter(lambda: take("head"), None)]
    for names in ([value["publisher"] for value in heads], list(witnesses)):
        need(names == [peer for peer in members if peer in names], "a head or a witness key out of its order")
    for value in heads:
        held = ([value["last"]] if value["seq"] == 0 else logs[value["publisher"]])[max(value["seq"], 1) - 1 :][:1]
        need(value["consortium"] == consortium and held == [value["last"]], "a head names a statement that is missing")
    [json.loads(record["verdict"]) for record in iter(lambda: take("verdict"), None)]
    need(not records, "a record out of its order")
    return [charter["name"], consortium, "exported by " + members[head["exporter"]]["institution"]] + result

if __name__ == "__main__":
    try: print("\n".join(verify(open(sys.argv[1], "rb").read(), *sys.argv[2:3])))
    except ERRORS as error: sys.exit("refused: %s" % (error if isinstance(error, Refused) else "malformed, %r" % error))
