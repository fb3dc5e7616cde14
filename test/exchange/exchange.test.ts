import { NO_STATEMENT } from '../../src/identity/statement.ts'
import '../../src/lib/node20.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { openMembershipRequest, sealMembershipRequest } from '../../src/consortium/membership-request.ts'
import { Exchange } from '../../src/exchange/exchange.ts'
import type { ExchangeHandlers } from '../../src/exchange/handlers.ts'
import { JOIN } from '../../src/exchange/join.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import type { MemberAddresses } from '../../src/network/address-table.ts'
import { Libp2pNetwork } from '../../src/network/libp2p-network.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { codeOfAsync } from '../support/packages.ts'
import { UNRECORDED } from '../support/transport.ts'

const consortium = digestOf(utf8('test consortium'))
const identities = [1, 2, 3, 4].map((n) => createIdentity(new Uint8Array(32).fill(n))) as [
  Identity,
  Identity,
  Identity,
  Identity,
]
const TOKEN = 'ab'.repeat(16)
const signal = new AbortController().signal
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
  /** Statements that arrived, as text. */
  received: string[]
  address: string
}

interface NodeOptions {
  statements?: string[]
  guests?: boolean
  inviters?: string[]
  /** Milliseconds; default: the real time. */
  clock?: () => number
  handlers?: Partial<ExchangeHandlers>
  /** Addresses of members that the node tells others; default: those that it knows. */
  tells?: readonly MemberAddresses[]
}

/** A started node among `members` on loopback. Statements are texts; heads that start with "good" are relayed. */
async function node(
  identity: Identity,
  members: readonly Identity[],
  options: NodeOptions = {},
): Promise<TestNode> {
  const dir = await mkdtemp(join(tmpdir(), 'flexmesh-exchange-'))
  const blobs = await BlobStore.open(join(dir, 'blobs'))
  const received: string[] = []
  const handlers: ExchangeHandlers = {
    isMember: (peer) => members.some(({ peerId }) => peerId === peer),
    guestsOpen: () => options.guests ?? false,
    isRevoked: () => false,
    rostersSince: () => [],
    charterFor: (token) => (token === TOKEN ? [utf8('charter'), utf8('roster')] : undefined),
    onMembershipRequest: async () => 'pending',
    wanted: () => ({ rosterVersion: 1, governance: NO_STATEMENT, known: [] }),
    statementsSince: async function* () {
      for (const text of options.statements ?? []) yield { kind: 'statement', envelope: utf8(text) }
    },
    isAhead: () => false,
    onFork: async () => false,
    onStatement: async (envelope) => received.push(Buffer.from(envelope).toString()) > 0,
    judgeHead: (envelope) => (Buffer.from(envelope).toString().startsWith('good') ? 'accept' : 'reject'),
    isBehind: () => false,
    onPulled: () => undefined,
    onSynced: () => undefined,
    mayRead: () => true,
    onAddCheckpoint: async () => ({ status: 404, body: '' }),
    checkpointsSince: () => [],
    knownCheckpoints: () => [],
    onCheckpoint: async () => undefined,
    ...options.handlers,
  }
  const exchange = new Exchange(
    { blobs, handlers },
    {
      identity,
      consortium,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      mdns: false,
      clock: options.clock ?? (() => performance.now()),
      egress: UNRECORDED,
      ...(options.inviters === undefined ? {} : { inviters: options.inviters }),
      createNetwork: (init) => {
        const network = new Libp2pNetwork(init)
        const { tells } = options
        if (tells !== undefined) network.knownAddresses = async () => [...tells]
        return network
      },
    },
  )
  await exchange.start()
  running.push({ exchange, dir })
  return { exchange, blobs, received, address: exchange.addresses()[0] as string }
}

