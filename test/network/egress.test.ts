import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, it } from 'vitest'
import { sha256, toHex, utf8 } from '../../src/lib/bytes.ts'
import type { EgressEntry, EgressSink } from '../../src/lib/egress.ts'
import { ExchangeError } from '../../src/lib/errors.ts'
import { EgressMeter } from '../../src/network/egress.ts'
import { answer, ask } from '../../src/network/frames.ts'
import type { ProtocolRow } from '../../src/network/protocol.ts'
import type { Transport } from '../../src/network/transport.ts'
import { startTransport, stopTransports } from '../support/transport.ts'

afterEach(stopTransports)

const never = new AbortController().signal

class Recorder implements EgressSink {
  readonly entries: EgressEntry[] = []
  persisted = 0

  add(entry: EgressEntry): void {
    this.entries.push(entry)
  }

  async persist(): Promise<void> {
    this.persisted = this.entries.length
  }

  bytesOf(kind: string): number {
    return this.entries.filter((entry) => entry.kind === kind).reduce((sum, { bytes }) => sum + bytes, 0)
  }

  of(kind: string): EgressEntry[] {
    return this.entries.filter((entry) => entry.kind === kind)
  }
}

/** Two nodes that are connected, with what each of them sends. */
async function pair(isMember = true) {
  const records = [new Recorder(), new Recorder()] as const
  const meters = records.map((record) => new EgressMeter(record, () => isMember)) as [
    EgressMeter,
    EgressMeter,
  ]
  const nodes = [await startTransport(1, {}, meters[0]), await startTransport(2, {}, meters[1])] as [
    Transport,
    Transport,
  ]
  const [address] = nodes[1].getMultiaddrs()
  const connect = () => nodes[0].dial(multiaddr(String(address)))
  return { records, meters, nodes, connect }
}

