/** The command `egress`: who got what from this node, whether the ledger of it is whole, and removing old rows. */
import { ownCommand } from '../lib/command-line.ts'
import { FormatError } from '../lib/errors.ts'
import type { EgressItem, EgressReport, EgressVerification } from '../node/egress-report.ts'
import { nodeCommand } from './command.ts'
import { type Kind, oneOf, option, optionalPositional, text, usage } from './parameters.ts'
import { day, table } from './terminal.ts'

/** A day in UTC, or a time; in a request, Unix seconds. */
const date: Kind<number> = {
  parse: (given, title) => {
    const time = /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?$/.test(given) ? Date.parse(given) : Number.NaN
    if (Number.isNaN(time) || time < 0)
      throw usage(
        `${title}: expected a day as in 2026-11-28, or a time as in 2026-11-28T09:00Z, got "${given}"`,
      )
    return Math.floor(time / 1000)
  },
  decode: (fields, key) => fields.uint(key),
}

type EgressResult =
  | ({ readonly action: 'show'; readonly items: readonly ShownItem[] } & Omit<EgressReport, 'items'>)
  | ({ readonly action: 'verify' } & EgressVerification)
  | { readonly action: 'prune'; readonly removed: number }

interface ShownItem extends EgressItem {
  /** What it is, for people. */
  readonly what: string
  /** Whether it carries nothing of the node's: what libp2p needs for itself. */
  readonly isOverhead: boolean
}

export const EGRESS = nodeCommand({
  name: 'egress',
  usage: 'egress [--since DATE] | egress verify [--expect ROW:HASH] | egress prune --before DATE',
  parameters: {
    action: optionalPositional(oneOf('verify', 'prune')),
    since: option('since', 'show only what left the node since this day or time', date),
    before: option(
      'before',
      'with prune: replace the rows of whole days before this day by a signed summary',
      date,
    ),
    expect: option(
      'expect',
      'with verify: a row that "egress verify" printed before, which the ledger must still have',
      text(100),
    ),
  },
  async *run(node, { action, since, before, expect }, signal): AsyncGenerator<never, EgressResult, void> {
    const { egress, membership } = node
    const { blobs } = node.parts
    const parts = { egress, blobs, membership }
    if (action !== 'verify' && expect !== undefined)
      throw usage('--expect: only "egress verify" compares rows')
    if (action !== 'prune' && before !== undefined) throw usage('--before: only "egress prune" removes rows')
    if (action !== undefined && since !== undefined) throw usage(`--since: not with "egress ${action}"`)
    if (action === 'prune') {
      if (before === undefined)
        throw usage('--before is missing; rows before it are removed, as in --before 2026-01-01')
      return { action, removed: await egress.prune(before) }
    }
    const [{ egressReport, verifyEgress }, { parseAnchor }] = await Promise.all([
      import('../node/egress-report.ts'),
      import('../node/egress.ts'),
    ])
    if (action === undefined) {
      const report = await egressReport(parts, since ?? 0)
      return { action: 'show', ...report, items: report.items.map(shown) }
    }
    const anchor = expect === undefined ? undefined : parseAnchor(expect)
    if (expect !== undefined && anchor === undefined) {
      throw new FormatError(
        'bad-field',
        `--expect: expected the number and the hash of a row, as "egress verify" prints them, got "${expect}"`,
      )
    }
    return { action, ...(await verifyEgress(parts, anchor, signal)) }
  },
  words: (result) => {
    if (result.action === 'prune') {
      return result.removed === 0
        ? ['nothing was removed: no day before that date has rows of its own']
        : [`removed ${result.removed} rows; egress/summary.json has their totals, signed`]
    }
    return result.action === 'verify' ? verificationWords(result) : reportWords(result)
  },
  isIncomplete: (result) => result.action === 'verify' && !isWhole(result),
})

function isWhole({ fault, damaged, different }: EgressVerification): boolean {
  return fault === undefined && damaged.length === 0 && different.length === 0
}

