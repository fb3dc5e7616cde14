/**
 * Co-signed logs: signs the checkpoints of this node's log, collects cosignatures for them, takes in the checkpoints of
 * other members, and decides which statements are final. Implements protocols/transparency-log, sections "Checkpoints"
 * and "Finality". Does not know networks.
 */
import type { Membership } from '../consortium/membership.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { equalBytes } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import { type Checkpoint, decodeCheckpoint, encodeCheckpoint, originOf } from './checkpoint.ts'
import type { CheckpointNews, CheckpointNotes, CosignedCheckpoint } from './checkpoint-notes.ts'
import { isSignedByAny, logKeyOf } from './log-key.ts'
import type { LogTrees } from './log-trees.ts'
import { decodeNote, decodeSignatureLine, linesOf, type SignedNote, signText } from './note.ts'
import { cosignaturesNeeded, cosignersOf } from './quorum.ts'
import type { Witness } from './witness.ts'
import { encodeAddCheckpoint } from './witness-rules.ts'

export interface CosignedLogsInit {
  readonly identity: Identity
  readonly membership: Membership
  readonly notes: CheckpointNotes
  readonly trees: LogTrees
  readonly witness: Witness
  readonly now: () => number
  /** Whether this node may sign: not in a home that was restored and has not caught up. */
  readonly maySign: () => boolean
  /** A log has a larger final checkpoint. */
  readonly onFinal: (publisher: PeerIdString, size: number) => void
  /** A publisher has signed a checkpoint that contradicts another one or its statements; called once. */
  readonly onContradiction: (publisher: PeerIdString) => void
}

/** What this node knows of one log. */
export interface LogState {
  readonly publisher: PeerIdString
  /** Number of statements that this node holds. */
  readonly statements: number
  readonly latest: CosignedCheckpoint | undefined
  /** The latest checkpoint that had the quorum and whose statements this node holds. */
  readonly final: CosignedCheckpoint | undefined
  /** A checkpoint that its publisher signed and that contradicts another one or its statements. */
  readonly contradiction: SignedNote | undefined
}

export class CosignedLogs {
  readonly notes: CheckpointNotes
  readonly trees: LogTrees
  readonly #init: CosignedLogsInit
  readonly #changing = new Serial()

  constructor(init: CosignedLogsInit) {
    this.#init = init
    this.notes = init.notes
    this.trees = init.trees
  }

  /** Sign a checkpoint of this node's own log if it has grown since the last one. @throws InputError `disk-full`, `io`. */
  sign(): Promise<void> {
    return this.#changing.run(async () => {
      const { identity, membership, trees, maySign, now } = this.#init
      const { seat } = membership
      if (!maySign() || !membership.isMember(seat)) return
      await this.notes.stateWitnessKey(identity, now())
      const history = membership.keys.historyOf(seat)
      if (!history.allowsNow({ signer: identity.peerId, issuedAt: now(), scope: 'any' })) return
      const size = await trees.extend(seat)
      // The signed one is larger if the home was set back; this node must not contradict it.
      if (size <= (this.#latest(seat)?.checkpoint.size ?? -1)) return
      const origin = originOf(membership.consortium, seat)
      const text = encodeCheckpoint({ origin, size, root: await trees.root(seat, size) })
      await this.notes.put(seat, 'latest', { text, signatures: [signText(origin, identity, text)] })
      await this.#finalize(seat)
    })
  }

  /**
   * The request with which a member is asked to cosign this node's latest checkpoint.
   * @param member its seat @param oldSize size of the checkpoint that it cosigned last
   * @returns undefined if it has cosigned it, has cosigned a larger one, or its witness key is not known.
   */
  async requestFor(member: PeerIdString, oldSize: number): Promise<Uint8Array | undefined> {
    const { trees, membership } = this.#init
    const { seat } = membership
    const latest = this.#latest(seat)
    if (latest === undefined || this.notes.witnessKey(member) === undefined) return undefined
    const { size } = latest.checkpoint
    if (oldSize > size || latest.cosigners.some(({ peerId }) => peerId === member)) return undefined
    const own = this.notes.logLine(seat, latest.note)
    if (own === undefined) return undefined
    const proof = await trees.consistency(seat, oldSize, size)
    return encodeAddCheckpoint({ oldSize, proof, note: { text: latest.note.text, signatures: [own] } })
  }