describe('what a node sends', () => {
  it('is recorded of a protocol that nobody has prepared, which writes to its stream directly', async () => {
    const { records, nodes, connect } = await pair()
    const ended = Promise.withResolvers<void>()
    await nodes[1].handle('/test/unprepared/1.0.0', async (stream) => {
      stream.send(utf8('an answer'))
      await stream.close()
      ended.resolve()
    })
    const stream = await (await connect()).newStream('/test/unprepared/1.0.0')
    stream.send(new Uint8Array(70_000))
    await stream.close()
    await ended.promise
    expect(records[0].bytesOf('/test/unprepared/1.0.0')).toBe(70_000)
    const [entry] = records[1].of('/test/unprepared/1.0.0')
    expect(entry).toMatchObject({ to: nodes[0].peerId.toString(), bytes: 9 })
    expect(toHex(entry?.hash as Uint8Array)).toBe(toHex(sha256(utf8('an answer'))))
  })

  const ROW: ProtocolRow = {
    id: '/test/prepared/1.0.0',
    maxRequestBytes: 1024,
    maxResponseBytes: 300_000,
    maxResponseFrames: 4,
    timeoutMs: 60_000,
    timeoutPer: 'answer',
    maxInboundStreams: 4,
    quota: { burst: 1, everyMs: 1 },
    guests: 'none',
  }

  /** The answer to one request, each frame of which holds some bytes. */
  async function answered(row: ProtocolRow, frames: readonly unknown[]) {
    const { records, meters, nodes, connect } = await pair()
    const ended = Promise.withResolvers<void>()
    await nodes[1].handle(row.id, async (stream) => {
      const handler = async function* () {
        yield* frames
      }
      await answer(stream, row, handler, { account: meters[1].of(stream) })
      ended.resolve()
    })
    const stream = await (await connect()).newStream(row.id)
    for await (const _ of ask(stream, row, { q: 1 }, never, { account: meters[0].of(stream) })) void _
    const persisted = records[1].persisted
    await ended.promise
    return { records, nodes, persisted }
  }

  it('is recorded under the id of a protocol that names no kinds, frame by frame, with their digests', async () => {
    const large = new Uint8Array(200_000).fill(7)
    const { records } = await answered(ROW, [{ bytes: utf8('small') }, { bytes: large }])
    const hashes = records[1].of(ROW.id).map(({ hash }) => toHex(hash as Uint8Array))
    expect(hashes.sort()).toEqual([toHex(sha256(utf8('small'))), toHex(sha256(large))].sort())
    expect(records[0].of('request')).toMatchObject([{ protocol: ROW.id, bytes: 5 }])
  })

  it('is recorded as the objects that a protocol names', async () => {
    const file = `sha256:${'ab'.repeat(32)}` as const
    const row: ProtocolRow = { ...ROW, sends: () => (index) => ({ kind: 'file', file, chunk: 5 + index }) }
    const { records } = await answered(row, [{ bytes: utf8('a') }, { bytes: utf8('b') }])
    expect(records[1].of('file').map(({ chunk, bytes }) => [chunk, bytes])).toEqual([
      [5, 10],
      [6, 10],
    ])
  })

  it('is recorded as a refusal if the request is refused', async () => {
    const { records, meters, nodes, connect } = await pair()
    const row: ProtocolRow = { ...ROW, sends: () => () => ({ kind: 'file' }) }
    await nodes[1].handle(row.id, async (stream) => {
      const refuse = () => new ExchangeError('quota', 'too often')
      await answer(stream, row, async function* () {}, { refuse, account: meters[1].of(stream) })
    })
    const stream = await (await connect()).newStream(row.id)
    const frames = ask(stream, row, {}, never)
    await expect(frames.next()).rejects.toMatchObject({ fields: { remote: 'quota' } })
    expect(records[1].of('refusal')).toMatchObject([{ protocol: row.id }])
    expect(records[1].of('file')).toEqual([])
  })

  it('is kept before the other side learns that its answer is complete', async () => {
    const { records, persisted } = await answered(ROW, [{ bytes: new Uint8Array(250_000) }])
    const index = records[1].entries.findIndex(({ kind }) => kind === ROW.id)
    expect(persisted).toBeGreaterThan(index)
  })

  it('is recorded in rows of their own only for members, unless a protocol has named the object', async () => {
    const { records, meters, nodes, connect } = await pair(false)
    const row: ProtocolRow = { ...ROW, sends: () => () => ({ kind: 'charter', isSingle: true }) }
    await nodes[1].handle(row.id, async (stream) => {
      const handler = async function* () {
        yield { bytes: utf8('a charter') }
        yield { error: 'refused' }
      }
      await answer(stream, row, handler, { account: meters[1].of(stream) })
    })
    const connection = await connect()
    const frames = ask(await connection.newStream(row.id), row, {}, never)
    await frames.next()
    await expect(frames.next()).rejects.toMatchObject({ code: 'refused' })
    await nodes[0].services.ping.ping(nodes[1].peerId)
    await connection.close()
    const receivers = Object.fromEntries(records[1].entries.map(({ kind, to }) => [kind, to]))
    const peer = nodes[0].peerId.toString()
    const guests = { negotiation: 'guests', refusal: 'guests', ping: 'guests' }
    expect(receivers).toMatchObject({ charter: peer, ...guests })
  })

  it('includes what libp2p sends for itself, by kind', async () => {
    const { records, nodes, connect } = await pair()
    const connection = await connect()
    await nodes[0].services.ping.ping(nodes[1].peerId)
    await nodes[0].services.identify.identify(connection)
    await connection.close()
    expect(records[0].bytesOf('ping')).toBe(32)
    expect(records[1].bytesOf('ping')).toBe(32)
    expect(records[1].bytesOf('identify')).toBeGreaterThan(100)
    expect(records[0].bytesOf('negotiation')).toBeGreaterThan(40)
    expect(records[0].bytesOf('transport')).toBeGreaterThan(200)
  })
})
