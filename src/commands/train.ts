/** The command `train`: trains an expert here, or writes the pair of public model and expert to train elsewhere. */

import { TEXT_KINDS } from '../data/file-kinds.ts'
import { InputError } from '../lib/errors.ts'
import type { PairExport } from '../owner/export-pair.ts'
import type { TrainingPreview } from '../owner/preview-training.ts'
import type { TrainRequest } from '../owner/train-expert.ts'
import type { TrainResult } from '../owner/training-folder.ts'
import { MOST_CANARIES } from '../privacy/canary-number.ts'
import type { PrivacyUnit } from '../privacy/mechanism.ts'
import type { PrivacyRequest } from '../privacy/private-plan.ts'
import { nodeCommand } from './command.ts'
import { COLUMN, EXPERT_NAME, MEMORY, SHARD_MEGABYTES, shardBytes } from './common-parameters.ts'
import { flag, oneOf, option, parts, path, paths, requiredOption, thousandths, whole } from './parameters.ts'
import { withTimeLeft } from './time-left.ts'
import { exportLines, previewLines, progressLine, type TrainProgress, trainedLines } from './train-lines.ts'

const MAX_PATHS = 1024
const MAX_STEPS = 10_000_000
/** One batch is read into memory as a whole: 4 MiB at this many micro-batches. */
const MAX_ACCUMULATE = 1024
/** For any model; the ranks that a model allows are checked where its sizes are known. */
const MAX_RANK = 65_536
/** A larger epsilon promises nothing. */
const MAX_EPSILON_MILLI = 100_000
/** Requests hold delta as a whole number of parts of 1e-12. */
const DELTA_SCALE = 1e12
const MAX_CLIP_MILLI = 1e9
const MAX_BATCH = 1_000_000
const SEED = 1

