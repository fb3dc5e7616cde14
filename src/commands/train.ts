/** The command `train`: trains an expert here, or writes the pair of public model and expert to train elsewhere. */

import { TEXT_KINDS } from '../data/file-kinds.ts'
import { readingLines } from '../data/reading-report.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { gigabytes } from '../lib/memory.ts'
import type { Waiting } from '../lib/turns.ts'
import type { PairExport } from '../owner/export-pair.ts'
import type { TrainingPreview } from '../owner/preview-training.ts'
import type { TrainEvent, TrainPhase, TrainRequest } from '../owner/train-expert.ts'
import type { TrainResult } from '../owner/training-folder.ts'
import { epsilonWords } from '../packaging/privacy-words.ts'
import { MOST_CANARIES } from '../privacy/canary-number.ts'
import { tightEpsilon } from '../privacy/loss-distribution.ts'
import type { DpParameters, PrivacyUnit } from '../privacy/mechanism.ts'
import type { PrivacyRequest } from '../privacy/private-plan.ts'
import { type BytesProgress, bytesLine } from './bytes-progress.ts'
import { calibrationWords } from './calibration-words.ts'
import { nodeCommand, type ProgressLine } from './command.ts'
import { COLUMN, EXPERT_NAME, MEMORY, SHARD_MEGABYTES, shardBytes } from './common-parameters.ts'
import { flag, oneOf, option, parts, path, paths, requiredOption, thousandths, whole } from './parameters.ts'
import { bar, bits, duration, megabytes } from './terminal.ts'
import { withTimeLeft } from './time-left.ts'

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

type TrainProgress = Exclude<TrainEvent, { readonly stage: 'done' }> | BytesProgress | Waiting

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

function exportLines({ name, warnings, directory, documents, tokens, reading }: PairExport): string[] {
  return [
    ...readingLines(reading),
    ...warnings.map(({ message }) => `warning: ${message}`),
    `the pair to train is in ${directory}; ${documents} documents, ${tokens} tokens were prepared here`,
    `next: train its expert 1, then ${ownCommand('import-expert', 'DIR', '--name', name)}`,
  ]
}

function previewLines({ name, isBegun, steps, stats, warnings, plan }: TrainingPreview): string[] {
  return [
    ...(isBegun
      ? [`training ${name} was begun before; it goes on with the text that was prepared then`]
      : []),
    ...readingLines(stats.reading),
    preparedLine(stats),
    ...warnings.map(({ message }) => `warning: ${message}`),
    planLine({ stage: 'plan', ...plan }),
    `nothing was written; without --dry-run, ${steps} steps are trained`,
  ]
}

function trainedLines({ name, own, public: shared, calibration }: TrainResult): string[] {
  return [
    `trained ${name}: bits per byte on own held-out text ${bits(own?.before)} -> ${bits(own?.after)}, on public text ${bits(shared?.before)} -> ${bits(shared?.after)}`,
    ...(calibration === undefined ? [] : [calibrationWords(calibration)]),
    `next: ${ownCommand('publish', name)}`,
  ]
}

function progressLine(event: TrainProgress): ProgressLine {
  switch (event.stage) {
    case 'waiting':
      return { text: `waiting for the training ${event.behind} of this node`, stays: true }
    case 'reading':
    case 'tokenizing': {
      const { stage, done, total, documents } = event
      return {
        text: `${stage} text ${bar(Math.min(done, total), total)} ${megabytes(done, total)}, ${documents} documents`,
        stays: false,
      }
    }
    case 'phase': {
      const { phase, share } = event
      return { text: PHASES[phase] + (share === undefined ? '' : ` ${bar(share, 1)}`), stays: false }
    }
    case 'prepared':
      return {
        text: [...readingLines(event.stats.reading), preparedLine(event.stats)].join('\n'),
        stays: true,
      }
    case 'warning':
      return { text: `warning: ${event.message}`, stays: true }
    case 'plan':
      return { text: planLine(event), stays: true }
    case 'privacy':
      return { text: privacyLine(event), stays: true }
    case 'forecast':
      return { text: forecastLine(event), stays: true }
    case 'bytes':
      return bytesLine(event)
    case 'step': {
      const { step, totalSteps, loss, tokensPerSecond, secondsLeft } = event
      return {
        text: `training ${bar(step, totalSteps)} ${step}/${totalSteps}  loss ${loss.toFixed(3)}  ${tokensPerSecond.toFixed(0)} tokens/s  ${duration(secondsLeft)} left`,
        stays: false,
      }
    }
  }
}

const PHASES: Record<TrainPhase, string> = {
  'public-text': 'preparing the public text',
  'router-rows': 'computing the first router rows',
  compile: 'reading the public model and compiling the training step',
  'first-step': 'computing the first step',
  score: 'scoring the expert on held-out text',
}

function planLine({
  rank,
  isRankChosen,
  rows,
  microBatches,
  bytes,
  weightBytes,
  budget,
}: Extract<TrainProgress, { readonly stage: 'plan' }>): string {
  const expert = rank === 0 ? 'a whole FFN' : `rank ${rank}`
  const why = isRankChosen && rank > 0 ? ', the largest that fits' : ''
  const split = microBatches === 1 ? '' : `; ${rows} rows at a time, ${microBatches} times a step`
  return `memory: about ${gigabytes(bytes)} of ${gigabytes(budget)} allowed, ${gigabytes(weightBytes)} of it for the public model; expert: ${expert}${why}${split}`
}

/** Says what was chosen, and why. */
function privacyLine(parameters: DpParameters): string {
  const { unit, epsilon, delta, clip, noiseMultiplier, expectedBatch, steps, units } = parameters
  const batch = `${Math.round(expectedBatch)} ${unit}s`
  const tight = epsilonWords(tightEpsilon([parameters], delta - parameters.truncationDelta))
  return `privacy: epsilon ${epsilon} and delta ${delta.toExponential()} for each of ${units} ${unit}s (epsilon ${tight} by privacy loss distributions): every one of ${steps} steps sums the gradients of about ${batch}, each clipped to ${clip.toPrecision(3)}, and adds noise of ${noiseMultiplier.toPrecision(3)} times the clip. Fewer, larger steps are better: a step has the same noise however many ${unit}s it sums, and more steps need more noise in each`
}

function forecastLine({
  secondsPerStep,
  residentBytes,
  secondsLeft,
}: Extract<TrainProgress, { readonly stage: 'forecast' }>): string {
  return `time: about ${duration(secondsLeft)} for the steps that are left, ${secondsPerStep.toFixed(secondsPerStep < 10 ? 1 : 0)} s each; ${gigabytes(residentBytes)} of memory in use`
}

type TextStats = Extract<TrainProgress, { readonly stage: 'prepared' }>['stats']

function preparedLine(stats: TextStats): string {
  const { train, heldOut, nearDuplicates, unsampled } = stats
  return [
    `text: ${train.documents} documents, ${train.tokens} tokens, ${train.bytes} bytes to train on`,
    `${heldOut.documents} documents held out for scoring`,
    ...(unsampled.documents > 0
      ? [`${unsampled.bytes} further bytes are not used, because so few steps read only a sample`]
      : []),
    ...(nearDuplicates > 0 ? [`${nearDuplicates} mostly repeat earlier ones and are kept`] : []),
  ].join('; ')
}
