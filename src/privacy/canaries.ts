/**
 * Canaries: sequences that the public model writes by itself, so that nobody's text contains them. Each is hidden in a
 * training text with probability a half; an audit then tries to find out which ones. Anybody can write the same
 * sequences again from their seed, but only the owner knows which were hidden. Does not know texts or files.
 */
import { randomBytes } from 'node:crypto'
import { createGenerator } from '../inference/generate.ts'
import { MAX_SEED, mulberry32 } from '../lib/random.ts'
import type { ModelConfig } from '../model/config.ts'
import { mixtureWeights, zeroRows } from '../model/params.ts'
import type { WeightMap } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'
import { CANARY_TOKENS } from './canary-number.ts'

/** Sequences that are written at the same time. */
const STREAMS = 16

export interface Canary {
  /** `CANARY_TOKENS` ids. */
  readonly tokens: Int32Array
  /** Whether it is in the training text. */
  readonly isIncluded: boolean
}

/** The public model that writes canaries. */
export interface CanaryWriter {
  readonly engine: Engine
  readonly config: ModelConfig
  readonly weights: WeightMap
  readonly endOfText: number
}

/**
 * Sequences that the public model samples at temperature 1: a pure function of the seed on one engine and version. A
 * sequence in which the text would end is dropped, since it would be two documents.
 * @throws the signal's reason; as `createGenerator`.
 */
export async function writeCanaries(
  { engine, config, weights, endOfText }: CanaryWriter,
  count: number,
  seed: number,
  signal: AbortSignal,
): Promise<Int32Array[]> {
  const canaries: Int32Array[] = []
  if (count === 0) return canaries
  const mixture = mixtureWeights(config, weights, zeroRows(config), [])
  const streams = Math.min(STREAMS, count)
  const generator = await createGenerator(engine, config, mixture, {
    E: 1,
    topK: 1,
    contextLength: CANARY_TOKENS + 1,
    streams,
    prefixCacheBytes: 0,
    signal,
  })
  const random = mulberry32(seed)
  const write = async (from: number): Promise<Int32Array> => {
    const tokens: number[] = []
    const request = {
      prompt: Int32Array.of(endOfText),
      maxTokens: CANARY_TOKENS,
      sampling: { temperature: 1, topP: 1, seed: from },
      endsOfText: [endOfText],
      mask: new Float32Array(1),
    }
    // A signal of its own, since Node warns of many listeners on one.
    for await (const { id } of generator.generate(request, AbortSignal.any([signal]))) tokens.push(id)
    return Int32Array.from(tokens)
  }
  try {
    while (canaries.length < count) {
      signal.throwIfAborted()
      const seeds = Array.from({ length: streams }, () => Math.floor(random() * (MAX_SEED + 1)))
      const written = await Promise.all(seeds.map(write))
      canaries.push(...written.filter(({ length }) => length === CANARY_TOKENS))
    }
  } finally {
    await generator.dispose()
  }
  return canaries.slice(0, count)
}

/** Throws a secret, fair coin for each sequence. */
export function hideCanaries(sequences: readonly Int32Array[]): Canary[] {
  const coins = randomBytes(sequences.length)
  return sequences.map((tokens, i) => ({ tokens, isIncluded: ((coins[i] as number) & 1) === 1 }))
}
