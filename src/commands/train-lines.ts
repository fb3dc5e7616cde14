/** How a training reads while it runs, its preview, and its result. Prints nothing itself. */
import { readingLines } from '../data/reading-report.ts'
import { ownCommand } from '../lib/command-line.ts'
import { gigabytes } from '../lib/memory.ts'
import type { Waiting } from '../lib/turns.ts'
import type { PairExport } from '../owner/export-pair.ts'
import type { TrainingPreview } from '../owner/preview-training.ts'
import type { TrainEvent, TrainPhase } from '../owner/train-expert.ts'
import type { TrainResult } from '../owner/training-folder.ts'
import { epsilonWords } from '../packaging/privacy-words.ts'
import { tightEpsilon } from '../privacy/loss-distribution.ts'
import type { DpParameters } from '../privacy/mechanism.ts'
import { type BytesProgress, bytesLine } from './bytes-progress.ts'
import { calibrationWords } from './calibration-words.ts'
import type { ProgressLine } from './command.ts'
import { bar, bits, duration, megabytes } from './terminal.ts'

export type TrainProgress = Exclude<TrainEvent, { readonly stage: 'done' }> | BytesProgress | Waiting

export function exportLines({ name, warnings, directory, documents, tokens, reading }: PairExport): string[] {
  return [
    ...readingLines(reading),
    ...warnings.map(({ message }) => `warning: ${message}`),
    `the pair to train is in ${directory}; ${documents} documents, ${tokens} tokens were prepared here`,
    `next: train its expert 1, then ${ownCommand('import-expert', 'DIR', '--name', name)}`,
  ]
}

export function previewLines({ name, isBegun, steps, stats, warnings, plan }: TrainingPreview): string[] {
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

export function trainedLines({ name, own, public: shared, calibration }: TrainResult): string[] {
  return [
    `trained ${name}: bits per byte on own held-out text ${bits(own?.before)} -> ${bits(own?.after)}, on public text ${bits(shared?.before)} -> ${bits(shared?.after)}`,
    ...(calibration === undefined ? [] : [calibrationWords(calibration)]),
    `next: ${ownCommand('publish', name)}`,
  ]
}

export function progressLine(event: TrainProgress): ProgressLine {
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
