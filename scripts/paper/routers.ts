/** The product's gate with the choices in it open: decay, calibration, documents, noise. Knows no training. */
import { mulberry32 } from '../../src/lib/random.ts'
import type { Gate, GateCalibration } from '../../src/model/solved-router.ts'
import type { GateOf } from './scorer.ts'
import type { StreamGateKind } from './stream-gates.ts'

export interface TokenGateKind extends GateCalibration {
  readonly solver: 'tokens'
  /** Weight of what was known before each token. */
  readonly decay: number
  /** Stretches of training text that statistics average over. */
  readonly documents: number
  /** Epsilon of noise in the owners' statistics; none where absent. */
  readonly epsilon?: number
}

export type GateKind = TokenGateKind | StreamGateKind

/** Logits (T, E) of every window. */
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

/** Numbers in (0, 1] that can be had again. */
export function repeatable(seed: number): () => number {
  const random = mulberry32(seed)
  return () => 1 - random()
}
