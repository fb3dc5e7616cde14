/** Looks for private text in everything that nodes send, as it is before encryption. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { noise } from '@chainsafe/libp2p-noise'
import type { MessageStream } from '@libp2p/interface'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Encrypter } from '../../src/network/transport.ts'
import type { FlexMeshNode } from '../../src/node/node.ts'
import { cleanUp, EXAMPLES } from '../support/folders.ts'
import { network, publish, run } from '../support/network.ts'
import { shortText } from '../support/texts.ts'
import { TINY, tinyModel } from '../support/tiny-model.ts'

const WINDOW = 32
const DOMAINS = ['hospital', 'archive', 'university'] as const

/** Noise that keeps a copy of all data of a connection, in order, before it is encrypted. */
function recordingNoise(sent: Uint8Array[][]): Encrypter {
  return ((components: never) => {
    const real = noise()(components)
    const record = (secured: { connection: MessageStream }): void => {
      const parts: Uint8Array[] = []
      sent.push(parts)
      const { connection } = secured
      const send = connection.send.bind(connection)
      connection.send = (data) => {
        parts.push(data.slice())
        return send(data)
      }
    }
    return new Proxy(real, {
      get(target, name) {
        const value = Reflect.get(target, name, target)
        if (name !== 'secureInbound' && name !== 'secureOutbound') {
          return typeof value === 'function' ? value.bind(target) : value
        }
        return async (...args: unknown[]) => {
          const secured = await value.apply(target, args)
          record(secured)
          return secured
        }
      },
    })
  }) as Encrypter
}

/** Finds the windows of a text in other bytes, by a rolling hash and then by comparison. */
class Windows {
  static readonly #BITS = 24
  readonly #slots = new Int32Array(1 << Windows.#BITS).fill(-1)
  readonly #next: Int32Array
  readonly #text: Buffer

