/** Generators of the golden mixture with biases and a gate, and short ways to run requests on them. */
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import type { GeneratedToken } from '../../src/inference/request-stream.ts'
import { biasName } from '../../src/lib/tensor-names.ts'
import { Gates } from '../../src/model/gates.ts'
import { LEFT_OUT } from '../../src/model/routing-plan.ts'
import type { Gate } from '../../src/model/solved-router.ts'
import type { Param } from '../../src/model/weights.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { goldenConfig, goldenMixture } from './golden.ts'
import { madeUpStatistics } from './router-statistics.ts'

const V = goldenConfig.vocabSize
export const E = 3
export const CONTEXT = 60
/** Numbers of vector threads: 0 decodes through the engine; 3 may be more than the machine has. */
export const DECODERS = [0, 1, 3]

/** The golden mixture with a bias, so that every term of the router counts. */
export const params = new Map<string, Param>(goldenMixture([0, 1, 2]))
for (let layer = 0; layer < goldenConfig.numHiddenLayers; layer++) {
  params.set(biasName(layer), { shape: [E], data: Float32Array.of(0, -0.3, 0.2) })
}

export const prompt = (length: number, seed = 3): number[] =>
  Array.from({ length }, (_, i) => (7 * i + seed) % V)

/** Router masks: all experts, and all but expert 1. */
export const ALL = new Float32Array(E)
export const WITHOUT_1 = Float32Array.of(0, LEFT_OUT, 0)

const statistics = [1, 2, 3].map((seed) => madeUpStatistics(V, seed))
const gates = new Gates(statistics)
/** A mask with the gate of the experts in use; the logits of the rows count half, so that both matter. */
const gated = (mask: Float32Array): { readonly mask: Float32Array; readonly gate: Gate } => ({
  mask,
  gate: { ...gates.gate(mask), rowScale: 0.5 },
})
export const GATED = gated(ALL)
export const GATED_WITHOUT_1 = gated(WITHOUT_1)

export interface Ask {
  readonly prompt: readonly number[]
  readonly maxTokens: number
  readonly temperature?: number
  readonly seed?: number
  readonly mask?: Float32Array
  readonly gate?: Gate
}

/** A request; greedy by default, with all experts. */
export const requestOf = ({ prompt, maxTokens, temperature = 0, seed = 1, mask = ALL, gate }: Ask) => ({
  prompt: Int32Array.from(prompt),
  maxTokens,
  sampling: { temperature, topP: 1, seed },
  endsOfText: [],
  mask,
  gate,
})

/** A generator of the golden mixture; top-2 by default. */
export const goldenGenerator = (engine: Engine, init: Partial<GeneratorInit> = {}) =>
  createGenerator(engine, goldenConfig, params, { E, topK: 2, contextLength: CONTEXT, ...init })

/** Tokens of several requests, which are served at the same time. */
export async function run(
  engine: Engine,
  asks: readonly Ask[],
  init: Partial<GeneratorInit> = {},
): Promise<GeneratedToken[][]> {
  const generator = await goldenGenerator(engine, init)
  const all = await Promise.all(
    asks.map(async (ask) => {
      const tokens: GeneratedToken[] = []
      for await (const token of generator.generate(requestOf(ask))) tokens.push(token)
      return tokens
    }),
  )
  await generator.dispose()
  return all
}

export const idsOf = (tokens: readonly GeneratedToken[] | undefined): number[] =>
  (tokens ?? []).map(({ id }) => id)

/** Token ids of one request on a generator of its own. */
export const answer = async (
  engine: Engine,
  ask: Ask,
  init: Partial<GeneratorInit> = {},
): Promise<number[]> => idsOf((await run(engine, [ask], init))[0])
