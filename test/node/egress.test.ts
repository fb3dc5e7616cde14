/** What real nodes record about what they send, compared with what their sockets sent. */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/lib/bytes.ts'
import type { EgressReport, EgressVerification } from '../../src/node/egress-report.ts'
import { FlexMeshNode } from '../../src/node/node.ts'
import { type EgressRow, parseLine } from '../../src/store/egress-row.ts'
import { homePaths } from '../../src/store/home.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { cleanUp } from '../support/folders.ts'
import { LENIENT, network, now, publish, run, type TestNetwork, train } from '../support/network.ts'
import { tinyModel } from '../support/tiny-model.ts'

/** TCP sockets of this process that have written since the call, and the bytes that each has sent. */
function watchSockets(): { sent(): number; stop(): void } {
  const sockets = new Set<Socket>()
  const { write } = Socket.prototype
  Socket.prototype.write = function (this: Socket, ...args: Parameters<Socket['write']>) {
    if (this.remotePort !== undefined) sockets.add(this)
    return write.apply(this, args)
  } as Socket['write']
  return {
    sent: () => [...sockets].reduce((sum, { bytesWritten }) => sum + bytesWritten, 0),
    stop: () => {
      Socket.prototype.write = write
    },
  }
}

async function rowsIn(home: string): Promise<EgressRow[]> {
  const { egress } = homePaths(home)
  const names = (await readdir(egress)).filter((name) => name.startsWith('rows-')).sort()
  const texts = await Promise.all(names.map((name) => readFile(join(egress, name), 'utf8')))
  return texts.flatMap((text) => text.split('\n').slice(0, -1)).map((line) => parseLine(line).row)
}

/** The node of a home, without a network, as a command opens it. */
function atRest(home: string): Promise<FlexMeshNode> {
  return FlexMeshNode.open({ home, engine: onnxEngine({ threads: 2 }), now, policy: LENIENT })
}

type Shown = { readonly action: 'show' } & EgressReport
type Verified = { readonly action: 'verify' } & EgressVerification

describe('the egress ledger of nodes that join, publish and fetch', () => {
  let net: TestNetwork
  let onSockets: number
  let shown: Shown
  let whileRunning: Verified
  let id: Digest

  beforeAll(async () => {
    const sockets = watchSockets()
    try {
      net = await network(['Hospital', 'Archive', 'University'], await tinyModel(), { policy: LENIENT })
      await net.connected()
      const [hospital] = net.nodes as [FlexMeshNode]
      await train(hospital, 'ward', 'hospital')
      id = await publish(hospital, 'ward')
      await net.accepted(1)
      shown = await run<Shown>(hospital, 'egress')
      whileRunning = await run<Verified>(hospital, 'egress', { action: 'verify' })
      await net.close()
      onSockets = sockets.sent()
    } finally {
      sockets.stop()
    }
  }, 300_000)
  afterAll(cleanUp)

  it('has the bytes that the sockets sent, within 1 %', async () => {
    const rows = (await Promise.all(net.homes.map(rowsIn))).flat()
    const recorded = rows.reduce((sum, { bytes }) => sum + bytes, 0)
    expect(onSockets).toBeGreaterThan(1_000_000)
    expect(Math.abs(recorded - onSockets) / onSockets).toBeLessThan(0.01)
  })

  it('says who got the expert, the public model, statements and heads', async () => {
    const items = shown.items.map(({ institution, kind, name }) => `${institution}: ${name ?? kind}`)
    for (const institution of ['Archive', 'University']) {
      expect(items).toContain(`${institution}: expert ward of Hospital`)
      expect(items).toContain(`${institution}: public model, model.safetensors`)
      expect(items).toContain(`${institution}: statement`)
    }
    expect(items.filter((item) => item.endsWith(': head')).length).toBeGreaterThan(0)
    expect(shown.bytes).toBe(shown.items.reduce((sum, { bytes }) => sum + bytes, 0))
  })

  it('has one row for each file and receiver', async () => {
    const rows = (await rowsIn(net.homes[0] as string)).filter(({ kind }) => kind === 'file')
    const keys = rows.map(({ to, file }) => `${to} ${file}`)
    expect(new Set(keys).size).toBe(keys.length)
    for (const { chunks = [] } of rows) expect(chunks).toEqual([[0, chunks[0]?.[1]]])
  })

  it('has the requests with which an institution joined', async () => {
    const rows = await rowsIn(net.homes[1] as string)
    const joined = rows.filter(({ protocol }) => protocol?.startsWith('/flexmesh/join/'))
    expect(joined).toMatchObject([{ kind: 'request', to: net.nodes[0]?.identity.peerId }])
  })

  it('is whole, and its files and statements are what the store holds, while the node runs and afterwards', async () => {
    expect(whileRunning).toMatchObject({
      damaged: [],
      different: [],
      gone: 0,
      killed: 0,
      isInterrupted: false,
    })
    expect(whileRunning.fault).toBe(undefined)
    const rows = await rowsIn(net.homes[0] as string)
    const compared = rows.filter(({ kind }) =>
      ['file', 'chunk-hashes', 'statement', 'charter'].includes(kind),
    )
    expect(compared.length).toBeGreaterThan(4)
    const node = await atRest(net.homes[0] as string)
    const verified = await run<Verified>(node, 'egress', { action: 'verify' })
    expect(verified).toMatchObject({ same: compared.length, gone: 0, rows: rows.length })
    await node.close()
  })

  it('is compared with a row that was noted outside the machine', async () => {
    const node = await atRest(net.homes[0] as string)
    const { last } = await run<Verified>(node, 'egress', { action: 'verify' })
    const right = { action: 'verify', expect: `${last?.seq}:${last?.hash}` }
    expect((await run<Verified>(node, 'egress', right)).fault).toBe(undefined)
    const wrong = { action: 'verify', expect: `${last?.seq}:${'0'.repeat(64)}` }
    expect((await run<Verified>(node, 'egress', wrong)).fault?.seq).toBe(last?.seq)
    const later = { action: 'verify', expect: `${(last?.seq ?? 0) + 5}:${last?.hash}` }
    expect((await run<Verified>(node, 'egress', later)).fault?.what).toContain('are missing')
    await node.close()
  })

  it('names the row of a file that the store holds with other content', async () => {
    const node = await atRest(net.homes[0] as string)
    const { files } = await node.accepted.manifestOf(id)
    const path = node.parts.blobs.path(files[0].sha256)
    const bytes = await readFile(path)
    const hashes = await readFile(`${path}.chunks`)
    await writeFile(path, Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) as number) ^ 1)]))
    await rm(`${path}.chunks`)
    const { different } = await run<Verified>(node, 'egress', { action: 'verify' })
    expect(different.map(({ what }) => what)).toContain('file of expert ward of Hospital')
    await writeFile(path, bytes)
    await writeFile(`${path}.chunks`, hashes)
    await node.close()
  })
})
