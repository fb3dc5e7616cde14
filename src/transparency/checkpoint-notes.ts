/**
 * Keeps the checkpoints and witness keys of the members on disk, and computes from them who has cosigned what and what
 * another node lacks. Decides nothing: see cosigned-logs.ts. Does not know networks.
 */
import type { Membership } from '../consortium/membership.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { FlexMeshError, VerificationError } from '../lib/errors.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { type Checkpoint, decodeCheckpoint } from './checkpoint.ts'
import { logKeyOf } from './log-key.ts'
import { decodeNote, encodeNote, linesOf, type SignedNote, type VerifierKey } from './note.ts'
import { type Cosigner, cosignersOf } from './quorum.ts'
import { openWitnessKey, sealWitnessKey, type WitnessKey } from './witness-key.ts'

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
  readonly #keys = new Map<PeerIdString, { readonly witnessKey: WitnessKey; readonly envelope: Uint8Array }>()
  /** Results of verifying cosignatures, by `keyOf`; valid for one roster and one set of keys. */
  readonly #verified = new Map<string, CosignedCheckpoint>()
  #verifiedFor = ''
  /** Counts changes of the witness keys. */
  #keysVersion = 0

  private constructor(catalogue: Catalogue, membership: Membership) {
    this.#catalogue = catalogue
    this.#membership = membership
  }

  /**
   * Skips what cannot be read: it comes again from other members. Signs this node's statement about its witness key if
   * there is none.
   * @param now Unix seconds @throws InputError `disk-full`, `io`.
   */
  static async open(
    catalogue: Catalogue,
    membership: Membership,
    identity: Identity,
    now: number,
  ): Promise<CheckpointNotes> {
    const notes = new CheckpointNotes(catalogue, membership)
    for (const [key, bytes] of await catalogue.entries('checkpoints')) {
      const note = orUndefined(() => decodeNote(bytes))
      if (note !== undefined) notes.#notes.set(key, note)
    }
    for (const [publisher, envelope] of await catalogue.entries('witnessKeys')) {
      const witnessKey = orUndefined(() => openWitnessKey(envelope))
      if (witnessKey !== undefined) notes.#keys.set(publisher, { witnessKey, envelope })
    }
    if (!notes.#keys.has(identity.peerId)) {
      await notes.putWitnessKey(identity.peerId, sealWitnessKey(identity, membership.consortium, now))
    }
    return notes
  }

  get(publisher: PeerIdString, state: CheckpointState): SignedNote | undefined {
    return this.#notes.get(keyOf(publisher, state))
  }

  /** The checkpoint in a state with the members that have cosigned it by the present roster. */
  cosigned(publisher: PeerIdString, state: CheckpointState): CosignedCheckpoint | undefined {
    const stamp = `${this.#membership.roster().version} ${this.#keysVersion}`
    if (stamp !== this.#verifiedFor) this.#verified.clear()
    this.#verifiedFor = stamp
    const key = keyOf(publisher, state)
    const note = this.#notes.get(key)
    const known = this.#verified.get(key)
    if (note === undefined || known?.note === note) return known
    const checkpoint = decodeCheckpoint(note.text)
    const cosigned = { checkpoint, note, cosigners: this.cosigners(publisher, note) }
    this.#verified.set(key, cosigned)
    return cosigned
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

  /** A note with the signature of its log and one cosignature of each member, from both notes of one text. */
  merged(note: SignedNote, other: SignedNote, publisher: PeerIdString): SignedNote {
    const both = { text: note.text, signatures: [...note.signatures, ...other.signatures] }
    const [own] = linesOf(both.signatures, logKeyOf(this.#membership.consortium, publisher))
    const cosignatures = this.cosigners(publisher, both).map(({ line }) => line)
    return { text: note.text, signatures: [...(own === undefined ? [] : [own]), ...cosignatures] }
  }

  witnessKey(publisher: PeerIdString): VerifierKey | undefined {
    return this.#keys.get(publisher)?.witnessKey.key
  }

  /** The signed statement of a member about its witness key. */
  witnessKeyEnvelope(publisher: PeerIdString): Uint8Array | undefined {
    return this.#keys.get(publisher)?.envelope
  }

  /**
   * Keep the statement of a member about its witness key, if it is later than the one before.
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
    if (witnessKey.issuedAt <= (this.#keys.get(publisher)?.witnessKey.issuedAt ?? 0)) return
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
        keyIssuedAt: this.#keys.get(publisher)?.witnessKey.issuedAt ?? 0,
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
      const note = isLater ? this.get(publisher, 'latest') : undefined
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
