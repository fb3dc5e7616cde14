/** The attacks of `npm run bench -- attacks` by members: peers that have joined the consortium. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import type { Stream } from '@libp2p/interface'
import { CHUNKS_PER_REQUEST } from '../../../src/exchange/blob.ts'
import { readEnvelope, seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import type { ChainTip } from '../../../src/identity/statement.ts'
import { digestBytes, digestOf } from '../../../src/lib/bytes.ts'
import { type Manifest, openManifest } from '../../../src/packaging/manifest.ts'
import { encodeHead } from '../../../src/statements/head.ts'
import { HostileAuthor } from '../../../test/support/hostile/author.ts'
import { type HostileMember, STATEMENTS } from '../../../test/support/hostile/member.ts'
import { cborFrame, emptyMaps, frameOf, nestedLists } from '../../../test/support/hostile/wire.ts'
import { type Attack, type Join, pause, repeating, type Target } from './attack.ts'

const BLOB = '/flexmesh/blob/1.0.0'

/** What the honest member's latest package states, so that every check before the fetch passes. */
async function honestManifest(member: HostileMember, target: Target): Promise<Manifest> {
  const connection = await member.connect(target)
  const request = cborFrame({ rosterVersion: 0, governance: new Uint8Array(32), known: [] })
  const frames = await member.peer.request(connection, STATEMENTS, request)
  for (const frame of frames.reverse()) {
    const { bytes } = frame as { bytes?: Uint8Array }
    if (bytes === undefined || readEnvelope(bytes).payloadType !== MEDIA_TYPES.manifest) continue
    const { manifest } = openManifest(bytes)
    if (manifest.publisher === target.member) return manifest
  }
  throw new Error('no honest package to copy')
}

/** Difference of the seeds of the same attacker in two rounds. */
const SEEDS_PER_ROUND = 20

/** A hostile member that has joined, what honest packages state, and an author of its statements. */
async function joined(target: Target, join: Join, first: number, round: number) {
  const seed = first + round * SEEDS_PER_ROUND
  const member = await join(`Mallory ${seed}`, seed)
  const model = await honestManifest(member, target)
  return { member, model, author: new HostileAuthor(member, model) }
}

/** Fields of a manifest that names a file which nobody has. */
function unknownFile({ files: [file] }: Manifest): Pick<Manifest, 'files'> {
  const [sha256, chunksSha256] = [digestOf(randomBytes(32)), digestOf(randomBytes(32))]
  return { files: [{ ...file, sha256, chunksSha256 }] }
}

/** A head of a member that names any statement as the latest. */
function headOf({ peer, consortium }: HostileMember, { seq, digest: last }: ChainTip): Uint8Array {
  const issuedAt = Math.floor(Date.now() / 1000)
  const head = { consortium, publisher: peer.peerId, seq, last, manifests: [], withdrawals: [] }
  return seal(MEDIA_TYPES.head, encodeHead({ ...head, issuedAt, expiresAt: issuedAt + 3600 }), [
    peer.identity,
  ])
}

/** A member that publishes `count` packages and answers each request for a file with `answer`. */
function badProvider(
  name: string,
  seed: number,
  count: number,
  answer: (stream: Stream) => Promise<void>,
): Attack {
  return {
    name,
    start: async (target, join, round) => {
      const { member, model, author } = await joined(target, join, seed, round)
      let asked = 0
      for (let i = 0; i < count; i++) {
        const expert = { ...model.expert, name: `expert-${i}` }
        member.statements.push(author.manifest({ ...unknownFile(model), expert }).envelope)
      }
      await member.peer.serve(BLOB, async (stream) => {
        asked++
        await answer(stream)
      })
      await member.connect(target)
      return { stop: async () => ({ 'requests for files': asked }) }
    },
  }
}

/** Number of requests whose answers nobody reads. */
const UNREAD = 500
/** Time that the target has to accept a stream, ms. */
const STREAM_MS = 5000

