/** Runs FlexOlmoForCausalLM of transformers in a Python process. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Run, Server } from './server.ts'

export interface TransformersPeer extends Server {
  /** The experts implementations of transformers that it chose; known once it has run. */
  readonly experts: () => string
}

export async function startTransformers(
  python: string,
  dir: string,
  threads: number,
  dtype: 'float32' | 'bfloat16' = 'float32',
): Promise<TransformersPeer> {
  const script = fileURLToPath(new URL('./transformers_peer.py', import.meta.url))
  const child = spawn(python, [script, dir, String(threads), dtype], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: String(threads), HF_HUB_OFFLINE: '1' },
  })
  const lines = createInterface({ input: child.stdout })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`transformers exited with code ${String(code)}`)
  })
  ended.catch(() => undefined)
  const answer = async (): Promise<unknown> => {
    const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string]
    return JSON.parse(line)
  }
  const versions = (await answer()) as { transformers: string; torch: string }
  let experts = ''
  return {
    name: `transformers ${versions.transformers}, torch ${versions.torch}`,
    counts: 'median',
    experts: () => experts,
    run: async (prompt, newTokens) => {
      child.stdin.write(`${JSON.stringify({ prompt: [...prompt], newTokens })}\n`)
      const run = (await answer()) as Run & { experts: { prefill: string; decode: string } }
      experts = `${run.experts.prefill} to read the prompt, ${run.experts.decode} to decode`
      return run
    },
    stop: async () => {
      child.stdin.end()
      if (child.exitCode === null) await ended.catch(() => undefined)
    },
  }
}
