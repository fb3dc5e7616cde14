/**
 * A running node as a server of the benchmark: requests go through its control socket, as `flexmesh generate` sends
 * them. Knows no peers.
 */
import type { Tokenizer } from '../../../src/data/tokenizer.ts'
import { isRunning } from '../../../src/serving/control-client.ts'
import { homePaths } from '../../../src/store/home.ts'
import type { Run, Server } from '../inference/server.ts'
import { callNode } from '../node-process.ts'
import { MeasuredProcess } from './measured-process.ts'

export interface NodeServer extends Server {
  readonly process: MeasuredProcess
  /** From the start of the process to the end of the first answer. */
  readonly startSeconds: number
}

/** Starts a node and waits for an answer of one token. @throws Error with its message if it does not answer. */
export async function startNodeServer(
  home: string,
  options: readonly string[],
  tokenizer: Tokenizer,
): Promise<NodeServer> {
  const node = await startMeasuredNode(home, options)
  try {
    await generate(home, 'A', 1)
    const startSeconds = node.seconds
    return {
      name: 'flexmesh',
      counts: 'median',
      process: node,
      startSeconds,
      run: (prompt, newTokens) => run(home, tokenizer.decode(prompt), newTokens),
      stop: () => node.stop(),
    }
  } catch (error) {
    await node.stop()
    throw error
  }
}

/** Starts `flexmesh start` and waits until the node answers on its control socket. */
export async function startMeasuredNode(home: string, options: readonly string[]): Promise<MeasuredProcess> {
  const node = new MeasuredProcess(['start', '--home', home, '--port', '0', ...options])
  await node.until(() => isRunning(homePaths(home).control))
  return node
}

/**
 * The first request reads the prompt. The second and third meet it in the cache of prompts, and differ by the tokens
 * that they generate; their difference is the time of decoding alone.
 */
async function run(home: string, prompt: string, newTokens: number): Promise<Run> {
  const prefillMs = await generate(home, prompt, 1)
  const oneMs = await generate(home, prompt, 1)
  const allMs = await generate(home, prompt, newTokens)
  return {
    // The control socket returns text, not ids.
    ids: Array.from({ length: newTokens }, () => 0),
    prefillMs,
    decodeMs: (allMs - oneMs) / (newTokens - 1),
  }
}

/** Milliseconds of a greedy answer. @throws Error if it has another number of tokens. */
async function generate(home: string, prompt: string, maxTokens: number): Promise<number> {
  const started = performance.now()
  const answer = await callNode(home, 'generate', { prompt, maxTokens, temperatureMilli: 0 })
  const { tokens } = answer as { tokens: number }
  if (tokens !== maxTokens) throw new Error(`the node generated ${tokens} tokens, expected ${maxTokens}`)
  return performance.now() - started
}