/** A request for many chunks of a file, which fills every buffer on the way if nobody reads the answer. */
function chunksRequest({ files: [file] }: Manifest): Uint8Array {
  const count = Math.min(CHUNKS_PER_REQUEST, Math.ceil(file.size / file.chunkSize))
  return cborFrame({ kind: 'chunks', digest: digestBytes(file.sha256), first: 0, count })
}

export const MEMBERS: readonly Attack[] = [
  badProvider('6 packages that arrive a byte a second', 101, 6, async (stream) => {
    while (stream.status === 'open') {
      stream.send(Uint8Array.of(0x80))
      await pause(1000)
    }
  }),
  badProvider('3 MiB of CBOR with three million maps for an answer', 102, 8, async (stream) => {
    stream.send(frameOf(emptyMaps(3_000_000)))
    await stream.close()
  }),
  badProvider('deeply nested CBOR for an answer', 103, 8, async (stream) => {
    stream.send(frameOf(nestedLists(2_000_000)))
    await stream.close()
  }),
  badProvider('wrong chunk hashes for an answer', 104, 8, async (stream) => {
    stream.send(cborFrame({ bytes: new Uint8Array(randomBytes(96)) }))
    await stream.close()
  }),
  badProvider('40 packages whose files nobody delivers', 105, 40, async (stream) => {
    stream.send(cborFrame({ error: 'not-found' }))
    await stream.close()
  }),
  {
    name: '500 requests for files whose answers nobody reads',
    start: async (target, join, round) => {
      const { member, model } = await joined(target, join, 110, round)
      const request = chunksRequest(model)
      let granted = 0
      const again = repeating(async () => {
        const connection = await member.connect(target)
        await Promise.allSettled(
          Array.from({ length: UNREAD }, async () => {
            const stream = await connection.newStream(BLOB, {
              maxOutboundStreams: 10_000,
              signal: AbortSignal.timeout(STREAM_MS),
            })
            granted++
            stream.send(request)
          }),
        )
      }, 1000)
      return {
        stop: async () => {
          const connections = await again.stop()
          return { connections, 'streams granted': granted }
        },
      }
    },
  },
  {
    name: '2000 statements of 60 KB',
    start: async (target, join, round) => {
      const { member, model, author } = await joined(target, join, 106, round)
      const ext = { filler: 'x'.repeat(55_000) }
      for (let i = 0; i < 2000; i++) {
        member.statements.push(author.manifest({ ...unknownFile(model), ext }).envelope)
        await pause(0) // Signing takes seconds, in which the benchmark must read answers.
      }
      const again = repeating(() => member.connect(target), 2000)
      return { stop: async () => ({ connections: await again.stop() }) }
    },
  },
  {
    name: '20,000 announcements that are no heads',
    start: async (target, join, round) => {
      const seed = 107 + round * SEEDS_PER_ROUND
      const member = await join(`Mallory ${seed}`, seed)
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
    start: async (target, join, round) => {
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
      const { member, model } = await joined(target, join, 108, round)
      const ports = canaries.map((server) => (server.address() as { port: number }).port)
      member.addresses.push({
        peerId: model.publisher,
        addresses: ports.map((port) => `/ip4/127.0.0.1/tcp/${port}`),
      })
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
    start: async (target, join, round) => {
      const { member, model, author } = await joined(target, join, 109, round)
      const twin = new HostileAuthor(member, model)
      member.statements.push(author.manifest(unknownFile(model)).envelope)
      await member.connect(target)
      await pause(500)
      twin.manifest(unknownFile(model))
      const again = repeating(async () => {
        await member.peer.publish(member.topic, headOf(member, author.tip))
        await member.peer.publish(member.topic, headOf(member, twin.tip))
      }, 1000)
      return { stop: async () => ({ announcements: 2 * (await again.stop()) }) }
    },
  },
]
