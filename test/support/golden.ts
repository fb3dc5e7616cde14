/** The golden vectors: a tiny model whose weights come from a generator, with expected outputs. */
import { readFileSync } from 'node:fs'
import type { ModelConfig } from '../../src/model/config.ts'
import type { Param } from '../../src/model/weights.ts'

interface GoldenLayer {
  router_logits: number[][]
  router_probs: number[][]
  topk_index: number[][]
  topk_weight: number[][]
}
export interface GoldenCase {
  experts: number[]
  top_k: number
  bias: number[][] | null
  ce_next_token_mean: number
  logits: number[][]
  layers: GoldenLayer[]
}
interface GoldenFile {
  config: Record<string, number>
  weights: Record<string, { shape: number[] }>
  input_ids: number[]
  cases: Record<string, GoldenCase>
  pair_train_step: {
    ce: number
    lm_z: number
    router_z: number
    grad_norm_before_clip: number
    grads: Record<string, number[]>
    grad_l2: Record<string, number>
    adamw: { lr: number; params_after: Record<string, number[]> }
    after: { ce: number; lm_z: number; router_z: number }
  }
}

export const golden = JSON.parse(
  readFileSync(new URL('../fixtures/golden/flexolmo.json', import.meta.url), 'utf8'),
) as GoldenFile

export const goldenConfig: ModelConfig = {
  vocabSize: 32,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 64,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}

/** The linear congruential generator that the file describes. */
function generate(seed: number, count: number, scale: number, offset: number): Float32Array {
  const values = new Float32Array(count)
  let state = (Math.imul(seed, 2654435761 | 0) + 12345) >>> 0
  for (let i = 0; i < count; i++) {
    state = (Math.imul(1664525, state) + 1013904223) >>> 0
    values[i] = (state / 4294967296 - 0.5) * 2 * scale + offset
  }
  return values
}

function goldenWeights(): Map<string, Param> {
  const weights = new Map<string, Param>()
  Object.entries(golden.weights).forEach(([name, { shape }], index) => {
    const norm = name.includes('norm')
    const scale = norm ? 0.2 : name === 'model.embed_tokens.weight' ? 1 : 0.5
    const count = shape.reduce((a, b) => a * b, 1)
    weights.set(name, { shape, data: generate(index + 1, count, scale, norm ? 1 : 0) })
  })
  return weights
}

export const goldenParams: ReadonlyMap<string, Param> = goldenWeights()

/** The golden mixture restricted to `experts`, renumbered from 0. */
export function goldenMixture(experts: readonly number[]): Map<string, Param> {
  const C = goldenConfig.hiddenSize
  const params = new Map<string, Param>()
  for (const [name, param] of goldenParams) {
    const match = /^(model\.layers\.\d+\.mlp\.experts\.)(\d+)(\..*)$/.exec(name)
    if (match !== null) {
      const index = experts.indexOf(Number(match[2]))
      if (index >= 0) params.set(`${match[1]}${index}${match[3]}`, param)
    } else if (name.endsWith('mlp.gate.weight')) {
      const rows = new Float32Array(experts.length * C)
      experts.forEach((e, i) => {
        rows.set(param.data.subarray(e * C, (e + 1) * C), i * C)
      })
      params.set(name, { shape: [experts.length, C], data: rows })
    } else {
      params.set(name, param)
    }
  }
  return params
}

/** The dense public model inside the golden mixture: expert 0 under dense names. */
export function goldenPublic(): Map<string, Param> {
  const params = new Map<string, Param>()
  for (const [name, param] of goldenParams) {
    if (name.endsWith('mlp.gate.weight')) continue
    if (!name.includes('.experts.')) params.set(name, param)
    else if (name.includes('.experts.0.')) params.set(name.replace('experts.0.', ''), param)
  }
  return params
}
