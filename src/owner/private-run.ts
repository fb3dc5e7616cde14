/**
 * The steps of a differentially private training on an owner's text: its units, its parameters, and the source of its
 * gradients. Does not know the training loop.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { Unit } from '../data/unit-index.ts'
import type { ModelConfig } from '../model/config.ts'
import { zeroRows } from '../model/params.ts'
import type { DpParameters } from '../privacy/mechanism.ts'
import { planPrivacy } from '../privacy/private-plan.ts'
import { type Compiled, type Engine, sizeOf } from '../tensor/engine.ts'
import { type Trainables, trainableShapes } from '../training/pair.ts'
import { PrivateGradients, type PrivateStep } from '../training/private-gradients.ts'
import { compilePrivatePairSteps, type UnitShape } from '../training/private-pair.ts'
import type { Schedule } from '../training/schedule.ts'
import type { GradientSource } from '../training/train.ts'
import type { TrainingPlan } from '../training/training-plan.ts'
import { toUnitBatch, type UnitWindows } from '../training/unit-batch.ts'
import { begunPrivacy, type SettledRequest, savePrivacy, unitsOf, windowsOf } from './private-text.ts'
import { TRAIN_DEFAULTS } from './train-defaults.ts'
import type { PairStart } from './train-expert.ts'
import type { TrainingDirs } from './training-folder.ts'

/** Factor on the learning rate: fewer steps have to go as far. */
const RATE_FACTOR = 2

/** What the loop needs to compute steps. */
export interface PreparedRun {
  readonly parameters: DpParameters
  readonly source: GradientSource
  /** To be disposed after the last step. */
  readonly compiled: Pick<Compiled, 'dispose'>
}

export interface PrivateRun {
  readonly units: readonly Unit[]
  /** The clip is chosen when the steps are prepared. */
  readonly parameters: Omit<DpParameters, 'clip'>
  /** Number of tokens of own text that all steps are expected to read together. */
  readonly tokensRead: number
  schedule(usual: Schedule): Schedule
  /** Compile the steps, and choose and keep the parameters unless an earlier run did. */
  prepare(
    engine: Engine,
    model: Pick<PublicModel, 'config' | 'weights'>,
    trainables: Trainables,
    options: { readonly rank: number; readonly signal: AbortSignal },
  ): Promise<PreparedRun>
}

/**
 * The run that a request asks for; undefined without privacy.
 * @throws InputError as `unitsOf` and `planPrivacy`.
 */
export async function privateRun(
  config: ModelConfig,
  dirs: TrainingDirs,
  request: SettledRequest,
  plan: Pick<TrainingPlan, 'rank' | 'rows'>,
  start: PairStart,
): Promise<PrivateRun | undefined> {
  const { privacy, steps, name } = request
  if (privacy === undefined) return undefined
  const { T } = TRAIN_DEFAULTS
  const units = await unitsOf(dirs, name, start.corpus, privacy.unit)
  const begun = await begunPrivacy(dirs)
  const windows = begun?.windowsPerUnit ?? Math.min(plan.rows, TRAIN_DEFAULTS.windowsPerUnit)
  const trained = [...trainableShapes(config, plan.rank).values()].reduce(
    (sum, shape) => sum + sizeOf(shape),
    0,
  )
  const planned =
    begun ?? planPrivacy(privacy, { units: units.length, steps, windowsPerUnit: windows, trained })
  const share = TRAIN_DEFAULTS.replayShare
  const publicUnits = Math.round((planned.expectedBatch * share) / (1 - share))
  const publicWindows = async (step: number): Promise<UnitWindows[]> =>
    (await start.publicWindows(step, publicUnits)).map((window) => [window])
  const shapes = unitShapes(plan.rows, windows, T)
  return {
    units,
    parameters: planned,
    tokensRead: Math.round(steps * planned.expectedBatch * meanTokens(units, windows * T)),
    schedule: (usual) => ({
      ...usual,
      peak: usual.peak * RATE_FACTOR,
      warmupSteps: Math.min(usual.warmupSteps, Math.ceil(steps / 10)),
    }),
    prepare: async (engine, { config, weights }, trainables, options) => {
      const all = await compilePrivatePairSteps(engine, config, weights, zeroRows(config), shapes, options)
      const compiled: PrivateStep[] = shapes.map((shape, i) => ({ compiled: all[i] as Compiled, shape }))
      const single = compiled[1] as PrivateStep
      const clip =
        begun?.clip ?? privacy.clip ?? (await publicNorm(single, trainables, await publicWindows(-1)))
      const parameters = begun ?? { ...planned, clip }
      if (begun === undefined) await savePrivacy(dirs, parameters)
      const source = new PrivateGradients({
        steps: compiled,
        parameters,
        trainables,
        windows: (index, step) =>
          windowsOf(start.corpus.train, units[index] as Unit, { index, step, most: windows, T }),
        publicWindows,
        publicUnits,
        signal: options.signal,
      })
      const dispose = async (): Promise<void> => {
        for (const step of all) await step.dispose()
      }
      return { parameters, source, compiled: { dispose } }
    },
  }
}

/** Shapes for units of half a window, of one window and of several: short ones must not be padded to the longest. */
function unitShapes(rows: number, windows: number, T: number): UnitShape[] {
  const shapes = [
    { units: 2 * rows, windows: 1, T: T / 2 },
    { units: rows, windows: 1, T },
  ]
  return windows === 1 ? shapes : [...shapes, { units: Math.max(1, Math.floor(rows / windows)), windows, T }]
}

/** Median norm of the gradients of public units at the start, which costs no privacy. */
async function publicNorm(
  { compiled, shape }: PrivateStep,
  trainables: Trainables,
  units: readonly UnitWindows[],
): Promise<number> {
  const some = units.slice(0, shape.units)
  const inputs = { ...toUnitBatch(some, shape), inverseClip: new Float32Array(1) }
  const out = await compiled.run({ ...inputs, ...Object.fromEntries(trainables) })
  const norms = (out['squaredNorms'] as Float32Array).slice(0, some.length).map(Math.sqrt).sort()
  return Number((norms[norms.length >> 1] as number).toPrecision(3))
}

/** Mean number of tokens of a unit that a step reads. */
function meanTokens(units: readonly Unit[], most: number): number {
  const total = units.reduce(
    (sum, unit) =>
      sum +
      Math.min(
        most,
        unit.reduce((tokens, stretch) => tokens + stretch.tokens, 0),
      ),
    0,
  )
  return total / units.length
}
