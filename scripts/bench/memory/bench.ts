/**
 * Measures the resident memory of a node that trains, of one that serves three experts and of importing a large
 * checkpoint, and how much memory receiving a large file adds. The node runs the built program, so `npm run build` comes
 * first. Linux only, since it reads /proc.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Bench } from '../benchmark.ts'
import { callNode, checkBuilt, foundHome, PROGRAM, ROOT, startNode, stopNode } from '../node-process.ts'
import { measureImports } from './import.ts'

const STEPS = 30
const SAMPLE_MS = 100
const RECEIVED_MIB = 512
/** Memory that an import may take: this multiple of its largest shard, plus the size of the published model. */
const BOUND = 1.3

export async function benchMemory(say: (line: string) => void): Promise<Bench> {
  checkBuilt()
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-bench-'))
  try {
    const home = join(work, 'home')
    await foundHome(home)
    const call = (command: string, args: unknown): Promise<unknown> => callNode(home, command, args)

    let node = await startNode([PROGRAM], home)
    let training = 0
    for (const name of ['hospital', 'archive', 'university']) {
      const data = [join(ROOT, 'examples', name, 'text')]
      training = Math.max(training, await peakWhile(node, () => call('train', { name, data, steps: STEPS })))
      say(`trained ${name}`)
      // So few steps leave an expert that remembers its text, which an audit would stop.
      await call('publish', { name, noAudit: true })
    }
    await stopNode(node)

    node = await startNode([PROGRAM], home)
    const ask = (): Promise<unknown> =>
      call('generate', { prompt: 'Article', maxTokens: 128, temperatureMilli: 800 })
    await ask()
    const serving = await peakWhile(node, ask)
    await stopNode(node)
    say('served three experts')

    const receiving = await measureReceiving(work)
    const imports = await measureImports(work)
    say('imported a checkpoint of 1.5 GB')
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

/** Peak resident memory of a process during an action, MB. */
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

/** Sends a large file to another process. Returns how much the receiver's memory grew, MB. */
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
