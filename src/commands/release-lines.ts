/**
 * How publications read: what leaves the machine, to whom, until when, how to undo it; and the reminder that a consent
 * ends.
 */
import { ownCommand } from '../lib/command-line.ts'
import type { ReleaseSummary } from '../owner/release.ts'
import { privacyWords } from '../packaging/privacy-words.ts'
import { auditWords } from './audit-words.ts'
import { bits, day, daysLeft } from './terminal.ts'

const MICRO = 1e6
/** Licences of this form grant nothing beyond what members agreed among themselves. */
const OWN_LICENCE = /^LicenseRef-/

export function releaseLines(summary: ReleaseSummary): string[] {
  const { name, bytes, layers, dtype, rank, training, license, domain, recipients, expiresAt, replaces } =
    summary
  const weights = rank === undefined ? 'weights' : `weights of rank ${rank}`
  const rows: [label: string, value: string][] = [
    [
      'file',
      `${(bytes / 1e6).toFixed(1)} MB, signed: ${weights} (${dtype}), router rows and biases of ${layers} layers`,
    ],
    ['statistics', statisticsLine(summary)],
    ['stated', `domain "${domain}", ${sizeWords(training)}${training.steps} steps${scores(summary)}`],
    ['privacy', privacyWords(summary.privacy)],
    ['audit', auditWords(summary.audit)],
    ['licence', licenceLine(license)],
    [
      'to',
      `${recipients.length === 0 ? 'no other member yet' : recipients.join(', ')}; also to institutions that join later`,
    ],
    ['until', `${day(expiresAt)}; to renew, publish it again before`],
    ...(replaces.length === 0
      ? []
      : [['replaces', `the package of this name that is published now`] satisfies [string, string]]),
    [
      'undo',
      `${ownCommand('withdraw', name)}; members stop using it when they next sync and answer with receipts; exports of it remain and are marked`,
    ],
  ]
  const width = Math.max(...rows.map(([label]) => label.length))
  return rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`)
}

export interface EndingConsentRow {
  readonly expert: string
  readonly institution: string
  /** Whether this node published it. */
  readonly isOwn: boolean
  /** Unix seconds. */
  readonly expiresAt: number
  readonly daysLeft: number
}

export function endingConsentLine({ expert, institution, isOwn, ...end }: EndingConsentRow): string {
  const what = isOwn ? `your consent for ${expert}` : `the consent of ${institution} for ${expert}`
  const next = isOwn
    ? `to renew it, run: ${ownCommand('publish', expert)}`
    : `${institution} renews it by publishing it again`
  return `warning: ${what} ends on ${day(end.expiresAt)}, ${daysLeft(end.daysLeft)}; ${next}`
}

/** Manifests with a guarantee do not state the size of the text. */
function sizeWords({ documents, tokens }: ReleaseSummary['training']): string {
  return documents === 0 && tokens === 0 ? '' : `${documents} documents, ${tokens} tokens, `
}

function statisticsLine({ statistics }: ReleaseSummary): string {
  if (statistics === undefined) return 'none'
  const { tokens, documents, epsilonMilli } = statistics
  const exactness = epsilonMilli === 0 ? 'exact' : `with noise of epsilon ${epsilonMilli / 1000}`
  return `how often each of ${tokens} tokens occurs in the text, over ${documents} documents, ${exactness}`
}

function licenceLine(license: string): string {
  return OWN_LICENCE.test(license)
    ? license
    : `${license}, which may let everybody who gets the weights use them, also outside the consortium`
}

function scores({ eval: results }: ReleaseSummary): string {
  return results
    .map(
      ({ set, before, after }) =>
        `, ${bits(before / MICRO)} -> ${bits(after / MICRO)} bits per byte on ${set} text`,
    )
    .join('')
}
