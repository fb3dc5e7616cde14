/** Router statistics of made-up owners. */
import { mulberry32 } from '../../src/model/sampling.ts'
import type { RouterStatistics } from '../../src/model/solved-router.ts'

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
