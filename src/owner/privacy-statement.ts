/**
 * Builds what a manifest states about privacy from the parameters of the training. Rounds every number so that the
 * statement promises no more than the training gives. Knows nothing about files.
 */
import type { DpStatement, PrivacyStatement } from '../packaging/manifest-privacy.ts'
import { ACCOUNTANT, epsilonOf, type SubsampledGaussian } from '../privacy/accountant.ts'
import type { DpParameters } from '../privacy/mechanism.ts'

const MICRO = 1e6
const NANO = 1e9
/** Share of a unit of the last digit that computations in double precision may be off. */
const ROUNDING = 1e-3

/** What a package releases of its text, besides the parameters of the training. */
export interface ReleasedPrivacy {
  /**
   * Standard deviation of the noise in the router statistics as a multiple of the maximum change by one unit; 0 without
   * statistics.
   */
  readonly statisticsNoise: number
  /** Number of trainings on any of the text from which this one was chosen, itself included. */
  readonly tunedRuns: number
}

/** @param parameters undefined for a training without a guarantee. */
export function privacyStatement(
  parameters: DpParameters | undefined,
  { statisticsNoise, tunedRuns }: ReleasedPrivacy,
): PrivacyStatement {
  if (parameters === undefined) return { mechanism: 'none' }
  const { unit, delta, truncationDelta, steps, units, capacity, windowsPerUnit } = parameters
  const statement: Omit<DpStatement, 'epsilonMicro'> = {
    mechanism: 'dp-sgd',
    attestation: 'self',
    unit,
    relation: 'add-remove',
    sampler: 'poisson-truncated',
    deltaInverse: inverse(delta),
    truncationDeltaInverse: truncationDelta === 0 ? 0 : inverse(truncationDelta),
    noiseMicro: down(parameters.noiseMultiplier * MICRO),
    clipMicro: Math.max(1, up(parameters.clip * MICRO)),
    sampleRateNano: Math.min(NANO, up(parameters.sampleRate * NANO)),
    steps,
    units,
    capacity,
    windowsPerUnit,
    statisticsNoiseMicro: down(statisticsNoise * MICRO),
    accountant: ACCOUNTANT,
    tunedRuns,
  }
  return { ...statement, epsilonMicro: Math.max(1, up(statedEpsilon(statement) * MICRO)) }
}

/** The epsilon that a receiver computes from the statement. */
function statedEpsilon(statement: Omit<DpStatement, 'epsilonMicro'>): number {
  const { deltaInverse, truncationDeltaInverse, statisticsNoiseMicro } = statement
  const mechanisms: SubsampledGaussian[] = [
    {
      noiseMultiplier: statement.noiseMicro / MICRO,
      sampleRate: statement.sampleRateNano / NANO,
      steps: statement.steps,
    },
  ]
  if (statisticsNoiseMicro > 0) {
    mechanisms.push({ noiseMultiplier: statisticsNoiseMicro / MICRO, sampleRate: 1, steps: 1 })
  }
  const truncation = truncationDeltaInverse === 0 ? 0 : 1 / truncationDeltaInverse
  return epsilonOf(mechanisms, 1 / deltaInverse - truncation).epsilon
}

const up = (value: number): number => Math.ceil(value - ROUNDING)
const down = (value: number): number => Math.floor(value + ROUNDING)

/** 1 / `delta`, rounded down. A tiny delta is stated as the smallest one that a manifest can hold. */
function inverse(delta: number): number {
  return Math.min(Number.MAX_SAFE_INTEGER, down(1 / delta))
}
