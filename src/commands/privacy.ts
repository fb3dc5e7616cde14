/** The command `privacy`: what each text has spent of its privacy, and the limit that the operator sets. */
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import type { BudgetReport, SpentGroup, SpentRow } from '../owner/budget.ts'
import type { PrivacyLimit } from '../owner/budget-log.ts'
import { deltaWords, epsilonWords } from '../packaging/privacy-words.ts'
import { nodeCommand } from './command.ts'
import { type Kind, option, type Parameter, usage } from './parameters.ts'
import { day } from './terminal.ts'

const WORDS = ['limit'] as const
const NONE = 'none'
const MAX_NUMBER = 40
/** Number of groups for which the tighter epsilon is computed, which takes a second each. */
const MAX_TIGHT = 4

/** A word of the command line at a position; undefined if it was not given. */
function wordAt(position: number, max: number): Parameter<string | undefined> {
  return {
    positionals: position + 1,
    read: ({ positionals }) => positionals[position],
    decode: (fields, key) => (fields.has(key) ? fields.text(key, max) : undefined),
  }
}

/** A number as text, because a request holds whole numbers only. */
const decimal: Kind<string> = {
  parse: (given) => given,
  decode: (fields, key) => fields.text(key, MAX_NUMBER),
}

/** A group of documents, with a second epsilon by a tighter accountant if it was computed. */
type ReportedGroup = Omit<SpentGroup, 'mechanisms' | 'accountantDelta'> & { readonly tightEpsilon?: number }

interface PrivacyResult extends Omit<BudgetReport, 'limit' | 'groups'> {
  readonly limit: PrivacyLimit | null
  readonly groups: readonly ReportedGroup[]
  /** Whether this command has set the limit. */
  readonly isSet: boolean
}

export const PRIVACY = nodeCommand({
  name: 'privacy',
  usage: 'privacy [limit EPSILON|none [--delta D]]',
  parameters: {
    action: wordAt(0, MAX_NUMBER),
    epsilon: wordAt(1, MAX_NUMBER),
    delta: option('delta', 'delta of the limit, as in 1e-5 (default 1e-6)', decimal),
  },
  async *run(node, { action, epsilon, delta }, signal): AsyncGenerator<never, PrivacyResult, void> {
    const { budget } = node.trainings
    const isSet = action !== undefined
    if (isSet) await budget.setLimit(limitOf(action, epsilon, delta))
    else if (delta !== undefined) throw usage('privacy: --delta belongs to "privacy limit EPSILON"')
    const report = await budget.report()
    const groups: ReportedGroup[] = []
    for (const group of report.groups) {
      const { mechanisms: _, accountantDelta: __, ...reported } = group
      const isTight = groups.length < MAX_TIGHT && group.epsilon !== null && group.epsilon > 0
      const tight = isTight ? await node.trainings.tightEpsilon(group, signal) : undefined
      groups.push({ ...reported, ...(tight === undefined ? {} : { tightEpsilon: tight }) })
    }
    return { ...report, groups, limit: report.limit ?? null, isSet }
  },
  words: ({ limit, delta, rows, groups }) => [
    limit === null
      ? `no limit; ${ownCommand('privacy', 'limit', 'EPSILON')} sets one`
      : `limit: epsilon ${limit.epsilon} at delta ${deltaWords(limit.delta)} for each document`,
    ...(rows.length === 0 ? ['no text was trained on yet'] : table(rows)),
    ...(groups.length === 0
      ? []
      : [
          `spent by each document, everything together, at delta ${deltaWords(delta)}:`,
          ...groups.map((group) => `  ${groupLine(group)}`),
        ]),
  ],
})

/** @throws InputError `usage`. */
function limitOf(
  action: string | undefined,
  given: string | undefined,
  delta: string | undefined,
): PrivacyLimit | undefined {
  if (action !== WORDS[0]) {
    throw usage(`privacy: expected nothing or "limit", got "${action}"; flexmesh privacy --help`)
  }
  if (given === undefined) {
    throw usage('privacy limit: expected an epsilon, as in "flexmesh privacy limit 8", or "none"')
  }
  if (given === NONE) {
    if (delta !== undefined) throw usage('privacy limit none: leave out --delta')
    return undefined
  }
  return {
    epsilon: within(given, 'privacy limit', 1e-3, 1e6),
    delta: delta === undefined ? 1e-6 : within(delta, '--delta', 1e-15, 0.1),
  }
}

function within(given: string, title: string, min: number, max: number): number {
  const value = given.trim() === '' ? Number.NaN : Number(given)
  if (value >= min && value <= max) return value
  throw new InputError('usage', `${title}: expected a number from ${min} to ${max}, got "${given}"`)
}

function table(rows: readonly SpentRow[]): string[] {
  const cells = [
    ['training', 'documents', 'day', 'epsilon', 'for'],
    ...rows.map(({ training, documents, at, epsilon, purpose }) => [
      training,
      String(documents),
      day(at),
      epsilonWords(epsilon),
      purpose,
    ]),
  ]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => (row[column] as string).length)))
  return cells.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

function groupLine({ documents, trainings, epsilon, tightEpsilon, left }: ReportedGroup): string {
  const spent = epsilon === null ? 'no bound' : `epsilon ${epsilonWords(epsilon)}`
  const tight =
    tightEpsilon === undefined ? '' : ` (${epsilonWords(tightEpsilon)} by privacy loss distributions)`
  const rest = left === undefined ? '' : `, ${Math.floor(left * 100) / 100} left`
  return `${documents} documents of ${trainings.join(', ')}: ${spent}${tight}${rest}`
}
