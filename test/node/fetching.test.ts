/** Packages on their way: members that deliver badly, states that anybody can see at once, the operator's decisions. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Digest } from '../../src/lib/bytes.ts'
import { InputError } from '../../src/lib/errors.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import type { PackageReport } from '../../src/node/packages.ts'
import { type Manifest, openManifest } from '../../src/packaging/manifest.ts'
import { DiskSpace } from '../../src/store/disk-space.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { cleanUp } from '../support/folders.ts'
import { held } from '../support/held.ts'
import { type HostileMember, joinAsMember } from '../support/hostile/member.ts'
import { HostileLog, serveFiles } from '../support/hostile/packages.ts'
import { stopHostilePeers } from '../support/hostile/peer.ts'
import { cborFrame } from '../support/hostile/wire.ts'
import { inUse, LENIENT, network, now, publish, run, type TestNetwork, train } from '../support/network.ts'
import { content } from '../support/packages.ts'
import { tinyModel } from '../support/tiny-model.ts'

let net: TestNetwork
let hospital: FlexMeshNode
let archive: FlexMeshNode
const timers: ReturnType<typeof setInterval>[] = []

beforeEach(async () => {
  net = await network(['Hospital', 'Archive'], await tinyModel())
  ;[hospital, archive] = net.nodes as [FlexMeshNode, FlexMeshNode]
  await net.connected()
  hospital.parts.states.onChange(net.watch.onEvent)
  await train(archive, 'law', 'archive')
})
afterEach(async () => {
  vi.restoreAllMocks()
  for (const timer of timers.splice(0)) clearInterval(timer)
  await stopHostilePeers()
  await net.close()
  await cleanUp()
})

/** Resolves once the hospital knows this number of packages without a verdict, and downloads one of them. */
async function aDownloadOf(count: number): Promise<void> {
  await net.watch.until('the packages', () => hospital.parts.states.list().length === count)
  await net.watch.until('a download', () =>
    hospital.parts.states.list().some(([, { kind }]) => kind === 'fetching'),
  )
  await vi.waitUntil(async () => (await unfinished()).length > 0, { timeout: 10_000, interval: 10 })
}

async function manifestOf(node: FlexMeshNode, id: Digest): Promise<Manifest> {
  return openManifest((await node.catalogue.statement(id)) as Uint8Array).manifest
}

/** State of each package that a node lists, by expert. */
async function states(node: FlexMeshNode): Promise<Record<string, string>> {
  const { packages } = await run<{ packages: PackageReport[] }>(node, 'experts')
  return Object.fromEntries(packages.map(({ expert, state }) => [expert, state]))
}

const unfinished = async (): Promise<string[]> =>
  (await readdir(join(hospital.paths.root, 'blobs'))).filter((name) => name.endsWith('.part'))

interface Mallory {
  readonly member: HostileMember
  readonly log: HostileLog
}

/** A member that lies, after the archive has published an honest package in its first version. */
async function mallory(): Promise<Mallory> {
  const id = await publish(archive, 'law', { domain: 'first' })
  await net.accepted(1)
  const member = await joinAsMember(net.quorum, 'Mallory', 66)
  return { member, log: new HostileLog(member, await manifestOf(archive, id)) }
}

/** Six packages whose files arrive a byte a second. */
async function dripSix({ member, log }: Mallory): Promise<Digest[]> {
  const [{ size }] = (await manifestOf(archive, inUse(archive)[0] as Digest)).files
  const files = [1, 2, 3, 4, 5, 6].map((seed) => fileRefOf(content(size, seed)))
  await serveFiles(member, async ({ kind, digest }, stream) => {
    const file = files.find(({ ref }) => ref.sha256 === digest)
    if (kind === 'hashes') {
      stream.send(cborFrame({ bytes: file?.chunkHashes ?? new Uint8Array(96) }))
      return stream.close()
    }
    const frame = cborFrame({ bytes: new Uint8Array(size) })
    let sent = 0
    timers.push(
      setInterval(() => stream.status === 'open' && stream.send(frame.subarray(sent, ++sent)), 1000),
    )
  })
  return files.map(({ ref }, i) => log.offer(`drip-${i}`, ref))
}

describe('a member whose files arrive a byte a second', () => {
  it('does not keep the packages of others from being accepted, and experts shows who waits for what', async () => {
    const m = await mallory()
    await dripSix(m)
    await train(archive, 'theorems', 'university')
    await m.log.show(hospital)
    await aDownloadOf(6)
    const second = await publish(archive, 'theorems')
    await net.watch.until('the honest package', () => inUse(hospital).includes(second))
    const seen = await states(hospital)
    expect([0, 1, 2, 3, 4, 5].map((i) => seen[`drip-${i}`])).toContain('announced')
    expect(Object.values(seen)).not.toContain('refused')
  })

  it('is refused by the operator in the middle of it: the fetch ends, and its remains are deleted', async () => {
    const m = await mallory()
    await dripSix(m)
    await m.log.show(hospital)
    await aDownloadOf(6)
    await run(hospital, 'refuse', { package: 'Mallory' })
    await hospital.settled()
    const seen = await states(hospital)
    expect([0, 1, 2, 3, 4, 5].map((i) => seen[`drip-${i}`])).toEqual(new Array(6).fill('refused-by-operator'))
    expect(await unfinished()).toEqual([])
    expect(await states(await net.restart(0))).toEqual(seen)
  })

  it('withdraws a package that is being fetched: its remains are deleted at once', async () => {
    const m = await mallory()
    const ids = await dripSix(m)
    await m.log.show(hospital)
    await aDownloadOf(6)
    m.log.withdraw(ids)
    await m.log.show(hospital)
    await net.watch.until('the withdrawal', () => hospital.parts.states.list().length === 0)
    expect(await unfinished()).toEqual([])
    expect((await states(hospital))['drip-0']).toBe('withdrawn')
  })
})

