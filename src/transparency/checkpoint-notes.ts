/**
 * Keeps the checkpoints and witness keys of the members on disk, and computes from them who has cosigned what and what
 * another node lacks. Decides nothing: see cosigned-logs.ts. Does not know networks.
 */
import type { Membership } from '../consortium/membership.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { equalBytes } from '../lib/bytes.ts'
import { FlexMeshError, VerificationError } from '../lib/errors.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { type Checkpoint, decodeCheckpoint } from './checkpoint.ts'
import { type CheckpointPlace, logLineOf } from './log-key.ts'
import { decodeNote, encodeNote, type NoteSignature, type SignedNote, type VerifierKey } from './note.ts'
import { type Cosigner, cosignersOf } from './quorum.ts'
import {
  deriveWitness,
  maySignWitnessKey,
  type OpenedWitnessKey,
  openWitnessKey,
  sealWitnessKey,
} from './witness-key.ts'

/** A checkpoint and the members that have cosigned it. */
export interface CosignedCheckpoint {
  readonly checkpoint: Checkpoint
  readonly note: SignedNote
  readonly cosigners: readonly Cosigner[]
}

/** What a node holds of one log, as it tells others. */
export interface KnownCheckpoint {
  readonly publisher: PeerIdString
  /** 0 without a checkpoint. */
  readonly size: number
  /** Number of cosignatures of its checkpoint. */
  readonly cosignatures: number
  /** Time of the statement about the witness key, 0 without one. */
  readonly keyIssuedAt: number
}

/** What one node tells another about a log. */
export interface CheckpointNews {
  readonly publisher: PeerIdString
  /** Envelope of the statement about the witness key. */
  readonly witnessKey?: Uint8Array
  /** The checkpoint as a signed note. */
  readonly note?: Uint8Array
}

/**
 * `latest`: the largest checkpoint. `final`: the largest that had the quorum. `contradiction`: one that does not fit
 * another one or the statements, as a proof.
 */
export type CheckpointState = 'latest' | 'final' | 'contradiction'

export class CheckpointNotes {
  readonly #catalogue: Catalogue
  readonly #membership: Membership
  /** By `keyOf`. */
  readonly #notes = new Map<string, SignedNote>()
  /** The latest statement of each seat; counts only while its signer rules the seat. */
  readonly #keys = new Map<
    PeerIdString,
    { readonly witnessKey: OpenedWitnessKey; readonly envelope: Uint8Array }
  >()
  /** Results of verifying signatures, by `keyOf`; valid for one roster and one set of keys. */
  readonly #verified = new Map<string, CosignedCheckpoint>()
  #verifiedFor = ''
  /** The witness key of this node, which takes time to derive. */
  #own: { readonly identity: Identity; readonly publicKey: Uint8Array } | undefined
  /** Counts changes of the witness keys. */
  #keysVersion = 0

  private constructor(catalogue: Catalogue, membership: Membership) {
    this.#catalogue = catalogue
    this.#membership = membership
  }

  /** Skips what cannot be read: it comes again from other members. */
  static async open(catalogue: Catalogue, membership: Membership): Promise<CheckpointNotes> {
    const notes = new CheckpointNotes(catalogue, membership)
    for (const [key, bytes] of await catalogue.entries('checkpoints')) {
      const note = orUndefined(() => decodeNote(bytes))
      if (note !== undefined) notes.#notes.set(key, note)
    }
    for (const [publisher, envelope] of await catalogue.entries('witnessKeys')) {
      const witnessKey = orUndefined(() => openWitnessKey(envelope))
      if (witnessKey !== undefined) notes.#keys.set(publisher, { witnessKey, envelope })
    }
    return notes
  }

