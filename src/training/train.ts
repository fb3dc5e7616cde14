/**
 * The training loop: an async generator of step reports that stops on `return()` or by its signal, and resumes bit
 * for bit from a checkpoint. Does not know where the text comes from or where
 * checkpoints are kept.
 */
import { InputError } from '../lib/errors.ts'
import type { Compiled } from '../tensor/engine.ts'
import type { AdamW } from './optimizer.ts'
import type { Trainables } from './pair.ts'
import { learningRate, type Schedule } from './schedule.ts'

/**
 * The rows of one step: T + 1 token ids each, as many rows as all micro-batches of the step hold. A pure function of
 * the step, which counts from 0.
 */
export type BatchSource = (step: number) => Promise<Int32Array[]>

export interface TrainingCheckpoint {
  readonly step: number
  /** Trainables by name, and the optimizer's moments as `m.<name>` and `v.<name>`. */
  readonly arrays: ReadonlyMap<string, Float32Array>
}

/** A stored checkpoint, whose arrays are read one at a time. */
export interface SavedCheckpoint {
  readonly step: number
  /** Number of values of every array, by the names of `TrainingCheckpoint`. */
  readonly lengths: ReadonlyMap<string, number>
  /** Read an array; `into` has its length. */
  read(name: string, into: Float32Array): Promise<void>
}

export interface CheckpointStore {
  load(): Promise<SavedCheckpoint | undefined>
  save(checkpoint: TrainingCheckpoint): Promise<void>
}

export interface StepReport {
  /** Number of steps done, from 1. */
  readonly step: number
  readonly totalSteps: number
  /** Mean next-token cross-entropy in nats. */
  readonly loss: number
  readonly gradNorm: number
  readonly learningRate: number
  readonly tokensPerSecond: number
  readonly secondsLeft: number
}

/** The gradient of one step. */
export interface StepGradient {
  /** By name of the trainable; valid until the next gradient is computed. */
  readonly gradients: Trainables
  /** Mean next-token cross-entropy in nats. */
  readonly loss: number
  /** Number of tokens that were predicted. */
  readonly tokens: number
}

export interface GradientSource {
  /** The gradient of a step, from 0; undefined if the signal aborted before all of it was computed. */
  gradient(step: number, trainables: Trainables): Promise<StepGradient | undefined>
}

/** What the loop needs beside the source of gradients. */
export interface LoopInit {
  readonly trainables: Trainables
  readonly optimizer: AdamW
  readonly schedule: Schedule
  readonly checkpoints?: CheckpointStore
  /** Steps between checkpoints; if absent, only the last step is saved. */
  readonly checkpointEvery?: number
  /** Milliseconds after a checkpoint, or the beginning, after which the next step is saved too; default: never. */
  readonly checkpointAfterMs?: number
  readonly signal?: AbortSignal
  /** Monotonic time in milliseconds. */
  readonly clock: () => number
}

export interface TrainInit extends LoopInit {
  readonly compiled: Compiled
  readonly batches: BatchSource
  /**
   * Number of micro-batches whose gradients are summed before an update, so that memory does not limit the batch; 1
   * if absent. It must divide the number of rows of a step.
   */
  readonly accumulate?: number
}

/** Weight of the latest step in the moving average of the speed. */
const SPEED_SMOOTHING = 0.1

/** Train with the gradients of whole batches. */
export function train(init: TrainInit): AsyncGenerator<StepReport, void, void> {
  return optimize(init, new BatchGradients(init))
}

/** Train with the gradients of any source. */
export async function* optimize(
  init: LoopInit,
  source: GradientSource,
): AsyncGenerator<StepReport, void, void> {
  const { trainables, optimizer, schedule } = init
  const saved = await init.checkpoints?.load()
  if (saved !== undefined) await restore(saved, trainables, optimizer)
  let speed: number | undefined
  let savedAt = init.clock()
  for (let step = optimizer.step; step < schedule.totalSteps; step++) {
    if (init.signal?.aborted) break
    const started = init.clock()
    const computed = await source.gradient(step, trainables)
    // An incomplete step leaves no trace: parameters change only after its last micro-batch.
    if (computed === undefined) break
    const { gradients, loss, tokens } = computed
    const rate = learningRate(schedule, step)
    const gradNorm = optimizer.update(trainables, gradients, rate)
    const now = (tokens * 1000) / Math.max(1e-3, init.clock() - started)
    speed = speed === undefined ? now : speed + SPEED_SMOOTHING * (now - speed)
    const done = step + 1
    const isDue = init.clock() - savedAt >= (init.checkpointAfterMs ?? Number.POSITIVE_INFINITY)
    if (
      isDue ||
      done === schedule.totalSteps ||
      done % (init.checkpointEvery ?? Number.POSITIVE_INFINITY) === 0
    ) {
      await init.checkpoints?.save(snapshot(trainables, optimizer))
      savedAt = init.clock()
    }
    yield {
      step: done,
      totalSteps: schedule.totalSteps,
      loss,
      gradNorm,
      learningRate: rate,
      tokensPerSecond: speed,
      secondsLeft: ((schedule.totalSteps - done) * tokens) / speed,
    }
  }
  if (init.signal?.aborted) await init.checkpoints?.save(snapshot(trainables, optimizer))
}

