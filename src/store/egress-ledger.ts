/**
 * Appends rows to the egress ledger of a home. A row is first written to a file of pending rows, then appended to the
 * last segment, so that a killed process loses none; both are flushed with the signed head, every few seconds. At the
 * start, rows that a killed process left are appended, and a note says that it was killed. Only the process that holds
 * the lock of the home may append. Does not know what rows mean.
 */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { FormatError, InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, PRIVATE_FILE_MODE, syncDir, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import { isAlive } from '../lib/temporary.ts'
import type { EgressJournal } from './egress-book.ts'
import { checkChain, type EgressAnchor } from './egress-chain.ts'
import {
  foreignPending,
  headPath,
  ownPendingPath,
  type PendingRows,
  readPending,
  readSegment,
  segmentPath,
  segmentsOf,
  summaryPath,
  writePending,
} from './egress-files.ts'
import { type EgressBody, type EgressLine, lineOf, NO_HASH, note, parseLine } from './egress-row.ts'
import { type EgressSigner, EgressTotals, encodeHead, encodeSummary } from './egress-seals.ts'

/** Keeps the number and the hash of the last flushed row outside the folder of the ledger. */
export interface AnchorStore {
  get(): Promise<EgressAnchor | undefined>
  set(anchor: EgressAnchor): Promise<void>
}

export interface EgressLedgerInit {
  readonly dir: string
  readonly signer: EgressSigner
  readonly anchor: AnchorStore
  /** Unix seconds. */
  readonly now: () => number
  /** Default: `egressSegmentBytes`. */
  readonly segmentBytes?: number
}

export const ANCHOR_SOURCE = 'the database of the node'
const DAY_SECONDS = 86_400

export class EgressLedger implements EgressJournal {
  readonly #init: EgressLedgerInit
  readonly #work = new Serial()
  #tip: EgressAnchor
  /** The segment that rows are appended to; undefined if the next row begins a new one. */
  #segment: { handle: FileHandle; bytes: number; day: number } | undefined
  /** Lines that follow the last row and could not be appended yet. They are in the file of pending rows. */
  #unwritten: EgressLine[] = []
  /** Whether rows were appended that no head names. */
  #isAhead = false

  private constructor(init: EgressLedgerInit, tip: EgressAnchor) {
    this.#init = init
    this.#tip = tip
  }

  /**
   * Open the ledger to append rows. Says in rows of its own what it finds: a process that was killed, rows that are
   * missing. @throws InputError `disk-full`, `io`, `permissions`.
   */
  static async open(init: EgressLedgerInit): Promise<EgressLedger> {
    const { dir, now, anchor } = init
    await ensurePrivateDir(dir)
    const left = await leftRows(ownPendingPath(dir))
    const end = await endOf(dir)
    const known = await anchor.get()
    const start = await startOf(init, end.tip, known)
    const ledger = new EgressLedger(init, start.tip)
    if (end.cut !== undefined && !start.isDamaged) await cutFile(end.cut.path, end.cut.bytes)
    const rows: EgressBody[] = []
    const lines = start.isDamaged ? [] : linesAfter(left, start.tip)
    if (start.isDamaged) rows.push(note('damaged', now(), start.what))
    if (left === undefined && known !== undefined && start.tip.seq > known.seq) {
      const added = `rows ${known.seq + 1} to ${start.tip.seq} were added while no node ran`
      rows.push(note('damaged', now(), added))
    }
    if (start.tip.seq === 0) rows.push(note('begin', now(), 'the ledger begins'))
    if (left !== undefined) {
      rows.push(...left.open.map((row): EgressBody => ({ ...row, interrupted: true })))
      rows.push({ ...note('killed', now(), KILLED), from: left.savedAt })
    }
    const foreign = await endedPending(dir)
    rows.push(...foreign.flatMap(({ rows }) => rows))
    ledger.#unwritten = lines
    await ledger.save(rows, [])
    for (const { path } of foreign) await rm(path, { force: true })
    await ledger.sync()
    return ledger
  }

  /** The last row. */
  get tip(): EgressAnchor {
    return this.#tip
  }

  save(closed: readonly EgressBody[], open: readonly EgressBody[]): Promise<void> {
    return this.#work.run(async () => {
      const last = this.#unwritten.at(-1)
      let { seq, hash } = last === undefined ? this.#tip : { seq: last.row.seq, hash: last.hash }
      const added = closed.map((body) => {
        const line = lineOf(body, ++seq, hash)
        hash = line.hash
        return line
      })
      const lines = [...this.#unwritten, ...added]
      const pending = { lines: lines.map(({ text }) => text), open, savedAt: this.#init.now() }
      await writePending(ownPendingPath(this.#init.dir), pending)
      this.#unwritten = lines
      // Lines that cannot be appended now are kept, so this does not reject; `sync` tries again, and does.
      await this.#append().catch(() => undefined)
    })
  }

  sync(): Promise<void> {
    return this.#work.run(() => this.#sync())
  }

  /** Flush, and state that nothing is pending. */
  close(): Promise<void> {
    return this.#work.run(async () => {
      await this.#sync()
      await this.#segment?.handle.close()
      this.#segment = undefined
      await rm(ownPendingPath(this.#init.dir), { force: true })
    })
  }

  /**
   * Replace the rows of whole days before a time by a signed summary.
   * @param before Unix seconds
   * @returns number of rows removed.
   * @throws InputError `mismatch` if one of them is broken.
   */
  prune(before: number): Promise<number> {
    return this.#work.run(async () => {
      await this.#sync()
      const { dir, signer, now } = this.#init
      const report = await this.#totalsBefore(before)
      if (report === undefined) return 0
      const { totals, summary, rows } = report
      const payload = encodeSummary({ ...summary, totals: totals.bounded(), signedAt: now() })
      if (summary.next > this.#tip.seq) await this.#leaveSegment()
      await writeFileAtomic(summaryPath(dir), signer.seal('summary', payload))
      await removeBefore(dir, summary.next)
      return rows
    })
  }

  /** What the summary of the rows before a time holds; undefined if there is no whole segment of them. */
  async #totalsBefore(before: number) {
    const { dir, signer, anchor } = this.#init
    const segments = await segmentsOf(dir)
    const totals = new EgressTotals()
    /** Lines that belong to the segment that is being read. */
    let segment: EgressLine[] = []
    let until: EgressLine | undefined
    let from: number | undefined
    let rows = 0
    let isEnded = false
    const endSegment = (): void => {
      isEnded ||= segment.length === 0 || segment.some(({ row }) => row.until >= before)
      if (isEnded) return
      for (const { row } of segment) {
        totals.add({ to: row.to, kind: row.kind, rows: 1, count: row.count, bytes: row.bytes })
      }
      rows += segment.length
      from ??= segment[0]?.row.from
      until = segment.at(-1)
    }
    const starts = new Set(segments.map(({ first }) => first))
    const known = await anchor.get()
    const { fault, summary } = await checkChain({
      dir,
      signer,
      anchors: known === undefined ? [] : [{ ...known, source: ANCHOR_SOURCE }],
      onLine: (line) => {
        if (starts.has(line.row.seq) && segment.length > 0) {
          endSegment()
          segment = []
        }
        segment.push(line)
      },
    })
    endSegment()
    if (fault !== undefined) {
      throw new InputError(
        'mismatch',
        `egress ledger, ${fault.where}: row ${fault.seq} is broken (${fault.what}), so nothing was removed; "flexmesh egress verify" checks all rows`,
      )
    }
    if (until === undefined || from === undefined) return undefined
    for (const total of summary?.totals ?? []) totals.add(total)
    const { row, hash } = until
    const kept = { next: row.seq + 1, hash, from: summary?.from ?? from, until: row.until }
    return { totals, summary: kept, rows }
  }

  /** @throws InputError `disk-full`, `io`; what was not appended is tried again. */
  async #append(): Promise<void> {
    for (const line of [...this.#unwritten]) {
      const { dir, segmentBytes = limit('egressSegmentBytes') } = this.#init
      const day = Math.floor(line.row.until / DAY_SECONDS)
      if (this.#segment !== undefined && (day > this.#segment.day || this.#segment.bytes >= segmentBytes))
        await this.#leaveSegment()
      const path = segmentPath(dir, line.row.seq)
      this.#segment ??= {
        handle: await mapDiskErrors(path, () => open(path, 'w', PRIVATE_FILE_MODE)),
        bytes: 0,
        day,
      }
      const { handle, bytes } = this.#segment
      const text = Buffer.from(`${line.text}\n`)
      // At its offset, so that the next attempt overwrites what a failed one has left.
      await mapDiskErrors(path, () => writeWhole(handle, text, bytes))
      this.#segment.bytes += text.length
      this.#tip = { seq: line.row.seq, hash: line.hash }
      this.#unwritten.shift()
      this.#isAhead = true
    }
  }

  async #leaveSegment(): Promise<void> {
    const { dir } = this.#init
    const segment = this.#segment
    this.#segment = undefined
    await mapDiskErrors(dir, async () => {
      await segment?.handle.sync()
      await segment?.handle.close()
    })
  }

  async #sync(): Promise<void> {
    await this.#append()
    if (!this.#isAhead) return
    const { dir, signer, anchor, now } = this.#init
    await mapDiskErrors(dir, async () => {
      await this.#segment?.handle.sync()
      await syncDir(dir)
    })
    const tip = this.#tip
    await writeFileAtomic(headPath(dir), signer.seal('head', encodeHead({ ...tip, signedAt: now() })))
    await anchor.set(tip)
    this.#isAhead = false
  }
}

