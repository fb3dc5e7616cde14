/** The attacks of `npm run bench -- attacks`: what a hostile outsider or member does until it is told to stop. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import type { Stream } from '@libp2p/interface'
import { decodeInvite } from '../../../src/consortium/invite.ts'
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { type Digest, digestOf } from '../../../src/lib/bytes.ts'
import { encodeManifest, type Manifest, openManifest } from '../../../src/packaging/manifest.ts'
import { encodeHead } from '../../../src/statements/head.ts'
import { NO_STATEMENT } from '../../../src/statements/statement.ts'
import { type Founder, type HostileMember, STATEMENTS } from '../../../test/support/hostile/member.ts'
import { HostilePeer } from '../../../test/support/hostile/peer.ts'
import { floodWithSockets } from '../../../test/support/hostile/sockets.ts'
import { cborFrame, emptyMaps, frameOf, nestedLists } from '../../../test/support/hostile/wire.ts'

const BLOB = '/flexmesh/blob/1.0.0'

export type Target = Founder

export interface Attack {
  readonly name: string
  /** Begin. @param join makes a hostile member with a key of its own */
  start(target: Target, join: Join): Promise<RunningAttack>
}

type Join = (name: string, seed: number) => Promise<HostileMember>

interface RunningAttack {
  /** @returns what the attack counted. */
  stop(): Promise<Readonly<Record<string, number>>>
}

