/**
 * Appends rows to the egress ledger of a home. A row is first written to a file of pending rows, then appended to the
 * last segment, so that a killed process loses none; both are flushed with the signed head, every few seconds. At the
 * start, rows that a killed process left are appended, and a note says that it was killed. Only the process that holds
 * the lock of the home may append. Does not know what rows mean.
 */

import { type FileHandle, open, rm } from 'node:fs/promises'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, PRIVATE_FILE_MODE, syncDir, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'
import type { EgressJournal } from './egress-book.ts'
import { ANCHOR_SOURCE, checkChain, type EgressAnchor } from './egress-chain.ts'
import {
  headPath,
  ownPendingPath,
  segmentPath,
  segmentsOf,
  summaryPath,
  writePending,
} from './egress-files.ts'
import { type RecoveryInit, recover } from './egress-recovery.ts'
import { type EgressBody, type EgressLine, lineOf } from './egress-row.ts'
import { EgressTotals, encodeHead, encodeSummary } from './egress-seals.ts'

export interface EgressLedgerInit extends RecoveryInit {
  /** Default: `egressSegmentBytes`. */
  readonly segmentBytes?: number
}

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
    await ensurePrivateDir(init.dir)
    const { tip, lines, rows, obsolete } = await recover(init)
    const ledger = new EgressLedger(init, tip)
    ledger.#unwritten = lines
    await ledger.save(rows, [])
    for (const path of obsolete) await mapDiskErrors(path, () => rm(path, { force: true }))
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

  /** Let the files rest, so that they can be read together, until the returned function is called. Rows wait meanwhile. */
  hold(): Promise<() => void> {
    return new Promise((resolve) => {
      void this.#work.run(() => new Promise<void>((letGo) => resolve(letGo)))
    })
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
        const { to, kind, count, bytes, tokens = 0 } = row
        totals.add({ to, kind, rows: 1, count, bytes, tokens })
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
        `egress ledger, ${fault.where}: row ${fault.seq} is broken (${fault.what}), so nothing was removed; ${ownCommand('egress', 'verify')} checks all rows`,
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

async function writeWhole(handle: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, at + done)
    done += bytesWritten
  }
}

/** Remove the segments that a summary stands for. */
async function removeBefore(dir: string, next: number): Promise<void> {
  for (const { path, first } of await segmentsOf(dir)) {
    if (first < next) await mapDiskErrors(path, () => rm(path, { force: true }))
  }
  await mapDiskErrors(dir, () => syncDir(dir))
}
