/** Commands of an owner about a finished training: publish it, and withdraw it again. */

import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { reporting } from '../lib/reporting.ts'
import type { Derivation } from '../owner/pack-training.ts'
import type { ReleaseSummary } from '../owner/release.ts'
import { PUBLISHED_DTYPE } from '../owner/train-defaults.ts'
import type { Score } from '../owner/training-folder.ts'
import { calibrationWords } from './calibration-words.ts'
import { nodeCommand } from './command.ts'
import { RANK, trainingName } from './common-parameters.ts'
import { flag, type Kind, oneOf, option, text, thousandths, withDefault } from './parameters.ts'
import { type PublishEvent, publishLine, withStageTimes } from './publish-progress.ts'
import { releaseLines } from './release-lines.ts'
import { bits } from './terminal.ts'

/** Noise of an epsilon above a thousand protects nobody. */
const MAX_EPSILON_MILLI = 1_000_000

const ALONE = flag(
  'alone',
  'sign although this home was copied or restored from a backup and no member has been reached since',
)

const MAX_REASON = 200
/** One line, since packages and terminals show it. */
const REASON: Kind<string> = {
  parse: (given, title) => {
    const reason = text(MAX_REASON).parse(given, title)
    if (/\p{C}/u.test(reason)) {
      throw new InputError('usage', `${title}: expected printable characters in one line`)
    }
    return reason
  },
  decode: (fields, key) => fields.text(key, MAX_REASON, /^\P{C}+$/u),
}

/** The scores are those of an expert that was reduced, trained elsewhere, or published without its router statistics. */
export interface PublishResult extends Derivation {
  /** Undefined with `--dry-run`. */
  readonly id?: Digest
  readonly summary: ReleaseSummary
  /** With `--rank`. */
  readonly rank?: number
}

/** What the node returns about a publication or its preview. */
interface Released {
  readonly id?: Digest
  readonly summary: ReleaseSummary
  readonly derivation: Derivation | undefined
}

export const PUBLISH = nodeCommand({
  name: 'publish',
  usage:
    'publish NAME [--dry-run] [--yes] [--alone] [--license SPDX] [--domain TEXT] [--rank R] [--router-statistics exact|noised|none] [--noise EPSILON] [--no-audit] [--accept-risk REASON]',
  parameters: {
    name: trainingName('publish'),
    alone: ALONE,
    dryRun: flag('dry-run', 'show what would leave this machine, to whom and until when; publish nothing'),
    license: withDefault(
      option(
        'license',
        'SPDX expression (default LicenseRef-consortium-only: what members agreed on); decide it with the owner of the text',
        text(64),
      ),
      'LicenseRef-consortium-only',
    ),
    domain: withDefault(
      option('domain', 'what the text is about (default unspecified)', text(80)),
      'unspecified',
    ),
    dtype: withDefault<FloatDtype>(
      option('dtype', `BF16, F16 or F32 (default ${PUBLISHED_DTYPE})`, oneOf('BF16', 'F16', 'F32')),
      PUBLISHED_DTYPE,
    ),
    rank: option(
      'rank',
      'reduce the difference from the public FFN to this rank, and show what is kept',
      RANK,
    ),
    statistics: option(
      'router-statistics',
      'exact, noised or none: the share of each token in the text, from which routing gates are computed (default exact; none for a training with --epsilon)',
      oneOf('exact', 'noised', 'none'),
    ),
    epsilonMilli: withDefault(
      option(
        'noise',
        'epsilon of noised router statistics, per document, as in 8; a smaller one hides more',
        thousandths(1, MAX_EPSILON_MILLI),
      ),
      0,
    ),
    noAudit: flag(
      'no-audit',
      'publish without attacking the expert first; the package then states that it was not audited',
    ),
    acceptRisk: option(
      'accept-risk',
      'publish although the audit stops it, and state this reason in the report and in the package',
      REASON,
    ),
  },
  clientOptions: [{ name: 'yes', type: 'boolean', help: 'do not ask on a terminal' }],
  confirmation: {
    option: 'yes',
    preview: { dryRun: true },
    question: ({ summary }: PublishResult) => `Publish ${summary.name}?`,
    declined: 'nothing was published',
  },
  async *run(
    node,
    { dryRun, noAudit, acceptRisk, ...options },
    signal,
  ): AsyncGenerator<PublishEvent, PublishResult, void> {
    if (noAudit && acceptRisk !== undefined) {
      throw new InputError('usage', 'publish: --accept-risk is about the audit; leave out --no-audit')
    }
    const request = { ...options, audit: noAudit ? undefined : { acceptedRisk: acceptRisk } }
    if ((request.statistics === 'noised') !== request.epsilonMilli > 0) {
      throw new InputError(
        'usage',
        'publish: noise on router statistics takes both --router-statistics noised and --noise EPSILON',
      )
    }
    if (!dryRun) await node.quota?.check()
    const { previewPublication } = await import('../node/publishing.ts')
    const { derivation, ...released } = yield* reporting<PublishEvent, Released>((report) => {
      const run = { signal, onProgress: withStageTimes(report) }
      return dryRun ? previewPublication(node.parts, request, run) : node.publish(request, run)
    })
    const { rank } = request
    return { ...released, ...(rank === undefined ? {} : { rank }), ...derivation }
  },
  progress: publishLine,
  words: ({ id, summary, rank, energyKept, own, public: shared, calibration }) => [
    ...(energyKept === undefined
      ? []
      : [`rank ${rank} keeps ${(100 * energyKept).toFixed(1)} % of the difference's energy`]),
    ...(shared === undefined
      ? []
      : [`bits per byte ${[...scoreOn('own', own), ...scoreOn('public', shared)].join(', ')}`]),
    ...(calibration === undefined ? [] : [calibrationWords(calibration)]),
    id === undefined
      ? `${summary.name} would leave this machine:`
      : `published ${summary.name} as ${id}${summary.replaces.length > 0 ? ', replaces the earlier package' : ''}:`,
    ...releaseLines(summary),
  ],
})

function scoreOn(text: string, score: Score | undefined): string[] {
  return score === undefined ? [] : [`on ${text} text ${bits(score.before)} -> ${bits(score.after)}`]
}

export const WITHDRAW = nodeCommand({
  name: 'withdraw',
  usage: 'withdraw NAME [--alone]',
  parameters: { name: trainingName('withdraw'), alone: ALONE },
  async *run(node, { name, alone }) {
    return { withdrawn: await node.withdraw(name, alone) }
  },
  words: ({ withdrawn }) => [
    `withdrawn: ${withdrawn.join(', ')}`,
    `see who has dropped it: ${ownCommand('withdrawals')}`,
  ],
})