  /**
   * Sign the statement of this node's seat about its witness key, unless it is stated already or the key of this node may
   * not sign it.
   * @param now Unix seconds @throws InputError `disk-full`, `io`.
   */
  async stateWitnessKey(identity: Identity, now: number): Promise<void> {
    const { seat, consortium, keys } = this.#membership
    if (this.isStated(identity) || !this.#membership.isMember(seat)) return
    const issuedAt = Math.max(now, (this.#counting(seat)?.witnessKey.issuedAt ?? 0) + 1)
    if (!maySignWitnessKey(keys.historyOf(seat), { signer: identity.peerId, issuedAt })) return
    await this.putWitnessKey(seat, sealWitnessKey(identity, consortium, issuedAt, seat))
  }

  /** Whether others know the witness key of this node, so that its cosignatures count. */
  isStated(identity: Identity): boolean {
    const { seat, consortium } = this.#membership
    const stated = this.witnessKey(seat)
    if (stated === undefined) return false
    if (this.#own?.identity !== identity) {
      this.#own = { identity, publicKey: deriveWitness(identity, consortium).publicKey }
    }
    return equalBytes(stated.publicKey, this.#own.publicKey)
  }

  get(publisher: PeerIdString, state: CheckpointState): SignedNote | undefined {
    return this.#notes.get(keyOf(publisher, state))
  }

  /**
   * The checkpoint in a state with the members that have cosigned it by the present roster; undefined if the key that has
   * signed it turns out not to have ruled the seat at that place of its log.
   */
  cosigned(publisher: PeerIdString, state: CheckpointState): CosignedCheckpoint | undefined {
    const keyStatements = this.#membership.keys.envelopes().length
    const stamp = `${this.#membership.roster().version} ${this.#keysVersion} ${keyStatements}`
    if (stamp !== this.#verifiedFor) this.#verified.clear()
    this.#verifiedFor = stamp
    const key = keyOf(publisher, state)
    const note = this.#notes.get(key)
    const known = this.#verified.get(key)
    if (note === undefined || known?.note === note) return known
    const checkpoint = decodeCheckpoint(note.text)
    if (this.logLine(publisher, note) === undefined) return undefined
    const cosigned = { checkpoint, note, cosigners: this.cosigners(publisher, note) }
    this.#verified.set(key, cosigned)
    return cosigned
  }

  /**
   * The line with which a log has signed a checkpoint, by the keys of its seat as far as this node holds the log.
   * @throws VerificationError `bad-signature`.
   */
  logLine(publisher: PeerIdString, note: SignedNote): NoteSignature | undefined {
    return logLineOf(note, this.#placeOf(publisher, note))
  }

  #placeOf(publisher: PeerIdString, { text }: SignedNote): CheckpointPlace {
    const { consortium, keys } = this.#membership
    return { consortium, publisher, history: keys.historyOf(publisher), size: decodeCheckpoint(text).size }
  }

  /** The members other than the publisher that have validly cosigned a note. */
  cosigners(publisher: PeerIdString, note: SignedNote): Cosigner[] {
    const witnesses = this.members().flatMap((peerId) => {
      const key = this.witnessKey(peerId)
      return peerId === publisher || key === undefined ? [] : [{ peerId, key }]
    })
    return cosignersOf(note, witnesses)
  }

  async put(publisher: PeerIdString, state: CheckpointState, note: SignedNote): Promise<void> {
    await this.#catalogue.put('checkpoints', keyOf(publisher, state), encodeNote(note))
    this.#notes.set(keyOf(publisher, state), note)
  }

  async remove(publisher: PeerIdString, state: CheckpointState): Promise<void> {
    await this.#catalogue.delete('checkpoints', keyOf(publisher, state))
    this.#notes.delete(keyOf(publisher, state))
    this.#verified.delete(keyOf(publisher, state))
  }

  /** A note with the signature of its log and one cosignature of each member, from both notes of one text. */
  merged(note: SignedNote, other: SignedNote, publisher: PeerIdString): SignedNote {
    const both = { text: note.text, signatures: [...note.signatures, ...other.signatures] }
    const own = this.logLine(publisher, both)
    const cosignatures = this.cosigners(publisher, both).map(({ line }) => line)
    return { text: note.text, signatures: [...(own === undefined ? [] : [own]), ...cosignatures] }
  }

  /** The key whose cosignatures count for a member. */
  witnessKey(publisher: PeerIdString): VerifierKey | undefined {
    return this.#counting(publisher)?.witnessKey.key
  }

  /** The signed statement of a member about its witness key. */
  witnessKeyEnvelope(publisher: PeerIdString): Uint8Array | undefined {
    return this.#counting(publisher)?.envelope
  }

  #counting(publisher: PeerIdString) {
    const stated = this.#keys.get(publisher)
    const history = this.#membership.keys.historyOf(publisher)
    return stated !== undefined && maySignWitnessKey(history, stated.witnessKey) ? stated : undefined
  }

  /**
   * Keep the statement of a member about its witness key, if it is later than the one before. A statement by a key that
   * does not rule the seat is ignored: the statement that names this key may arrive later.
   * @throws FormatError; VerificationError, `wrong-consortium`, `wrong-signer` for the key of another member.
   */
  async putWitnessKey(publisher: PeerIdString, envelope: Uint8Array): Promise<void> {
    const witnessKey = openWitnessKey(envelope)
    if (witnessKey.consortium !== this.#membership.consortium) {
      throw new VerificationError('wrong-consortium', `witness key: for consortium ${witnessKey.consortium}`)
    }
    if (witnessKey.publisher !== publisher) {
      throw new VerificationError(
        'wrong-signer',
        `witness key: expected ${publisher}, got ${witnessKey.publisher}`,
      )
    }
    if (!maySignWitnessKey(this.#membership.keys.historyOf(publisher), witnessKey)) return
    if (witnessKey.issuedAt <= (this.#counting(publisher)?.witnessKey.issuedAt ?? 0)) return
    await this.#catalogue.put('witnessKeys', publisher, envelope)
    this.#keys.set(publisher, { witnessKey, envelope })
    this.#keysVersion++
  }

  /** Peer ids of the members, without those that were revoked. */
  members(): PeerIdString[] {
    const { members } = this.#membership.roster()
    return members.filter(({ revoked }) => revoked === undefined).map(({ peerId }) => peerId)
  }

  /** What this node holds, for another one to compare. */
  known(): KnownCheckpoint[] {
    return this.members().map((publisher) => {
      const latest = this.cosigned(publisher, 'latest')
      return {
        publisher,
        size: latest?.checkpoint.size ?? 0,
        cosignatures: latest?.cosigners.length ?? 0,
        keyIssuedAt: this.#counting(publisher)?.witnessKey.issuedAt ?? 0,
      }
    })
  }

  /** What a node that holds `theirs` lacks. */
  newsFor(theirs: readonly KnownCheckpoint[]): CheckpointNews[] {
    const held = new Map(theirs.map((one) => [one.publisher, one]))
    return this.known().flatMap((ours) => {
      const { publisher } = ours
      const their = held.get(publisher) ?? { size: 0, cosignatures: 0, keyIssuedAt: 0 }
      const witnessKey = ours.keyIssuedAt > their.keyIssuedAt ? this.witnessKeyEnvelope(publisher) : undefined
      const isLater =
        ours.size > their.size || (ours.size === their.size && ours.cosignatures > their.cosignatures)
      const note = isLater ? this.cosigned(publisher, 'latest')?.note : undefined
      if (witnessKey === undefined && note === undefined) return []
      return [
        {
          publisher,
          ...(witnessKey === undefined ? {} : { witnessKey }),
          ...(note === undefined ? {} : { note: encodeNote(note) }),
        },
      ]
    })
  }
}

function keyOf(publisher: PeerIdString, state: CheckpointState): string {
  return `${publisher}.${state}`
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof FlexMeshError) return undefined
    throw error
  }
}