/** Make a store serve zeros instead of the bytes of any file. Returns the number of files read so far. */
async function serveZeros(blobs: BlobStore, size: number): Promise<() => number> {
  const open = blobs.reader.bind(blobs)
  const zeros = await blobs.put(new Uint8Array(size))
  let count = 0
  blobs.reader = () => {
    count++
    return open(zeros)
  }
  return () => count
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
    const synced = Promise.withResolvers<void>()
    const server = await node(a, [a, b], { statements: ['one', 'two'] })
    const client = await node(b, [a, b], { handlers: { onSynced: () => synced.resolve() } })
    await client.exchange.connect(server.address, signal)
    await synced.promise
    expect(client.received).toEqual(['one', 'two'])
  })

  it('complete a sync with a member that tells an address which cannot be decoded', async () => {
    const [a, b] = identities
    const synced = Promise.withResolvers<string>()
    const tells = [{ peerId: a.peerId, addresses: ['x'.repeat(300)] }]
    const server = await node(a, [a, b], { statements: ['one'], tells })
    const client = await node(b, [a, b], { handlers: { onSynced: (peer) => synced.resolve(peer) } })
    await client.exchange.connect(server.address, signal)
    await client.exchange.syncWith(a.peerId)
    expect(await synced.promise).toBe(a.peerId)
  })

  it('run one sync with a peer at a time; all callers that come while one runs share the next one', async () => {
    const [a, b] = identities
    const started = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const go = Promise.withResolvers<void>()
    let requests = 0
    let atOnce = 0
    let most = 0
    const server = await node(a, [a, b], {
      handlers: {
        statementsSince: async function* () {
          most = Math.max(most, ++atOnce)
          started[requests++]?.resolve()
          await go.promise
          atOnce--
          yield { kind: 'statement', envelope: utf8('statement') }
        },
      },
    })
    const client = await node(b, [a, b])
    await client.exchange.connect(server.address, signal)
    await started[0]?.promise // The sync of the new connection, or the first call.
    const syncs = [1, 2, 3, 4].map(() => client.exchange.syncWith(a.peerId))
    go.resolve()
    await Promise.all(syncs)
    expect([requests, most]).toEqual([2, 1])
  })

  it('fetch a file in verified chunks, and fetch only the missing ones after an interruption', async () => {
    const [a, b] = identities
    const server = await node(a, [a, b])
    const client = await node(b, [a, b])
    const file = randomFile(3 * 2 ** 20 + 12_345, 1)
    await server.blobs.put(file)
    const { ref } = fileRefOf(file)
    await client.exchange.connect(server.address, signal)
    const abort = new AbortController()
    const interrupted = client.exchange.fetch(ref, {
      signal: abort.signal,
      onProgress: ({ doneChunks }) => doneChunks === 2 && abort.abort(),
    })
    expect(await codeOfAsync(() => interrupted)).toBe('aborted')
    const progress: number[] = []
    await client.exchange.fetch(ref, { signal, onProgress: ({ doneChunks }) => progress.push(doneChunks) })
    expect(progress[0]).toBeGreaterThanOrEqual(2)
    expect(progress.at(-1)).toBe(4)
    expect(digestOf(await client.blobs.readAll(ref.sha256, file.length))).toBe(ref.sha256)
  })

  it('finish a fetch from an honest provider when another sends a wrong chunk', async () => {
    const [a, b, c] = identities
    const honest = await node(a, [a, b, c])
    const liar = await node(b, [a, b, c])
    const client = await node(c, [a, b, c])
    const file = randomFile(2 * 2 ** 20, 2)
    const { ref } = fileRefOf(file)
    await honest.blobs.put(file)
    const asked = await serveZeros(liar.blobs, file.length)
    liar.blobs.has = async () => true
    liar.blobs.chunkHashes = async () => honest.blobs.chunkHashes(ref.sha256)
    const providers = [
      await client.exchange.connect(liar.address, signal),
      await client.exchange.connect(honest.address, signal),
    ]
    await client.exchange.fetch(ref, { signal, providers })
    expect(asked()).toBeGreaterThan(0)
    expect(await client.blobs.has(ref.sha256)).toBe(true)
  })

  it('keep nothing of a file when the only provider sends wrong chunks', async () => {
    const [a, b] = identities
    const liar = await node(a, [a, b])
    const client = await node(b, [a, b])
    const { ref, chunkHashes } = fileRefOf(randomFile(2 * 2 ** 20, 3))
    await serveZeros(liar.blobs, ref.size)
    liar.blobs.has = async () => true
    liar.blobs.chunkHashes = async () => chunkHashes
    const peer = await client.exchange.connect(liar.address, signal)
    await expect(client.exchange.fetch(ref, { signal, providers: [peer] })).rejects.toThrow(
      /chunk 0: expected/,
    )
    expect(await client.blobs.has(ref.sha256)).toBe(false)
  })

  it('finish a fetch from two honest providers when a third sends wrong chunks', async () => {
    const [a, b, c, d] = identities
    const servers = [await node(a, identities), await node(b, identities), await node(c, identities)] as const
    const client = await node(d, identities)
    const file = randomFile(17 * 2 ** 20 + 5, 4) // Large enough to be hashed while it arrives.
    const { ref } = fileRefOf(file)
    for (const { blobs } of servers) await blobs.put(file)
    const asked = await serveZeros(servers[1].blobs, file.length)
    const providers = await Promise.all(
      servers.map(({ address }) => client.exchange.connect(address, signal)),
    )
    const progress: number[] = []
    await client.exchange.fetch(ref, {
      signal,
      providers,
      onProgress: ({ doneChunks }) => progress.push(doneChunks),
    })
    expect(asked()).toBeGreaterThan(0)
    expect(progress).toEqual(Array.from({ length: 19 }, (_, done) => done))
    expect(digestOf(await client.blobs.readAll(ref.sha256, file.length))).toBe(ref.sha256)
  })

  it('relay announced heads and pull afterwards, except for heads that are rejected', async () => {
    const [a, b, c] = identities
    const statements: string[] = []
    const judged: string[] = []
    const sender = await node(a, [a, b, c], { statements })
    const receiver = await node(b, [a, b, c], {
      handlers: {
        judgeHead: (envelope) => {
          const text = Buffer.from(envelope).toString()
          judged.push(text)
          return text.startsWith('good') ? 'accept' : 'reject'
        },
      },
    })
    await receiver.exchange.connect(sender.address, signal)
    await receiver.exchange.syncWith(a.peerId)
    statements.push('new')
    // Announcements before gossipsub has exchanged subscriptions reach nobody, so they are repeated.
    for (let i = 0; !receiver.received.includes('new'); i++) {
      await sender.exchange.announce(utf8(`bad ${i}`))
      await sender.exchange.announce(utf8(`good ${i}`))
      await new Promise((resolve) => setImmediate(resolve))
      signal.throwIfAborted()
    }
    expect(judged.some((text) => text.startsWith('bad'))).toBe(true)
  })
})

