/**
 * Measures what sampling costs beside greedy decoding with the vocabulary of the published OLMo 2 models, for 16 requests
 * at once. The model is small, so that choosing tokens is a large part of a step. Its random logits are nearly equally
 * likely, which is the hardest case: almost every token belongs to the nucleus.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { mulberry32 } from '../../../src/lib/random.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { mixtureWeights } from '../../../src/model/params.ts'
import { rounded } from '../machine.ts'
import { startOurs } from './our-server.ts'
import { promptSource, referencePublicModel, routerRows } from './reference-models.ts'

const VOCABULARY = 100_352
const STREAMS = 16
const PROMPT_TOKENS = 16
const NEW_TOKENS = 64
const ROUNDS = 5
const SEED = 4
const CONFIG: ModelConfig = {
  vocabSize: VOCABULARY,
  hiddenSize: 64,
  intermediateSize: 128,
  numHiddenLayers: 1,
  numAttentionHeads: 4,
  numKeyValueHeads: 4,
  maxPositionEmbeddings: 128,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
const CHOICES = {
  greedy: { temperature: 0, topP: 1 },
  sampled: { temperature: 1, topP: 1 },
  nucleus: { temperature: 1, topP: 0.95 },
} as const

export interface SamplingCost {
  /** Milliseconds of one step, which chooses a token for each of the 16 requests: the fastest of all rounds. */
  readonly stepMs: Readonly<Record<keyof typeof CHOICES, number>>
  /** Milliseconds that a step takes longer than a greedy one; each request waits so much longer for its token. */
  readonly extraMs: { readonly sampled: number; readonly nucleus: number }
  /** Milliseconds between two turns of the event loop, 99th percentile. */
  readonly eventLoopMs: Readonly<Record<keyof typeof CHOICES, number>>
}

export async function measureSampling(say: (line: string) => void): Promise<SamplingCost> {
  const random = mulberry32(SEED)
  const publicModel = referencePublicModel(CONFIG, random)
  const params = mixtureWeights(CONFIG, publicModel, routerRows(CONFIG, random), [])
  const server = await startOurs(CONFIG, params, {
    E: 1,
    topK: 1,
    contextLength: CONFIG.maxPositionEmbeddings,
  })
  const nextPrompt = promptSource(CONFIG, PROMPT_TOKENS, SEED)
  const names = Object.keys(CHOICES) as (keyof typeof CHOICES)[]
  const times: Record<keyof typeof CHOICES, number[]> = { greedy: [], sampled: [], nucleus: [] }
  const loops = {
    greedy: monitorEventLoopDelay({ resolution: 1 }),
    sampled: monitorEventLoopDelay({ resolution: 1 }),
    nucleus: monitorEventLoopDelay({ resolution: 1 }),
  }
  try {
    for (let round = 0; round <= ROUNDS; round++) {
      for (const name of names) {
        const prompts = Array.from({ length: STREAMS }, nextPrompt)
        // The first round compiles.
        if (round > 0) loops[name].enable()
        const { decodeMs } = await server.together(prompts, NEW_TOKENS, CHOICES[name])
        loops[name].disable()
        if (round > 0) times[name].push(decodeMs)
      }
    }
  } finally {
    await server.stop()
  }
  const stepMs = {
    greedy: rounded(Math.min(...times.greedy)),
    sampled: rounded(Math.min(...times.sampled)),
    nucleus: rounded(Math.min(...times.nucleus)),
  }
  const extraMs = {
    sampled: rounded(stepMs.sampled - stepMs.greedy),
    nucleus: rounded(stepMs.nucleus - stepMs.greedy),
  }
  const p99 = (name: keyof typeof CHOICES): number => rounded(loops[name].percentile(99) / 1e6)
  const eventLoopMs = { greedy: p99('greedy'), sampled: p99('sampled'), nucleus: p99('nucleus') }
  say(
    `vocabulary ${VOCABULARY}, ${STREAMS} requests: ${stepMs.greedy} ms a step greedy, ${extraMs.sampled} more sampled, ${extraMs.nucleus} more with top_p 0.95; the event loop turns within ${eventLoopMs.greedy} ms greedy, ${eventLoopMs.nucleus} with top_p 0.95 (p99)`,
  )
  return { stepMs, extraMs, eventLoopMs }
}
