/**
 * What a process leaves behind that is killed while it withdraws experts or rotates the key of its institution, connected
 * to another member. FLEXMESH_KILLS sets how often it is killed, FLEXMESH_SEED the seed of the moments.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { readLoggedManifest } from '../../src/acceptance/logged-manifest.ts'
import { readEnvelope } from '../../src/identity/envelope.ts'
import { institutionKeyId } from '../../src/identity/institution-key.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { changeKeys, type KeyPlan } from '../../src/node/key-change.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { openWithdrawal } from '../../src/statements/withdrawal.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { LENIENT, network, now, type TestNetwork } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'
import type { Report } from './kill.child.ts'

const KILLS = Number(process.env['FLEXMESH_KILLS'] ?? 1)
const SEED = Number(process.env['FLEXMESH_SEED'] ?? 1)
const TIMEOUT_MS = 120_000 + KILLS * 60_000
const CHILD = fileURLToPath(new URL('kill.child.ts', import.meta.url))
const signal = new AbortController().signal

let net: TestNetwork
let witness: FlexMeshNode
/** Id of the seat whose process is killed. */
let seat: string
let home: string
/** File of its institution key. */
let file: string

beforeEach(async () => {
  net = await network(['Witness', 'Victim'], await tinyModel())
  const [first, victim] = net.nodes as [FlexMeshNode, FlexMeshNode]
  witness = first
  seat = victim.membership.seat
  home = net.homes[1] as string
  file = join(await folder(), 'victim.key')
  await net.connected()
  await victim.close()
})
afterEach(async () => {
  await net.close()
  await cleanUp()
})

const change = (plan: KeyPlan) =>
  changeKeys({ home, engine: onnxEngine({ threads: 1 }), now, file, log: net.watch.log }, plan, signal)

/** The home of the victim, without a network. */
const openVictim = () =>
  FlexMeshNode.open({ home, engine: onnxEngine({ threads: 1 }), policy: LENIENT, now, log: net.watch.log })

/**
 * Let an operation end, and kill the process during the next one, after a share of the time which the first one took.
 * @returns what it reported as done.
 */
async function killDuringSecond(child: ChildProcess, share: number): Promise<Report[]> {
  const done: Report[] = []
  const killed = new Promise<void>((resolve) => {
    let begun = 0
    let took: number | undefined
    child.on('message', async (report: Report) => {
      if (report.state === 'done') {
        took ??= performance.now() - begun
        done.push(report)
      } else if (took === undefined) {
        begun = performance.now()
      } else {
        await setTimeout(share * took)
        child.kill('SIGKILL')
        resolve()
      }
    })
    child.on('exit', () => resolve())
  })
  const exited = once(child, 'exit')
  await killed
  await exited
  return done
}

/** Kill a process again and again, each time in the middle of an operation. @param check looks at what it left. */
async function killAgainAndAgain(
  kind: 'rotate' | 'withdraw',
  check: (done: readonly Report[], at: string) => Promise<void>,
): Promise<void> {
  const random = mulberry32(SEED)
  let before: string[] = []
  for (let kill = 0; kill < KILLS; kill++) {
    const args = [kind, home, file, String(kill)]
    const child = fork(CHILD, args, { execArgv: ['--import', 'tsx'] })
    const at = `kill ${kill} of seed ${SEED}`
    const done = await killDuringSecond(child, 1.2 * random())
    expect(done.length, at).toBeGreaterThan(0)
    const node = await openVictim()
    const log = (await statements(node)).map(({ digest }) => digest)
    await node.close()
    // The log of before goes on: no place holds another statement now.
    expect(log.slice(0, before.length), at).toEqual(before)
    before = log
    await check(done, at)
  }
}

async function statements(node: FlexMeshNode) {
  const all: { digest: string; envelope: Uint8Array }[] = []
  const { seq } = (await node.catalogue.tip(seat)) ?? { seq: 0 }
  for (let at = 1; at <= seq; at++) {
    const digest = await node.catalogue.statementAt(seat, at)
    const envelope = digest === undefined ? undefined : await node.catalogue.statement(digest)
    if (digest === undefined || envelope === undefined) throw new Error(`statement ${at} is missing`)
    all.push({ digest, envelope })
  }
  return all
}

/** The witness has received everything that the victim has signed, and nothing that contradicts it. */
async function expectOneHistory(victim: FlexMeshNode): Promise<void> {
  const own = await statements(victim)
  await net.watch.until(
    'all statements of the victim',
    async () => (await statements(witness)).length === own.length,
  )
  expect(await statements(witness)).toEqual(own)
  expect(witness.isForked(seat)).toBe(false)
}

it(
  'carries out every withdrawal that was reported, and signs each once, when it is killed again and again',
  async () => {
    await killAgainAndAgain('withdraw', async (done, at) => {
      const node = await openVictim()
      const withdrawn: string[] = []
      const published: string[] = []
      for (const { envelope, digest } of await statements(node)) {
        if (readEnvelope(envelope).payloadType === MEDIA_TYPES.withdrawal) {
          withdrawn.push(...openWithdrawal(envelope).withdrawal.manifests)
        } else if (readLoggedManifest(envelope) !== undefined) published.push(digest)
      }
      expect(withdrawn, at).toEqual(expect.arrayContaining(done.flatMap((report) => reported(report))))
      expect(new Set(withdrawn).size, at).toBe(withdrawn.length)
      const standing = published.filter((id) => !withdrawn.includes(id))
      expect(
        node.accepted.list().map(({ id }) => id),
        at,
      ).toEqual(standing)
      for (const [name] of node.accepted.list().map(({ name }) => [name]))
        await node.withdraw(name as string, true)
      expect(node.accepted.list(), at).toEqual([])
      await node.close()
    })
    await expectOneHistory(await net.open(1))
  },
  TIMEOUT_MS,
)

it(
  'rotates to every key that was reported, and never to two of them in one place, when it is killed again and again',
  async () => {
    await change({ kind: 'delegate' })
    await killAgainAndAgain('rotate', async (done, at) => {
      const node = await openVictim()
      const keys = node.membership.keys.historyOf(seat).changes.map(({ key }) => key)
      await node.close()
      expect(keys, at).toEqual(
        expect.arrayContaining(done.map((report) => 'institutionKey' in report && report.institutionKey)),
      )
      expect(new Set(keys).size, at).toBe(keys.length)
    })
    const { institutionKey } = await change({ kind: 'rotate' })
    expect(await institutionKeyId(file)).toBe(institutionKey)
    await expectOneHistory(await net.open(1))
    expect(witness.membership.keys.historyOf(seat).current().key).toBe(institutionKey)
  },
  TIMEOUT_MS,
)

function reported(report: Report): readonly string[] {
  return report.state === 'done' ? (report.withdrawn ?? []) : []
}
