/**
 * Gradients of differentially private training (DP-SGD; Abadi et al. 2016, arXiv 1607.00133): a Poisson sample of
 * units, the sum of their clipped gradients, noise once for every step, and division by the expected number of units.
 * Public text is added without clip and noise. Does not know where the text comes from.
 *
 * Nothing has to be kept to continue a training: samples and noise are new random numbers in every step, so a step that
 * was computed and lost leaves nothing that a later one would repeat.
 */
import type { DpParameters } from '../privacy/mechanism.ts'
import { poissonSample } from '../privacy/poisson-sample.ts'
import { cryptographic, gaussian, type Uniform } from '../privacy/random.ts'
import type { Compiled } from '../tensor/engine.ts'
import type { Trainables } from './pair.ts'
import type { UnitShape } from './private-pair.ts'
import { accumulate, type GradientSource, gradientResults, type StepGradient, zerosLike } from './train.ts'
import { toUnitBatch, type UnitWindows } from './unit-batch.ts'

/**
 * Factor on the noise for the rounding of norms and sums in float32, which can make a clipped gradient longer than the
 * clip; norms are exact to about 1e-5.
 */
const ROUNDING_MARGIN = 1.001

/** A compiled step for units of up to `shape.windows` windows of up to `shape.T` + 1 ids. */
export interface PrivateStep {
  readonly compiled: Compiled
  readonly shape: UnitShape
}

export interface PrivateGradientsInit {
  /** By size, ascending; a unit is computed by the first one that it fits. */
  readonly steps: readonly PrivateStep[]
  readonly parameters: Pick<
    DpParameters,
    'clip' | 'noiseMultiplier' | 'sampleRate' | 'expectedBatch' | 'capacity' | 'units'
  >
  readonly trainables: Trainables
  /** The windows of a unit, from 0, for a step. */
  windows(unit: number, step: number): Promise<UnitWindows>
  /** Units of public text for a step. Their number must not depend on the private text, so it is `publicUnits`. */
  publicWindows(step: number): Promise<readonly UnitWindows[]>
  readonly publicUnits: number
  readonly signal?: AbortSignal
  /** For tests only: the guarantee needs random numbers that nobody can predict. */
  readonly uniform?: Uniform
}

/** A unit of one step. */
interface Member {
  readonly windows: UnitWindows
  readonly isPublic: boolean
}

function fits(unit: UnitWindows, { windows, T }: UnitShape): boolean {
  return unit.length <= windows && unit.every(({ length }) => length <= T + 1)
}

export class PrivateGradients implements GradientSource {
  readonly #init: PrivateGradientsInit
  readonly #uniform: Uniform
  readonly #normal: () => number
  readonly #gradients: Trainables
  readonly #sums: Trainables
  readonly #into: Record<string, Float32Array>

  constructor(init: PrivateGradientsInit) {
    this.#init = init
    this.#uniform = init.uniform ?? cryptographic()
    this.#normal = gaussian(this.#uniform)
    this.#gradients = zerosLike(init.trainables)
    this.#sums = zerosLike(init.trainables)
    this.#into = gradientResults(this.#gradients)
  }

  async gradient(step: number, trainables: Trainables): Promise<StepGradient | undefined> {
    const { parameters, signal } = this.#init
    for (const sum of this.#sums.values()) sum.fill(0)
    let loss = 0
    let tokens = 0
    let privateUnits = 0
    for await (const { members, step: compiled } of this.#microBatches(step)) {
      if (signal?.aborted) return undefined
      const losses = await this.#add(compiled, members, trainables)
      members.forEach(({ windows, isPublic }, i) => {
        tokens += windows.reduce((sum, { length }) => sum + length - 1, 0)
        if (isPublic) return
        loss += losses[i] as number
        privateUnits++
      })
    }
    this.#addNoise()
    // The number of sampled units is private, so the divisor is the expected one.
    const divisor = parameters.expectedBatch + this.#init.publicUnits
    for (const sum of this.#sums.values()) {
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) / divisor
    }
    return { gradients: this.#sums, loss: loss / Math.max(1, privateUnits), tokens }
  }

  /** The units of a step, as many at once as a compiled step takes, those of public text first. */
  async *#microBatches(step: number): AsyncGenerator<{ members: Member[]; step: PrivateStep }, void, void> {
    const { parameters, steps, windows, publicWindows, publicUnits } = this.#init
    const waiting = new Map<PrivateStep, Member[]>(steps.map((compiled) => [compiled, []]))
    const place = (member: Member): { members: Member[]; step: PrivateStep } | undefined => {
      const compiled = steps.find(({ shape }) => fits(member.windows, shape))
      if (compiled === undefined) throw new RangeError(`no step takes ${member.windows.length} windows`)
      const members = waiting.get(compiled) as Member[]
      members.push(member)
      if (members.length < compiled.shape.units) return undefined
      waiting.set(compiled, [])
      return { members, step: compiled }
    }
    const free = await publicWindows(step)
    if (free.length !== publicUnits)
      throw new RangeError(`expected ${publicUnits} public units, got ${free.length}`)
    for (const unit of free) {
      const full = place({ windows: unit, isPublic: true })
      if (full !== undefined) yield full
    }
    for (const unit of poissonSample(parameters, this.#uniform)) {
      const full = place({ windows: await windows(unit, step), isPublic: false })
      if (full !== undefined) yield full
    }
    for (const [compiled, members] of waiting) if (members.length > 0) yield { members, step: compiled }
  }

  /**
   * Add the clipped gradients of the members, the first of which are public. A unit whose gradient is not finite counts
   * as one with gradient zero.
   * @returns the loss of every unit
   */
  async #add({ compiled, shape }: PrivateStep, members: readonly Member[], trainables: Trainables) {
    const free = members.filter(({ isPublic }) => isPublic).length
    const inverseClip = Float32Array.of(1 / this.#init.parameters.clip)
    let units = members.map(({ windows }) => windows)
    for (;;) {
      const inputs = { ...toUnitBatch(units, shape, free), inverseClip, ...Object.fromEntries(trainables) }
      const out = await compiled.run(inputs, this.#into)
      const norms = out['squaredNorms'] as Float32Array
      // Values that are not finite spread to the sums, so the batch is computed again without these units.
      const finite = units.map((_, u) => Number.isFinite(norms[u]))
      if (finite.every(Boolean)) {
        accumulate(this.#sums, this.#gradients, false)
        return out['unitLosses'] as Float32Array
      }
      if (units.every((windows, u) => finite[u] === true || windows.length === 0)) {
        throw new RangeError('the gradient of an empty unit is not finite')
      }
      units = units.map((windows, u) => (finite[u] === true ? windows : []))
    }
  }

  /** Add noise to the sums, once for a step, in double precision. */
  #addNoise(): void {
    const { clip, noiseMultiplier } = this.#init.parameters
    if (noiseMultiplier === 0) return
    const deviation = noiseMultiplier * clip * ROUNDING_MARGIN
    for (const sum of this.#sums.values()) {
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + deviation * this.#normal()
    }
  }
}
