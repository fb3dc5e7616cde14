/**
 * Resident memory of a node that trains, of one that serves three experts, of taking in a large checkpoint, and
 * what receiving a large file adds. Reads /proc, so Linux only.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createConsortium, initHome } from '../../../src/node/found.ts'
import { callControl, isRunning } from '../../../src/serving/control.ts'
import { homePaths } from '../../../src/store/home.ts'
import type { Bench } from '../benchmark.ts'
import { measureImports } from './import.ts'

const STEPS = 30
const SAMPLE_MS = 100
const RECEIVED_MIB = 512
/** What an import may take: so many of its largest shard, and the model as it was published. */
const BOUND = 1.3
const root = fileURLToPath(new URL('../../..', import.meta.url))
const signal = AbortSignal.timeout(600_000)

export async function benchMemory(say: (line: string) => void): Promise<Bench> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    const home = join(work, 'home')
    const settings = { institution: 'Bench', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
    await initHome(home, settings, { inTheClear: true })
    const now = (): number => Math.floor(Date.now() / 1000)
    await createConsortium({ home, now }, { modelDir: join(root, 'models', 'small'), name: 'Bench' })
    const { control } = homePaths(home)
    const call = (command: string, args: unknown): Promise<unknown> =>
      callControl(control, command, args, { signal })

    let node = await startNode(home)
    let training = 0
    for (const name of ['hospital', 'archive', 'university']) {
      const data = [join(root, 'examples', name, 'text')]
      training = Math.max(training, await peakWhile(node, () => call('train', { name, data, steps: STEPS })))
      say(`trained ${name}`)
      await call('publish', { name })
    }
    await stop(node)

    node = await startNode(home)
    const ask = (): Promise<unknown> =>
      call('generate', { prompt: 'Article', maxTokens: 128, temperatureMilli: 800 })
    await ask()
    const serving = await peakWhile(node, ask)
    await stop(node)
    say('served three experts')

    const receiving = await measureReceiving(work)
    const imports = await measureImports(work)
    say('took in a checkpoint of 1.5 GB')
    const megabytes = { training, serving, receiving, create: imports.createMB, import: imports.importMB }
    const { modelMB, largestShardMB } = imports
    const bound = BOUND * largestShardMB + modelMB
    const ratios = { createOfBound: bound / imports.createMB, importOfBound: bound / imports.importMB }
    return {
      json: { megabytes, receivedMiB: RECEIVED_MIB, modelMB, largestShardMB, ratios },
      lines: [
        `a node that trains: ${training} MB`,
        `a node that serves three experts: ${serving} MB`,
        `receiving a file of ${RECEIVED_MIB} MiB adds: ${receiving} MB`,
        `founding around a model of ${modelMB} MB in shards of ${largestShardMB} MB: ${imports.createMB} MB at most, ${ratios.createOfBound.toFixed(1)} times below ${BOUND} shards and the model`,
        `importing a pair made of it: ${imports.importMB} MB at most, ${ratios.importOfBound.toFixed(1)} times below`,
      ],
    }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function startNode(home: string): Promise<ChildProcess> {
  const args = ['--import', 'tsx', join(root, 'src', 'main.ts'), 'start', '--home', home, '--port', '0']
  const child = spawn(process.execPath, args, { stdio: 'ignore' })
  while (!(await isRunning(homePaths(home).control))) {
    if (child.exitCode !== null) throw new Error('the node did not start')
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS))
  }
  return child
}

async function stop(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  if (child.exitCode === null) await once(child, 'exit')
}

/** Highest resident memory of a process while something runs, in MB. */
async function peakWhile(child: ChildProcess, action: () => Promise<unknown>): Promise<number> {
  let peak = 0
  const sample = async (): Promise<void> => {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
    peak = Math.max(peak, (Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024) / 1e6)
  }
  const timer = setInterval(() => void sample().catch(() => undefined), SAMPLE_MS)
  await action()
  await sample()
  clearInterval(timer)
  return Math.round(peak)
}

/** Send a large file to a process of its own; what its memory grew by, in MB. */
async function measureReceiving(work: string): Promise<number> {
  const path = join(work, 'large')
  const file = await open(path, 'w')
  const chunk = Buffer.alloc(2 ** 20)
  for (let i = 0; i < RECEIVED_MIB; i++) {
    chunk.writeUInt32LE(i)
    await file.write(chunk)
  }
  await file.close()
  const script = (name: string): string => fileURLToPath(new URL(`./${name}.ts`, import.meta.url))
  const sender = fork(script('sender.child'), [join(work, 'sender'), path], {
    execArgv: ['--import', 'tsx'],
  })
  const [address] = (await once(sender, 'message')) as [Record<string, unknown>]
  const receiver = fork(script('receiver.child'), [join(work, 'receiver')], {
    execArgv: ['--import', 'tsx'],
  })
  receiver.send(address)
  const [{ grown }] = (await once(receiver, 'message')) as [{ grown: number }]
  sender.kill()
  receiver.kill()
  return Math.round(grown)
}
