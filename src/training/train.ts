/**
 * The training loop: an async generator of step reports that stops by `return()` or by its signal,
 * and resumes bit for bit from a checkpoint. Knows neither where text comes from nor where
 * checkpoints go.
 */
import type { Compiled, Values } from '../tensor/engine.ts'
import type { AdamW } from './optimizer.ts'
import type { Trainables } from './pair.ts'
import { learningRate, type Schedule } from './schedule.ts'

/** Token windows of one step: B rows of T + 1 ids, a pure function of the step number. */
export type BatchSource = (step: number) => Promise<Int32Array[]>

export interface Checkpoint {
  readonly step: number
  /** Trainables by name, and optimizer moments as `m.<name>`, `v.<name>`. */
  readonly arrays: ReadonlyMap<string, Float32Array>
}

export interface CheckpointStore {
  load(): Promise<Checkpoint | undefined>
  save(checkpoint: Checkpoint): Promise<void>
}

export interface StepReport {
  /** Steps done, from 1. */
  readonly step: number
  readonly totalSteps: number
  /** Mean next-token cross-entropy in nats. */
  readonly loss: number
  readonly gradNorm: number
  readonly learningRate: number
  readonly tokensPerSecond: number
  readonly secondsLeft: number
}

export interface TrainInit {
  readonly compiled: Compiled
  readonly trainables: Trainables
  readonly optimizer: AdamW
  readonly schedule: Schedule
  readonly batches: BatchSource
  readonly checkpoints?: CheckpointStore
  /** Steps between checkpoints. */
  readonly checkpointEvery?: number
  readonly signal?: AbortSignal
  /** Milliseconds, monotonic. */
  readonly clock: () => number
}

/** Newest share in the running average of the speed shown. */
const SPEED_SMOOTHING = 0.1

export async function* train(init: TrainInit): AsyncGenerator<StepReport, void, void> {
  const { compiled, trainables, optimizer, schedule } = init
  const saved = await init.checkpoints?.load()
  if (saved !== undefined) restore(saved, trainables, optimizer)
  const gradients = new Map([...trainables].map(([name, p]) => [name, new Float32Array(p.length)]))
  const into = Object.fromEntries([...gradients].map(([name, g]) => [`d.${name}`, g]))
  let speed: number | undefined
  for (let step = optimizer.step; step < schedule.totalSteps; step++) {
    if (init.signal?.aborted) break
    const started = init.clock()
    const batch = toBatch(await init.batches(step))
    const out = await compiled.run({ ...batch, ...Object.fromEntries(trainables) }, into)
    const rate = learningRate(schedule, step)
    const gradNorm = optimizer.update(trainables, gradients, rate)
    const now = (batch.ids.length * 1000) / Math.max(1e-3, init.clock() - started)
    speed = speed === undefined ? now : speed + SPEED_SMOOTHING * (now - speed)
    const done = step + 1
    if (done === schedule.totalSteps || done % (init.checkpointEvery ?? Number.POSITIVE_INFINITY) === 0) {
      await init.checkpoints?.save(snapshot(trainables, optimizer))
    }
    yield {
      step: done,
      totalSteps: schedule.totalSteps,
      loss: out['ce']?.[0] as number,
      gradNorm,
      learningRate: rate,
      tokensPerSecond: speed,
      secondsLeft: ((schedule.totalSteps - done) * batch.ids.length) / speed,
    }
  }
  if (init.signal?.aborted) await init.checkpoints?.save(snapshot(trainables, optimizer))
}

/** Rows of T + 1 ids as the step's inputs: the last id of a row is only ever a label. */
export function toBatch(rows: readonly Int32Array[]): {
  ids: Int32Array
  labels: Int32Array
  labelWeights: Float32Array
  tokenScale: Float32Array
} {
  const T = (rows[0]?.length ?? 1) - 1
  const ids = new Int32Array(rows.length * T)
  const labels = new Int32Array(rows.length * T)
  rows.forEach((row, b) => {
    ids.set(row.subarray(0, T), b * T)
    labels.set(row.subarray(1), b * T)
  })
  const scale = 1 / labels.length
  return {
    ids,
    labels,
    labelWeights: new Float32Array(labels.length).fill(scale),
    tokenScale: Float32Array.of(scale),
  }
}

function snapshot(trainables: Trainables, optimizer: AdamW): Checkpoint {
  const arrays = new Map<string, Float32Array>()
  for (const [name, values] of trainables) {
    arrays.set(name, values)
    arrays.set(`m.${name}`, optimizer.first.get(name) as Float32Array)
    arrays.set(`v.${name}`, optimizer.second.get(name) as Float32Array)
  }
  return { step: optimizer.step, arrays }
}

function restore(saved: Checkpoint, trainables: Trainables, optimizer: AdamW): void {
  for (const [name, values] of trainables) {
    copyInto(values, saved.arrays.get(name), name)
    copyInto(optimizer.first.get(name) as Values, saved.arrays.get(`m.${name}`), `m.${name}`)
    copyInto(optimizer.second.get(name) as Values, saved.arrays.get(`v.${name}`), `v.${name}`)
  }
  optimizer.step = saved.step
}

function copyInto(target: Values, source: Float32Array | undefined, name: string): void {
  if (source?.length !== target.length) {
    throw new RangeError(
      `checkpoint ${name}: expected ${target.length} values, got ${source?.length ?? 'none'}`,
    )
  }
  target.set(source)
}
