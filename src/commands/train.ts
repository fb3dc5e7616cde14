/** The command `train`: trains an expert here, or writes the pair of public model and expert to train elsewhere. */
import { TEXT_KINDS } from '../data/file-kinds.ts'
import { readingLines } from '../data/reading-report.ts'
import { InputError } from '../lib/errors.ts'
import { gigabytes } from '../lib/memory.ts'
import type { Waiting } from '../lib/turns.ts'
import type { PairExport } from '../owner/export-pair.ts'
import type { TrainEvent, TrainPhase, TrainRequest } from '../owner/train-expert.ts'
import type { TrainResult } from '../owner/training-folder.ts'
import { type BytesProgress, bytesLine } from './bytes-progress.ts'
import { calibrationWords } from './calibration-words.ts'
import { nodeCommand, type ProgressLine } from './command.ts'
import { COLUMN, EXPERT_NAME, MEMORY, SHARD_MEGABYTES, shardBytes } from './common-parameters.ts'
import { option, path, paths, requiredOption, whole } from './parameters.ts'
import { bar, bits, duration, megabytes } from './terminal.ts'
import { withTimeLeft } from './time-left.ts'

const MAX_PATHS = 1024
const MAX_STEPS = 10_000_000
/** One batch is read into memory as a whole: 4 MiB at this many micro-batches. */
const MAX_ACCUMULATE = 1024
/** For any model; the ranks that a model allows are checked where its sizes are known. */
const MAX_RANK = 65_536
const SEED = 1

type TrainProgress = Exclude<TrainEvent, { readonly stage: 'done' }> | BytesProgress | Waiting

export const TRAIN = nodeCommand({
  name: 'train',
  usage:
    'train --data PATH... --name NAME [--column NAME] [--steps N] [--accumulate N] [--rank R] [--memory SIZE] [--resume] [--export-pair DIR]',
  parameters: {
    data: paths('data', `file or folder of ${TEXT_KINDS}`, MAX_PATHS),
    column: COLUMN,
    name: requiredOption('name', 'name of the expert', EXPERT_NAME),
    steps: option('steps', 'number of training steps (default 200)', whole(1, MAX_STEPS)),
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
    memory: MEMORY,
    exportPair: option(
      'export-pair',
      'write the two-expert checkpoint to train elsewhere into a new folder, and stop',
      path,
    ),
    shardMegabytes: SHARD_MEGABYTES,
  },
  // A training that was begun always continues; the option lets people leave out --data and say so.
  clientOptions: [{ name: 'resume', type: 'boolean', help: 'continue on the text that was prepared before' }],
  async *run(
    node,
    { name, data, column, steps, accumulate, rank, memory, exportPair, shardMegabytes },
    signal,
  ): AsyncGenerator<TrainProgress, TrainResult | PairExport, void> {
    const { TRAIN_DEFAULTS } = await import('../owner/train-defaults.ts')
    const request: TrainRequest = {
      name,
      paths: data,
      column,
      steps: steps ?? TRAIN_DEFAULTS.steps,
      accumulate: accumulate ?? TRAIN_DEFAULTS.accumulate,
      rank,
      memory,
      seed: SEED,
    }
    if (exportPair !== undefined) {
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
    let step: number | undefined
    let result: TrainResult | undefined
    try {
      for await (const event of node.trainings.train(request, signal)) {
        if (event.stage === 'step') step = event.step
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
      step === undefined ? 'before this run had computed a step' : `at step ${step} of ${request.steps}`
    throw new InputError(
      'interrupted',
      `the training ${name} was stopped ${where}; run the same command to continue it`,
    )
  },
  words: (result) => ('directory' in result ? exportLines(result) : trainedLines(result)),
  progress: progressLine,
})

function exportLines({ warnings, directory, documents, tokens, reading }: PairExport): string[] {
  return [
    ...readingLines(reading),
    ...warnings.map(({ message }) => `warning: ${message}`),
    `the pair to train is in ${directory}; ${documents} documents, ${tokens} tokens were prepared here`,
    'next: train its expert 1, then flexmesh import-expert DIR with the same --name',
  ]
}

function trainedLines({ name, own, public: shared, calibration }: TrainResult): string[] {
  return [
    `trained ${name}: bits per byte on own held-out text ${bits(own?.before)} -> ${bits(own?.after)}, on public text ${bits(shared?.before)} -> ${bits(shared?.after)}`,
    ...(calibration === undefined ? [] : [calibrationWords(calibration)]),
    `next: flexmesh publish ${name}`,
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
