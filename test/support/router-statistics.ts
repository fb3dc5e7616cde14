/** Router statistics of made-up owners. */
import { mulberry32 } from '../../src/model/sampling.ts'
import { FEATURE_DECAY, type RouterStatistics } from '../../src/model/solved-router.ts'

/** Means over the features given, each (C). */
export function statisticsOf(features: readonly Float32Array[]): RouterStatistics {
  const C = features[0]?.length ?? 0
  const second = new Float32Array((C * (C + 1)) / 2)
  const mean = new Float32Array(C)
  for (const feature of features) {
    let at = 0
    for (let i = 0; i < C; i++) {
      const value = (feature[i] as number) / features.length
      mean[i] = (mean[i] as number) + value
      for (let j = i; j < C; j++) {
        second[at] = (second[at] as number) + value * (feature[j] as number)
        at++
      }
    }
  }
  return { second, mean }
}

/** An owner whose features of width C lie around a point of its own, no longer than 1. */
export function madeUpStatistics(C: number, seed: number): RouterStatistics {
  const random = mulberry32(seed)
  const vector = (size: number): Float32Array =>
    Float32Array.from({ length: C }, () => ((random() - 0.5) * 2 * size) / Math.sqrt(C))
  const centre = vector(0.4)
  return statisticsOf(
    Array.from({ length: 3 * C }, () => {
      const away = vector(0.8)
      return centre.map((value, i) => value + (away[i] as number))
    }),
  )
}

/**
 * The definition of features, token by token: each row of the stream at unit length, folded into a decayed mean;
 * `weight` is what the mean so far sums to, so that the first tokens count in full.
 */
export class DecayedMean {
  readonly mean: Float32Array
  weight = 0

  constructor(C: number) {
    this.mean = new Float32Array(C)
  }

  /** The feature (C) after one more token's stream u (C); valid until the next call. */
  next(u: ArrayLike<number>, out: Float32Array): void {
    const C = this.mean.length
    let squares = 0
    for (let i = 0; i < C; i++) squares += (u[i] as number) ** 2
    const share = 1 - FEATURE_DECAY
    const scale = share / Math.sqrt(squares + Number.MIN_VALUE)
    this.weight = FEATURE_DECAY * this.weight + share
    for (let i = 0; i < C; i++) {
      const value = FEATURE_DECAY * (this.mean[i] as number) + scale * (u[i] as number)
      this.mean[i] = value
      out[i] = value / this.weight
    }
  }
}
