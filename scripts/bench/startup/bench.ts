/**
 * Time until `flexmesh --help` has printed, and until a node with ten accepted experts answers its first
 * request. Both run the built program, `npm run build` first.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createConsortium, initHome } from '../../../src/node/found.ts'
import { callControl, isRunning } from '../../../src/serving/control.ts'
import { homePaths } from '../../../src/store/home.ts'
import type { Bench } from '../benchmark.ts'
import { median } from '../machine.ts'

const EXPERTS = 10
const STEPS = 2
const HELP_ROUNDS = 11
const START_ROUNDS = 3
const POLL_MS = 10
const root = fileURLToPath(new URL('../../..', import.meta.url))
const program = join(root, 'dist', 'src', 'main.js')
const signal = AbortSignal.timeout(600_000)

export async function benchStartup(say: (line: string) => void): Promise<Bench> {
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
      const node = await startNode(home)
      await ask(home, 'generate', { prompt: 'Article', maxTokens: 1 })
      times.push(performance.now() - started)
      await stop(node)
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

/** A founder that has trained, published and accepted ten experts. */
async function foundWithExperts(home: string, say: (line: string) => void): Promise<void> {
  const settings = { institution: 'Bench', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
  await initHome(home, settings, { inTheClear: true })
  const now = (): number => Math.floor(Date.now() / 1000)
  await createConsortium({ home, now }, { modelDir: join(root, 'models', 'small'), name: 'Bench' })
  const node = await startNode(home)
  const data = [join(root, 'examples', 'hospital', 'text')]
  for (let i = 1; i <= EXPERTS; i++) {
    await ask(home, 'train', { name: `expert-${i}`, data, steps: STEPS })
    await ask(home, 'publish', { name: `expert-${i}` })
    say(`published ${i} of ${EXPERTS}`)
  }
  await stop(node)
}

function ask(home: string, command: string, args: unknown): Promise<unknown> {
  return callControl(homePaths(home).control, command, args, { signal })
}

async function startNode(home: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [program, 'start', '--home', home, '--port', '0'], {
    stdio: 'ignore',
  })
  while (!(await isRunning(homePaths(home).control))) {
    if (child.exitCode !== null) throw new Error('the node did not start')
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return child
}

async function stop(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  if (child.exitCode === null) await once(child, 'exit')
}
