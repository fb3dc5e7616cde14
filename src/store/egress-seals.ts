/**
 * The two signed statements of an egress ledger: its head, which names the last row that was written to disk, and the
 * summary that stands for rows which were removed. They never leave the node by themselves. The caller brings signing.
 */
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'

/** The last row that was flushed. */
export interface EgressHead {
  readonly seq: number
  /** Hash of the line, hex. */
  readonly hash: string
  /** Unix seconds. */
  readonly signedAt: number
}

/** What was sent to one receiver in rows of one kind. */
export interface EgressTotal {
  readonly to: string
  readonly kind: string
  readonly rows: number
  readonly count: number
  readonly bytes: number
  readonly tokens: number
}

/** Stands for all rows before `next`. */
export interface EgressSummary {
  /** Number of the first row that was kept. */
  readonly next: number
  /** Hash of the last row that was removed. */
  readonly hash: string
  /** Unix seconds: the first and the last row that were removed. */
  readonly from: number
  readonly until: number
  readonly totals: readonly EgressTotal[]
  readonly signedAt: number
}

/** Signs and opens the statements of one node's ledger. */
export interface EgressSigner {
  /** An envelope around a payload. */
  seal(kind: 'head' | 'summary', payload: Uint8Array): Uint8Array
  /** The payload of an envelope of this node. @throws FormatError, VerificationError for any other envelope. */
  open(kind: 'head' | 'summary', envelope: Uint8Array): Uint8Array
}

const HASH = /^[a-f0-9]{64}$/
const MAX_WORD = 200
/** Totals of more receivers are added up as those of `others`, so that the summary fits into a statement. */
const MAX_RECEIVERS = 100
const MAX_TOTALS = 100_000
/** Characters of all totals of a summary, which must fit into a statement of 64 KiB. */
const MAX_TOTALS_LENGTH = 48_000

export function encodeHead({ seq, hash, signedAt }: EgressHead): Uint8Array {
  return encodeCanonical({ seq, hash, signedAt })
}

/** @throws FormatError. */
export function decodeHead(payload: Uint8Array): EgressHead {
  const fields = new Fields(decodeCanonical(payload), 'head of the egress ledger')
  const head = {
    seq: fields.uint('seq'),
    hash: fields.text('hash', 64, HASH),
    signedAt: fields.uint('signedAt'),
  }
  fields.end()
  return head
}

/** Totals are nested by receiver and kind, which takes a third of the space of a list. */
export function encodeSummary(summary: EgressSummary): Uint8Array {
  const nested: Record<string, Record<string, number[]>> = {}
  for (const { to, kind, rows, count, bytes, tokens } of summary.totals) {
    nested[to] ??= {}
    ;(nested[to] as Record<string, number[]>)[kind] = [rows, count, bytes, tokens]
  }
  const { next, hash, from, until, signedAt } = summary
  return encodeCanonical({ next, hash, from, until, signedAt, totals: nested })
}

/** @throws FormatError. */
export function decodeSummary(payload: Uint8Array): EgressSummary {
  const value = decodeCanonical(payload)
  const fields = new Fields(value, 'summary of the egress ledger')
  const next = fields.uint('next', Number.MAX_SAFE_INTEGER, 1)
  const hash = fields.text('hash', 64, HASH)
  const [from, until, signedAt] = [fields.uint('from'), fields.uint('until'), fields.uint('signedAt')]
  fields.object('totals')
  fields.end()
  const totals: EgressTotal[] = []
  const { totals: nested } = value as { totals: Record<string, unknown> }
  for (const [to, kinds] of Object.entries(nested)) {
    if (typeof kinds !== 'object' || kinds === null || to.length > MAX_WORD) throw badTotals()
    for (const [kind, numbers] of Object.entries(kinds)) {
      const numbersOf = Array.isArray(numbers) ? (numbers as unknown[]) : []
      const isTotal = numbersOf.length === 4 && numbersOf.every((number) => Number.isSafeInteger(number))
      if (!isTotal || totals.length >= MAX_TOTALS) throw badTotals()
      const [rows, count, bytes, tokens] = numbersOf as [number, number, number, number]
      totals.push({ to, kind, rows, count, bytes, tokens })
    }
  }
  return { next, hash, from, until, totals, signedAt }
}

function badTotals(): FormatError {
  return new FormatError(
    'bad-field',
    'summary of the egress ledger.totals: expected numbers by receiver and kind',
  )
}

/** Adds up rows by receiver and kind. */
export class EgressTotals {
  readonly #totals = new Map<string, EgressTotal>()

  constructor(totals: readonly EgressTotal[] = []) {
    for (const total of totals) this.add(total)
  }

  add({ to, kind, rows, count, bytes, tokens }: EgressTotal): void {
    const key = JSON.stringify([to, kind])
    const known = this.#totals.get(key)
    this.#totals.set(key, {
      to,
      kind,
      rows: rows + (known?.rows ?? 0),
      count: count + (known?.count ?? 0),
      bytes: bytes + (known?.bytes ?? 0),
      tokens: tokens + (known?.tokens ?? 0),
    })
  }

  /** By receiver, then by kind. */
  list(): EgressTotal[] {
    return [...this.#totals.values()].sort((a, b) => compare(a.to, b.to) || compare(a.kind, b.kind))
  }

  /** Few enough totals for a summary: the receivers of the fewest bytes are added up as `others`. */
  bounded(): EgressTotal[] {
    const bytes = new Map<string, number>()
    for (const total of this.#totals.values()) bytes.set(total.to, (bytes.get(total.to) ?? 0) + total.bytes)
    const receivers = [...bytes.keys()].sort((a, b) => (bytes.get(b) as number) - (bytes.get(a) as number))
    for (let kept = Math.min(receivers.length, MAX_RECEIVERS); ; kept = Math.floor(kept / 2)) {
      const named = new Set(receivers.slice(0, kept))
      const totals = new EgressTotals(
        this.list().map((total) => (named.has(total.to) ? total : { ...total, to: 'others' })),
      ).list()
      if (kept === 0 || JSON.stringify(totals).length <= MAX_TOTALS_LENGTH) return totals
    }
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
