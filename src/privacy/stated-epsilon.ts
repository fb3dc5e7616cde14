/**
 * Checks that the epsilon which a training states follows from its own parameters, so that no manifest promises more
 * than the accountant computes. Knows nothing about files and manifests.
 */
import { ownCommand } from '../lib/command-line.ts'
import { InputError } from '../lib/errors.ts'
import { epsilonOf, noiseFor } from './accountant.ts'
import type { DpParameters } from './mechanism.ts'

/** Share by which a stated epsilon may be below the computed one, for the last digits of decimal numbers. */
const ROUNDING = 1e-6

/**
 * @throws InputError `mismatch` if the accountant gives a larger epsilon than the parameters state, RangeError for
 * parameters outside their ranges.
 */
export function checkStatedEpsilon(parameters: DpParameters): void {
  const { epsilon: stated, delta, truncationDelta } = parameters
  const { epsilon } = epsilonOf([parameters], delta - truncationDelta)
  if (epsilon <= stated * (1 + ROUNDING)) return
  const needed = noiseFor({ ...parameters, delta: delta - truncationDelta })
  throw new InputError(
    'mismatch',
    `the training states epsilon ${stated}, but ${parameters.steps} steps at rate ${parameters.sampleRate} with noise multiplier ${parameters.noiseMultiplier} give ${epsilon.toPrecision(4)}${needed === undefined ? '' : ` (${stated} needs a noise multiplier of ${needed.toPrecision(4)})`}; train again with ${ownCommand('train', '--epsilon', 'EPSILON')}`,
  )
}
