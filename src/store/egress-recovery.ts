/**
 * What an egress ledger continues from when it is opened: its last row, rows that killed processes have left, and notes
 * about what is missing or was added. Cuts a line that was not written whole, and appends nothing itself.
 */
import { open } from 'node:fs/promises'
import { FormatError, VerificationError } from '../lib/errors.ts'
import { mapDiskErrors } from '../lib/files.ts'
import { isAlive } from '../lib/temporary.ts'
import { checkChain, type EgressAnchor } from './egress-chain.ts'
import {
  foreignPending,
  ownPendingPath,
  type PendingRows,
  readEnvelopeFile,
  readPending,
  readSegment,
  segmentsOf,
  summaryPath,
} from './egress-files.ts'
import { type EgressBody, type EgressLine, NO_HASH, note, parseLine } from './egress-row.ts'
import { decodeSummary, type EgressSigner } from './egress-seals.ts'

/** Keeps the number and the hash of the last flushed row outside the folder of the ledger. */
export interface AnchorStore {
  get(): Promise<EgressAnchor | undefined>
  set(anchor: EgressAnchor): Promise<void>
}

export interface RecoveryInit {
  readonly dir: string
  readonly signer: EgressSigner
  readonly anchor: AnchorStore
  /** Unix seconds. */
  readonly now: () => number
}

export interface Recovery {
  /** The row to continue after. */
  readonly tip: EgressAnchor
  /** Lines that follow it and were not appended. */
  readonly lines: EgressLine[]
  /** Rows to add after these lines. */
  readonly rows: readonly EgressBody[]
  /** Files to remove once the rows are kept. */
  readonly obsolete: readonly string[]
}

const KILLED =
  'the node was killed: rows of its last second may be missing for requests, heads and messages of libp2p, and for at most 31 statements of each answer under way; none for files'

/** @throws InputError `io`, `permissions`. */
export async function recover(init: RecoveryInit): Promise<Recovery> {
  const { dir, now, anchor } = init
  const left = await leftRows(ownPendingPath(dir))
  const end = await endOf(dir)
  const known = await anchor.get()
  const { tip, damage } = await startOf(init, end.tip, known)
  if (end.cut !== undefined && damage === undefined) await cutFile(end.cut.path, end.cut.bytes)
  const foreign = await endedPending(dir)
  const rows: EgressBody[] = []
  if (damage !== undefined) rows.push(note('damaged', now(), damage))
  if (left === undefined && known !== undefined && tip.seq > known.seq) {
    const added = `rows ${known.seq + 1} to ${tip.seq} were added while no node ran`
    rows.push(note('damaged', now(), added))
  }
  if (tip.seq === 0) rows.push(note('begin', now(), 'the ledger begins'))
  if (left !== undefined) {
    rows.push(...left.open.map((row): EgressBody => ({ ...row, interrupted: true })))
    rows.push({ ...note('killed', now(), KILLED), from: left.savedAt })
  }
  rows.push(...foreign.flatMap((pending) => pending.rows))
  return {
    tip,
    lines: damage === undefined ? linesAfter(left, tip) : [],
    rows,
    obsolete: [...foreign.map(({ path }) => path), ...(await summedUp(init))],
  }
}

/** Segments whose rows a summary stands for: a process was killed before it had removed them. */
async function summedUp({ dir, signer }: RecoveryInit): Promise<string[]> {
  const envelope = await readEnvelopeFile(summaryPath(dir))
  if (envelope === undefined) return []
  try {
    const { next } = decodeSummary(signer.open('summary', envelope))
    return (await segmentsOf(dir)).filter(({ first }) => first < next).map(({ path }) => path)
  } catch (error) {
    // A summary that does not open stays for whoever verifies the ledger.
    if (error instanceof FormatError || error instanceof VerificationError) return []
    throw error
  }
}

async function cutFile(path: string, bytes: number): Promise<void> {
  await mapDiskErrors(path, async () => {
    const handle = await open(path, 'r+')
    try {
      await handle.truncate(bytes)
      await handle.sync()
    } finally {
      await handle.close()
    }
  })
}

/** Rows that a killed process has left; rows that cannot be read are none, and still show that it was killed. */
async function leftRows(path: string): Promise<PendingRows | undefined> {
  try {
    return await readPending(path)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    return { lines: [], open: [], savedAt: 0 }
  }
}

/** The last line that can be read, and a line after it that was not written whole. */
async function endOf(
  dir: string,
): Promise<{ tip: EgressAnchor | undefined; cut: { path: string; bytes: number } | undefined }> {
  const segments = await segmentsOf(dir)
  let cut: { path: string; bytes: number } | undefined
  for (const { path } of segments.reverse()) {
    const { lines, rest, bytes } = await readSegment(path)
    if (rest !== '') cut = { path, bytes: bytes - Buffer.byteLength(rest) }
    const last = lines
      .reverse()
      .map(parsed)
      .find((line) => line !== undefined)
    if (last !== undefined) return { tip: { seq: last.row.seq, hash: last.hash }, cut }
  }
  return { tip: undefined, cut }
}

/**
 * The row to continue after. Rows that are known to have been written and are not at the end of the files are missing:
 * the number of the next row leaves room for them, so that the gap shows for ever.
 */
async function startOf(
  { dir, signer }: RecoveryInit,
  found: EgressAnchor | undefined,
  known: EgressAnchor | undefined,
): Promise<{ tip: EgressAnchor; damage: string | undefined }> {
  let tip = found
  if (tip === undefined) {
    const { summary, fault } = await checkChain({ dir, signer, anchors: [] })
    if (summary !== undefined && fault === undefined) tip = { seq: summary.next - 1, hash: summary.hash }
  }
  const last = tip?.seq ?? 0
  if (known !== undefined && (known.seq > last || (known.seq === last && known.hash !== tip?.hash))) {
    const damage = `row ${known.seq} was written and is not at the end of the files, which have ${last === 0 ? 'no readable row' : `row ${last}`}`
    return { tip: known, damage }
  }
  return { tip: tip ?? { seq: 0, hash: NO_HASH }, damage: undefined }
}

/** Lines that were to be appended after the last row, and were not. */
function linesAfter(left: PendingRows | undefined, tip: EgressAnchor): EgressLine[] {
  let { seq, hash } = tip
  const lines: EgressLine[] = []
  for (const text of left?.lines ?? []) {
    const line = parsed(text)
    if (line?.row.seq !== seq + 1 || line.row.previous !== hash) continue
    lines.push(line)
    seq = line.row.seq
    hash = line.hash
  }
  return lines
}

function parsed(text: string): EgressLine | undefined {
  try {
    return parseLine(text)
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}

/** Rows of processes that could not append to the segments and have ended. */
async function endedPending(dir: string): Promise<{ path: string; rows: EgressBody[] }[]> {
  const ended: { path: string; rows: EgressBody[] }[] = []
  for (const { path, pid } of await foreignPending(dir)) {
    if (pid !== 0 && pid !== process.pid && isAlive(pid)) continue
    const left = await leftRows(path)
    const rows = (left?.open ?? []).map(
      (row): EgressBody => (pid === 0 ? row : { ...row, interrupted: true }),
    )
    ended.push({ path, rows })
  }
  return ended
}
