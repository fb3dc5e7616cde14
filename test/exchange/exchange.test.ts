import '../../src/lib/node20.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Exchange } from '../../src/exchange/exchange.ts'
import type { ExchangeHandlers } from '../../src/exchange/handlers.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { fileRefOf } from '../../src/lib/file-ref.ts'
import type { BlobReader } from '../../src/store/blob-reader.ts'
import { BlobStore } from '../../src/store/blob-store.ts'

const consortium = digestOf(utf8('test consortium'))
const identities = [1, 2, 3, 4].map((n) => createIdentity(new Uint8Array(32).fill(n))) as [
  Identity,
  Identity,
  Identity,
  Identity,
]
const signal = AbortSignal.timeout(60_000)
const running: { exchange: Exchange; dir: string }[] = []

afterEach(async () => {
  for (const { exchange, dir } of running.splice(0)) {
    await exchange.stop()
    await rm(dir, { recursive: true, force: true })
  }
})

interface TestNode {
  exchange: Exchange
  blobs: BlobStore
  received: string[]
  address: string
}

/** A node among `members`; statements are texts, `heads` those it would relay. */
async function node(
  identity: Identity,
  members: readonly Identity[],
  options: {
    statements?: string[]
    guests?: boolean
    inviters?: string[]
    onStatement?: (text: string) => void
  } = {},
): Promise<TestNode> {
  const dir = await mkdtemp(join(tmpdir(), 'flexmesh-exchange-'))
  const blobs = await BlobStore.open(join(dir, 'blobs'))
  const received: string[] = []
  const handlers: ExchangeHandlers = {
    isMember: (peer) => members.some(({ peerId }) => peerId === peer),
    guestsOpen: () => options.guests ?? false,
    charterFor: (token) => (token === 'ab'.repeat(16) ? [utf8('charter'), utf8('roster')] : undefined),
    onMembershipRequest: async () => 'pending',
    wanted: () => ({ rosterVersion: 1, known: [] }),
    statementsSince: async function* () {
      for (const text of options.statements ?? []) yield utf8(text)
    },
    onStatement: async (envelope) => {
      const text = Buffer.from(envelope).toString()
      received.push(text)
      options.onStatement?.(text)
    },
    judgeHead: (envelope) => (Buffer.from(envelope).toString().startsWith('good') ? 'accept' : 'reject'),
    isBehind: () => false,
    onSynced: () => undefined,
    mayRead: () => true,
  }
  const exchange = new Exchange(
    { blobs, handlers },
    {
      identity,
      consortium,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      mdns: false,
      clock: () => performance.now(),
      ...(options.inviters === undefined ? {} : { inviters: options.inviters }),
    },
  )
  await exchange.start()
  running.push({ exchange, dir })
  return { exchange, blobs, received, address: exchange.addresses()[0] as string }
}

/** Let a store give out other bytes than it has. */
function serve(blobs: BlobStore, size: number, read: (length: number) => Uint8Array): void {
  const reader = {
    size,
    read: async (_: number, length: number) => read(length),
    close: async () => undefined,
  }
  blobs.reader = async () => reader as unknown as BlobReader
}

function randomFile(bytes: number, seed: number): Uint8Array {
  const file = new Uint8Array(bytes)
  let state = seed
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    file[i] = state >>> 24
  }
  return file
}

