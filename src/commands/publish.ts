/** Commands of an owner about a finished training: publish it, and withdraw it again. */
import type { FloatDtype } from '../checkpoint/safetensors.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import type { PublishRequest } from '../owner/release.ts'
import type { Score } from '../owner/training-folder.ts'
import { nodeCommand } from './command.ts'
import { RANK, trainingName } from './common-parameters.ts'
import { oneOf, option, text, thousandths, withDefault } from './parameters.ts'
import { bits } from './terminal.ts'

/** Noise of an epsilon above a thousand protects nobody. */
const MAX_EPSILON_MILLI = 1_000_000

export interface PublishResult {
  readonly id: Digest
  /** With `--rank`: the rank, the share of the difference's squared norm that it keeps, and scores of the cut expert. */
  readonly rank?: number
  readonly energyKept?: number
  readonly own?: Score | undefined
  readonly public?: Score | undefined
}

export const PUBLISH = nodeCommand({
  name: 'publish',
  usage:
    'publish NAME [--license SPDX] [--domain TEXT] [--rank R] [--router-statistics exact|noised|none] [--noise EPSILON]',
  parameters: {
    name: trainingName('publish'),
    license: withDefault(
      option('license', 'SPDX expression (default LicenseRef-consortium-only)', text(64)),
      'LicenseRef-consortium-only',
    ),
    domain: withDefault(option('domain', 'what the text is about', text(80)), 'unspecified'),
    dtype: withDefault<FloatDtype>(
      option('dtype', 'BF16 (default), F16 or F32', oneOf('BF16', 'F16', 'F32')),
      'BF16',
    ),
    rank: option(
      'rank',
      'reduce the difference from the public FFN to this rank, and show what is kept',
      RANK,
    ),
    statistics: withDefault<PublishRequest['statistics']>(
      option(
        'router-statistics',
        'exact (default), noised or none: the share of each token in the text, from which routing gates are computed',
        oneOf('exact', 'noised', 'none'),
      ),
      'exact',
    ),
    epsilonMilli: withDefault(
      option(
        'noise',
        'epsilon of noised router statistics, per document, as in 8; a smaller one hides more',
        thousandths(1, MAX_EPSILON_MILLI),
      ),
      0,
    ),
  },
  async *run(node, { rank, ...request }, signal): AsyncGenerator<never, PublishResult, void> {
    if ((request.statistics === 'noised') !== request.epsilonMilli > 0) {
      throw new InputError(
        'usage',
        'publish: noise on router statistics takes both --router-statistics noised and --noise EPSILON',
      )
    }
    if (rank === undefined) return { id: await node.publish(request) }
    const cut = await node.trainings.cut(request.name, rank, signal)
    const { own, public: shared } = cut.result
    const id = await node.publish(request, cut)
    return { id, rank, energyKept: cut.energyKept, own, public: shared }
  },
  words: ({ id, rank, energyKept, own, public: shared }) => [
    ...(energyKept === undefined
      ? []
      : [
          `rank ${rank} keeps ${(100 * energyKept).toFixed(1)} % of the difference's energy: bits per byte ${[
            ...scoreOn('own', own),
            ...scoreOn('public', shared),
          ].join(', ')}`,
        ]),
    `published ${id}`,
  ],
})

function scoreOn(text: string, score: Score | undefined): string[] {
  return score === undefined ? [] : [`on ${text} text ${bits(score.before)} -> ${bits(score.after)}`]
}

export const WITHDRAW = nodeCommand({
  name: 'withdraw',
  usage: 'withdraw NAME',
  parameters: { name: trainingName('withdraw') },
  async *run(node, { name }) {
    return { withdrawn: await node.withdraw(name) }
  },
  words: ({ withdrawn }) => [`withdrawn: ${withdrawn.join(', ')}`],
})
