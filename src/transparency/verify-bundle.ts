/**
 * Verifies an audit bundle without a node and without a network: the charter, every roster, every statement of every
 * log, the checkpoints, the proofs, and who has cosigned. Implements protocols/transparency-log, section "Audit bundle".
 * Does not know what a statement says beyond its place in a log.
 */
import { openCharter } from '../consortium/charter.ts'
import { Governance, readGovernanceStatement } from '../consortium/governance.ts'
import type { KeyHistory } from '../consortium/key-history.ts'
import { findMember, openRoster, type Roster, rosterFromCharter } from '../consortium/roster.ts'
import { readEnvelope } from '../identity/envelope.ts'
import type { PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { type Digest, digestOf, equalBytes, utf8 } from '../lib/bytes.ts'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { openHead } from '../statements/head.ts'
import { type BundleRecord, openBundle, type RecordOf } from './bundle.ts'
import {
  checkConsistency,
  checkInclusion,
  checkSigned,
  type OpenedCheckpoint,
  openCheckpoint,
} from './bundle-checkpoints.ts'
import { BundleKeys } from './bundle-keys.ts'
import { checkJson, checkLines, isKeyOfLog, openLogged, RosterOrder } from './bundle-rules.ts'
import type { Checkpoint } from './checkpoint.ts'
import { leafHash, RootBuilder } from './merkle.ts'
import type { SignedNote, VerifierKey } from './note.ts'
import { cosignaturesNeeded, cosignersOf } from './quorum.ts'
import { isQuorate, type TrustPolicy } from './trust-policy.ts'
import { maySignWitnessKey, openWitnessKey } from './witness-key.ts'

export interface VerifyOptions {
  /** Id of the consortium that the auditor expects; default: the one that the bundle names. */
  readonly consortium?: Digest
  /** Whose cosignatures the auditor demands; default: more than half of the other members of the roster. */
  readonly policy?: TrustPolicy
}

/** What a valid bundle proves about one log. */
export interface VerifiedLog {
  readonly publisher: PeerIdString
  readonly institution: string
  readonly isRevoked: boolean
  readonly statements: number
  /** Number of statements that the quorum has cosigned. */
  readonly final: number
  /** Institutions that have cosigned them. */
  readonly cosigners: readonly string[]
  /** Earliest and latest time of their cosignatures, Unix seconds; 0 without any. */
  readonly cosignedAt: readonly [number, number]
}

export interface VerifiedBundle {
  readonly consortium: Digest
  /** Name of the consortium. */
  readonly name: string
  readonly rosterVersion: number
  /** Institution that exported the bundle. */
  readonly exporter: string
  readonly exportedAt: number
  readonly logs: readonly VerifiedLog[]
  /** Statements by payload type. */
  readonly kinds: Readonly<Record<string, number>>
  readonly verdicts: number
}

/**
 * @throws FormatError, VerificationError for the first thing that is wrong, with the line or log in its message;
 * `not-final` if the log of a member has no checkpoint that the quorum has cosigned.
 */
export function verifyBundle(bytes: Uint8Array, options: VerifyOptions = {}): VerifiedBundle {
  const { header, records, signer } = openBundle(bytes)
  return new BundleReader(records, options).read(header, signer)
}

/** A log that was read; whether its keys may have signed it is not checked yet. */
interface ReadLog {
  readonly publisher: PeerIdString
  readonly statements: number
  readonly latest: OpenedCheckpoint | undefined
  readonly final: OpenedCheckpoint | undefined
}

/** The history of a seat's keys. */
type Histories = (seat: PeerIdString) => KeyHistory

class BundleReader {
  readonly #records: readonly BundleRecord[]
  readonly #options: VerifyOptions
  #at = 0
  readonly #kinds: Record<string, number> = {}
  /** The statements of all logs from which the roster follows. */
  readonly #governance = new Governance()
  readonly #signers = new BundleKeys()
  readonly #witnesses = new Map<PeerIdString, VerifierKey>()
  /** Digests of the statements of each log. */
  readonly #logs = new Map<PeerIdString, readonly Digest[]>()

  constructor(records: readonly BundleRecord[], options: VerifyOptions) {
    this.#records = records
    this.#options = options
  }

  /** @param signer the key that has sealed the bundle */
  read(header: RecordOf<'bundle'>, signer: PeerIdString): VerifiedBundle {
    const { charter, consortium } = openCharter(utf8(this.#expect('charter').envelope))
    if (consortium !== header.consortium || consortium !== (this.#options.consortium ?? consortium)) {
      throw new VerificationError('wrong-consortium', `bundle: it is of consortium ${consortium}`)
    }
    let base = rosterFromCharter(charter, consortium)
    for (const { envelope } of this.#take('roster')) base = openRoster(utf8(envelope), base)
    const applied = this.#take('applied').map(({ statement }) => statement)
    const witnessKeys = this.#take('witness-key')
    const read: ReadLog[] = []
    while (this.#records[this.#at]?.type === 'log') read.push(this.#readLog(consortium))
    const derived = this.#governance.derive(base)
    const { roster } = derived
    if ([...derived.applied.keys()].join() !== applied.join()) {
      throw new VerificationError(
        'bad-proof',
        'bundle: the roster follows from other statements than it names',
      )
    }
    const histories = this.#signers.check(roster)
    this.#readWitnessKeys(roster, histories, witnessKeys)
    if (read.map(({ publisher }) => publisher).join() !== roster.members.map(({ peerId }) => peerId).join()) {
      throw new VerificationError('bad-proof', 'bundle: its logs are not those of the members on the roster')
    }
    const logs = read.map((log) => this.#judgeLog(roster, histories, log))
    this.#checkHeads(roster, histories)
    const verdicts = this.#take('verdict')
    for (const { verdict } of verdicts) checkJson(verdict)
    if (this.#at < this.#records.length) {
      throw new FormatError('bad-field', `bundle: a ${this.#records[this.#at]?.type} out of its order`)
    }
    const exporter = findMember(roster, header.exporter)
    if (exporter === undefined) {
      throw new VerificationError(
        'not-a-member',
        `bundle: its exporter ${header.exporter} is not on the roster`,
      )
    }
    const sealing = { signer, issuedAt: header.exportedAt, scope: 'any' } as const
    if (!histories(header.exporter).allowsNow(sealing)) {
      throw new VerificationError(
        'wrong-signer',
        `bundle: sealed by ${signer}, which is no key of its exporter`,
      )
    }
    return {
      consortium,
      name: charter.name,
      rosterVersion: roster.version,
      exporter: exporter.institution,
      exportedAt: header.exportedAt,
      logs,
      kinds: this.#kinds,
      verdicts: verdicts.length,
    }
  }

  #readWitnessKeys(roster: Roster, histories: Histories, records: readonly RecordOf<'witness-key'>[]): void {
    const order = new RosterOrder(roster, 'witness key')
    for (const { envelope } of records) {
      const opened = openWitnessKey(utf8(envelope))
      const { consortium, publisher, key } = opened
      order.next(publisher, consortium)
      if (!maySignWitnessKey(histories(publisher), opened)) {
        throw new VerificationError(
          'wrong-signer',
          `bundle: the witness key of ${publisher} is signed by ${opened.signer}, which does not rule its seat`,
        )
      }
      this.#witnesses.set(publisher, key)
    }
  }

  /** Read one log; who had to cosign it follows from the statements of all logs. */
  #readLog(consortium: Digest): ReadLog {
    const log = this.#expect('log')
    const { publisher, statements } = log
    const latest = openCheckpoint(consortium, publisher, log.checkpoint)
    const final = openCheckpoint(consortium, publisher, log.final)
    this.#readStatements(consortium, log, [latest?.checkpoint, final?.checkpoint])
    checkConsistency(log, latest?.checkpoint, final?.checkpoint)
    checkLines(publisher, latest?.note, 0)
    return { publisher, statements, latest, final }
  }

  #judgeLog(roster: Roster, histories: Histories, log: ReadLog): VerifiedLog {
    const { publisher, statements, latest, final } = log
    const history = histories(publisher)
    for (const one of [latest, final]) checkSigned(roster.consortium, publisher, history, one)
    const member = findMember(roster, publisher)
    const institution = member?.institution ?? publisher
    const cosigners = final === undefined ? [] : this.#cosigners(roster, publisher, final.note)
    checkLines(publisher, final?.note, cosigners.length)
    const isRevoked = member?.revoked !== undefined
    if (!this.#hasQuorum(roster, publisher, history, final?.note, cosigners.length) && !isRevoked) {
      throw new VerificationError('not-final', `the log of ${institution} is not cosigned by the quorum`)
    }
    const times = cosigners.map(({ at }) => at)
    return {
      publisher,
      institution,
      isRevoked,
      statements,
      final: final?.checkpoint.size ?? 0,
      cosigners: cosigners.map(({ peerId }) => findMember(roster, peerId)?.institution ?? peerId),
      cosignedAt: times.length === 0 ? [0, 0] : [Math.min(...times), Math.max(...times)],
    }
  }

  /** Read the statements of a log; their chain, their proofs and the roots of the checkpoints must fit. */
  #readStatements(
    consortium: Digest,
    { publisher, statements }: RecordOf<'log'>,
    checkpoints: readonly (Checkpoint | undefined)[],
  ): void {
    const tree = new RootBuilder()
    const [latest] = checkpoints
    const digests: Digest[] = []
    for (;;) {
      for (const checkpoint of checkpoints) {
        if (checkpoint?.size === tree.size && !equalBytes(tree.root(), checkpoint.root)) {
          throw new VerificationError('bad-proof', `bundle: the log of ${publisher} has another root`)
        }
      }
      if (digests.length === statements) break
      const { envelope, proof } = this.#expect('statement')
      const { payload, use } = openLogged(utf8(envelope), { consortium, publisher, digests }, this.#kinds)
      this.#signers.add(publisher, use)
      if (use.keys !== undefined) this.#governance.addKeys(publisher, use.keys)
      this.#addGovernance(utf8(envelope))
      digests.push(digestOf(payload))
      const index = tree.size
      const leaf = leafHash(payload)
      tree.push(leaf)
      checkInclusion(publisher, { index, leaf, proof }, latest)
    }
    if (checkpoints.some((checkpoint) => (checkpoint?.size ?? 0) > statements)) {
      throw new VerificationError('bad-proof', `bundle: statements of the log of ${publisher} are missing`)
    }
    this.#logs.set(publisher, digests)
  }

  /** @param envelope of a logged statement, whose signature was verified */
  #addGovernance(envelope: Uint8Array): void {
    const kinds: readonly string[] = [MEDIA_TYPES.proposal, MEDIA_TYPES.endorsement, MEDIA_TYPES.leave]
    if (!kinds.includes(readEnvelope(envelope).payloadType)) return
    this.#governance.add(readGovernanceStatement(envelope), envelope)
  }

  #cosigners(roster: Roster, publisher: PeerIdString, note: SignedNote) {
    const witnesses = [...this.#witnesses]
      .filter(([peerId]) => peerId !== publisher && findMember(roster, peerId)?.revoked === undefined)
      .map(([peerId, key]) => ({ peerId, key }))
    return cosignersOf(note, witnesses)
  }

  #hasQuorum(
    roster: Roster,
    publisher: PeerIdString,
    history: KeyHistory,
    note: SignedNote | undefined,
    cosigners: number,
  ): boolean {
    const { policy } = this.#options
    if (note === undefined) return false
    if (policy === undefined) {
      const members = roster.members.filter(({ revoked }) => revoked === undefined).length
      return cosigners >= cosignaturesNeeded(members)
    }
    const isKnownLog =
      policy.logs.length === 0 ||
      policy.logs.some((key) => isKeyOfLog(roster, publisher, history.keys(), key))
    return (
      isKnownLog && isQuorate(policy.quorum, (key) => cosignersOf(note, [{ peerId: '', key }]).length > 0)
    )
  }

  /** Heads name the latest statement of a log at their time, so they show that the end of a log is missing. */
  #checkHeads(roster: Roster, histories: Histories): void {
    const order = new RosterOrder(roster, 'head')
    for (const { envelope } of this.#take('head')) {
      const { head, signer } = openHead(utf8(envelope), () => undefined)
      const { consortium, publisher, seq, last, issuedAt } = head
      order.next(publisher, consortium)
      histories(publisher).checkSigner({ seq: seq + 1, signer, issuedAt, scope: 'any' })
      if (seq === 0 || this.#logs.get(publisher)?.[seq - 1] === last) continue
      throw new VerificationError(
        'bad-proof',
        `bundle: statement ${seq} of ${publisher}, which its head names, is missing`,
      )
    }
  }

  #expect<T extends BundleRecord['type']>(type: T): RecordOf<T> {
    const record = this.#records[this.#at++]
    if (record?.type === type) return record as RecordOf<T>
    throw new FormatError(
      'bad-field',
      `bundle: expected a ${type} in line ${this.#at + 1}, got ${record?.type}`,
    )
  }

  /** All records of a kind from here on. */
  #take<T extends BundleRecord['type']>(type: T): RecordOf<T>[] {
    const taken: RecordOf<T>[] = []
    while (this.#records[this.#at]?.type === type) taken.push(this.#expect(type))
    return taken
  }
}