describe('members', () => {
  it("pull each other's statements as soon as they connect", async () => {
    const [a, b] = identities
    const arrived = Promise.withResolvers<void>()
    const server = await node(a, [a, b], { statements: ['one', 'two'] })
    const client = await node(b, [a, b], { onStatement: (text) => text === 'two' && arrived.resolve() })
    await client.exchange.connect(server.address, signal)
    await arrived.promise
    expect(client.received).toEqual(['one', 'two'])
  })

  it('fetch a file in verified chunks, and again only what is missing', async () => {
    const [a, b] = identities
    const server = await node(a, [a, b])
    const client = await node(b, [a, b])
    const file = randomFile(3 * 2 ** 20 + 12_345, 1)
    await server.blobs.put(file)
    const { ref } = fileRefOf(file)
    await client.exchange.connect(server.address, signal)
    const abort = new AbortController()
    const first: number[] = []
    await expect(
      client.exchange.fetch(ref, {
        signal: abort.signal,
        onProgress: ({ doneChunks }) => {
          first.push(doneChunks)
          if (doneChunks === 2) abort.abort()
        },
      }),
    ).rejects.toThrow()
    const progress: number[] = []
    await client.exchange.fetch(ref, { signal, onProgress: ({ doneChunks }) => progress.push(doneChunks) })
    expect(progress[0]).toBeGreaterThanOrEqual(2)
    expect(progress.at(-1)).toBe(4)
    expect(digestOf(await client.blobs.readAll(ref.sha256, file.length))).toBe(ref.sha256)
  })

  it('drop a provider that sends a wrong chunk and finish from an honest one', async () => {
    const [a, b, c] = identities
    const honest = await node(a, [a, b, c])
    const liar = await node(b, [a, b, c])
    const client = await node(c, [a, b, c])
    const file = randomFile(2 * 2 ** 20, 2)
    const { ref } = fileRefOf(file)
    await honest.blobs.put(file)
    liar.blobs.has = async () => true
    serve(liar.blobs, 2 ** 21, (length) => new Uint8Array(length))
    liar.blobs.chunkHashes = async () => honest.blobs.chunkHashes(ref.sha256)
    const providers = [
      await client.exchange.connect(liar.address, signal),
      await client.exchange.connect(honest.address, signal),
    ]
    await client.exchange.fetch(ref, { signal, providers })
    expect(await client.blobs.has(ref.sha256)).toBe(true)
    const other = randomFile(2 * 2 ** 20, 3)
    const { ref: unknown, chunkHashes } = fileRefOf(other)
    liar.blobs.chunkHashes = async () => chunkHashes
    await expect(
      client.exchange.fetch(unknown as typeof ref, { signal, providers: [providers[0] as string] }),
    ).rejects.toThrow(/chunk|digest/)
    expect(await client.blobs.has(unknown.sha256 as Digest)).toBe(false)
  })

  it('finish from two honest providers when the third of three sends wrong chunks', async () => {
    const [a, b, c, d] = identities
    const servers = [await node(a, identities), await node(b, identities), await node(c, identities)] as const
    const client = await node(d, identities)
    const file = randomFile(17 * 2 ** 20 + 5, 4) // Large enough to be hashed while it arrives.
    const { ref } = fileRefOf(file)
    for (const { blobs } of servers) await blobs.put(file)
    let asked = 0
    serve(servers[1].blobs, file.length, (length) => {
      asked++
      return new Uint8Array(length)
    })
    const providers = await Promise.all(
      servers.map(({ address }) => client.exchange.connect(address, signal)),
    )
    const progress: number[] = []
    await client.exchange.fetch(ref, {
      signal,
      providers,
      onProgress: ({ doneChunks }) => progress.push(doneChunks),
    })
    expect(asked).toBeGreaterThan(0)
    expect(progress).toEqual(Array.from({ length: 19 }, (_, done) => done))
    expect(digestOf(await client.blobs.readAll(ref.sha256, file.length))).toBe(ref.sha256)
  })

  it('relay announced heads and pull after them, but no head that the validator rejects', async () => {
    const [a, b, c] = identities
    const arrived = Promise.withResolvers<void>()
    const statements: string[] = []
    const sender = await node(a, [a, b, c], { statements })
    const judged: string[] = []
    const receiver = await node(b, [a, b, c], { onStatement: (text) => text === 'new' && arrived.resolve() })
    await receiver.exchange.connect(sender.address, signal)
    await receiver.exchange.syncWith(a.peerId)
    statements.push('new')
    const publish = async (): Promise<void> => {
      while (!receiver.received.includes('new')) {
        await sender.exchange.announce(utf8(`bad ${judged.length}`))
        await sender.exchange.announce(utf8(`good ${judged.length}`))
        judged.push('')
        await Promise.race([arrived.promise, new Promise((resolve) => setImmediate(resolve))])
      }
    }
    await publish()
    expect(receiver.received).toContain('new')
  })
})

describe('strangers', () => {
  it('are refused after noise, before any protocol', async () => {
    const [a, b, , stranger] = identities
    const server = await node(a, [a, b])
    const outsider = await node(stranger, [a, stranger])
    const refused = outsider.exchange
      .connect(server.address, signal)
      .then((peer) => outsider.exchange.requestCharter(peer, 'ab'.repeat(16), signal))
    await expect(refused).rejects.toThrow()
    expect(server.exchange.connectedMembers()).toEqual([])
  })

  it('that hold an invitation may join and nothing else', async () => {
    const [a, , , stranger] = identities
    const server = await node(a, [a], { guests: true, statements: ['secret'] })
    const guest = await node(stranger, [a, stranger], { inviters: [a.peerId] })
    const peer = await guest.exchange.connect(server.address, signal)
    expect(
      (await guest.exchange.requestCharter(peer, 'ab'.repeat(16), signal)).map((b) =>
        Buffer.from(b).toString(),
      ),
    ).toEqual(['charter', 'roster'])
    await expect(guest.exchange.requestCharter(peer, 'cd'.repeat(16), signal)).rejects.toThrow(/refused/)
    expect(await guest.exchange.requestMembership(peer, utf8('request'), signal)).toBe('pending')
    await expect(guest.exchange.syncWith(peer)).rejects.toThrow(/refused/)
    expect(guest.received).toEqual([])
  })
})