const KILLED =
  'the node was killed: rows of its last second may be missing for requests, heads and messages of libp2p, and for at most 31 statements of each answer under way; none for files'

async function writeWhole(handle: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, at + done)
    done += bytesWritten
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

/** Remove the segments that a summary stands for. */
async function removeBefore(dir: string, next: number): Promise<void> {
  for (const { path, first } of await segmentsOf(dir)) {
    if (first < next) await mapDiskErrors(path, () => rm(path, { force: true }))
  }
  await mapDiskErrors(dir, () => syncDir(dir))
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
  { dir, signer }: EgressLedgerInit,
  found: EgressAnchor | undefined,
  known: EgressAnchor | undefined,
): Promise<{ tip: EgressAnchor; isDamaged: boolean; what: string }> {
  let tip = found
  if (tip === undefined) {
    const { summary, fault } = await checkChain({ dir, signer, anchors: [] })
    if (summary !== undefined && fault === undefined) tip = { seq: summary.next - 1, hash: summary.hash }
  }
  const last = tip?.seq ?? 0
  if (known !== undefined && (known.seq > last || (known.seq === last && known.hash !== tip?.hash))) {
    const what = `row ${known.seq} was written and is not at the end of the files, which have ${last === 0 ? 'no readable row' : `row ${last}`}`
    return { tip: known, isDamaged: true, what }
  }
  return { tip: tip ?? { seq: 0, hash: NO_HASH }, isDamaged: false, what: '' }
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
