/** Runs a Hugging Face folder in our engine: logits by the whole forward pass, a greedy continuation as served. */

import { type Tensor, zeros } from '@tensorflow/tfjs'
import { checkTensors } from '../../src/checkpoint/checkpoint-check.ts'
import { openCheckpoint } from '../../src/checkpoint/checkpoint-directory.ts'
import { readConfig } from '../../src/checkpoint/model-directory.ts'
import { createGenerator, type GeneratorInit } from '../../src/inference/generate.ts'
import { denseName } from '../../src/lib/tensor-names.ts'
import { configFromHuggingFace, type ModelConfig } from '../../src/model/config.ts'
import { mixtureShapes, mixtureWeights, publicShapes, zeroRows } from '../../src/model/params.ts'
import { forward, head } from '../../src/model/transformer.ts'
import { type Param, wholeValues } from '../../src/model/weights.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'

export interface OurModel {
  readonly config: ModelConfig
  /** Number of experts; 0 for a dense model. */
  readonly experts: number
  readonly topK: number
  readonly params: ReadonlyMap<string, Param>
}

export interface Answer {
  /** (T, V) after every token of the prompt. */
  readonly logits: ArrayLike<number>
  /** Greedy continuation. */
  readonly ids: readonly number[]
}

export interface OurAnswer extends Answer {
  /** Greedy continuation decoded by the engine, as for models that the vector kernels do not support. */
  readonly idsByEngine: readonly number[]
}

export async function readFolder(dir: string): Promise<OurModel> {
  const json = (await readConfig(dir)) as Record<string, unknown>
  const config = configFromHuggingFace(json)
  const experts = json['model_type'] === 'flex_olmo' ? Number(json['num_experts']) : 0
  const checkpoint = await openCheckpoint(dir)
  const shapes = experts === 0 ? publicShapes(config) : mixtureShapes(config, experts)
  const params = new Map<string, Param>()
  for (const [name, tensor] of checkTensors(checkpoint, shapes)) {
    params.set(name, { shape: tensor.shape, data: await wholeValues(tensor.weight) })
  }
  return { config, experts, topK: Number(json['num_experts_per_tok'] ?? 1), params }
}

export async function answerOf(model: OurModel, prompt: Int32Array, newTokens: number): Promise<OurAnswer> {
  const engine = onnxEngine({ threads: 1 })
  return {
    logits: await logitsOf(engine, model, prompt),
    ids: await greedy(engine, model, prompt, newTokens, {}),
    idsByEngine: await greedy(engine, model, prompt, newTokens, { vectorThreads: 0 }),
  }
}

async function logitsOf(engine: Engine, model: OurModel, prompt: Int32Array): Promise<Float32Array> {
  const { config, experts, topK, params } = model
  const T = prompt.length
  const none = (): Tensor => zeros([1, config.hiddenSize])
  const compiled = await engine.compile(
    (tensors) => {
      const weights = (name: string): Tensor => tensors[name] ?? tensors[denseName(name)] ?? none()
      const init = { B: 1, T, E: Math.max(1, experts), topK, bias: false }
      return { logits: head(weights, forward(config, weights, weights('ids'), init).hidden) }
    },
    { inputs: { ids: { shape: [1, T], dtype: 'int32' } }, frozen: Object.fromEntries(params) },
  )
  const { logits } = await compiled.run({ ids: prompt })
  await compiled.dispose()
  return logits as Float32Array
}

async function greedy(
  engine: Engine,
  { config, experts, topK, params }: OurModel,
  prompt: Int32Array,
  maxTokens: number,
  decoding: Pick<GeneratorInit, 'vectorThreads'>,
): Promise<number[]> {
  const mixture = experts === 0 ? mixtureWeights(config, params, zeroRows(config), []) : params
  const E = Math.max(1, experts)
  const contextLength = config.maxPositionEmbeddings
  const generator = await createGenerator(engine, config, mixture, { E, topK, contextLength, ...decoding })
  const ids: number[] = []
  const sampling = { temperature: 0, topP: 1, seed: 1 }
  const request = { prompt, maxTokens, sampling, endsOfText: [], mask: new Float32Array(E) }
  for await (const { id } of generator.generate(request)) ids.push(id)
  await generator.dispose()
  return ids
}

/** Largest difference divided by the largest expected magnitude; NaN if lengths differ. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0
  let scale = 0
  for (let i = 0; i < expected.length; i++) {
    const e = expected[i] as number
    difference = Math.max(difference, Math.abs((actual[i] ?? Number.NaN) - e))
    scale = Math.max(scale, Math.abs(e))
  }
  return actual.length === expected.length ? difference / scale : Number.NaN
}
