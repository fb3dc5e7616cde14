/**
 * Lets other members cosign this node's log: some time after a statement, it signs a checkpoint and asks every connected
 * member that has not cosigned it. Several statements share a checkpoint. Does not know the rules of witnesses.
 */

import type { Membership } from '../consortium/membership.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { announce } from '../pipeline/own-log.ts'
import type { Parts, PipelineEvent } from '../pipeline/parts.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { Log } from '../telemetry/log.ts'
import type { CheckpointNotes } from '../transparency/checkpoint-notes.ts'
import { CosignedLogs } from '../transparency/cosigned-logs.ts'
import { LogTrees } from '../transparency/log-trees.ts'
import { Witness } from '../transparency/witness.ts'
import { deriveWitness } from '../transparency/witness-key.ts'

/** Time from a request to the checkpoint: statements that follow each other closely share one, ms. */
const BATCH_MS = 500
/** Number of such times that it waits while statements of others are on their way, which come first. */
const MAX_WAITS = 20

interface CosignedLogsParts {
  readonly identity: Identity
  readonly catalogue: Catalogue
  readonly membership: Membership
  readonly notes: CheckpointNotes
  /**
   * Whether this node may sign: not in a home that was set back and has not caught up, nor while it acts with the
   * institution key for a moment, because the witness key is derived from the key of the node.
   */
  readonly maySign: () => boolean
  readonly now: () => number
  readonly onEvent: (event: PipelineEvent) => void
  /** Statements of a log have become final. */
  readonly onFinal: (publisher: PeerIdString) => void
}

/** The parts of a node that sign, cosign and keep checkpoints. */
export function cosignedLogs(parts: CosignedLogsParts): Pick<Parts, 'logs' | 'witness'> {
  const { identity, catalogue, membership, notes, maySign, now, onEvent, onFinal } = parts
  const trees = new LogTrees(catalogue)
  const witness = new Witness({
    witness: deriveWitness(identity, membership.consortium),
    catalogue,
    membership,
    trees,
    maySign: () => maySign() && notes.isStated(identity),
    now,
  })
  const logs = new CosignedLogs({
    identity,
    membership,
    notes,
    trees,
    witness,
    maySign,
    now,
    onFinal: (publisher, size) => {
      if (size > 0) onEvent({ event: 'final', institution: membership.institutionOf(publisher), size })
      onFinal(publisher)
    },
    onContradiction: (publisher) => {
      const institution = membership.institutionOf(publisher)
      onEvent({ event: 'contradiction', institution, peerId: publisher })
    },
  })
  return { logs, witness }
}

interface CosigningInit {
  readonly parts: Parts
  readonly exchange: Exchange
  readonly log: Log
}

export class Cosigning {
  readonly #init: CosigningInit
  /** Size of the checkpoint that each member cosigned last, as far as it has told. */
  readonly #cosigned = new Map<PeerIdString, number>()
  #timer: ReturnType<typeof setTimeout> | undefined
  #waits = 0
  #round: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(init: CosigningInit) {
    this.#init = init
  }

  /** Ask for cosignatures soon. */
  request(): void {
    if (this.#isStopped || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#init.exchange.isCatchingUp && this.#waits++ < MAX_WAITS) {
        this.request()
        return
      }
      this.#waits = 0
      this.#round = this.#round.then(() => this.#askAll())
    }, BATCH_MS)
    this.#timer.unref()
  }

  /** Tell other members that there are new cosignatures: they ask for them when this node announces its head. */
  spread(): void {
    if (this.#isStopped) return
    const { parts, log } = this.#init
    announce(parts).catch((error: unknown) => log.warn('a final checkpoint was not announced', error))
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  /** Resolves when nothing is asked any more. */
  settled(): Promise<void> {
    return this.#round
  }

  /** Never rejects. */
  async #askAll(): Promise<void> {
    const { parts, exchange, log } = this.#init
    try {
      await parts.logs.sign()
      await Promise.all(exchange.connectedMembers().map((peer) => this.#ask(peer)))
    } catch (error) {
      log.warn('a checkpoint of this log was not signed', error)
    }
  }

  /** Never rejects: a member that does not answer is asked again after its next sync. */
  async #ask(peer: PeerIdString): Promise<void> {
    const { parts, exchange, log } = this.#init
    const { logs, membership } = parts
    const member = membership.seatOfMember(peer)
    if (member === undefined) return
    try {
      let size = this.#cosigned.get(peer) ?? 0
      const requestFor = (oldSize: number): Promise<Uint8Array | undefined> => {
        size = oldSize
        return logs.requestFor(member, oldSize)
      }
      const lines = await exchange.askCosignature(peer, requestFor, size)
      if (lines !== undefined) await logs.addCosignature(member, lines)
      const own = logs.notes.cosigned(membership.seat, 'latest')?.checkpoint.size ?? 0
      this.#cosigned.set(peer, lines === undefined ? size : own)
      if (size > own) {
        log.warn(
          `${peer} has cosigned ${size} statements of this node, which holds ${own}: its home was set back`,
        )
      }
    } catch (error) {
      if (!this.#isStopped) log.debug(`${peer} has not cosigned the log of this node`, error)
    }
  }
}
