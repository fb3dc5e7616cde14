/**
 * Measures the time until `flexmesh --help` has printed, and until a node with ten accepted experts answers its first
 * request. Both run the built program, so `npm run build` comes first.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InputError } from '../../../src/lib/errors.ts'
import type { Bench } from '../benchmark.ts'
import { median } from '../machine.ts'
import { callNode, foundHome, ROOT, startNode, stopNode } from '../node-process.ts'

const EXPERTS = 10
const STEPS = 2
const HELP_ROUNDS = 11
const START_ROUNDS = 3
const program = join(ROOT, 'dist', 'src', 'main.js')

export async function benchStartup(say: (line: string) => void): Promise<Bench> {
  if (!existsSync(program)) throw new InputError('usage', `${program} does not exist; run npm run build`)
  const help = Array.from({ length: HELP_ROUNDS }, () => {
    const started = performance.now()
    execFileSync(process.execPath, [program, '--help'], { stdio: 'ignore' })
    return performance.now() - started
  })
  const helpMs = Math.round(median(help))
  say(`help after ${helpMs} ms`)
  const home = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    await foundWithExperts(home, say)
    const times: number[] = []
    for (let round = 0; round < START_ROUNDS; round++) {
      const started = performance.now()
      const node = await startNode([program], home)
      await callNode(home, 'generate', { prompt: 'Article', maxTokens: 1 })
      times.push(performance.now() - started)
      await stopNode(node)
      say(
        `round ${round + 1} of ${START_ROUNDS}: first answer after ${Math.round(times.at(-1) as number)} ms`,
      )
    }
    const servingMs = Math.round(median(times))
    return {
      json: { helpMs, servingMs, experts: EXPERTS, peers: {} },
      lines: [`help after ${helpMs} ms`, `a node with ${EXPERTS} experts answers after ${servingMs} ms`],
    }
  } finally {
    await rm(home, { recursive: true, force: true })
  }
}

/** Makes the home of a founder that has trained, published and accepted ten experts. */
async function foundWithExperts(home: string, say: (line: string) => void): Promise<void> {
  await foundHome(home)
  const node = await startNode([program], home)
  const data = [join(ROOT, 'examples', 'hospital', 'text')]
  for (let i = 1; i <= EXPERTS; i++) {
    await callNode(home, 'train', { name: `expert-${i}`, data, steps: STEPS })
    await callNode(home, 'publish', { name: `expert-${i}` })
    say(`published ${i} of ${EXPERTS}`)
  }
  await stopNode(node)
}
