/** Real nodes on loopback in this process, around a tiny public model of random weights. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type AcceptancePolicy, DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { fromFloat32, writeSafetensors } from '../../src/checkpoint/safetensors.ts'
import { nodeCommands } from '../../src/commands/table.ts'
import { readEnvelope } from '../../src/identity/envelope.ts'
import { digestOf } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { configToHuggingFace, type ModelConfig } from '../../src/model/config.ts'
import { publicShapes } from '../../src/model/params.ts'
import { createConsortium, initHome } from '../../src/node/found.ts'
import type { NodeInit } from '../../src/node/init.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { initialPublicModel } from '../../src/training/dense.ts'

export const SMALL_MODEL = fileURLToPath(new URL('../../models/small', import.meta.url))
export const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url))
export const now = (): number => Math.floor(Date.now() / 1000)

export const TINY: ModelConfig = {
  vocabSize: 4096,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 256,
  ropeTheta: 500_000,
  rmsNormEps: 1e-6,
}
/** Nothing that a random model does to text is a reason to refuse it; router statistics need no model. */
export const LENIENT: AcceptancePolicy = {
  ...DEFAULT_POLICY,
  maxPublicLoss: 1,
  maxOwnLoss: 1,
  maxPublicLoadShare: 1,
  maxRouterRowNorm: 1000,
}

/** A temporary folder that `cleanUp` removes. */
const folders: string[] = []
export async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'flexmesh-test-'))
  folders.push(path)
  return path
}
export async function cleanUp(): Promise<void> {
  await Promise.all(folders.splice(0).map((path) => rm(path, { recursive: true, force: true })))
}

export async function tinyModel(): Promise<string> {
  const dir = await folder()
  const weights = initialPublicModel(TINY, mulberry32(3))
  const entries = [...publicShapes(TINY)].map(([name, shape]) => ({
    name,
    dtype: 'F32' as const,
    shape: [...shape],
    data: fromFloat32(weights.get(name) as Float32Array, 'F32'),
  }))
  await writeFile(join(dir, 'model.safetensors'), Buffer.concat(writeSafetensors(entries)))
  await writeFile(join(dir, 'config.json'), JSON.stringify(configToHuggingFace(TINY)))
  await copyFile(join(SMALL_MODEL, 'tokenizer.json'), join(dir, 'tokenizer.json'))
  const replay = await readFile(join(SMALL_MODEL, 'replay.jsonl'), 'utf8')
  await writeFile(join(dir, 'replay.jsonl'), `${replay.split('\n').slice(0, 30).join('\n')}\n`)
  return dir
}

export interface TestNetwork {
  readonly nodes: FlexMeshNode[]
  readonly homes: string[]
  open(index: number): Promise<FlexMeshNode>
  close(): Promise<void>
}

const LISTEN = ['/ip4/127.0.0.1/tcp/0']

/** Found a consortium, let the others join it, and start every node. */
export async function network(
  names: readonly string[],
  modelDir: string,
  init: Partial<NodeInit> = {},
): Promise<TestNetwork> {
  const homes = await Promise.all(names.map(() => folder()))
  const settings = (institution: string) => ({ institution, listen: LISTEN, bootstrap: [], mdns: false })
  for (const [i, name] of names.entries())
    await initHome(homes[i] as string, settings(name), { inTheClear: true })
  await createConsortium({ home: homes[0] as string, now }, { modelDir: modelDir, name: 'Test consortium' })
  const nodes: FlexMeshNode[] = []
  const open = async (index: number): Promise<FlexMeshNode> => {
    const node = await FlexMeshNode.open({
      engine: onnxEngine({ threads: 2 }),
      policy: LENIENT,
      now,
      ...init,
      home: homes[index] as string,
    })
    await node.start()
    nodes[index] = node
    return node
  }
  const founder = await open(0)
  for (const home of homes.slice(1)) {
    await joinConsortium({ home, now }, await founder.invite(), AbortSignal.timeout(30_000), ({ stage }) => {
      if (stage === 'waiting') void founder.approve()
    })
  }
  for (let i = 1; i < names.length; i++) await open(i)
  return { nodes, homes, open, close: async () => void (await Promise.all(nodes.map((n) => n.close()))) }
}

/** Put an envelope into a node's own log whatever it holds, and announce it: what a dishonest member can do. */
export async function offerUnchecked(node: FlexMeshNode, envelope: Uint8Array): Promise<void> {
  const publisher = node.identity.peerId
  const seq = ((await node.catalogue.tip(publisher))?.seq ?? 0) + 1
  const digest = digestOf(readEnvelope(envelope).payload)
  await node.catalogue.append({ publisher, seq, digest, envelope })
  await node.announce()
}

/** Run a command of a node to its end. */
export async function run<T>(node: FlexMeshNode, command: string, args: unknown = {}): Promise<T> {
  const handler = nodeCommands(node)[command]
  if (handler === undefined) throw new Error(`no command ${command}`)
  const steps = handler(args, AbortSignal.timeout(300_000))
  for (;;) {
    const { done, value } = await steps.next()
    if (done === true) return value as T
  }
}

/** Resolves once `condition` holds; asks again whenever any node of the test reports an event. */
export class Watch {
  readonly #waiting = new Set<() => void>()

  readonly onEvent = (): void => {
    for (const wake of [...this.#waiting]) wake()
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = AbortSignal.timeout(60_000)
    while (!(await condition())) {
      if (deadline.aborted) throw new Error(`waited in vain for ${what}`)
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake)
          clearTimeout(timer)
          resolve()
        }
        this.#waiting.add(wake)
        const timer = setTimeout(wake, 100)
      })
    }
  }
}