/** Gradients of the mean loss of a batch, computed in micro-batches. */
class BatchGradients implements GradientSource {
  readonly #init: TrainInit
  readonly #gradients: Trainables
  readonly #sums: Trainables
  readonly #into: Record<string, Float32Array>
  #coming: { readonly step: number; readonly parts: Promise<Batch[]> } | undefined

  constructor(init: TrainInit) {
    this.#init = init
    this.#gradients = zerosLike(init.trainables)
    this.#sums = (init.accumulate ?? 1) === 1 ? this.#gradients : zerosLike(init.trainables)
    this.#into = gradientResults(this.#gradients)
  }

  async gradient(step: number, trainables: Trainables): Promise<StepGradient | undefined> {
    const { compiled, signal } = this.#init
    const parts = await (this.#coming?.step === step ? this.#coming.parts : prepare(this.#init, step))
    // The next batch is read while the engine computes this one.
    this.#coming = { step: step + 1, parts: prepare(this.#init, step + 1) }
    let loss = 0
    let tokens = 0
    for (const [index, part] of parts.entries()) {
      if (index > 0 && signal?.aborted) return undefined
      const out = await compiled.run({ ...part, ...Object.fromEntries(trainables) }, this.#into)
      loss += out['ce']?.[0] as number
      tokens += part.ids.length
      if (this.#sums !== this.#gradients) accumulate(this.#sums, this.#gradients, index === 0)
    }
    return { gradients: this.#sums, loss, tokens }
  }
}

/** Arrays of zeros with the names and lengths of the given ones. */
export function zerosLike(arrays: Trainables): Trainables {
  return new Map([...arrays].map(([name, { length }]) => [name, new Float32Array(length)]))
}

/** Arrays for the results `d.<name>` of a step. */
export function gradientResults(gradients: Trainables): Record<string, Float32Array> {
  return Object.fromEntries([...gradients].map(([name, g]) => [`d.${name}`, g]))
}

interface Batch {
  readonly ids: Int32Array
  readonly labels: Int32Array
  readonly labelWeights: Float32Array
  readonly tokenScale: Float32Array
}

/** The micro-batches of a step; empty after the last step. */
function prepare(init: TrainInit, step: number): Promise<Batch[]> {
  if (step >= init.schedule.totalSteps) return Promise.resolve([])
  const parts = init.batches(step).then((rows) => toBatches(rows, init.accumulate ?? 1))
  // If training stops before this step, nobody awaits the promise; otherwise the error is thrown there.
  parts.catch(() => undefined)
  return parts
}

/**
 * Split rows into `count` equal micro-batches. The weight of a label is one over the number of labels of the whole
 * batch, so that losses and gradients of the micro-batches add up to those of the batch.
 * @throws RangeError if `count` does not divide the number of rows.
 */
function toBatches(rows: readonly Int32Array[], count: number): Batch[] {
  const size = rows.length / count
  if (!Number.isInteger(size)) {
    throw new RangeError(`accumulate: expected a divisor of ${rows.length} rows, got ${count}`)
  }
  return Array.from({ length: count }, (_, i) => toBatch(rows.slice(i * size, (i + 1) * size), rows.length))
}

/**
 * The inputs of a step from rows of T + 1 ids: ids [rows, T] without the last of each row, labels [rows, T] without
 * the first.
 * @param ofRows number of rows that the mean loss is over; these rows if absent.
 */
export function toBatch(rows: readonly Int32Array[], ofRows = rows.length): Batch {
  const T = (rows[0]?.length ?? 1) - 1
  const ids = new Int32Array(rows.length * T)
  const labels = new Int32Array(rows.length * T)
  rows.forEach((row, b) => {
    ids.set(row.subarray(0, T), b * T)
    labels.set(row.subarray(1), b * T)
  })
  const scale = 1 / (ofRows * T)
  return {
    ids,
    labels,
    labelWeights: new Float32Array(labels.length).fill(scale),
    tokenScale: Float32Array.of(scale),
  }
}

/** Add `gradients` to `sums`, or copy them for the first ones. */
export function accumulate(sums: Trainables, gradients: Trainables, first: boolean): void {
  for (const [name, gradient] of gradients) {
    const sum = sums.get(name) as Float32Array
    if (first) sum.set(gradient)
    else for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (gradient[i] as number)
  }
}

function snapshot(trainables: Trainables, optimizer: AdamW): TrainingCheckpoint {
  const arrays = new Map<string, Float32Array>()
  for (const [name, values] of trainables) {
    arrays.set(name, values)
    arrays.set(`m.${name}`, optimizer.first.get(name) as Float32Array)
    arrays.set(`v.${name}`, optimizer.second.get(name) as Float32Array)
  }
  return { step: optimizer.step, arrays }
}

async function restore(saved: SavedCheckpoint, trainables: Trainables, optimizer: AdamW): Promise<void> {
  const { arrays } = snapshot(trainables, optimizer)
  // All lengths are compared before the first value is read, so that a mismatch changes nothing.
  for (const [name, { length }] of arrays) {
    const found = saved.lengths.get(name)
    if (found !== length) {
      throw new InputError(
        'mismatch',
        `the checkpoint has ${found ?? 'no'} values of ${name}, expected ${length}: continue with the --rank that the training was begun with, or choose another --name`,
      )
    }
  }
  for (const [name, values] of arrays) await saved.read(name, values)
  optimizer.step = saved.step
}
