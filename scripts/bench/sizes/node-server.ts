/**
 * A running node as a server of the benchmark: requests go through its control socket, as `flexmesh generate` sends
 * them. Knows no peers.
 */
import type { Tokenizer } from '../../../src/data/tokenizer.ts'
import { callControl, isRunning } from '../../../src/serving/control-client.ts'
import { homePaths } from '../../../src/store/home.ts'
import type { Run, Server } from '../inference/server.ts'
import { MeasuredProcess } from './measured-process.ts'

/** An answer that takes longer is not measured. */
const MAX_MS = 1_800_000

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
      run: (prompt, newTokens) => generate(home, tokenizer.decode(prompt), newTokens),
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

/** A greedy answer. @throws Error if it has another number of tokens. */
async function generate(home: string, prompt: string, maxTokens: number): Promise<Run> {
  const started = performance.now()
  /** When each token arrived: the node reports one after the other, also those without text. */
  const times: number[] = []
  const answer = await callControl(
    homePaths(home).control,
    'generate',
    { prompt, maxTokens, temperatureMilli: 0 },
    { signal: AbortSignal.timeout(MAX_MS), onProgress: () => times.push(performance.now()) },
  )
  const { tokens } = answer as { tokens: number }
  if (tokens !== maxTokens || times.length !== maxTokens) {
    throw new Error(`the node generated ${tokens} tokens in ${times.length} reports, expected ${maxTokens}`)
  }
  const [first, last] = [times[0] as number, times.at(-1) as number]
  return {
    // The control socket returns text, not ids.
    ids: times.map(() => 0),
    prefillMs: first - started,
    decodeMs: (last - first) / Math.max(1, maxTokens - 1),
  }
}