  constructor(text: Buffer) {
    this.#text = text
    this.#next = new Int32Array(text.length).fill(-1)
    roll(text, (hash, at) => {
      const slot = hash >>> (32 - Windows.#BITS)
      this.#next[at] = this.#slots[slot] as number
      this.#slots[slot] = at
    })
  }

  /** Offsets in `bytes` at which 32 bytes of the text begin. */
  findIn(bytes: Buffer): number[] {
    const found: number[] = []
    roll(bytes, (hash, at) => {
      let candidate = this.#slots[hash >>> (32 - Windows.#BITS)] as number
      while (candidate >= 0) {
        if (this.#text.compare(bytes, at, at + WINDOW, candidate, candidate + WINDOW) === 0) {
          found.push(at)
          return
        }
        candidate = this.#next[candidate] as number
      }
    })
    return found
  }
}

function roll(bytes: Buffer, visit: (hash: number, at: number) => void): void {
  const BASE = 0x01000193
  let top = 1
  for (let i = 0; i < WINDOW; i++) top = Math.imul(top, BASE)
  let hash = 0
  for (let i = 0; i < bytes.length; i++) {
    hash = (Math.imul(hash, BASE) + (bytes[i] as number) + 1) | 0
    if (i >= WINDOW) hash = (hash - Math.imul(top, (bytes[i - WINDOW] as number) + 1)) | 0
    // Mixed, because neighbouring windows of a polynomial hash share their upper bits.
    if (i >= WINDOW - 1) visit(Math.imul(hash ^ (hash >>> 15), 0x9e3779b1) >>> 0, i - WINDOW + 1)
  }
}

/** Files of a folder, in order of their names. */
async function filesIn(folder: string): Promise<Buffer[]> {
  const names = await readdir(folder)
  return Promise.all(names.sort().map((name) => readFile(join(folder, name))))
}

/** The bytes of each connection, and the payloads of the statements in them, which travel as base64. */
function readable(sent: readonly Uint8Array[][]): Buffer[] {
  const streams = sent.map((parts) => Buffer.concat(parts))
  const payloads = streams.flatMap((bytes) =>
    [...bytes.toString('latin1').matchAll(/"payload":"([A-Za-z0-9+/]+=*)"/g)].map(([, payload]) =>
      Buffer.from(payload ?? '', 'base64'),
    ),
  )
  return [...streams, ...payloads]
}

describe('what three nodes send while they join, train, also with privacy, audit, publish and judge', () => {
  /** Everything until all experts are in use everywhere. */
  let honest: Buffer[]
  /** The same, and a manifest with private text in its field `domain`. */
  let leaking: Buffer[]
  let bytes: number
  let privateText: Windows
  let publicFiles: Buffer[]
  /** Reports of audits, and canaries: which are in the text, and their tokens. */
  let auditMaterial: Windows
  const leak = 'intermediate mesoderm structural organization' // The beginning of the hospital's text.

  beforeAll(async () => {
    const texts = await Promise.all(DOMAINS.map((domain) => filesIn(join(EXAMPLES, domain, 'text'))))
    const gap = Buffer.alloc(WINDOW, 0xff) // In no text.
    privateText = new Windows(Buffer.concat(texts.flat().flatMap((text) => [text, gap])))
    const model = await tinyModel()
    publicFiles = await filesIn(model)
    const sent: Uint8Array[][] = []
    const net = await network(['Hospital', 'Archive', 'University'], model, {
      encrypter: recordingNoise(sent),
    })
    try {
      await Promise.all(
        net.nodes.map(async (node, i) => {
          const name = DOMAINS[i] as string
          await run(node, 'train', { name, data: [join(EXAMPLES, name, 'text')], steps: 10, canaries: 20 })
          await publish(node, name, { noAudit: false })
        }),
      )
      const folders = net.nodes.map((node, i) => join(node.paths.training, DOMAINS[i] as string))
      const kept = ['audit.json', 'audit.txt', 'canaries.json'].flatMap((file) =>
        folders.map((folder) => readFile(join(folder, file))),
      )
      auditMaterial = new Windows(Buffer.concat((await Promise.all(kept)).flatMap((file) => [file, gap])))
      const [first] = net.nodes as [FlexMeshNode]
      // Epsilon 100, so that few steps suffice.
      const privately = { steps: 2, rank: 1, epsilon: 100_000, batch: 32 }
      const data = [await shortText('hospital')]
      await run(first, 'train', { name: 'private', data, ...privately })
      await publish(first, 'private', { statistics: 'noised', epsilonMilli: 8000 })
      await net.accepted(4)
      bytes = sent.flat().reduce((sum, part) => sum + part.length, 0)
      honest = readable(sent)
      const [owner, other] = net.nodes as [FlexMeshNode, FlexMeshNode]
      const id = await publish(owner, 'hospital', { domain: leak })
      await net.watch.until('the leak', () => other.accepted.has(id))
      leaking = readable(sent)
    } finally {
      await net.close()
      await cleanUp()
    }
  }, 300_000)

  const found = (text: Windows, sent: readonly Buffer[]): string[] =>
    sent.flatMap((part) => text.findIn(part).map((at) => part.toString('utf8', at, at + WINDOW)))

  it('holds every expert for each of the two other nodes', () => {
    const expertBytes = 2 * 3 * TINY.hiddenSize * TINY.intermediateSize * TINY.numHiddenLayers
    const statisticsBytes = 4 * TINY.vocabSize
    expect(bytes).toBeGreaterThan(3 * 2 * (expertBytes + statisticsBytes))
  })

  it('holds public text, which the search finds', async () => {
    const replay = publicFiles.find((file) => file.includes('"text":')) as Buffer
    expect(found(new Windows(replay), honest).length).toBeGreaterThan(replay.length)
  })

  it('holds no 32 bytes of any private text', () => {
    // Some windows are in the files of the public model too, and those are no secret.
    const windows = found(privateText, honest)
    expect(windows.filter((window) => !publicFiles.some((file) => file.includes(window)))).toEqual([])
  })

  it('holds nothing of the audits but the digests of their reports', () => {
    // The digest of the expert, which the report names too, is not that of the published file.
    expect(found(auditMaterial, honest)).toEqual([])
  })

  it('would be found to hold private text if a manifest did', () => {
    const windows = found(privateText, leaking)
    expect(windows).toContain(leak.slice(0, WINDOW))
  })
})
