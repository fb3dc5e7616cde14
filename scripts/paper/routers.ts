/** The product's gate with variable decay, calibration, number of documents and noise. Knows nothing about training. */
import { mulberry32 } from '../../src/lib/random.ts'
import type { Gate, GateCalibration } from '../../src/model/solved-router.ts'
import type { GateOf } from './scorer.ts'
import type { StreamGateKind } from './stream-gates.ts'

export interface TokenGateKind extends GateCalibration {
  readonly solver: 'tokens'
  /** Factor of earlier evidence at each token. */
  readonly decay: number
  /** Number of documents (stretches of training text) over which statistics average. */
  readonly documents: number
  /** Epsilon of the noise in the owners' statistics; no noise by default. */
  readonly epsilon?: number
}

export type GateKind = TokenGateKind | StreamGateKind

/** Returns a function to the logits (T, E) of a window. */
export function tokenGateOf({ weights, offsets }: Gate, decay: number): GateOf {
  const E = offsets.length
  return ({ ids }) => {
    const logits = new Float32Array(ids.length * E)
    const sums = new Float64Array(E)
    ids.forEach((token, t) => {
      for (let e = 0; e < E; e++) {
        sums[e] = decay * (sums[e] as number) + (weights[token * E + e] as number)
        logits[t * E + e] = (sums[e] as number) + (offsets[e] as number)
      }
    })
    return logits
  }
}

/** A seeded source of numbers in (0, 1]. */
export function repeatable(seed: number): () => number {
  const random = mulberry32(seed)
  return () => 1 - random()
}
