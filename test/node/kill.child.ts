/**
 * A node that withdraws one expert after the other, or an institution that rotates its key again and again, until it is
 * killed. Reports when each operation begins and what it has done once it has ended.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { nodeCommands } from '../../src/commands/table.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { changeKeys } from '../../src/node/key-change.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'

export type Report =
  | { readonly state: 'begun' }
  | {
      readonly state: 'done'
      /** Packages that were withdrawn. */
      readonly withdrawn?: readonly string[]
      /** The institution key that rules since. */
      readonly institutionKey?: string
    }

const WORDS = 8000
const [kind = '', home = '', file = '', seed = '0'] = process.argv.slice(2)
const engine = onnxEngine({ threads: 1 })
const now = (): number => Math.floor(Date.now() / 1000)
const never = new AbortController().signal
const report = (what: Report): void => void process.send?.(what)

/** Weights that were withdrawn cannot be published again, so each expert learns another text. */
async function newText(name: string, random: () => number): Promise<string[]> {
  // Several documents: one or two are all held out once in a while, and nothing is left to train on.
  const paths = ['a', 'b', 'c', 'd'].map((part) => join(home, `${name}-${part}.txt`))
  for (const path of paths) {
    const words = Array.from({ length: WORDS / paths.length }, () =>
      Math.floor(random() * 36 ** 3).toString(36),
    )
    await writeFile(path, words.map((word, i) => (i % 100 === 99 ? `${word}\n` : word)).join(' '))
  }
  return paths
}

async function withdrawAgainAndAgain(): Promise<void> {
  const node = await FlexMeshNode.open({
    ...{ home, engine, now },
    policy: { ...DEFAULT_POLICY, maxPublicLoss: 1, maxOwnLoss: 1, maxPublicLoadShare: 1 },
  })
  await node.start()
  const run = async (command: string, args: unknown): Promise<unknown> => {
    const steps = nodeCommands(node)[command]?.(args, never)
    for (;;) {
      const step = await steps?.next()
      if (step === undefined || step.done === true) return step?.value
    }
  }
  for (let i = 0; ; i++) {
    const name = `e${seed}-${i}`
    await run('train', { name, data: await newText(name, mulberry32(1000 * Number(seed) + i)), steps: 1 })
    await run('publish', { name, noAudit: true, statistics: 'none' })
    report({ state: 'begun' })
    const { withdrawn } = (await run('withdraw', { name })) as { withdrawn: string[] }
    report({ state: 'done', withdrawn })
  }
}

async function rotateAgainAndAgain(): Promise<void> {
  for (;;) {
    report({ state: 'begun' })
    const { institutionKey } = await changeKeys({ home, engine, now, file }, { kind: 'rotate' }, never)
    report({ state: 'done', institutionKey })
  }
}

await (kind === 'rotate' ? rotateAgainAndAgain() : withdrawAgainAndAgain())
