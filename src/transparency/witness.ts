/**
 * A node as witness of the logs of other members: cosigns their checkpoints by the rules of witness-rules.ts, and keeps
 * on disk what it cosigned last. Implements protocols/transparency-log, section "Witnesses". Does not know networks.
 */
import type { Membership } from '../consortium/membership.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { equalBytes, fromBase64, fromUtf8, toBase64, utf8 } from '../lib/bytes.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { type Checkpoint, cosignerName, originOf } from './checkpoint.ts'
import { cosign } from './cosignature.ts'
import { logKeysOf } from './log-key.ts'
import type { LogTrees } from './log-trees.ts'
import { EMPTY_ROOT } from './merkle.ts'
import { encodeSignatureLine, type VerifierKey } from './note.ts'
import {
  decideCheckpoint,
  STATUS,
  type WitnessDecision,
  type Witnessed,
  type WitnessStatus,
} from './witness-rules.ts'

export interface WitnessInit {
  /** The witness key of this node. */
  readonly witness: Identity
  readonly catalogue: Catalogue
  readonly membership: Membership
  readonly trees: LogTrees
  /**
   * Whether this node may cosign: not in a home that was restored and has not caught up, nor with a witness key that its
   * seat has not stated.
   */
  readonly maySign: () => boolean
  /** Unix seconds. */
  readonly now: () => number
}

/** As tlog-witness answers over HTTP. */
export interface WitnessAnswer {
  readonly status: WitnessStatus
  /** Signature lines for 200, the size for 409, a reason for people otherwise. */
  readonly body: string
}

export class Witness {
  readonly #init: WitnessInit
  readonly #serial = new Serial()

  constructor(init: WitnessInit) {
    this.#init = init
  }

  /**
   * Answer an add-checkpoint request. The record is on disk before the cosignature leaves, and no other request is
   * decided in between.
   */
  answer(body: Uint8Array): Promise<WitnessAnswer> {
    return this.#serial.run(() => this.#answer(body))
  }

  async #answer(body: Uint8Array): Promise<WitnessAnswer> {
    const { witness, membership, maySign, now } = this.#init
    let publisher: PeerIdString | undefined
    const decision = await decideCheckpoint(body, async ({ origin, size }) => {
      publisher = this.#publisherOf(origin)
      if (publisher === undefined) return undefined
      return { keys: this.#keysOf(publisher, size), last: await this.last(publisher) }
    })
    if (decision.status !== STATUS.cosigned || publisher === undefined) return refusal(decision)
    const { checkpoint, note } = decision
    if (!(await this.#fitsOwnCopy(publisher, checkpoint))) {
      return { status: STATUS.inconsistent, body: 'not the log of which this node holds the statements\n' }
    }
    if (!maySign()) return { status: STATUS.forbidden, body: 'this node may not cosign now\n' }
    await this.#record(publisher, checkpoint)
    const line = cosign(cosignerName(membership.consortium, membership.seat), witness, note.text, now())
    return { status: STATUS.cosigned, body: encodeSignatureLine(line) }
  }

  /** The member whose log has this origin. A node does not witness its own log. */
  #publisherOf(origin: string): PeerIdString | undefined {
    const { membership } = this.#init
    const { seat } = membership
    return membership
      .roster()
      .members.find(
        ({ peerId, revoked }) =>
          revoked === undefined && peerId !== seat && originOf(membership.consortium, peerId) === origin,
      )?.peerId
  }

  /**
   * The keys that may sign a checkpoint of a log, as far as this node holds the log. A node key that has ended signs
   * nothing new, nor does an older key of a seat that the members have restored.
   */
  #keysOf(publisher: PeerIdString, size: number): VerifierKey[] {
    const { membership, now } = this.#init
    const { consortium, keys } = membership
    const history = keys.historyOf(publisher)
    if (history.unstated() !== undefined) return []
    return logKeysOf({ consortium, publisher, history, size }, now())
  }

  /** Members hold the logs of each other, so a witness also compares with the statements that it has. */
  async #fitsOwnCopy(publisher: PeerIdString, { size, root }: Checkpoint): Promise<boolean> {
    const { trees } = this.#init
    return (await trees.extend(publisher)) < size || equalBytes(await trees.root(publisher, size), root)
  }

  /** What this node cosigned last of a log. */
  async last(publisher: PeerIdString): Promise<Witnessed> {
    const stored = await this.#init.catalogue.get('witnessed', publisher)
    if (stored === undefined) return { size: 0, root: EMPTY_ROOT }
    const [size = '', root = ''] = fromUtf8(stored).split(' ')
    return { size: Number(size), root: fromBase64(root) }
  }

  /**
   * A checkpoint with a cosignature of this node has come back. If it is later than the record, the home was set back to
   * an earlier state; the record must not stay behind, or this node would cosign a history that contradicts it.
   */
  learn(publisher: PeerIdString, checkpoint: Checkpoint): Promise<void> {
    return this.#serial.run(async () => {
      if (checkpoint.size > (await this.last(publisher)).size) await this.#record(publisher, checkpoint)
    })
  }

  #record(publisher: PeerIdString, { size, root }: Checkpoint): Promise<void> {
    return this.#init.catalogue.put('witnessed', publisher, utf8(`${size} ${toBase64(root)}`))
  }
}

function refusal(decision: WitnessDecision): WitnessAnswer {
  switch (decision.status) {
    case STATUS.conflict:
      return { status: decision.status, body: `${decision.size}\n` }
    case STATUS.cosigned:
      return { status: STATUS.unknownLog, body: 'no such log\n' }
    default:
      return { status: decision.status, body: `${decision.reason}\n` }
  }
}
