/**
 * Reads an egress ledger from its first row to its last and checks it: hash and form of every line, numbers without gaps,
 * each row naming the hash of the one before, and the rows that its signed statements and the caller's anchors name. Finds
 * the first row that is broken. Does not know what rows mean.
 */
import { FormatError, VerificationError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import {
  headPath,
  ownPendingPath,
  readEnvelopeFile,
  readSegment,
  segmentsOf,
  summaryPath,
} from './egress-files.ts'
import { type EgressLine, NO_HASH, parseLine } from './egress-row.ts'
import {
  decodeHead,
  decodeSummary,
  type EgressHead,
  type EgressSigner,
  type EgressSummary,
} from './egress-seals.ts'

/** A row whose number and hash are known from elsewhere. */
export interface EgressAnchor {
  readonly seq: number
  /** Hash of its line, hex. */
  readonly hash: string
}

/** Source of the anchor that the catalogue keeps. */
export const ANCHOR_SOURCE = 'the database of the node'

/** What is wrong, and with which row. */
export interface EgressFault {
  readonly seq: number
  /** File name and line of the row, or of the place where it should be. */
  readonly where: string
  readonly what: string
}

export interface ChainReport {
  /** Number of rows that were read and are right. */
  readonly rows: number
  /** The last row that is right; undefined for an empty ledger. */
  readonly last: EgressAnchor | undefined
  readonly head: EgressHead | undefined
  readonly summary: EgressSummary | undefined
  readonly fault: EgressFault | undefined
}

export interface ChainInit {
  readonly dir: string
  readonly signer: Pick<EgressSigner, 'open'>
  /** Rows that the ledger must have. */
  readonly anchors: readonly (EgressAnchor & { readonly source: string })[]
  /** Number of the last row to read, if rows are being appended. */
  readonly through?: number
  readonly onLine?: (line: EgressLine) => void
}

/** Read and check a ledger. Never throws for what the files hold. @throws InputError `io`, `permissions`. */
export async function checkChain(init: ChainInit): Promise<ChainReport> {
  const { dir, signer, through = Number.MAX_SAFE_INTEGER } = init
  const checker = new Checker(init)
  const summary = await opened(checker, summaryPath(dir), 'summary', signer, decodeSummary)
  const head = await opened(checker, headPath(dir), 'head', signer, decodeHead)
  if (summary !== undefined) checker.continueFrom(summary)
  if (head !== undefined) checker.expect(head, 'the signed head')
  const segments = await segmentsOf(dir)
  // Exists while a process appends, and after it was killed: the last rows are then neither whole nor signed yet.
  const isOpen = await pathExists(ownPendingPath(dir))
  for (const { path, first } of segments) {
    const file = path.slice(dir.length + 1)
    // Rows that a summary stands for, in a file that is about to be removed.
    if (summary !== undefined && first < summary.next) continue
    if (checker.next > through) break
    if (first !== checker.next) {
      checker.fail(`${file}:1`, gap(checker.next, first))
      break
    }
    const { lines, rest } = await readSegment(path)
    for (const [i, text] of lines.entries()) {
      if (checker.hasFailed || checker.next > through) break
      checker.line(text, `${file}:${i + 1}`)
    }
    if (rest === '' || checker.hasFailed || checker.next > through) continue
    if (isOpen && path === segments.at(-1)?.path) continue
    checker.fail(`${file}:${lines.length + 1}`, 'the file ends within this row')
  }
  checker.end(head, isOpen)
  return { ...checker.report(), head, summary }
}

class Checker {
  readonly #init: ChainInit
  /** Hashes that rows must have, by number. */
  readonly #expected = new Map<number, { hash: string; source: string }[]>()
  #next = 1
  #hash = NO_HASH
  #rows = 0
  #fault: EgressFault | undefined

  constructor(init: ChainInit) {
    this.#init = init
    for (const anchor of init.anchors) this.expect(anchor, anchor.source)
  }

  /** Number of the row that comes next. */
  get next(): number {
    return this.#next
  }

  get hasFailed(): boolean {
    return this.#fault !== undefined
  }

  continueFrom({ next, hash }: EgressSummary): void {
    this.#next = next
    this.#hash = hash
  }

  /** Only the first fault is kept. */
  fail(where: string, what: string, seq = this.#next): void {
    this.#fault ??= { seq, where, what }
  }

  line(text: string, where: string): void {
    let line: EgressLine
    try {
      line = parseLine(text)
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      this.fail(where, error.message)
      return
    }
    const { row, hash } = line
    if (row.seq !== this.#next) this.fail(where, gap(this.#next, row.seq))
    else if (row.previous !== this.#hash) {
      this.fail(
        where,
        'the row names another hash of the row before it than that row has: one of them was replaced',
      )
    } else {
      const wrong = this.#expected.get(row.seq)?.find((expected) => expected.hash !== hash)
      if (wrong !== undefined) this.fail(where, `${wrong.source} names another row with this number`)
    }
    if (this.hasFailed) return
    this.#rows++
    this.#hash = hash
    this.#next++
    this.#init.onLine?.(line)
  }

  /**
   * After the last line: rows that are known from elsewhere must have been read, and no others.
   * @param isOpen whether rows may follow that are not signed yet
   */
  end(head: EgressHead | undefined, isOpen: boolean): void {
    if (this.hasFailed) return
    if (head !== undefined && !isOpen && this.#next > head.seq + 1)
      this.fail(
        'the end',
        'the row was added while no node ran: the signed head does not cover it',
        head.seq + 1,
      )
    for (const [seq, [expected]] of [...this.#expected].sort(([a], [b]) => a - b)) {
      const isRead = seq < this.#next
      if (isRead || seq > (this.#init.through ?? seq)) continue
      this.fail('the end', `rows ${this.#next} to ${seq} are missing, which ${expected?.source} names`)
    }
    if (head === undefined && this.#rows > 0 && this.#init.anchors.length > 0)
      this.fail('head.json', 'the signed head is missing', this.#init.anchors[0]?.seq)
  }

  report(): Pick<ChainReport, 'rows' | 'last' | 'fault'> {
    const seq = this.#next - 1
    return { rows: this.#rows, last: seq === 0 ? undefined : { seq, hash: this.#hash }, fault: this.#fault }
  }

  /** A row that the ledger must have. */
  expect({ seq, hash }: EgressAnchor, source: string): void {
    this.#expected.set(seq, [...(this.#expected.get(seq) ?? []), { hash, source }])
  }
}

/** The content of a signed statement; a fault if it is there and does not open. */
async function opened<T>(
  checker: Checker,
  path: string,
  kind: 'head' | 'summary',
  signer: Pick<EgressSigner, 'open'>,
  decode: (payload: Uint8Array) => T,
): Promise<T | undefined> {
  try {
    const envelope = await readEnvelopeFile(path)
    return envelope === undefined ? undefined : decode(signer.open(kind, envelope))
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof VerificationError)) throw error
    checker.fail(`${kind}.json`, `the signed ${kind} cannot be opened: ${error.message}`)
    return undefined
  }
}

function gap(expected: number, found: number): string {
  return found > expected
    ? `rows ${expected} to ${found - 1} are missing`
    : `row ${found} is here, where row ${expected} should be`
}
