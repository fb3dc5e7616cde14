/**
 * Verifies the proof that a publisher has forked. Implements protocols/package-exchange, section "Forks". Knows nothing
 * about logs and rosters.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { SignerCheck } from '../identity/statement.ts'
import type { Digest } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import type { Fork, ForkEnvelopes } from '../statements/fork.ts'
import { openStatementOfAnyKind } from './open-statement.ts'

/** What one signed envelope states about its publisher's log. */
interface Claims {
  readonly publisher: PeerIdString
  readonly consortium: Digest
  /** Digest of the statement in each place that the envelope names. */
  readonly places: ReadonlyMap<number, Digest>
}

/**
 * @param check whether a signer may sign for the publisher; default: only the publisher's own key may
 * @throws FormatError, VerificationError of an envelope that cannot be opened; `wrong-type` for an envelope that belongs
 * to no log; `wrong-consortium`; `replayed` if the two envelopes do not contradict each other.
 */
export function openForkProof(envelopes: ForkEnvelopes, consortium: Digest, check?: SignerCheck): Fork {
  const [first, second] = envelopes.map((envelope) => claimsOf(envelope, check)) as [Claims, Claims]
  for (const claims of [first, second]) {
    if (claims.consortium !== consortium) {
      throw new VerificationError('wrong-consortium', `fork: made for consortium ${claims.consortium}`)
    }
  }
  const isFork =
    first.publisher === second.publisher &&
    [...first.places].some(([seq, digest]) => (second.places.get(seq) ?? digest) !== digest)
  if (!isFork) throw new VerificationError('replayed', 'fork: the two statements fit into one log')
  return { publisher: first.publisher, envelopes }
}

function claimsOf(envelope: Uint8Array, check: SignerCheck | undefined): Claims {
  const statement = openStatementOfAnyKind(envelope, check)
  switch (statement.kind) {
    case 'manifest':
      return linkClaims(statement.manifest, statement.id)
    case 'withdrawal':
      return linkClaims(statement.withdrawal, statement.id)
    case 'chained':
      return linkClaims(statement.statement.value, statement.statement.id)
    case 'head': {
      const { publisher, consortium, seq, last } = statement.head
      return { publisher, consortium, places: new Map(seq === 0 ? [] : [[seq, last]]) }
    }
    case 'roster':
      throw new VerificationError('wrong-type', 'fork: a roster belongs to no log')
  }
}

function linkClaims(
  link: { publisher: PeerIdString; consortium: Digest; seq: number; prev: Digest },
  id: Digest,
): Claims {
  const { publisher, consortium, seq, prev } = link
  const places = new Map([[seq, id]])
  if (seq > 1) places.set(seq - 1, prev)
  return { publisher, consortium, places }
}
