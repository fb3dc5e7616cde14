/** Egress ledgers on disk without a node. */
import { createIdentity } from '../../src/identity/keys.ts'
import { sha256, utf8 } from '../../src/lib/bytes.ts'
import { egressSigner } from '../../src/node/egress.ts'
import { EgressBook } from '../../src/store/egress-book.ts'
import type { ChainReport, EgressAnchor } from '../../src/store/egress-chain.ts'
import { checkChain } from '../../src/store/egress-chain.ts'
import { EgressLedger } from '../../src/store/egress-ledger.ts'

export const DAY = 86_400
/** Noon of a day in 2026, Unix seconds. */
export const NOON = 20_600 * DAY + DAY / 2

export const owner = createIdentity(new Uint8Array(32).fill(21))

/** Everything of a ledger that is not in its folder. */
export interface Surroundings {
  readonly dir: string
  readonly clock: { now: number }
  /** As the catalogue of the node keeps it. */
  anchor: EgressAnchor | undefined
}

export function openLedger(around: Surroundings, segmentBytes?: number): Promise<EgressLedger> {
  return EgressLedger.open({
    dir: around.dir,
    signer: egressSigner(owner),
    now: () => around.clock.now,
    anchor: {
      get: async () => around.anchor,
      set: async (anchor) => {
        around.anchor = anchor
      },
    },
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
  })
}

export function bookOf(ledger: EgressLedger, around: Surroundings): EgressBook {
  return new EgressBook({
    journal: ledger,
    now: () => around.clock.now,
    onFailure: (error) => {
      throw error
    },
  })
}

const signer = egressSigner(owner)
/** Payloads of envelopes whose signature was verified: checking a signature takes longer than reading a ledger. */
const verified = new Map<string, Uint8Array>()

export function check(around: Surroundings): Promise<ChainReport> {
  const { dir, anchor } = around
  return checkChain({
    dir,
    signer: {
      open: (kind, envelope) => {
        const key = `${kind} ${Buffer.from(envelope).toString('hex')}`
        const payload = verified.get(key) ?? signer.open(kind, envelope)
        verified.set(key, payload)
        return payload
      },
    },
    anchors: anchor === undefined ? [] : [{ ...anchor, source: 'the anchor' }],
  })
}

/** The SHA-256 of a text. */
export const hashOf = (text: string): Uint8Array => sha256(utf8(text))
