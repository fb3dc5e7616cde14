"""Verifies an audit bundle of a FlexMesh consortium with Python 3.8 or later alone: verify-bundle.py FILE [CONSORTIUM],
the id (sha256:...) that you expect, from a source that you trust. Prints what the bundle proves, or the first thing
that is wrong, and ends with 1. Checks protocols/transparency-log, section "Audit bundle", without code of FlexMesh."""
import base64, functools, hashlib, json, sys
P, L, D = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493, -121665 * pow(121666, 2**255 - 21, 2**255 - 19)
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
TYPE, NONE, Refused = "application/vnd.flexmesh.%s.v1+json", "sha256:" + "0" * 64, AssertionError
def need(condition, message):
    if not condition: raise Refused(message)
ERRORS = Refused, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, StopIteration
def add(p, q):  # Ed25519 (RFC 8032), strict: canonical points that are not of small order, S below L, no cofactor.
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P
multiply = lambda s, p: add(p, multiply(s - 1, p)) if s & 1 else multiply(s >> 1, add(p, p)) if s else (0, 1, 1, 0)
def decompress(data):
    sign, y = divmod(int.from_bytes(data, "little"), 1 << 255)
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    x = x * pow(2, (P - 1) // 4, P) % P if (x * x - xx) % P else x
    is_point = len(data) == 32 and y < P and (x * x - xx) % P == 0 and (x or not sign)
    x = P - x if x & 1 != sign else x
    return need(is_point and multiply(8, (x, y, 1, x * y % P))[0] % P, "not a strong point") or (x, y, 1, x * y % P)
BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
@functools.lru_cache(maxsize=None)
def is_signature(key, message, signature):
    a, r, s = decompress(key), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    x, y, z, _ = add(multiply(s, BASE), multiply(k, (P - a[0], a[1], 1, P - a[3]))) if s < L else BASE
    return len(signature) == 64 and s < L and (x - r[0] * z) % P == 0 and (y - r[1] * z) % P == 0
def unbase64(text):
    return need(base64.b64encode(data := base64.b64decode(text, validate=True)).decode() == text, "base64") or data
digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
def canonical(data):  # Sorted keys, no white space.
    value = json.loads(data.decode())
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return need(text.encode() == data, "JSON is not canonical") or value
def key_of(peer):
    number = functools.reduce(lambda so_far, letter: so_far * 58 + ALPHABET.index(letter), peer, 0)
    return need(len(peer) == 52 and number >> 256 == 0x2408011220, "no key: " + peer) or number.to_bytes(37, "big")[5:]
def open_envelope(text, only=None):  # A DSSE envelope whose every signature verifies: payload, value, signers, kind.
    envelope = canonical(text.encode())
    kind, payload = envelope["payloadType"], unbase64(envelope["payload"])
    need(len(envelope) == 3 and (only is None or kind == TYPE % only), "an envelope of type " + kind)
    message = b"DSSEv1 %d %s %d " % (len(kind), kind.encode(), len(payload)) + payload
    signers = [one["key"] for one in envelope["signatures"]]
    valid = [is_signature(key_of(one["key"]), message, unbase64(one["sig"])) for one in envelope["signatures"]]
    need(signers and all(valid) and len(set(signers)) == len(signers), "a wrong signature of " + " or ".join(signers))
    return payload, canonical(payload), signers, kind[len("application/vnd.flexmesh.") : -len(".v1+json")]
SCOPES = {"manifest": "packages", "withdrawal": "packages", "receipt": "packages", "proposal": "governance",
          "endorsement": "governance", "leave": "governance", "witness-key": "witness", "head": "", "audit-bundle": ""}
def check_signer(key, _, node, signers, kind, at, seat):
    is_node = node.get("key") in signers and at <= node["expiresAt"] and SCOPES.get(kind) in ["", *node["scopes"]]
    need(len(signers) == 1 and (key in signers or is_node), "a %s of %s by a key that may not sign it" % (kind, seat))
def key_states(seat, member, log):  # Institution key, digest of the next, node key: after 0, 1, ... statements; now.
    restored, served, nodes = member.get("key"), {seat}, set()
    states = [(seat, None if restored else member.get("next"), {})]
    for kind, value, signers in log:
        states.append(states[-1] if kind != "keys" else (value["key"], value.get("next"), value.get("node", {})))
        (old, following, before), (key, after, node) = states[-2:]
        if kind != "keys": check_signer(*states[-1], signers, kind, value["issuedAt"], seat); continue
        named = {node["key"]} if node else set()
        if key == restored and key not in served | nodes: old, following = key, member.get("next")
        is_next = digest(key_of(key)) == following != after is not None and key not in served | nodes
        fits = following in (None, after) if key == old else is_next
        is_new = not named & served and named & nodes <= {before.get("key")}
        need(fits and is_new and sorted(signers) == sorted([key, *named]), "keys of %s that may not follow" % seat)
        served, nodes = served | {key}, nodes | named
    return states + [("", None, {}) if restored and restored not in served else states[-1]]
node = lambda left, right: hashlib.sha256(b"\1" + left + right).digest()  # Merkle trees: RFC 9162, section 2.1.
key_id = lambda name, kind, key: hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]
def root_of(hashes):  # An odd last hash moves up a level.
    if len(hashes) < 2: return hashes[0] if hashes else hashlib.sha256().digest()
    return root_of([node(*hashes[i : i + 2]) for i in range(0, len(hashes) - 1, 2)] + hashes[len(hashes) & ~1 :])
