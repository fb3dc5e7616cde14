/**
 * The account of privacy of a home: what each text has spent, on what, and what is left of the operator's limit. Epsilon
 * adds up over everything that was derived from a document, whatever training it was in. A spending is on disk before
 * what it pays for begins. Knows nothing about gradients, weights and packages.
 */

import { join } from 'node:path'
import type { TokenFile } from '../data/token-file.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { epsilonOf, noiseFor, type SubsampledGaussian } from '../privacy/accountant.ts'
import { append, type BudgetEntry, type PrivacyLimit, readEntries, type Spending } from './budget-log.ts'
import { groupDocuments, keepTexts, type TextSet } from './budget-texts.ts'

/** Folder of the account, among those of the trainings. */
export const ACCOUNT_DIR = '.account'
/** Delta at which epsilons are added up if the operator has set no limit and no training has stated one. */
const DEFAULT_DELTA = 1e-6

/** Something that is about to be spent. */
export type PlannedSpending = Omit<Spending, 'kind' | 'at' | 'texts' | 'documents'>

/** What one entry has spent on its own. */
export interface SpentRow {
  readonly training: string
  readonly purpose: string
  readonly documents: number
  /** Unix seconds. */
  readonly at: number
  /** Null if nothing bounds it. */
  readonly epsilon: number | null
}

/** What the documents of a group have spent together. */
export interface SpentGroup {
  readonly documents: number
  readonly trainings: readonly string[]
  /** Null if nothing bounds it. */
  readonly epsilon: number | null
  /** What is left of the limit, at least 0; absent without a limit. */
  readonly left?: number
  /** All mechanisms together; null if one of them is not bounded. */
  readonly mechanisms: readonly SubsampledGaussian[] | null
  /** The part of delta that is left for them. */
  readonly accountantDelta: number
}

export interface BudgetReport {
  readonly limit: PrivacyLimit | undefined
  /** Delta of all epsilons. */
  readonly delta: number
  readonly rows: readonly SpentRow[]
  /** The groups of documents that are in the same entries, the largest epsilon first. */
  readonly groups: readonly SpentGroup[]
}

export class PrivacyBudget {
  readonly #dir: string
  readonly #now: () => number

  /**
   * @param trainingRoot folder of the trainings; the account stays when a training is removed.
   * @param now Unix seconds.
   */
  constructor(trainingRoot: string, now: () => number = () => Math.floor(Date.now() / 1000)) {
    this.#dir = join(trainingRoot, ACCOUNT_DIR)
    this.#now = now
  }

  /**
   * The documents of a text, for `spend`.
   * @param boundary the token that begins every document.
   */
  textsOf(file: Pick<TokenFile, 'read'>, boundary: number, signal?: AbortSignal): Promise<TextSet> {
    return keepTexts(this.#dir, file, boundary, signal)
  }

  /**
   * Spend on every document of a text: once for each run, and again if the run was settled or has other mechanisms now.
   * It is on disk when this resolves.
   * @param instead what the owner can do if the limit forbids it; default: a training with a lower epsilon.
   * @throws InputError `over-budget` if a document would then have spent more than the limit; nothing is spent.
   */
  async spend(texts: TextSet, planned: PlannedSpending, instead?: string): Promise<void> {
    await append(this.#dir, async (entries) => {
      const entry = await this.#checked(entries, texts, planned, instead)
      const same = spendingsOf(entries).find((one) => isSameRun(one, entry))
      const isSpent =
        same?.isSettled === false && JSON.stringify(same.mechanisms) === JSON.stringify(entry.mechanisms)
      return isSpent ? undefined : entry
    })
  }

  /** Check whether `spend` would refuse. @throws as `spend`. */
  async check(texts: TextSet, planned: PlannedSpending, instead?: string): Promise<void> {
    await this.#checked(await readEntries(this.#dir), texts, planned, instead)
  }

  /** Settle a run that was stopped: it has spent `steps` steps, and holds no more until it goes on. */
  async settle(run: string, steps: number): Promise<void> {
    await append(this.#dir, async (entries) => {
      const isOpen = spendingsOf(entries).some(
        (entry) => entry.run === run && entry.mechanisms?.some((mechanism) => mechanism.steps > steps),
      )
      return isOpen ? { kind: 'settlement', at: this.#now(), run, steps } : undefined
    })
  }

