import { describe, expect, it } from 'vitest'
import { mulberry32 } from '../../src/lib/random.ts'
import { zeroRows } from '../../src/model/params.ts'
import type { Compiled } from '../../src/tensor/engine.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import { compilePairStep, initialTrainables, type Trainables } from '../../src/training/pair.ts'
import { learningRate, peakLearningRate } from '../../src/training/schedule.ts'
import { type StepReport, type TrainInit, train } from '../../src/training/train.ts'
import { goldenConfig, goldenPublic } from '../support/golden.ts'

const engine = onnxEngine({ threads: 1 })
const T = 12
const ROWS = 6
const STEPS = 4

/** Rows of a step, a function of the step only. */
async function rowsOf(step: number): Promise<Int32Array[]> {
  const random = mulberry32(100 + step)
  return Array.from({ length: ROWS }, () =>
    Int32Array.from({ length: T + 1 }, () => Math.floor(random() * goldenConfig.vocabSize)),
  )
}

async function run(
  accumulate: number,
  change: Partial<TrainInit> = {},
  wrap: (compiled: Compiled) => Compiled = (compiled) => compiled,
): Promise<{ trainables: Trainables; reports: StepReport[] }> {
  const rows = zeroRows(goldenConfig).map((row, layer) => row.fill(0.1 * (layer + 1)))
  const trainables = await initialTrainables(goldenConfig, goldenPublic(), rows)
  const compiled = await compilePairStep(
    engine,
    goldenConfig,
    goldenPublic(),
    zeroRows(goldenConfig),
    ROWS / accumulate,
    T,
  )
  const reports: StepReport[] = []
  try {
    const init: TrainInit = {
      compiled: wrap(compiled),
      trainables,
      // With a large epsilon, updates are proportional to gradients; otherwise rounding would decide their sign.
      optimizer: new AdamW({ ...ADAMW_DEFAULTS, epsilon: 1 }, trainables),
      schedule: { peak: 1, warmupSteps: 1, totalSteps: STEPS },
      batches: rowsOf,
      accumulate,
      clock: () => 0,
      ...change,
    }
    for await (const report of train(init)) reports.push(report)
  } finally {
    await compiled.dispose()
  }
  return { trainables, reports }
}

describe('the training loop', () => {
  it.each([2, 3, 6])('computes with %i micro-batches what it computes with one batch', async (count) => {
    const whole = await run(1)
    const parts = await run(count)
    parts.reports.forEach((report, i) => {
      expect(report.loss).toBeCloseTo((whole.reports[i] as StepReport).loss, 5)
      expect(report.gradNorm).toBeCloseTo((whole.reports[i] as StepReport).gradNorm, 4)
    })
    expect(parts.reports).toHaveLength(STEPS)
    expect((whole.reports[0] as StepReport).loss - (whole.reports.at(-1) as StepReport).loss).not.toBe(0)
    for (const [name, values] of whole.trainables) {
      const other = parts.trainables.get(name) as Float32Array
      const worst = values.reduce((max, x, i) => Math.max(max, Math.abs(x - (other[i] as number))), 0)
      expect([name, worst < 1e-5]).toEqual([name, true])
    }
  })

  it('refuses rows that do not divide into micro-batches', async () => {
    const batches = async (step: number): Promise<Int32Array[]> => (await rowsOf(step)).slice(1)
    await expect(run(2, { batches })).rejects.toThrow('expected a divisor of 5 rows, got 2')
  })

  it('reads the next batch before a step is done, and none after the last step', async () => {
    const events: string[] = []
    const batches = (step: number): Promise<Int32Array[]> => {
      events.push(`batch ${step}`)
      return rowsOf(step)
    }
    const optimizer = new AdamW(ADAMW_DEFAULTS, new Map())
    const noted = Object.assign(optimizer, { update: () => events.push(`update ${optimizer.step++}`) })
    await run(1, { batches, optimizer: noted })
    expect(events).toEqual([
      'batch 0',
      'batch 1',
      'update 0',
      'batch 2',
      'update 1',
      'batch 3',
      'update 2',
      'update 3',
    ])
  })

  it('saves a step if the last checkpoint is older than the given time', async () => {
    const seen: number[] = []
    let now = 0
    const checkpoints = {
      load: async () => undefined,
      save: async ({ step }: { readonly step: number }) => {
        seen.push(step)
      },
    }
    // Every look at the clock takes 100 ms; a step looks at it at least twice.
    await run(1, { checkpoints, checkpointAfterMs: 700, clock: () => (now += 100) })
    expect(seen.length).toBeGreaterThan(1)
    expect(seen.length).toBeLessThan(STEPS)
    expect(seen.at(-1)).toBe(STEPS)
  })

  it('that is stopped between two micro-batches keeps the state after the last whole step', async () => {
    const stop = new AbortController()
    const whole = await run(2, { schedule: { peak: 1, warmupSteps: 1, totalSteps: 1 } })
    let runs = 0
    const saved: Trainables = new Map()
    const stopping = (compiled: Compiled): Compiled => ({
      ...compiled,
      run: async (...args) => {
        // The third run is the first of two micro-batches of the second step.
        if (++runs === 3) stop.abort()
        return compiled.run(...args)
      },
      dispose: () => compiled.dispose(),
    })
    const { reports } = await run(
      2,
      {
        signal: stop.signal,
        schedule: { peak: 1, warmupSteps: 1, totalSteps: STEPS },
        checkpoints: {
          load: async () => undefined,
          save: async ({ step, arrays }) => {
            expect(step).toBe(1)
            for (const [name, values] of arrays) saved.set(name, values.slice())
          },
        },
      },
      stopping,
    )
    expect([runs, reports.length]).toEqual([3, 1])
    for (const [name, values] of whole.trainables) expect(saved.get(name)).toEqual(values)
  })

  it('fails at the step whose batch cannot be read, and not before', async () => {
    const batches = (step: number): Promise<Int32Array[]> =>
      step === 2 ? Promise.reject(new Error('disk')) : rowsOf(step)
    const seen: number[] = []
    const compiling = run(1, {
      batches,
      checkpointEvery: 1,
      checkpoints: {
        load: async () => undefined,
        save: async ({ step }) => {
          seen.push(step)
        },
      },
    })
    await expect(compiling).rejects.toThrow('disk')
    expect(seen).toEqual([1, 2])
  })
})

describe('the learning rate', () => {
  it('rises linearly and falls to a tenth', () => {
    const schedule = { peak: 1, warmupSteps: 4, totalSteps: 104 }
    expect(learningRate(schedule, 0)).toBe(0.25)
    expect(learningRate(schedule, 4)).toBe(1)
    expect(learningRate(schedule, 54)).toBeCloseTo(0.55, 9)
    expect(learningRate(schedule, 104)).toBeCloseTo(0.1, 9)
  })

  it('falls with the width of the model and never exceeds the measured rate', () => {
    expect(peakLearningRate(192)).toBe(5e-3)
    expect(peakLearningRate(16)).toBe(5e-3)
    expect(peakLearningRate(4096)).toBeCloseTo(2.34e-4, 6)
  })
})