def climb(index, last, old, new, proof):  # The roots of the earlier tree and of the later one.
    for other in proof:
        old, new = (node(other, old), node(other, new)) if index & 1 or index == last else (old, node(new, other))
        while index == last and index and not index & 1: index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    return need(last == 0, "a proof is too short") or (old, new)
def is_consistent(final, latest, proof):
    if not (final and final[1]): return proof is None and bool(latest or not final)
    (_, size1, root1, _), (_, size2, root2, _), proof = final, latest, list(map(unbase64, proof))
    path, index, last = proof if size1 & (size1 - 1) else [root1] + proof, size1 - 1, size2 - 1
    while index & 1: index, last = index >> 1, last >> 1
    return (climb(index, last, *path[:1] * 2, path[1:]) if size1 < size2 or proof else (root2, root1)) == (root1, root2)
def open_checkpoint(note, origin):  # C2SP. Text, size, root and signatures as (name, key id and signature).
    text, _, lines = note.rpartition("\n\n")
    (name, size, root), parts = text.split("\n"), [line.split(" ") for line in lines[:-1].split("\n")]
    is_note = name == origin and str(int(size)) == size and lines.endswith("\n") and {p[0] for p in parts} == {"\u2014"}
    need(is_note, "not a checkpoint of " + origin)
    return text + "\n", int(size), unbase64(root), [(name, unbase64(code)) for _, name, code in parts]
def lines_of(text, signatures, name, kind, key):  # Whether each line of a key verifies. Cosignatures begin with a time.
    time = lambda line: b"cosignature/v1\ntime %d\n" % int.from_bytes(line[4:12], "big") if kind == 4 else b""
    lines = [line for signer, line in signatures if (signer, line[:4]) == (name, key_id(name, kind, key))]
    return [is_signature(key, time(line) + text.encode(), line[12 if kind == 4 else 4 :]) for line in lines]
def next_roster(members, version, threshold, prev, text, consortium):  # Signed lists of an older kind.
    payload, roster, signers, _ = open_envelope(text, "roster")
    need((roster["consortium"], roster["rosterVersion"], roster["prev"]) == (consortium, version + 1, prev), "a roster")
    after = {one["peerId"]: one for one in roster["members"]}
    same = [after.get(peer, {}).get("institution") == one["institution"] for peer, one in members.items()]
    need(all(same) and len(after) == len(roster["members"]), "a roster drops, renames or repeats a member")
    founders = [peer for peer, one in members.items() if one["role"] == "founder" and "revoked" not in one]
    need(len(set(signers) & set(founders)) >= threshold, "too few founders have signed roster %d" % (version + 1))
    return after, version + 1, roster["threshold"], digest(payload)
