/** How packages read in lists: one line each, with its state and what its manifest says. Prints nothing itself. */

import type { Judging, PackageState } from '../acceptance/package-states.ts'
import { type Digest, shortDigest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import type { PackageReport } from '../node/packages.ts'
import { privacyWords } from '../packaging/privacy-words.ts'
import { shortAuditWords } from './audit-words.ts'
import { day, duration } from './terminal.ts'

/** Maximum number of packages of one group in a list; --json lists all. */
const MAX_OF_GROUP = 20

/** Packages that are on their way first, then those in use, those that are refused, and those no longer offered. */
export function packageLines(packages: readonly PackageReport[]): string[] {
  return [0, 1, 2, 3, 4].flatMap((group) => {
    const all = packages
      .filter((one) => groupOf(one) === group)
      .sort((a, b) => (b.verdict?.at ?? 0) - (a.verdict?.at ?? 0))
    // Experts in use are at most as many as a composition holds.
    const most = group === 1 ? all.length : MAX_OF_GROUP
    const left = all.length - most
    return [
      ...all.slice(0, most).map(packageLine),
      ...(left > 0 ? [`and ${left} more like these; --json lists all`] : []),
    ]
  })
}

export function packageLine(report: PackageReport): string {
  const { id, institution, expert, isOwn, domain, license, privacy, audit, bytes, expiresAt, isFinal } =
    report
  const name = `${institution ?? '(unknown institution)'}/${expert ?? '(unknown expert)'}`
  const facts = [
    ...(bytes === undefined ? [] : [megabytes(bytes)]),
    ...(license === undefined ? [] : [license]),
    ...(domain === undefined ? [] : [`domain "${domain}"`]),
    // A report without a licence holds no manifest.
    ...(license === undefined ? [] : [privacyWords(privacy), shortAuditWords(audit)]),
    ...(expiresAt === undefined ? [] : [`consent until ${day(expiresAt)}`]),
    ...(isOwn ? ['published here'] : []),
    ...(isFinal === false ? ['not final yet'] : []),
  ]
  return [`${shortDigest(id)} ${name}: ${reportedWords(report)}`, ...facts].join('; ')
}

/** The state of a package that has no verdict. */
export function stateWords(id: Digest, state: PackageState): string {
  switch (state.kind) {
    case 'announced':
      return 'announced, waits for its turn'
    case 'fetching':
      return `fetching ${megabytesOf(state.doneBytes)} of ${megabytes(state.totalBytes)}`
    case 'waiting-for-holder':
      return `waiting for a holder: ${state.reason}`
    case 'disk-full':
      return state.neededBytes === 0
        ? `disk full: ${megabytes(state.freeBytes)} free`
        : `disk full: needs ${megabytes(state.neededBytes)}, ${megabytes(state.freeBytes)} free`
    case 'fetched':
      return 'fetched, waits to be judged'
    case 'judging':
      return `judging (${state.check}${judgedShare(state)})`
    case 'failed':
      if (state.needsOperator) {
        return `could not be judged: ${state.reason}; judged again only with ${ownCommand('accept', shortDigest(id))}`
      }
      return state.isFinal
        ? `could not be judged: ${state.reason}; tried again at the next start, or with ${ownCommand('accept', shortDigest(id))}`
        : `cannot be judged now: ${state.reason}; will be tried again`
  }
}

function judgedShare({ done, total, secondsLeft }: Judging): string {
  if (done === undefined || total === undefined) return ''
  const left = secondsLeft === undefined ? '' : `, ${duration(secondsLeft)} left`
  return `, ${Math.floor((100 * done) / total)} %${left}`
}

function reportedWords({ id, state, progress, verdict }: PackageReport): string {
  if (progress !== undefined) return stateWords(id, progress)
  switch (state) {
    case 'refused':
      return verdict?.outcome === 'refused' ? `refused, ${verdict.code}: ${verdict.reason}` : 'refused'
    case 'refused-by-operator':
      return 'refused by the operator of this node'
    case 'superseded':
      return 'superseded by a later package of this name'
    case 'withdrawn':
      return 'withdrawn by its owner'
    case 'waiting-for-place':
      return 'waits until its publisher withdraws another package: too many are in use'
    case 'expired':
      return verdict?.outcome === 'refused' ? `expired: ${verdict.reason}` : 'expired'
    default:
      return state
  }
}

function groupOf({ state }: PackageReport): number {
  if (state === 'accepted') return 1
  if (state === 'waiting-for-place') return 2
  if (state === 'refused' || state === 'refused-by-operator' || state === 'expired') return 3
  return state === 'withdrawn' || state === 'superseded' ? 4 : 0
}

function megabytes(bytes: number): string {
  return `${megabytesOf(bytes)} MB`
}

function megabytesOf(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}
