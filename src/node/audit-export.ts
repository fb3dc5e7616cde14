/**
 * Collects what an outsider needs to check the logs of a consortium, and writes it as one file: charter, rosters,
 * statements, checkpoints, cosignatures, proofs, heads, verdicts. The form is in transparency/bundle.ts. Judges nothing.
 */

import { fromUtf8 } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { writeFileAtomic } from '../lib/files.ts'
import type { Parts } from '../pipeline/parts.ts'
import { rosterKey } from '../store/catalogue-keys.ts'
import { type BundleRecord, encodeBundle, encodeHashes, type RecordOf } from '../transparency/bundle.ts'
import type { CosignedCheckpoint } from '../transparency/checkpoint-notes.ts'
import type { LogState } from '../transparency/cosigned-logs.ts'
import { encodeNote, type SignedNote } from '../transparency/note.ts'
import { type VerifiedBundle, verifyBundle } from '../transparency/verify-bundle.ts'

export interface ExportedBundle {
  readonly file: string
  readonly bytes: number
  /** What the bundle proves; undefined if it is not complete yet. */
  readonly verified: VerifiedBundle | undefined
  /** Why the bundle is not complete, for people; undefined if `verified`. */
  readonly incomplete: string | undefined
}

/**
 * Write the bundle of everything that this node holds.
 * @throws InputError `disk-full`, `permissions`.
 */
export async function exportAudit(parts: Parts, file: string): Promise<ExportedBundle> {
  const { logs, membership, identity, catalogue, now } = parts
  await logs.sign()
  await logs.settle()
  const records: BundleRecord[] = []
  for (const [key, envelope] of await catalogue.entries('rosters')) {
    records.push({ type: key === rosterKey(0) ? 'charter' : 'roster', envelope: fromUtf8(envelope) })
  }
  for (const statement of membership.book.applied()) records.push({ type: 'applied', statement })
  const members = membership.roster().members.map(({ peerId }) => peerId)
  for (const peerId of members) {
    const envelope = logs.notes.witnessKeyEnvelope(peerId)
    if (envelope !== undefined) records.push({ type: 'witness-key', envelope: fromUtf8(envelope) })
  }
  for (const state of await logs.states()) {
    for await (const record of logRecords(parts, state)) records.push(record)
  }
  for (const peerId of members) {
    const envelope = parts.statements.headEnvelope(peerId)
    if (envelope !== undefined) records.push({ type: 'head', envelope: fromUtf8(envelope) })
  }
  for (const verdict of await parts.verdicts.list()) {
    records.push({ type: 'verdict', verdict: JSON.stringify(verdict) })
  }
  const header: RecordOf<'bundle'> = {
    type: 'bundle',
    version: 1,
    consortium: membership.consortium,
    exporter: membership.seat,
    exportedAt: now(),
  }
  const bytes = encodeBundle([header, ...records], identity)
  await writeFileAtomic(file, bytes)
  return { file, bytes: bytes.length, ...check(bytes) }
}

/** The records of one log: its checkpoints, then its statements with their proofs. */
async function* logRecords(
  { logs, statements }: Parts,
  state: LogState,
): AsyncGenerator<BundleRecord, void, void> {
  const { publisher, statements: count } = state
  const final = finalOf(state, logs.needed())
  // A checkpoint whose statements have not arrived yet cannot be checked.
  const isHeld = state.latest !== undefined && state.latest.checkpoint.size <= count
  const latest = isHeld ? state.latest : final
  const size = latest?.checkpoint.size ?? 0
  const finalSize = final?.checkpoint.size ?? 0
  yield {
    type: 'log',
    publisher,
    statements: count,
    ...(latest === undefined ? {} : { checkpoint: textOf(latest.note, 1) }),
    ...(final === undefined ? {} : { final: textOf(logs.notes.merged(final.note, final.note, publisher)) }),
    ...(finalSize === 0
      ? {}
      : { consistency: encodeHashes(await logs.trees.consistency(publisher, finalSize, size)) }),
  }
  let index = 0
  for await (const { envelope } of statements.of(publisher)) {
    if (index === count) return // It has arrived since.
    const proof =
      index < size ? { proof: encodeHashes(await logs.trees.inclusion(publisher, index, size)) } : {}
    yield { type: 'statement', envelope: fromUtf8(envelope), ...proof }
    index++
  }
}

/** The latest checkpoint with the quorum of today; a stored one may have had that of a smaller consortium. */
function finalOf({ latest, final, statements }: LogState, needed: number): CosignedCheckpoint | undefined {
  const hasQuorum = latest !== undefined && latest.cosigners.length >= needed
  return hasQuorum && latest.checkpoint.size <= statements ? latest : final
}

/** @param lines number of signatures to keep; the first one is that of the log */
function textOf({ text, signatures }: SignedNote, lines?: number): string {
  return fromUtf8(encodeNote({ text, signatures: signatures.slice(0, lines) }))
}

function check(bytes: Uint8Array): Pick<ExportedBundle, 'verified' | 'incomplete'> {
  try {
    return { verified: verifyBundle(bytes), incomplete: undefined }
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    return { verified: undefined, incomplete: error.message }
  }
}
