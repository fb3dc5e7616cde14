/**
 * Chooses the parameters of a differentially private training from what its owner asked for: noise, batch and delta.
 * Knows nothing about texts and models.
 */
import { InputError } from '../lib/errors.ts'
import { noiseFor } from './accountant.ts'
import type { DpParameters, PrivacyUnit } from './mechanism.ts'
import { truncationDelta } from './poisson-sample.ts'

/** What an owner asks for. */
export interface PrivacyRequest {
  readonly unit: PrivacyUnit
  readonly epsilon: number
  /** Default: the largest power of ten that is at most 1 / (10 units). */
  readonly delta?: number | undefined
  /** Default: chosen from the norms of gradients of public text. */
  readonly clip?: number | undefined
  /** Expected number of units of a step; default `DEFAULT_BATCH`, at most all units. */
  readonly batch?: number | undefined
}

/** What is known about the training. */
export interface PrivacyFacts {
  readonly units: number
  readonly steps: number
  readonly windowsPerUnit: number
  /** Number of trained values. */
  readonly trained: number
}

/** Expected number of units of a step. */
const DEFAULT_BATCH = 256
/** Truncation may take at most this share of delta. */
const TRUNCATION_SHARE = 0.01
/**
 * Least ratio of what the text can teach to the noise. If every unit pulled in the same direction with its whole clip,
 * the sum over all steps would have a norm of steps x batch x clip; that of the noise is sqrt(steps x trained) x noise
 * multiplier x clip.
 */
const LEAST_SIGNAL = 1

/**
 * The parameters, without the clip.
 * @throws InputError `usage` for a batch of more than all units; `too-small` if so few units cannot teach anything
 * through the noise.
 */
export function planPrivacy(request: PrivacyRequest, facts: PrivacyFacts): Omit<DpParameters, 'clip'> {
  const { unit, epsilon, batch } = request
  const { units, steps, windowsPerUnit, trained } = facts
  if (batch !== undefined && batch > units) {
    throw new InputError(
      'usage',
      `--batch: expected at most ${units}, the number of ${unit}s of this text, got ${batch}`,
    )
  }
  const exponent = Math.floor(-Math.log10(10 * Math.max(1, units)))
  const delta = request.delta ?? Number(`1e${exponent}`)
  const expectedBatch = Math.min(units, batch ?? DEFAULT_BATCH)
  const sampleRate = expectedBatch / units
  const capacity = capacityFor({ units, sampleRate, steps, epsilon }, delta * TRUNCATION_SHARE)
  const truncated = truncationDelta({ units, sampleRate, capacity, steps, epsilon })
  const noiseMultiplier = noiseFor({ epsilon, delta: delta - truncated, sampleRate, steps })
  const signal =
    noiseMultiplier === undefined ? 0 : (Math.sqrt(steps / trained) * expectedBatch) / noiseMultiplier
  if (noiseMultiplier === undefined || signal < LEAST_SIGNAL) {
    throw new InputError(
      'too-small',
      `${units} ${unit}s are too few for --epsilon ${epsilon}: the noise would be ${(1 / signal).toFixed(1)} times as large as everything that they could teach in ${steps} steps; add ${unit}s, choose a larger --epsilon${batch === undefined ? '' : ' or --batch'}, or a lower --rank`,
    )
  }
  return {
    unit,
    epsilon,
    delta,
    truncationDelta: truncated,
    noiseMultiplier,
    sampleRate,
    steps,
    expectedBatch,
    capacity,
    units,
    windowsPerUnit,
  }
}

/** The smallest capacity whose truncation takes at most `most` of delta. */
function capacityFor(
  sampling: { units: number; sampleRate: number; steps: number; epsilon: number },
  most: number,
): number {
  let low = Math.ceil(sampling.units * sampling.sampleRate) - 1
  let high = sampling.units + 1
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (truncationDelta({ ...sampling, capacity: middle }) <= most) high = middle
    else low = middle
  }
  return high
}