/** What kinds are for people. Kinds of a protocol that is not in the table are shown as they are. */
const WORDS: Readonly<Record<string, string>> = {
  file: 'file',
  'chunk-hashes': 'chunk hashes of a file',
  statement: 'signed statements',
  fork: 'proofs of forks',
  charter: 'charter and rosters',
  head: 'announcements of heads',
  join: 'answers to membership requests',
  addresses: 'addresses of members',
  checkpoint: 'checkpoints and witness keys',
  cosignature: 'cosignatures',
  request: 'requests of this node',
  refusal: 'refusals',
  answer: 'answers of the API',
  prompt: 'prompts to the upstream server',
}
/** Kinds that carry nothing of the node's: what libp2p needs for itself. */
const OVERHEAD: readonly string[] = ['transport', 'negotiation', 'identify', 'ping', 'gossip']

function shown(item: EgressItem): ShownItem {
  const { kind, name, file } = item
  const what = kind === 'file' ? (name ?? `file ${file?.slice(7, 19)}`) : (WORDS[kind] ?? kind)
  return { ...item, what, isOverhead: OVERHEAD.includes(kind) }
}

function reportWords(report: Extract<EgressResult, { readonly action: 'show' }>): string[] {
  const { since, items, bytes, rows, removedBefore, notes, isInterrupted, fault } = report
  const when = since === 0 ? '' : ` since ${day(since)}`
  const others = items.filter(({ isOverhead }) => !isOverhead)
  return [
    `${size(bytes)} left this node${when}, in ${rows} row${rows === 1 ? '' : 's'} of the ledger`,
    ...table([...others.map(itemCells), ...overheadCells(items)]),
    ...(removedBefore === undefined ? [] : [`of rows until ${day(removedBefore)}, totals alone were kept`]),
    ...notes.map(({ at, text: words }) => `${new Date(at * 1000).toISOString().slice(0, 16)}Z: ${words}`),
    ...(isInterrupted
      ? ['the node was killed; its next start adds the last rows that it had counted to the ledger']
      : []),
    ...(fault === undefined
      ? []
      : [
          `the ledger is broken at row ${fault.seq}, so later rows are left out; run: ${ownCommand('egress', 'verify')}`,
        ]),
  ]
}

function itemCells({ to, institution, kind, what, count, bytes, tokens }: ShownItem): string[] {
  const amount = tokens === undefined ? `${count}` : `${count}, ${tokens} tokens`
  return [`${institution ?? to}: ${what}`, kind === 'file' ? '' : amount, size(bytes)]
}

/** One line for each receiver. */
function overheadCells(items: readonly ShownItem[]): string[][] {
  const sums = new Map<string, number>()
  for (const { to, institution, isOverhead, bytes } of items) {
    if (!isOverhead) continue
    const who = institution ?? to
    sums.set(who, (sums.get(who) ?? 0) + bytes)
  }
  return [...sums].map(([who, bytes]) => [
    `${who}: encryption, multiplexing, identify, ping, gossip control`,
    '',
    size(bytes),
  ])
}

function verificationWords(result: EgressVerification): string[] {
  const { rows, last, signed, fault, damaged, killed, isInterrupted, same, gone, different } = result
  const times = killed === 1 ? 'once' : `${killed} times`
  return [
    ...(fault === undefined
      ? [`all ${rows} rows of the ledger are whole`]
      : [`the ledger is broken at row ${fault.seq} (egress/${fault.where}): ${fault.what}`]),
    ...damaged.map(
      ({ seq, text: words }) => `row ${seq} says that the node found damage when it started: ${words}`,
    ),
    ...different.map(({ seq, what }) => `row ${seq}: what was sent is not what the store holds: ${what}`),
    ...(different.length === 0 ? [`files and statements of ${same} rows are what the store holds`] : []),
    ...(gone === 0
      ? []
      : [`objects of ${gone} rows are not in the store any more, so they were not compared`]),
    ...(killed === 0
      ? []
      : [
          `the node was killed ${times}: each time, rows of answers that had not ended and of its last second may be missing`,
        ]),
    ...(isInterrupted
      ? ['the node was killed and not started since; its next start adds the last rows that it had counted']
      : []),
    ...(signed === undefined
      ? []
      : [`signed through row ${signed.seq} at ${new Date(signed.at * 1000).toISOString().slice(0, 19)}Z`]),
    ...(last === undefined || fault !== undefined
      ? []
      : [
          `note this outside the machine: ${ownCommand('egress', 'verify', '--expect', `${last.seq}:${last.hash}`)}`,
          'later, it shows that nothing before it was changed, by whoever had the disk and the key',
        ]),
  ]
}

function size(bytes: number): string {
  if (bytes < 10_000) return `${bytes} B`
  return bytes < 10_000_000 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`
}