describe('strangers', () => {
  it('are refused after noise, before any protocol', async () => {
    const [a, b, , stranger] = identities
    const server = await node(a, [a, b])
    const outsider = await node(stranger, [a, stranger])
    const refused = outsider.exchange
      .connect(server.address, signal)
      .then((peer) => outsider.exchange.requestCharter(peer, TOKEN, signal))
    await expect(refused).rejects.toThrow()
    expect(server.exchange.connectedMembers()).toEqual([])
  })

  it('that hold an invitation receive the charter and the rosters', async () => {
    const [a, , , stranger] = identities
    const server = await node(a, [a], { guests: true })
    const guest = await node(stranger, [a, stranger], { inviters: [a.peerId] })
    const peer = await guest.exchange.connect(server.address, signal)
    const envelopes = await guest.exchange.requestCharter(peer, TOKEN, signal)
    expect(envelopes.map((bytes) => Buffer.from(bytes).toString())).toEqual(['charter', 'roster'])
    await expect(guest.exchange.requestCharter(peer, 'cd'.repeat(16), signal)).rejects.toThrow(/refused/)
  })

  it('that hold an invitation ask for membership under the peer id that noise has proved', async () => {
    const [a, , , stranger] = identities
    const requests: string[] = []
    const server = await node(a, [a], {
      guests: true,
      handlers: {
        onMembershipRequest: async (envelope, from) => {
          requests.push(`${openMembershipRequest(envelope).institution} of ${from}`)
          return 'pending'
        },
      },
    })
    const guest = await node(stranger, [a, stranger], { inviters: [a.peerId] })
    const peer = await guest.exchange.connect(server.address, signal)
    const request = sealMembershipRequest(
      { consortium, institution: 'Archive', peerId: stranger.peerId, token: TOKEN, issuedAt: 1 },
      stranger,
    )
    expect(await guest.exchange.requestMembership(peer, request, signal)).toBe('pending')
    expect(requests).toEqual([`Archive of ${stranger.peerId}`])
  })

  it('that ask too often are refused until time has passed', async () => {
    const [a, , , stranger] = identities
    let now = 0
    const server = await node(a, [a], { guests: true, clock: () => now })
    const guest = await node(stranger, [a, stranger], { inviters: [a.peerId] })
    const peer = await guest.exchange.connect(server.address, signal)
    const ask = () => guest.exchange.requestCharter(peer, TOKEN, signal)
    const { burst, everyMs } = JOIN.quota
    for (let i = 0; i <= burst; i++) await ask()
    await expect(ask()).rejects.toThrow(/says quota/)
    now += everyMs
    expect(await ask()).toHaveLength(2)
  })

  it('that hold an invitation receive no statements', async () => {
    const [a, , , stranger] = identities
    const server = await node(a, [a], { guests: true, statements: ['secret'] })
    const guest = await node(stranger, [a, stranger], { inviters: [a.peerId] })
    const peer = await guest.exchange.connect(server.address, signal)
    await expect(guest.exchange.syncWith(peer)).rejects.toThrow(/refused/)
    expect(guest.received).toEqual([])
  })
})

describe('a connection attempt', () => {
  it('that its caller aborts is aborted', async () => {
    const [a] = identities
    const { exchange, address } = await node(a, identities)
    expect(await codeOfAsync(() => exchange.connect(address, AbortSignal.abort()))).toBe('aborted')
  })

  it('to text that is not an address fails with unreachable', async () => {
    const [a] = identities
    const { exchange } = await node(a, identities)
    expect(await codeOfAsync(() => exchange.connect('nowhere', signal))).toBe('unreachable')
  })
})
