/**
 * The report of an audit: what was attacked, what was found and what follows, as JSON and in words. Does not know how
 * the figures are measured or where the report is kept.
 */

import { randomBytes } from 'node:crypto'
import { type Digest, digestOf, toHex, utf8 } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { type Figures, type Finding, type Outcome, outcomeOf, percent } from './audit-policy.ts'
import { type Extraction, FEW_TRIES, MANY_TRIES, PREFIX_TOKENS, SUFFIX_TOKENS } from './extraction-audit.ts'
import type { Attack, Found } from './membership-audit.ts'

/** What was audited. A report holds for this and for nothing else. */
export interface AuditSubject {
  readonly training: string
  /** Digest of the trained expert's file. */
  readonly expert: Digest
  /** Rank to which the expert was reduced for its publication, 0 if it was not. */
  readonly rank: number
  /** Format to which its FFN weights were rounded, as in its package. */
  readonly dtype: FloatDtype
  /** Number by which calibration changed its router logits. */
  readonly lowered: number
}

export interface AuditReport {
  readonly version: 1
  readonly subject: AuditSubject
  /** The training's guarantee; absent without one. */
  readonly declared?: { readonly epsilon: number; readonly delta: number }
  /** From which the public model wrote the canaries; absent without canaries. */
  readonly canarySeed?: number
  readonly figures: Omit<Figures, 'canaries'> & { readonly canaries?: Figures['canaries'] }
  readonly findings: readonly Finding[]
  readonly outcome: Outcome
  /** Why the owner publishes all the same; absent unless the outcome is `stop`. */
  readonly acceptedRisk?: string
  /** 32 random bytes in hex: without them, the digest of the report could be guessed from its figures. */
  readonly salt: string
  /** Time of the audit, Unix seconds, and how long it took. */
  readonly at: number
  readonly seconds: number
}

/** A report, and the digest of the file that holds it. */
export interface KeptReport {
  readonly report: AuditReport
  readonly digest: Digest
}

/** The bytes of the file of a report. */
export function reportBytes(report: AuditReport): Uint8Array {
  return utf8(`${JSON.stringify(report, null, 2)}\n`)
}

export function kept(report: AuditReport): KeptReport {
  return { report, digest: digestOf(reportBytes(report)) }
}

/** Whether the expert may be published. */
export function isReleased({ outcome, acceptedRisk }: AuditReport): boolean {
  return outcome === 'pass' || outcome === 'warn' || (outcome === 'stop' && acceptedRisk !== undefined)
}

export function reportOf(
  init: Pick<AuditReport, 'subject' | 'declared' | 'canarySeed' | 'at' | 'seconds'> & {
    readonly figures: Figures
    readonly findings: readonly Finding[]
  },
): AuditReport {
  const { canaries, ...figures } = init.figures
  return {
    version: 1,
    ...init,
    salt: toHex(randomBytes(32)),
    figures: { ...figures, ...(canaries && { canaries }) },
    outcome: outcomeOf(init.findings),
  }
}

/** The report for people, line by line. */
export function reportLines(report: AuditReport): string[] {
  const { figures, declared, findings, acceptedRisk } = report
  return [
    ...canaryLines(report),
    ...extractionLines(figures.extraction, OWN_TEXT),
    ...membershipLines(figures.membership, OWN_TEXT),
    `guarantee: ${declared === undefined ? 'none; the figures above are what these attacks found, not a bound on what others find' : `epsilon ${declared.epsilon} with delta ${declared.delta}`}`,
    ...findings.map(({ severity, words }) => `${SEVERITIES[severity]}: ${words}`),
    ...(acceptedRisk === undefined ? [] : [`the risk was accepted: ${acceptedRisk}`]),
    `result: ${RESULTS[report.outcome]}; the audit took ${report.seconds.toFixed(0)} s`,
  ]
}

const SEVERITIES: Readonly<Record<Finding['severity'], string>> = {
  warn: 'warning',
  stop: 'too much',
  bug: 'bug',
}

const RESULTS: Readonly<Record<Outcome, string>> = {
  pass: 'nothing was found that would stop a publication',
  warn: 'publishable, with warnings',
  stop: 'publishing stops, unless the risk is accepted with --accept-risk REASON',
  bug: 'publishing stops',
}

function canaryLines({ figures: { canaries }, canarySeed }: AuditReport): string[] {
  if (canaries === undefined)
    return [`canaries: none were hidden in the text (${ownCommand('train', '--canaries', 'M')} hides them)`]
  const { canaries: count, guesses, right, epsilonLow } = canaries
  return [
    `canaries: ${right} of ${guesses} guesses about ${count} were right (seed ${canarySeed}), so epsilon is at least ${epsilonLow.toFixed(2)} with 95 % confidence`,
  ]
}

/** Names of the two texts of an attack. */
export interface TextNames {
  readonly attacked: string
  readonly other: string
}

const OWN_TEXT: TextNames = { attacked: 'training text', other: 'held-out text' }

export function extractionLines(
  { train, trainPublic, heldOut }: Figures['extraction'],
  { attacked, other }: TextNames,
): string[] {
  const row = (title: string, { texts, greedy, fewTries, manyTries }: Extraction): string => {
    const share = (count: number): string => (texts === 0 ? '-' : percent(count / texts)).padStart(8)
    return `  ${title.padEnd(36)}${String(texts).padStart(6)}${share(greedy).padStart(10)}${share(fewTries).padStart(14)}${share(manyTries).padStart(18)}`
  }
  return [
    `extraction: ${SUFFIX_TOKENS} tokens written after ${PREFIX_TOKENS} that are known`,
    `  ${''.padEnd(36)}${'pieces'.padStart(6)}${'greedily'.padStart(10)}${`in ${FEW_TRIES} tries`.padStart(14)}${`in ${MANY_TRIES} tries`.padStart(18)}`,
    row(`${attacked}, expert`, train),
    row(`${attacked}, public model`, trainPublic),
    row(`${other}, expert`, heldOut),
  ]
}

export function membershipLines(
  { members, others, lossRatio, minK }: Figures['membership'],
  { attacked, other }: TextNames,
): string[] {
  return [
    `membership: ${members} pieces of ${attacked} among ${others} of ${other}`,
    ...attackLines('loss ratio to the public model', lossRatio),
    ...attackLines('Min-K%++', minK),
  ]
}

function attackLines(title: string, { area, at }: Attack): string[] {
  return [
    `  ${title}:`,
    ...at.map((found) => `    ${foundWords(found)}`),
    `    a piece of the first text scores higher than one of the second in ${percent(area)} of pairs`,
  ]
}

function foundWords({ falsePositiveRate, accused, found, rate, interval }: Found): string {
  return `${percent(rate)} recognised (${found}; 95 % interval ${percent(interval.low)} to ${percent(interval.high)}) while at most ${percent(falsePositiveRate)} of the other pieces are accused, here ${accused}`
}
