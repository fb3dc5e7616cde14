/** Our engine as a server of the benchmark; the only file that creates a generator. */

import type { Generator } from '../../../src/inference/batcher.ts'
import { createGenerator } from '../../../src/inference/generate.ts'
import type { GeneratedToken } from '../../../src/inference/request-stream.ts'
import type { Sampling } from '../../../src/inference/sampling.ts'
import type { WeightFormat } from '../../../src/inference/weight-format.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import type { Params } from '../../../src/model/weights.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { CONTEXT } from '../reference-configs.ts'
import type { Run, Server } from './server.ts'

export const THREADS = 2

export interface OurInit {
  readonly E: number
  readonly topK: number
  /** Default: fp32. */
  readonly weights?: WeightFormat
  readonly contextLength?: number
}

export interface OurServer extends Server {
  /** Runs several requests at once, greedy by default. `ms` is the wall time until the last token of all; `decodeMs` is for one step. */
  together(
    prompts: readonly Int32Array[],
    newTokens: number,
    sampling?: Omit<Sampling, 'seed'>,
  ): Promise<{ ms: number; decodeMs: number }>
  readonly generator: Generator
}

export async function startOurs(config: ModelConfig, params: Params, init: OurInit): Promise<OurServer> {
  const engine = onnxEngine({ threads: THREADS })
  const generator = await createGenerator(engine, config, params, {
    contextLength: CONTEXT,
    // Peers do not cache prompts, so neither does ours here.
    prefixCacheBytes: 0,
    ...init,
  })
  const generate = (
    prompt: Int32Array,
    maxTokens: number,
    { temperature, topP }: Omit<Sampling, 'seed'> = { temperature: 0, topP: 1 },
    seed = 0,
  ): AsyncGenerator<GeneratedToken, void, void> =>
    generator.generate({
      prompt,
      maxTokens,
      sampling: { temperature, topP, seed },
      // Without an end token, every server generates the same number of tokens.
      endsOfText: [],
      mask: new Float32Array(init.E),
    })
  return {
    name: engine.library,
    counts: 'median',
    generator,
    run: async (prompt, newTokens) => timed(generate(prompt, newTokens)),
    together: async (prompts, newTokens, sampling) => {
      const started = performance.now()
      const runs = await Promise.all(
        prompts.map((prompt, i) => timed(generate(prompt, newTokens, sampling, i))),
      )
      const ms = performance.now() - started
      const prefilled = Math.max(...runs.map((run) => run.prefillMs))
      return { ms, decodeMs: (ms - prefilled) / (newTokens - 1) }
    },
    stop: () => generator.dispose(),
  }
}

async function timed(tokens: AsyncIterable<GeneratedToken>): Promise<Run> {
  const started = performance.now()
  const ids: number[] = []
  let first = started
  for await (const { id } of tokens) {
    if (ids.length === 0) first = performance.now()
    ids.push(id)
  }
  return {
    ids,
    prefillMs: first - started,
    decodeMs: (performance.now() - first) / Math.max(1, ids.length - 1),
  }
}