describe('a member that lies about a file of another one', () => {
  it('gets nothing refused: the package waits for a holder that delivers, and is accepted then', async () => {
    const m = await mallory()
    await train(archive, 'theorems', 'university')
    await serveFiles(m.member, async ({ kind }, stream) => {
      stream.send(cborFrame({ bytes: new Uint8Array(kind === 'hashes' ? 32 : 1000) }))
      return stream.close()
    })
    const { files } = await manifestOf(archive, inUse(archive)[0] as Digest)
    m.log.offer('own', files[0])
    await archive.close()
    // Published without a network, so that only the liar can tell of it.
    const alone = await FlexMeshNode.open({
      home: net.homes[1] as string,
      engine: onnxEngine({ threads: 1 }),
      policy: LENIENT,
      now,
    })
    const second = await publish(alone, 'theorems')
    m.member.statements.unshift(...(await logOf(alone)))
    await alone.close()
    await m.log.show(hospital)
    await net.watch.until(
      'the liar to be asked',
      () => hospital.parts.states.get(second)?.kind === 'waiting-for-holder',
    )
    expect(await hospital.parts.verdicts.get(second)).toBeUndefined()
    archive = await net.open(1)
    await net.watch.until('the package', () => inUse(hospital).includes(second))
  })

  it('is refused if it lies about a file of its own: the size that it signed', async () => {
    const m = await mallory()
    const [{ size }] = (await manifestOf(archive, inUse(archive)[0] as Digest)).files
    const bytes = content(size, 1)
    const { ref, chunkHashes } = fileRefOf(bytes)
    await serveFiles(m.member, async ({ kind }, stream) => {
      stream.send(cborFrame({ bytes: kind === 'hashes' ? chunkHashes : bytes }))
      return stream.close()
    })
    const id = m.log.offer('liar', { ...ref, size: size + 1 })
    await m.log.show(hospital)
    await net.watch.until('a verdict', async () => (await hospital.parts.verdicts.get(id)) !== undefined)
    expect(await hospital.parts.verdicts.get(id)).toMatchObject({ check: 'file', code: 'wrong-digest' })
  })
})

async function logOf(node: FlexMeshNode): Promise<Uint8Array[]> {
  const statements = await node.catalogue.log(node.identity.peerId, 1, 100)
  return statements.map(({ envelope }) => envelope)
}

describe('experts', () => {
  it('answers at once while a package is judged, and names the check', async () => {
    const judging = held()
    const real = hospital.activities.run.bind(hospital.activities)
    vi.spyOn(hospital.activities, 'run').mockImplementation((name, request, signal) => {
      async function* slow() {
        const job = real(name, request, signal)
        for (;;) {
          const { done, value } = await job.next()
          if (done === true) return value
          yield value
          await judging.pass()
        }
      }
      return slow() as ReturnType<typeof real>
    })
    await publish(archive, 'law')
    await judging.reached
    const { packages } = await run<{ packages: PackageReport[] }>(hospital, 'experts')
    expect(packages).toMatchObject([
      {
        state: 'judging',
        institution: 'Archive',
        expert: 'law',
        progress: { check: expect.any(String) },
        bytes: expect.any(Number),
        expiresAt: expect.any(Number),
      },
    ])
    judging.release()
    await net.accepted(1)
  })

  it('shows what a full disk needs and has; the package is accepted once there is room', async () => {
    const full = vi.spyOn(DiskSpace.prototype, 'claim').mockImplementation(async () => {
      throw new InputError('disk-full', 'full', { neededBytes: 5e6, freeBytes: 1e6 })
    })
    await publish(archive, 'law')
    await net.watch.until('the full disk', () => hospital.parts.states.list()[0]?.[1].kind === 'disk-full')
    const { packages } = await run<{ packages: PackageReport[] }>(hospital, 'experts')
    expect(packages).toMatchObject([
      { state: 'disk-full', progress: { neededBytes: 5e6, freeBytes: 1e6 }, license: expect.any(String) },
    ])
    expect(await hospital.parts.verdicts.list()).toEqual([])
    full.mockRestore()
    await archive.announce()
    await net.accepted(1)
  })

  it('shows an owner which of its own packages are superseded, as it shows others', async () => {
    await publish(archive, 'law', { domain: 'first' })
    await net.accepted(1)
    const second = await publish(archive, 'law', { domain: 'second' })
    await net.watch.until(
      'the second',
      () => inUse(hospital).join() === second && hospital.parts.states.get(second) === undefined,
    )
    for (const node of [hospital, archive]) {
      const { packages } = await run<{ packages: PackageReport[] }>(node, 'experts')
      const seen = packages.map(({ domain, state }) => `${domain} ${state}`).sort()
      expect(seen).toEqual(['first superseded', 'second accepted'])
    }
  })
})

describe('accept', () => {
  it('ends with the state of the package, also if nobody delivers its file', async () => {
    const id = await publish(archive, 'law')
    await net.accepted(1)
    await run(hospital, 'refuse', { package: 'law' })
    const [file] = (await manifestOf(hospital, id)).files
    await archive.close()
    await hospital.parts.blobs.delete(file.sha256)
    const { packages } = await run<{ packages: PackageReport[] }>(hospital, 'accept', { package: 'law' })
    expect(packages).toMatchObject([{ id, state: 'waiting-for-holder' }])
    await net.open(1)
    await net.watch.until('the package', () => inUse(hospital).includes(id))
  })

  it.each(['accept', 'refuse'])('%s names what it did not find', async (command) => {
    await expect(run(hospital, command, { package: 'nothing' })).rejects.toMatchObject({ code: 'not-found' })
  })
})
