/**
 * Plans the memory of a training before it starts: chooses the rank of the expert and the number of rows that are
 * computed at once, so that the training fits a budget. Knows nothing about files and engines.
 */
import { InputError } from '../lib/errors.ts'
import { gigabytes } from '../lib/memory.ts'
import type { ModelConfig } from '../model/config.ts'
import { publicShapes } from '../model/params.ts'
import { sizeOf } from '../tensor/engine.ts'
import { headRows } from '../tensor/fused.ts'
import { heldEmbeddingBytes } from './embedding-rows.ts'
import { trainableShapes } from './pair.ts'

/** Ranks to choose from if none is given and a whole FFN does not fit. */
const RANKS = [128, 64, 32, 16, 8] as const
const FLOAT = Float32Array.BYTES_PER_ELEMENT
/** The engine's code and threads, garbage, and what its allocator keeps beside the tensors. */
const FIXED_BYTES = 150e6
/**
 * Float32 values that the backward pass needs of each token and layer, as multiples of the hidden size and of the FFN
 * width; and those of the layer that is being computed. Fitted to resident memory at hidden sizes of 1024 and 2048.
 */
const STORED = { hidden: 14, ffn: 4 }
const TRANSIENT = { hidden: 8, ffn: 4 }
/**
 * The same for the gradients of products that a private step keeps until all norms are known, with a whole FFN and
 * with factors; computed from the shapes.
 */
const KEPT = { whole: { hidden: 1, ffn: 3 }, factors: { hidden: 1, ffn: 2 } }
/** A private training has compiled steps for units of three sizes, and each keeps the memory of its activations. */
const PRIVATE_STEPS = 3
/** Arrays of the size of the trained parameters: the parameters, two moments, the gradient and the binding's copy. */
const ARRAYS = 5
/**
 * Activations of a low-rank step above which it is split even if they fit: 512 tokens at once are computed as fast as
 * more. A whole FFN pays for a split with one more array of its size, so it is split only if it must be.
 */
const SPLIT_BYTES = 1e9
const SPLIT_TOKENS = 512

export interface PlanRequest {
  /** Rank of the expert; 0: a whole FFN; undefined: chosen by memory. */
  readonly rank: number | undefined
  /** A step computes `accumulate` times B rows of T tokens, before the plan splits them further. */
  readonly B: number
  readonly T: number
  readonly accumulate: number
  /** Whether gradients are clipped by unit, for which the backward pass keeps more. */
  readonly isPrivate?: boolean
  /** Bytes that the training may take. */
  readonly budget: number
}

export interface TrainingPlan {
  readonly rank: number
  /** Whether the rank follows from memory. */
  readonly isRankChosen: boolean
  /** Rows that are computed at once; a divisor of `B`. */
  readonly rows: number
  /** Number of micro-batches of a step. */
  readonly microBatches: number
  /** Bytes that the training takes at most. */
  readonly bytes: number
  /** Bytes of the public model in it, in float32, without the embedding of a large vocabulary. */
  readonly weightBytes: number
  readonly budget: number
}

/**
 * The plan of a training. Without a rank, the expert is a whole FFN if that fits, otherwise of the largest rank that
 * does.
 * @throws InputError `out-of-memory` if nothing fits, with the alternatives that do.
 */
export function planTraining(config: ModelConfig, request: PlanRequest): TrainingPlan {
  const { rank, budget } = request
  const most = Math.min(config.hiddenSize, config.intermediateSize)
  const low = RANKS.filter((candidate) => candidate <= most)
  for (const candidate of rank === undefined ? [0, ...low] : [rank]) {
    const plan = planFor(config, request, candidate)
    if (plan.bytes <= budget) return plan
  }
  const fitting = low.filter((candidate) => planFor(config, request, candidate).bytes <= budget)
  const least = planFor(config, request, rank ?? (low.at(-1) as number))
  const alternatives = [
    ...(fitting[0] === undefined || rank === fitting[0] ? [] : [`--rank ${fitting[0]} fits`]),
    ...(planFor(config, { ...request, accumulate: 1 }, least.rank).bytes <= budget
      ? ['--accumulate 1 fits']
      : []),
    '--memory allows more',
    '--export-pair DIR trains on a cluster',
  ]
  throw new InputError(
    'out-of-memory',
    `this training needs ${gigabytes(least.bytes)} of memory (${gigabytes(least.weightBytes)} for the public model in float32), and ${gigabytes(budget)} may be used: ${alternatives.join(', ')}`,
    { bytes: least.bytes, budget },
  )
}

/** The fastest plan for a rank that fits; if none fits, the one with the least memory. */
function planFor(config: ModelConfig, request: PlanRequest, rank: number): TrainingPlan {
  const { B, T, accumulate, budget } = request
  const { vocabSize: V, hiddenSize: C } = config
  const weightBytes = FLOAT * (total(publicShapes(config)) - V * C) + heldEmbeddingBytes(V, C)
  const trained = total(trainableShapes(config, rank))
  const planOf = (rows: number): TrainingPlan => {
    const microBatches = accumulate * (B / rows)
    const arrays = FLOAT * trained * (ARRAYS + (microBatches > 1 || request.isPrivate ? 1 : 0))
    const activations = activationBytes(config, rank, rows, T)
    const forUnits = PRIVATE_STEPS * (activations + keptBytes(config, rank, rows, T))
    const bytes = weightBytes + arrays + (request.isPrivate ? forUnits : activations) + FIXED_BYTES
    return { rank, isRankChosen: request.rank === undefined, rows, microBatches, bytes, weightBytes, budget }
  }
  const fast = rank > 0 && activationBytes(config, rank, B, T) > SPLIT_BYTES ? SPLIT_TOKENS / T : B
  const divisors = Array.from({ length: B }, (_, i) => B - i).filter((rows) => B % rows === 0 && rows <= fast)
  const plans = divisors.map(planOf)
  return plans.find(({ bytes }) => bytes <= budget) ?? plans.reduce((a, b) => (b.bytes < a.bytes ? b : a))
}

/** Bytes of the activations of `rows` rows of T tokens, with the logits of the rows that the head computes at once. */
function activationBytes(config: ModelConfig, rank: number, rows: number, T: number): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L, vocabSize: V } = config
  const tokens = rows * T
  const stored = L * (STORED.hidden * C + STORED.ffn * F + 3 * rank)
  const transient = TRANSIENT.hidden * C + TRANSIENT.ffn * F
  return FLOAT * (tokens * (stored + transient) + 3 * headRows(tokens, V) * V)
}

/**
 * Bytes that a private step keeps for `rows` rows of T tokens. A unit may have several windows, so products of rows take
 * up to S S floats for S tokens; where that is more than the gradient, the gradient is computed instead.
 */
function keptBytes(config: ModelConfig, rank: number, rows: number, T: number): number {
  const { hiddenSize: C, intermediateSize: F, numHiddenLayers: L } = config
  const { hidden, ffn } = rank === 0 ? KEPT.whole : KEPT.factors
  const tokens = rows * T
  const products = rank === 0 ? 3 * Math.min(tokens * tokens, rows * F * C) : 0
  return FLOAT * (L * tokens * (hidden * C + ffn * F) + products)
}

function total(shapes: ReadonlyMap<string, readonly number[]>): number {
  return [...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0)
}
