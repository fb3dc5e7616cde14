/**
 * The proofs against publishers that have forked, on disk. One for each is enough. Implements protocols/expert-package,
 * section "Chain". Does not verify signatures, and does not know what follows from a fork.
 */
import type { Membership } from '../consortium/membership.ts'
import { readEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type ChainLink, readChainLink } from '../identity/statement.ts'
import { digestOf } from '../lib/bytes.ts'
import { decodeCanonical } from '../lib/canonical-json.ts'
import { decodeCbor } from '../lib/cbor.ts'
import { FlexMeshError, VerificationError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { decodeForkFrame, encodeFork, type Fork, type ForkEnvelopes } from './fork.ts'
import { decodeHead } from './head.ts'

export interface ForksInit {
  readonly catalogue: Catalogue
  readonly membership: Membership
}

export class Forks {
  readonly #init: ForksInit
  readonly #kept = new Map<PeerIdString, ForkEnvelopes | undefined>()

  constructor(init: ForksInit) {
    this.#init = init
  }

  /** The proof against each publisher; undefined if an earlier version kept only one half of it. */
  get kept(): ReadonlyMap<PeerIdString, ForkEnvelopes | undefined> {
    return this.#kept
  }

  /** Read the stored proofs. */
  async load(): Promise<void> {
    for (const [publisher, bytes] of await this.#init.catalogue.entries('forks')) {
      this.#kept.set(publisher, readFork(bytes) ?? (await this.#completeFork(publisher, bytes)))
    }
  }

  /** The proof to which an earlier version kept only the statement that contradicts the log. */
  async #completeFork(publisher: PeerIdString, envelope: Uint8Array): Promise<ForkEnvelopes | undefined> {
    const { catalogue } = this.#init
    const link = linkOf(envelope)
    if (link === undefined) return undefined
    const held = await catalogue.statementAt(publisher, link.seq)
    const contradicted = held ?? (await catalogue.statementAt(publisher, link.seq - 1))
    const other = contradicted === undefined ? undefined : await catalogue.statement(contradicted)
    if (other === undefined) return undefined
    await catalogue.put('forks', publisher, encodeFork([other, envelope]))
    return [other, envelope]
  }

  /**
   * Keep a proof. Call this while nothing is appended to the logs.
   * @returns whether it is the first against this publisher.
   * @throws VerificationError `not-a-member` if no roster has ever listed the publisher; `wrong-signer` for a statement that
   * no key has signed that rules the seat.
   */
  async keep({ publisher, envelopes }: Fork): Promise<boolean> {
    if (!this.#init.membership.isListed(publisher)) {
      throw new VerificationError('not-a-member', `the roster does not list ${publisher}`)
    }
    if (this.#kept.get(publisher) !== undefined) return false
    for (const envelope of envelopes) await this.#checkContradicts(publisher, envelope)
    const isNew = !this.#kept.has(publisher)
    await this.#init.catalogue.put('forks', publisher, encodeFork(envelopes))
    this.#kept.set(publisher, envelopes)
    return isNew
  }

  /** @throws VerificationError `wrong-signer` for a statement outside the log that no ruling key of the seat has signed. */
  async #checkContradicts(publisher: PeerIdString, envelope: Uint8Array): Promise<void> {
    const { payloadType, payload, signatures } = readEnvelope(envelope)
    const named = payloadType === MEDIA_TYPES.head ? decodeHead(payload).last : digestOf(payload)
    if ((await this.#init.catalogue.statement(named)) !== undefined) return
    const history = this.#init.membership.keys.historyOf(publisher)
    if (signatures.length === 0 || signatures.some(({ key }) => history.mayContradict(key))) return
    throw new VerificationError('wrong-signer', `${publisher}: a replaced key cannot contradict its log`)
  }
}

function readFork(bytes: Uint8Array): ForkEnvelopes | undefined {
  try {
    return decodeForkFrame(decodeCbor(bytes, 3 * limit('envelopeBytes')))
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}

/** Place of a statement whose signature was verified before it was stored; undefined if it is none. */
function linkOf(envelope: Uint8Array): ChainLink | undefined {
  try {
    const value = decodeCanonical(readEnvelope(envelope).payload)
    return readChainLink(new Fields(value, 'statement'), 'statement')
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}