export const TRAIN = nodeCommand({
  name: 'train',
  usage:
    'train --data PATH... --name NAME [--column NAME] [--steps N] [--accumulate N] [--rank R] [--epsilon E] [--delta D] [--clip C] [--unit document|source] [--batch B] [--memory SIZE] [--canaries M] [--resume] [--dry-run] [--export-pair DIR]',
  parameters: {
    data: paths('data', `file or folder of ${TEXT_KINDS}`, MAX_PATHS),
    column: COLUMN,
    name: requiredOption('name', 'name of the expert', EXPERT_NAME),
    steps: option(
      'steps',
      'number of training steps (default 200); with --epsilon, fewer and larger ones (default 60)',
      whole(1, MAX_STEPS),
    ),
    accumulate: option(
      'accumulate',
      'micro-batches per step: a larger batch in the same memory (default 1)',
      whole(1, MAX_ACCUMULATE),
    ),
    rank: option(
      'rank',
      'train a difference of this rank from the public FFN: a smaller expert; 0: a whole FFN (default: 0 if that fits the memory, otherwise the largest of 128, 64, 32, 16 and 8 that does)',
      whole(0, MAX_RANK),
    ),
    epsilon: option(
      'epsilon',
      'guarantee differential privacy for every document or source with this epsilon (default: no guarantee)',
      thousandths(1, MAX_EPSILON_MILLI),
    ),
    delta: option(
      'delta',
      'delta of the guarantee (default: the largest power of ten that is at most 1 / (10 x documents or sources))',
      parts(DELTA_SCALE, 1, DELTA_SCALE / 100),
    ),
    clip: option(
      'clip',
      'maximum norm of the gradient of a document or source (default: the median norm for public text)',
      thousandths(1, MAX_CLIP_MILLI),
    ),
    unit: option(
      'unit',
      'what the guarantee protects: document, or source: everything of one folder, or of one value of the column "source" (default document)',
      oneOf('document', 'source'),
    ),
    batch: option(
      'batch',
      'expected number of documents or sources of a step (default 256, or all if there are fewer)',
      whole(1, MAX_BATCH),
    ),
    memory: MEMORY,
    canaries: option(
      'canaries',
      `sequences of the public model to hide in the text for "flexmesh audit", each with probability a half: 0 to ${MOST_CANARIES} (default: as many as cost little; none for small texts, large models, --epsilon and --export-pair)`,
      whole(0, MOST_CANARIES),
    ),
    exportPair: option(
      'export-pair',
      'write the two-expert checkpoint to train elsewhere into a new folder, and stop',
      path,
    ),
    shardMegabytes: SHARD_MEGABYTES,
    dryRun: flag(
      'dry-run',
      'say what would be read, what would be left out and what it would take; write and train nothing',
    ),
  },
  // A training that was begun always continues; the option lets people leave out --data and say so.
  clientOptions: [{ name: 'resume', type: 'boolean', help: 'continue on the text that was prepared before' }],
  async *run(
    node,
    {
      name,
      data,
      column,
      steps,
      accumulate,
      rank,
      memory,
      canaries,
      exportPair,
      shardMegabytes,
      dryRun,
      ...asked
    },
    signal,
  ): AsyncGenerator<TrainProgress, TrainResult | PairExport | TrainingPreview, void> {
    const { TRAIN_DEFAULTS } = await import('../owner/train-defaults.ts')
    const request: TrainRequest = {
      name,
      paths: data,
      column,
      steps,
      accumulate: accumulate ?? TRAIN_DEFAULTS.accumulate,
      rank,
      memory,
      privacy: privacyRequest(asked),
      canaries,
      seed: SEED,
    }
    if (request.privacy !== undefined && accumulate !== undefined) {
      throw new InputError(
        'usage',
        '--accumulate has no effect with --epsilon: choose the units of a step with --batch',
      )
    }
    if (dryRun) {
      if (exportPair !== undefined)
        throw new InputError('usage', 'train: --dry-run is about a training here; leave out --export-pair')
      return yield* node.trainings.preview(request, signal)
    }
    if (exportPair !== undefined) {
      if (request.privacy !== undefined) {
        throw new InputError(
          'usage',
          'a pair that is trained elsewhere has no guarantee from here: leave out --epsilon',
        )
      }
      if (canaries !== undefined && canaries > 0) {
        throw new InputError('usage', 'the text of an exported pair has no canaries: leave out --canaries')
      }
      if (rank !== undefined) {
        throw new InputError(
          'usage',
          'a pair is always trained whole elsewhere: leave out --rank here and give it to "flexmesh publish"',
        )
      }
      const { name, paths, column, seed } = request
      const training = { name, paths, column, seed }
      const asked = { training, directory: exportPair, shardBytes: shardBytes(shardMegabytes) }
      return yield* withTimeLeft(node.trainings.exportPair(asked, signal))
    }
    await node.quota?.check()
    let last: { readonly step: number; readonly totalSteps: number } | undefined
    let result: TrainResult | undefined
    try {
      for await (const event of node.trainings.train(request, signal)) {
        if (event.stage === 'step') last = event
        // The iteration goes on to its end, since leaving it would count as an interruption.
        if (event.stage === 'done') result = event.result
        else yield event
      }
    } catch (error) {
      if (!signal.aborted && !node.isStopping) throw error
    }
    if (result !== undefined) return result
    // Its checkpoint holds the last step.
    const where =
      last === undefined
        ? 'before this run had computed a step'
        : `at step ${last.step} of ${last.totalSteps}`
    throw new InputError(
      'interrupted',
      `the training ${name} was stopped ${where}; run the same command to continue it`,
    )
  },
  words: (result) => {
    if ('plan' in result) return previewLines(result)
    return 'directory' in result ? exportLines(result) : trainedLines(result)
  },
  progress: progressLine,
})

/** What the options of differential privacy ask for. @throws InputError `usage` for options without --epsilon. */
function privacyRequest(options: {
  readonly epsilon: number | undefined
  readonly delta: number | undefined
  readonly clip: number | undefined
  readonly unit: PrivacyUnit | undefined
  readonly batch: number | undefined
}): PrivacyRequest | undefined {
  const { epsilon, delta, clip, unit, batch } = options
  if (epsilon === undefined) {
    const [other] = Object.entries(options).find(([, value]) => value !== undefined) ?? []
    if (other === undefined) return undefined
    throw new InputError('usage', `--${other} needs --epsilon E: without it, training has no guarantee`)
  }
  return {
    unit: unit ?? 'document',
    epsilon: epsilon / 1000,
    delta: delta && delta / DELTA_SCALE,
    clip: clip && clip / 1000,
    batch,
  }
}