def apply(members, rules, value, vote_of):  # A leave, or a change that enough members support.
    change = value.get("change", {"kind": "revoke", "seat": value["publisher"]})
    seat, active = change.get("seat"), [peer for peer, one in members.items() if "revoked" not in one]
    (word, group), founders = rules[change["kind"]].split(" "), [p for p in active if members[p]["role"] == "founder"]
    is_few = len({*founders} - {seat}) < (least := 1 if word == "1" or len(active) < 3 else 2) and group == "founders"
    word, group = ("majority" if is_few else word), (founders if group == "founders" and not is_few else active)
    count = {"all": len(group), "majority": len(group) // 2 + 1}.get(word) or int(word)
    voters = [peer for peer in group if peer != seat]
    needed = max(min(count, len(voters)), least) if "change" in value else 0
    need(vote_of(value["publisher"]) and sum(vote_of(p) == "endorse" for p in voters) >= needed, "too few votes")
    more = {"admit": dict(change, role="member"), "revoke": {"revoked": True}, "rotate": change}.get(change["kind"])
    if more: members[seat or change["peerId"]] = dict(members.get(seat, {}), **more)
    return change.get("rules", rules)
def verify(data, expected=None):
    *lines, end, rest = data.split(b"\n")
    end, claims, known, votes, ends, logs, witnesses, result = canonical(end), [], {}, {}, {}, {}, {}, []
    def claimed(text, kind):  # The value of an envelope whose signer is checked once the keys of its seat are known.
        _, value, *signed = open_envelope(text, kind)
        return claims.append((value["publisher"], value.get("seq", -1), *signed, value["issuedAt"])) or value
    seal = claimed(end["envelope"], "audit-bundle")
    consortium, exporter, records = seal["consortium"], seal["publisher"], [canonical(line) for line in lines]
    head = dict(type="bundle", version=1, consortium=consortium, exporter=exporter, exportedAt=seal["issuedAt"])
    stated = head, seal["digest"], seal["records"], b"", {"type": "end", "envelope": end["envelope"]}
    found = records.pop(0), digest(b"\n".join(lines) + b"\n"), len(lines), rest, end
    need(found == stated, "the file is cut, or a line is not sealed")
    all_of = lambda kind: iter(lambda: records.pop(0) if records and records[0]["type"] == kind else None, None)
    origin_of = lambda peer: "flexmesh/%s/%s" % (consortium[7:], peer)
    payload, charter, signers, kind = open_envelope(next(all_of("charter"))["envelope"])
    members, state = {one["peerId"]: one for one in charter["founders"]}, (1, charter.get("threshold", 1), consortium)
    found = digest(payload), sorted(signers), expected or consortium, kind
    need(found == (consortium, sorted(members), consortium, "charter"), "the charter of %s, or not signed" % found[0])
    of_old = dict.fromkeys("admit revoke rotate rules renew withdraw".split(), "%d founders" % state[1])
    for one in all_of("roster"): members, *state = next_roster(members, *state, one["envelope"], consortium)
    applied, rules = [one["statement"] for one in all_of("applied")], charter.get("rules", of_old)
    for record in all_of("witness-key"):
        value = claimed(record["envelope"], "witness-key")
        name, key = origin_of(value["publisher"]) + "/witness", unbase64(value["key"].split("+", 2)[2])
        need(value["consortium"] == consortium and value["publisher"] not in witnesses, "a witness key")
        need(value["key"].startswith(name + "+" + key_id(name, 4, key[1:]).hex()) and key[:1] == b"\4", "a witness key")
        witnesses[value["publisher"]] = name, 4, key[1:]
    for log in all_of("log"):
        peer, digests, leaves, named = log["publisher"], [], [], []
        latest, final = [n in log and open_checkpoint(log[n], origin_of(peer)) for n in ("checkpoint", "final")]
        need(peer not in logs and (not latest or len(latest[3]) == 1), "a log twice, or a line that counts for nothing")
        for record in [next(all_of("statement")) for _ in range(log["statements"])]:
            payload, value, signers, kind = open_envelope(record["envelope"])
            place = consortium, peer, len(digests) + 1, (digests or [NONE])[-1]
            need(place == tuple(value[n] for n in ("consortium", "publisher", "seq", "prev")), "a log that forks")
            digests, leaves = digests + [digest(payload)], leaves + [hashlib.sha256(b"\0" + payload).digest()]
            known[digests[-1]] = kind, value, signers
            voted, version = value["proposal"] if "answer" in value else digests[-1], value.get("rosterVersion", 0)
            votes.setdefault((voted, peer), []).append((value["seq"], value.get("answer", "endorse")))
            named.append(version if SCOPES.get(kind) == "governance" else 0)
            first = value["validThroughSeq"] if kind == "keys" and version else len(digests)
            for seq in range(first + 1, len(digests)): ends.setdefault((peer, seq), max(version, *named[:first], 0))
            is_in, place = latest and len(leaves) <= latest[1], [len(leaves) - 1, latest and latest[1] - 1]
            is_proved = is_in and climb(*place, *leaves[-1:] * 2, map(unbase64, record["proof"]))[1] == latest[2]
            need(is_proved if is_in else "proof" not in record, "a proof")
        logs[peer] = digests, latest, final
        for _, size, root, _ in filter(None, (latest, final)):
            need(size <= len(leaves) and root_of(leaves[:size]) == root, "statements of %s are missing" % peer)
        need(is_consistent(final, latest, log.get("consistency")), "the checkpoints of %s are not consistent" % peer)
    for version, one in enumerate(applied, state[0]):
        vote_of = lambda p: next((v for n, v in votes.get((one, p), []) if ends.get((p, n), version + 1) > version), "")
        rules = apply(members, rules, known[one][1], vote_of)
    need(list(logs) == list(members), "the logs are not those of the members")
    active = [peer for peer in members if "revoked" not in members[peer]]
    states = {peer: key_states(peer, members[peer], [known[one] for one in logs[peer][0]]) for peer in members}
    for peer, (digests, latest, final) in logs.items():
        name, notes = members[peer]["institution"], [note for note in (latest, final) if note]
        keys = [(note, states[peer][note[1]]) for note in notes]
        signed = [valid for note, (key, _, node) in keys for one in {key, node.get("key", key)}
                  for valid in lines_of(*note[::3], origin_of(peer), 1, key_of(one))]
        others = [one for one in active if final and one != peer and one in witnesses]
        cosigned = [one for one in others if any(lines_of(*final[::3], *witnesses[one]))]
        is_whole = all(signed) and len(signed) == len(notes) == sum(len(note[3]) for note in notes) - len(cosigned)
        need(is_whole, "a checkpoint of %s by a key without its seat, or with a line that counts for nothing" % name)
        needed = min(len(active) - 1, (len(active) + 1) // 2) if peer in active else 0
        need(len(cosigned) >= needed and (final or peer not in active), "%s is not cosigned by the quorum" % name)
        facts = len(digests), final[1] if final else 0, ", ".join(members[one]["institution"] for one in cosigned)
        result.append(name + ": %d statements, %d final, cosigned by %s" % facts)
    heads = [claimed(record["envelope"], "head") for record in all_of("head")]
    for names in ([value["publisher"] for value in heads], list(witnesses)):
        need(names == [peer for peer in members if peer in names], "a head or a witness key out of its order")
    for value in heads:
        held = [NONE, *logs[value["publisher"]][0]][value["seq"]]
        need((consortium, held) == (value["consortium"], value["last"]), "a head names a statement that is missing")
    for seat, index, *claim in claims: check_signer(*states[seat][index], *claim, seat)
    [json.loads(record["verdict"]) for record in all_of("verdict")]
    need(not records, "a record out of its order")
    return [charter["name"], consortium, "exported by " + members[exporter]["institution"]] + result
if __name__ == "__main__":
    try: print("\n".join(verify(open(sys.argv[1], "rb").read(), *sys.argv[2:3])))
    except ERRORS as error: sys.exit("refused: %s" % (error if isinstance(error, Refused) else "malformed, %r" % error))
