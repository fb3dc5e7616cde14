/** Compositions of a tiny public model with experts of random weights, and an engine that counts compilations. */
import { referenceExpert } from '../../scripts/bench/inference/reference-models.ts'
import type { AcceptedExpert } from '../../src/acceptance/accepted-experts.ts'
import { loadPublicModel, type PublicModel } from '../../src/checkpoint/public-model.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { TINY, tinyModel } from './tiny-model.ts'

const onnx = onnxEngine({ threads: 1 })

/** Digest that stands for the tiny public model's. */
export const TINY_DIGEST = digestOf(Uint8Array.of(200))

export async function loadTinyModel(): Promise<PublicModel> {
  return loadPublicModel(await tinyModel())
}

/** One expert named `text` for each institution; the first has the lowest package id. */
export function tinyExperts(...institutions: string[]): AcceptedExpert[] {
  const random = mulberry32(5)
  const experts = institutions.map((institution, i) => ({
    id: digestOf(Uint8Array.of(i)),
    name: 'text',
    institution,
    peerId: `peer of ${institution}`,
    expert: referenceExpert(TINY, random),
  }))
  return experts.sort((a, b) => (a.id < b.id ? -1 : 1))
}

export interface CountingEngine extends Engine {
  /** Numbers of functions that were compiled, and of those that were disposed. */
  readonly counts: { compiled: number; disposed: number }
}

/** @param failures number of compilations that fail before the first that succeeds */
export function countingEngine(failures = 0): CountingEngine {
  const counts = { compiled: 0, disposed: 0 }
  let failuresLeft = failures
  return {
    ...onnx,
    counts,
    compile: async (...args) => {
      if (failuresLeft-- > 0) throw new Error('out of memory')
      const compiled = await onnx.compile(...args)
      counts.compiled++
      return {
        run: (...values) => compiled.run(...values),
        dispose: async () => {
          counts.disposed++
          await compiled.dispose()
        },
      }
    },
  }
}