/** Repeats an action until it is stopped; failures are what an attacker expects. */
function repeating(action: () => Promise<unknown>, pauseMs: number): { stop(): Promise<number> } {
  let isStopped = false
  let count = 0
  const loop = (async () => {
    while (!isStopped) {
      await action().catch(() => undefined)
      count++
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  })()
  return {
    stop: async () => {
      isStopped = true
      await loop
      return count
    },
  }
}

/** Signs statements of a hostile member, each after the one before. */
class Author {
  readonly #member: HostileMember
  readonly #model: Manifest
  #seq = 0
  #prev: Digest = NO_STATEMENT

  private constructor(member: HostileMember, model: Manifest) {
    this.#member = member
    this.#model = model
  }

  /** Copies what honest manifests state, so that every check before the fetch passes. */
  static async of(member: HostileMember, target: Target): Promise<Author> {
    const connection = await member.connect(target)
    const frames = await member.peer.request(
      connection,
      STATEMENTS,
      cborFrame({ rosterVersion: 0, known: [] }),
    )
    const envelopes = frames.flatMap((frame) => ((frame as { bytes?: Uint8Array }).bytes ?? []) as Uint8Array)
    for (const envelope of [envelopes].flat().reverse()) {
      try {
        return new Author(member, openManifest(envelope).manifest)
      } catch {
        // A roster or a withdrawal.
      }
    }
    throw new Error('no honest package to copy')
  }

  /** The next manifest. Its file is random unless `changes` name one. */
  manifest(changes: Partial<Manifest> = {}): { envelope: Uint8Array; id: Digest; hashes: Uint8Array } {
    const [file] = this.#model.files
    const hashes = new Uint8Array(randomBytes(32 * Math.ceil(file.size / file.chunkSize)))
    const seq = ++this.#seq
    const manifest: Manifest = {
      ...this.#model,
      publisher: this.#member.peer.peerId,
      seq,
      prev: this.#prev,
      expert: { ...this.#model.expert, name: `expert-${seq}` },
      files: [{ ...file, sha256: digestOf(randomBytes(32)), chunksSha256: digestOf(hashes) }],
      ...changes,
    }
    const payload = encodeManifest(manifest)
    this.#prev = digestOf(payload)
    const envelope = seal(MEDIA_TYPES.manifest, payload, [this.#member.peer.identity])
    this.#member.statements.push(envelope)
    return { envelope, id: this.#prev, hashes }
  }

  /** A head that names any statement as the latest. */
  head(seq: number, last: Digest): Uint8Array {
    const issuedAt = Math.floor(Date.now() / 1000)
    const { peer, consortium } = this.#member
    const head = { consortium, publisher: peer.peerId, seq, last, manifests: [], withdrawals: [] }
    const payload = encodeHead({ ...head, issuedAt, expiresAt: issuedAt + 3600 })
    return seal(MEDIA_TYPES.head, payload, [peer.identity])
  }

  /** A second statement for the place of the first one. */
  fork(): Digest {
    this.#seq = 0
    this.#prev = NO_STATEMENT
    return this.manifest({ domain: 'another history' }).id
  }
}

/** A member that publishes `count` packages and answers each request for a file with `answer`. */
function badProvider(
  name: string,
  seed: number,
  count: number,
  answer: (stream: Stream, hashes: Uint8Array) => Promise<void>,
): Attack {
  return {
    name,
    start: async (target, join) => {
      const member = await join(`Mallory ${seed}`, seed)
      const author = await Author.of(member, target)
      let asked = 0
      const packages = Array.from({ length: count }, () => author.manifest())
      await member.peer.serve(BLOB, async (stream) => {
        asked++
        await answer(stream, packages[0]?.hashes as Uint8Array)
      })
      await member.connect(target)
      return { stop: async () => ({ 'requests for files': asked }) }
    },
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms).unref())

export const ATTACKS: readonly Attack[] = [
  {
    name: '20 sockets a second that begin a handshake',
    start: async (target) => {
      await target.invite()
      const flood = floodWithSockets(target.addresses()[0] as string, 20, {
        send: Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n'),
      })
      return {
        stop: async () => {
          flood.stop()
          return { sockets: flood.opened() }
        },
      }
    },
  },
  {
    name: '12 strangers without a token while an invitation is open',
    start: async (target) => {
      const { addresses } = decodeInvite(await target.invite())
      const strangers = await Promise.all(Array.from({ length: 12 }, (_, i) => HostilePeer.start(220 + i)))
      const loops = strangers.map((peer) => repeating(() => peer.dial(addresses[0] as string), 200))
      return {
        stop: async () => {
          const counts = await Promise.all(loops.map((loop) => loop.stop()))
          return { dials: counts.reduce((sum, count) => sum + count, 0) }
        },
      }
    },
  },
  badProvider('6 packages that arrive a byte a second', 201, 6, async (stream) => {
    while (stream.status === 'open') {
      stream.send(Uint8Array.of(0x80))
      await pause(1000)
    }
  }),
  badProvider('3 MiB of CBOR with three million maps for an answer', 202, 8, async (stream) => {
    stream.send(frameOf(emptyMaps(3_000_000)))
    await stream.close()
  }),
  badProvider('deeply nested CBOR for an answer', 203, 8, async (stream) => {
    stream.send(frameOf(nestedLists(2_000_000)))
    await stream.close()
  }),
  badProvider('wrong chunk hashes for an answer', 204, 8, async (stream) => {
    stream.send(cborFrame({ bytes: new Uint8Array(randomBytes(96)) }))
    await stream.close()
  }),
  badProvider('40 packages whose files nobody delivers', 205, 40, async (stream) => {
    stream.send(cborFrame({ error: 'not-found' }))
    await stream.close()
  }),
  {
    name: '2000 statements of 60 KB',
    start: async (target, join) => {
      const member = await join('Mallory 206', 206)
      const author = await Author.of(member, target)
      const ext = { filler: 'x'.repeat(55_000) }
      for (let i = 0; i < 2000; i++) {
        author.manifest({ ext })
        await pause(0) // Signing takes seconds, in which the benchmark must read answers.
      }
      const again = repeating(() => member.connect(target), 2000)
      return { stop: async () => ({ connections: await again.stop() }) }
    },
  },
  {
    name: '20,000 announcements that are no heads',
    start: async (target, join) => {
      const member = await join('Mallory 207', 207)
      await member.connect(target)
      await pause(1000)
      let sent = 0
      const loop = repeating(async () => {
        for (let i = 0; i < 200 && sent < 20_000; i++, sent++) {
          await member.peer.publish(member.topic, new Uint8Array(randomBytes(3000)))
        }
      }, 20)
      return {
        stop: async () => {
          await loop.stop()
          return { sent }
        },
      }
    },
  },
  {
    name: 'false addresses of the other member, at which somebody listens',
    start: async (target, join) => {
      let connections = 0
      const canaries = await Promise.all(
        Array.from({ length: 8 }, async () => {
          const server = createServer((socket) => {
            connections++
            socket.destroy()
          })
          await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
          return server
        }),
      )
      const member = await join('Mallory 208', 208)
      const author = await Author.of(member, target)
      const honest = openManifest(author.manifest().envelope).manifest
      const ports = canaries.map((server) => (server.address() as { port: number }).port)
      for (const peerId of [honest.publisher, ...Array.from({ length: 8 }, (_, i) => PEERS[i] as string)]) {
        member.addresses.push({ peerId, addresses: ports.map((port) => `/ip4/127.0.0.1/tcp/${port}`) })
      }
      const again = repeating(() => member.connect(target), 2000)
      return {
        stop: async () => {
          await again.stop()
          await Promise.all(canaries.map((server) => new Promise((resolve) => server.close(resolve))))
          return { 'connections to the listeners': connections }
        },
      }
    },
  },
  {
    name: 'a fork, with heads of both histories',
    start: async (target, join) => {
      const member = await join('Mallory 209', 209)
      const author = await Author.of(member, target)
      const first = author.manifest().id
      await member.connect(target)
      await pause(500)
      const second = author.fork()
      const again = repeating(async () => {
        await member.peer.publish(member.topic, author.head(1, first))
        await member.peer.publish(member.topic, author.head(1, second))
      }, 1000)
      return { stop: async () => ({ announcements: 2 * (await again.stop()) }) }
    },
  },
]

/** Peer ids of members that never were. */
const PEERS = Array.from({ length: 8 }, () => '12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz')
