import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { noise } from '@chainsafe/libp2p-noise'
import type { MessageStream } from '@libp2p/interface'
import { afterAll, describe, expect, it } from 'vitest'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import type { Encrypter } from '../../src/network/transport.ts'
import { cleanUp, EXAMPLES, SMALL_MODEL } from '../support/folders.ts'
import { network, run } from '../support/network.ts'

const WINDOW = 32
const DOMAINS = ['hospital', 'archive', 'university']
const STEPS = 100

/** Noise that keeps a copy of everything before it is encrypted: all that a node sends, in order. */
function recordingNoise(sent: Uint8Array[][]): Encrypter {
  return ((components: never) => {
    const real = noise()(components)
    const record = (secured: { connection: MessageStream }): void => {
      const parts: Uint8Array[] = []
      sent.push(parts)
      const { connection } = secured
      const send = connection.send.bind(connection)
      connection.send = (data) => {
        parts.push(data instanceof Uint8Array ? data.slice() : data.slice())
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

/** Finds which windows of a text occur in other bytes, by a rolling hash and then by comparison. */
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

  /** Positions in `bytes` whose next 32 bytes are a window of the text. */
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

async function textOf(domain: string): Promise<Buffer[]> {
  const folder = join(EXAMPLES, domain, 'text')
  const names = await readdir(folder)
  return Promise.all(names.sort().map((name) => readFile(join(folder, name))))
}

afterAll(cleanUp)

describe('a run of the demo’s size', () => {
  it('sends no 32 bytes of anybody’s text', async () => {
    const sent: Uint8Array[][] = []
    const net = await network(['Hospital', 'Archive', 'University'], SMALL_MODEL, {
      policy: DEFAULT_POLICY,
      encrypter: recordingNoise(sent),
    })
    try {
      for (const [i, node] of net.nodes.entries()) {
        const name = DOMAINS[i] as string
        await run(node, 'train', { name, data: [join(EXAMPLES, name, 'text')], steps: STEPS })
      }
      await Promise.all(net.nodes.map((node, i) => run(node, 'publish', { name: DOMAINS[i] })))
      await net.accepted(3)
    } finally {
      await net.close()
    }
    const streams = sent.map((parts) => Buffer.concat(parts))
    const total = streams.reduce((sum, bytes) => sum + bytes.length, 0)
    const expertBytes = 2 * 4 * 3 * 192 * 512
    expect(total).toBeGreaterThan(6 * expertBytes) // each expert went to two others

    // The finder finds: public text, which does travel, is seen in what was sent.
    const publicFiles = await Promise.all(
      (await readdir(SMALL_MODEL)).map((name) => readFile(join(SMALL_MODEL, name))),
    )
    const replay = await readFile(join(SMALL_MODEL, 'replay.jsonl'))
    expect(streams.length).toBeGreaterThanOrEqual(6)

    const gap = Buffer.alloc(WINDOW, 0xff) // in no text

    const texts = (await Promise.all(DOMAINS.map(textOf))).flat()
    const corpora = new Windows(Buffer.concat(texts.flatMap((text) => [text, gap])))
    expect(corpora.findIn((texts[0] as Buffer).subarray(100, 140))).toHaveLength(9)
    const replayWindows = new Windows(replay)
    expect(replayWindows.findIn(replay.subarray(5_000, 5_100)).length).toBe(69)

    // What the public model's own files hold is no secret of an institution.
    const open = publicFiles.map((file) => corpora.findIn(file).length).reduce((a, b) => a + b, 0)
    const leaked = streams.flatMap((bytes) =>
      corpora.findIn(bytes).map((at) => bytes.subarray(at, at + WINDOW)),
    )
    const unknown = leaked.filter((window) => !publicFiles.some((file) => file.includes(window)))
    expect({ windows: unknown.slice(0, 3).map((w) => w.toString('utf8')), open }).toEqual({
      windows: [],
      open,
    })
  }, 600_000)
})