  /**
   * Add the lines with which a member has answered such a request.
   * @param member its seat
   * @throws FormatError; VerificationError `bad-signature`.
   */
  addCosignature(member: PeerIdString, lines: string): Promise<void> {
    return this.#changing.run(async () => {
      const { seat } = this.#init.membership
      const latest = this.#latest(seat)
      const key = this.notes.witnessKey(member)
      if (latest === undefined || key === undefined) return
      const signatures = linesOf(lines.split('\n').filter(Boolean).map(decodeSignatureLine), key)
      const added = { text: latest.note.text, signatures }
      if (cosignersOf(added, [{ peerId: member, key }]).length === 0) {
        throw new VerificationError('bad-signature', `the cosignature of ${member} does not verify`)
      }
      await this.notes.put(seat, 'latest', this.notes.merged(latest.note, added, seat))
      await this.#finalize(seat)
    })
  }

  /**
   * Take in what another member tells about a log.
   * @throws FormatError, VerificationError for what an honest member cannot have sent.
   */
  onNews({ publisher, witnessKey, note }: CheckpointNews): Promise<void> {
    return this.#changing.run(async () => {
      // The other side may hold a later roster.
      if (!this.#init.membership.isMember(publisher)) return
      if (witnessKey !== undefined) await this.notes.putWitnessKey(publisher, witnessKey)
      if (note !== undefined) await this.#onNote(publisher, decodeNote(note))
    })
  }

  async #onNote(publisher: PeerIdString, note: SignedNote): Promise<void> {
    const { membership, witness, trees } = this.#init
    const checkpoint = decodeCheckpoint(note.text)
    if (checkpoint.origin !== originOf(membership.consortium, publisher)) {
      throw new VerificationError(
        'wrong-signer',
        `checkpoint: expected ${publisher}, got ${checkpoint.origin}`,
      )
    }
    if (checkpoint.size > limit('statementsPerPublisher')) {
      throw new FormatError('bad-field', `checkpoint: no log has ${checkpoint.size} statements`)
    }
    const held = await trees.extend(publisher)
    if (this.notes.logLine(publisher, note) === undefined) {
      const history = membership.keys.historyOf(publisher)
      const served = history.keys().map((key) => logKeyOf(membership.consortium, publisher, key))
      // Whoever sends it may hold less of the log, so that it does not know of the new key, or more of it.
      if (held < checkpoint.size || isSignedByAny(note, served)) return
      throw new VerificationError('unsigned', `checkpoint: ${publisher} has not signed`)
    }
    // Once the members have restored the seat, an older key signs nothing new.
    if (held < checkpoint.size && membership.keys.historyOf(publisher).unstated() !== undefined) return
    if (!this.#mayContradict(publisher, note) && !(await this.#fits(publisher, checkpoint, held))) return
    const cosigners = this.notes.cosigners(publisher, note)
    if (cosigners.some(({ peerId }) => peerId === membership.seat)) await witness.learn(publisher, checkpoint)
    const latest = this.#latest(publisher)
    const isSameSize = latest?.checkpoint.size === checkpoint.size
    if (isSameSize && latest.note.text !== note.text) return this.#contradicts(publisher, note)
    if (checkpoint.size < (latest?.checkpoint.size ?? 0)) return
    const before = isSameSize ? latest.note : { text: note.text, signatures: [] }
    await this.notes.put(publisher, 'latest', this.notes.merged(before, note, publisher))
    return this.#finalize(publisher)
  }

  /** Look again at checkpoints that are not final: statements may have arrived. @throws InputError `disk-full`, `io`. */
  async settle(): Promise<void> {
    for (const publisher of this.notes.members()) await this.#changing.run(() => this.#finalize(publisher))
  }

  /** Keep the latest checkpoint as final if it has the quorum and the root of the statements that this node holds. */
  async #finalize(publisher: PeerIdString): Promise<void> {
    const { trees, onFinal } = this.#init
    const latest = this.#latest(publisher)
    if (latest === undefined || this.isContradicted(publisher)) return
    const { size } = latest.checkpoint
    const before = this.notes.get(publisher, 'final')
    const isKnown = before?.text === latest.note.text
    const counted = this.notes.cosigned(publisher, 'final')?.cosigners.length ?? 0
    // Further cosignatures are kept, too: a larger roster may need them, or a witness key was replaced.
    if (isKnown && counted >= latest.cosigners.length) return
    const held = await trees.extend(publisher)
    if (held < size) return
    if (!(await this.#fits(publisher, latest.checkpoint, held))) {
      return this.#mayContradict(publisher, latest.note)
        ? this.#contradicts(publisher, latest.note)
        : this.notes.remove(publisher, 'latest')
    }
    if (latest.cosigners.length < this.needed()) return
    await this.notes.put(publisher, 'final', latest.note)
    if (!isKnown) onFinal(publisher, size)
  }

  /** Whether a checkpoint has the root of the statements that this node holds, as far as it holds them. */
  async #fits(publisher: PeerIdString, { size, root }: Checkpoint, held: number): Promise<boolean> {
    return held < size || equalBytes(await this.#init.trees.root(publisher, size), root)
  }

  /** Whether a key has signed a note that rules the seat now. A key that was replaced may be in the hands of a thief. */
  #mayContradict(publisher: PeerIdString, note: SignedNote): boolean {
    const { consortium, keys } = this.#init.membership
    const history = keys.historyOf(publisher)
    const ruling = history.keys().filter((key) => history.mayContradict(key))
    return isSignedByAny(
      note,
      ruling.map((key) => logKeyOf(consortium, publisher, key)),
    )
  }

  async #contradicts(publisher: PeerIdString, note: SignedNote): Promise<void> {
    if (this.isContradicted(publisher)) return
    await this.notes.put(publisher, 'contradiction', note)
    this.#init.onContradiction(publisher)
  }

  /** Whether a publisher has signed a checkpoint that contradicts another one or its statements. */
  isContradicted(publisher: PeerIdString): boolean {
    return this.notes.get(publisher, 'contradiction') !== undefined
  }

  /** Number of statements of a log that are final. They stay final when the roster changes. */
  finalSize(publisher: PeerIdString): number {
    const note = this.notes.get(publisher, 'final')
    return note === undefined ? 0 : decodeCheckpoint(note.text).size
  }

  /** Number of cosignatures that make a checkpoint final. */
  needed(): number {
    return cosignaturesNeeded(this.notes.members().length)
  }

  /** What this node knows of the log of each member, also of those that were revoked. */
  async states(): Promise<LogState[]> {
    const states: LogState[] = []
    for (const { peerId: publisher } of this.#init.membership.roster().members) {
      states.push({
        publisher,
        statements: await this.#init.trees.extend(publisher),
        latest: this.#latest(publisher),
        final: this.notes.cosigned(publisher, 'final'),
        contradiction: this.notes.get(publisher, 'contradiction'),
      })
    }
    return states
  }

  #latest(publisher: PeerIdString): CosignedCheckpoint | undefined {
    return this.notes.cosigned(publisher, 'latest')
  }
}