  /** Set the limit of every document, or end it. */
  async setLimit(limit: PrivacyLimit | undefined): Promise<void> {
    await append(this.#dir, async () => ({ kind: 'limit', at: this.#now(), limit }))
  }

  /**
   * Refuse what would have no guarantee, if the operator has set a limit.
   * @param what for the message, as in `training ward without --epsilon`
   * @throws InputError `over-budget`.
   */
  async requireNoLimit(what: string, instead: string): Promise<void> {
    const limit = limitOf(await readEntries(this.#dir))
    if (limit !== undefined) throw overBudget(`${what} has no bound on epsilon`, limit, instead)
  }

  /** Number of runs of training that shared a document with this text. */
  async runsOn(texts: TextSet): Promise<number> {
    const spendings = spendingsOf(await readEntries(this.#dir))
    const groups = await this.#groups([...spendings, { texts: texts.id }])
    const related = new Set(groups.filter(({ sets }) => sets.includes(texts.id)).flatMap(({ sets }) => sets))
    const trainings = spendings.filter(({ by, texts: id }) => by === 'training' && related.has(id))
    return new Set(trainings.map(({ run }) => run)).size
  }

  async report(): Promise<BudgetReport> {
    const entries = await readEntries(this.#dir)
    const limit = limitOf(entries)
    const spendings = spendingsOf(entries)
    const stated = spendings.flatMap((one) => one.delta ?? [])
    const delta = limit?.delta ?? (stated.length === 0 ? DEFAULT_DELTA : Math.min(...stated))
    const rows = spendings.map((one) => ({
      training: one.training,
      purpose: one.purpose,
      documents: one.documents,
      at: one.at,
      epsilon: finite(epsilonTogether([one], delta)),
    }))
    const groups = (await this.#groups(spendings)).map(({ sets, documents }) => {
      const on = spendings.filter(({ texts }) => sets.includes(texts))
      const epsilon = epsilonTogether(on, delta)
      return {
        documents,
        trainings: [...new Set(on.map(({ training }) => training))],
        epsilon: finite(epsilon),
        mechanisms: mechanismsOf(on),
        accountantDelta: deltaLeft(on, delta),
        ...(limit === undefined ? {} : { left: Math.max(0, limit.epsilon - epsilon) }),
      }
    })
    return { limit, delta, rows, groups: groups.sort((a, b) => ordered(b) - ordered(a)) }
  }

  #groups(spendings: readonly Pick<Spending, 'texts'>[]) {
    return groupDocuments(
      this.#dir,
      spendings.map(({ texts }) => texts),
    )
  }

  /** The entry of a spending that the limit allows. @throws InputError `over-budget`. */
  async #checked(
    entries: readonly BudgetEntry[],
    texts: TextSet,
    planned: PlannedSpending,
    instead: string | undefined,
  ): Promise<Spending> {
    const entry: Spending = {
      kind: 'spending',
      at: this.#now(),
      ...planned,
      texts: texts.id,
      documents: texts.documents,
    }
    const limit = limitOf(entries)
    if (limit === undefined) return entry
    // A run that goes on, or that begins anew before its first step, replaces what it had spent.
    const spendings = spendingsOf(entries).filter((one) => !isSameRun(one, entry))
    const groups = (await this.#groups([...spendings, entry]))
      .filter(({ sets }) => sets.includes(texts.id))
      .map(({ sets, documents }) => {
        const before = spendings.filter((one) => sets.includes(one.texts))
        return { documents, before, together: epsilonTogether([...before, entry], limit.delta) }
      })
      .sort((a, b) => b.together - a.together || b.documents - a.documents)
    const [worst] = groups
    if (worst === undefined || worst.together <= limit.epsilon) return entry
    const { documents, before, together } = worst
    const spent = epsilonTogether(before, limit.delta)
    const isPartly = spent > 0 && Number.isFinite(together)
    const history = isPartly ? `, of which ${spent.toPrecision(3)} is spent already` : ''
    throw overBudget(
      `${planned.training}: ${planned.purpose} would ${bringTo(documents, together)}${history}`,
      limit,
      instead ?? lowerEpsilon(before, entry, limit),
    )
  }
}

/** The epsilon of everything that was spent on the same documents. */
function epsilonTogether(spendings: readonly Spending[], delta: number): number {
  const mechanisms = mechanismsOf(spendings)
  if (mechanisms === null) return Number.POSITIVE_INFINITY
  if (mechanisms.every(({ steps }) => steps === 0)) return 0
  const rest = deltaLeft(spendings, delta)
  return rest > 0 ? epsilonOf(mechanisms, rest).epsilon : Number.POSITIVE_INFINITY
}

function mechanismsOf(spendings: readonly Spending[]): SubsampledGaussian[] | null {
  return spendings.every(({ mechanisms }) => mechanisms !== undefined)
    ? spendings.flatMap(({ mechanisms }) => mechanisms ?? [])
    : null
}

/** What truncated batches leave of delta. */
function deltaLeft(spendings: readonly Spending[], delta: number): number {
  return spendings.reduce((rest, { truncationDelta }) => rest - truncationDelta, delta)
}

interface RunSpending extends Spending {
  /** Whether the run was stopped after this, and holds nothing more than it has spent. */
  readonly isSettled: boolean
}

/** What every run has spent, or has reserved if it may go on. */
function spendingsOf(entries: readonly BudgetEntry[]): RunSpending[] {
  const spendings: RunSpending[] = []
  for (const entry of entries) {
    if (entry.kind === 'spending') {
      const at = spendings.findIndex((one) => isSameRun(one, entry))
      spendings.splice(at < 0 ? spendings.length : at, at < 0 ? 0 : 1, { ...entry, isSettled: false })
    }
    if (entry.kind !== 'settlement') continue
    for (const [at, spending] of spendings.entries()) {
      if (spending.run !== entry.run) continue
      const mechanisms = spending.mechanisms?.map((one) => ({
        ...one,
        steps: Math.min(one.steps, entry.steps),
      }))
      spendings[at] = { ...spending, mechanisms, isSettled: true }
    }
  }
  return spendings
}

function isSameRun(a: Spending, b: Spending): boolean {
  return a.run === b.run && a.texts === b.texts
}

function limitOf(entries: readonly BudgetEntry[]): PrivacyLimit | undefined {
  return entries.findLast((entry) => entry.kind === 'limit')?.limit
}

/** What the owner of a training can do instead. */
function lowerEpsilon(
  before: readonly Spending[],
  { mechanisms, delta, truncationDelta }: Spending,
  limit: PrivacyLimit,
): string {
  const [first, ...others] = mechanisms ?? []
  const isBounded = before.every((one) => one.mechanisms !== undefined)
  const rest = before.reduce((sum, one) => sum - one.truncationDelta, limit.delta - truncationDelta)
  if (first === undefined || !isBounded || rest <= 0) return 'train on other text'
  const earlier = before.flatMap((one) => one.mechanisms ?? [])
  const noiseMultiplier = noiseFor({
    ...first,
    epsilon: limit.epsilon,
    delta: rest,
    before: [...earlier, ...others],
  })
  if (noiseMultiplier === undefined) return 'train on other text'
  // The epsilon that the owner asks for is at the delta of the training.
  const { epsilon } = epsilonOf([{ ...first, noiseMultiplier }], (delta ?? limit.delta) - truncationDelta)
  return `choose at most --epsilon ${Math.floor(epsilon * 100) / 100}, train on other text`
}

function overBudget(what: string, { epsilon, delta }: PrivacyLimit, instead: string): InputError {
  return new InputError(
    'over-budget',
    `${what}; the limit of this home is an epsilon of ${epsilon} at delta ${delta.toExponential()}; ${instead}, or change the limit with ${ownCommand('privacy', 'limit', 'EPSILON')}`,
  )
}

function finite(epsilon: number): number | null {
  return Number.isFinite(epsilon) ? epsilon : null
}

/** What groups are ordered by; a group without a bound comes first. */
function ordered({ epsilon }: SpentGroup): number {
  return epsilon ?? Number.MAX_VALUE
}

function bringTo(documents: number, epsilon: number): string {
  return Number.isFinite(epsilon)
    ? `bring ${documents} documents to an epsilon of ${epsilon.toPrecision(3)}`
    : `leave ${documents} documents without any bound on epsilon`
}
