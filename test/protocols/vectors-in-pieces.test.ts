/** Runs vectors whose input arrives in pieces or lies inside a larger buffer: the outcome is that of the whole input. */
import '../../src/lib/node20.ts'
import { streamPair } from '@libp2p/utils'
import * as lengthPrefixed from 'it-length-prefixed'
import { describe, expect, it } from 'vitest'
import {
  readSafetensors,
  readSafetensorsHeader,
  safetensorsPrefixLength,
  type TensorEntry,
} from '../../src/checkpoint/safetensors.ts'
import { BLOB } from '../../src/exchange/blob.ts'
import { fromHex } from '../../src/lib/bytes.ts'
import { ask } from '../../src/network/frames.ts'
import { vectorFiles } from '../support/specifications.ts'
import { decodeFrame, frameOf, maxFrameBytes } from '../vectors/package-exchange.ts'
import { SUITES } from '../vectors/suites.ts'
import { outcomeOf } from '../vectors/vector.ts'

/** Offset in the larger buffer; odd, so that no element of a tensor is aligned by chance. */
const OFFSET = 13

/** The same bytes as a view into a larger buffer, with other bytes before and after. */
function inLargerBuffer(bytes: Uint8Array): Uint8Array {
  const buffer = new Uint8Array(bytes.length + 2 * OFFSET).fill(0xa5)
  buffer.set(bytes, OFFSET)
  return buffer.subarray(OFFSET, OFFSET + bytes.length)
}

describe.each(Object.keys(SUITES))('the vectors of %s', (name) => {
  it('have the same outcome and the same value as views into a larger buffer', () => {
    const suite = SUITES[name]
    if (suite === undefined) throw new Error(`no suite for ${name}`)
    for (const { name: vector, input, expect: expected } of vectorFiles(name)) {
      const values: unknown[] = []
      for (const place of [(bytes: Uint8Array) => bytes, inLargerBuffer]) {
        const outcome = outcomeOf(() => values.push(suite.runVector(input, place)))
        expect([vector, outcome]).toEqual([vector, expected])
      }
      expect(values[1]).toEqual(values[0])
    }
  })
})

/** Reads a file as a reader of large files does: the length, the header, then the bytes of one tensor at a time. */
function readByPrefix(file: Uint8Array): TensorEntry[] {
  const headerEnd = safetensorsPrefixLength(file.slice(0, 8), file.length)
  const layout = readSafetensorsHeader(file.slice(0, headerEnd), file.length)
  return [...layout.tensors.values()].map(({ name, dtype, shape, offset, length }) => ({
    name,
    dtype,
    shape,
    data: file.slice(offset, offset + length),
  }))
}

describe('a safetensors file read by its prefix', () => {
  const vectors = vectorFiles('expert-package').filter(({ input }) =>
    ['safetensors', 'package'].includes(String(input['decoder'])),
  )

  it.each(vectors)('$name: as the whole file', ({ input }) => {
    const file = fromHex(String(input['hex']))
    let whole: TensorEntry[] = []
    let parts: TensorEntry[] = []
    const outcome = outcomeOf(() => {
      whole = [...readSafetensors(file).tensors.values()]
    })
    expect(
      outcomeOf(() => {
        parts = readByPrefix(file)
      }),
    ).toBe(outcome)
    expect(parts).toEqual(whole)
  })
})

describe('a frame that arrives byte by byte', () => {
  /** Long runs of zeros are sent in pieces of this size, since a message for each byte would take minutes. */
  const ZEROS_BYTES = 65_536

  function* pieces(frame: Uint8Array, zeros: number): Generator<Uint8Array> {
    const message = lengthPrefixed.encode.single(frame).subarray()
    const bytewise = message.length - zeros
    for (let at = 0; at < bytewise; at++) yield message.subarray(at, at + 1)
    for (let at = bytewise; at < message.length; at += ZEROS_BYTES) {
      yield message.subarray(at, Math.min(at + ZEROS_BYTES, message.length))
    }
  }

  it.each(vectorFiles('package-exchange'))('$name: $expect', async ({ input, expect: expected }) => {
    const row = { ...BLOB, maxResponseBytes: maxFrameBytes(input) }
    const [asking, answering] = await streamPair({ delay: 0, capacity: 2 ** 20 })
    const received: unknown[] = []
    let failure: unknown
    const asked = (async () => {
      for await (const value of ask(asking, row, {}, new AbortController().signal)) received.push(value)
    })().catch((error: unknown) => {
      failure = error
    })
    for (const piece of pieces(frameOf(input), Number(input['zeros'] ?? 0))) {
      if (answering.status !== 'open') break
      answering.send(piece)
    }
    await answering.close().catch(() => undefined)
    await asked
    const outcome = outcomeOf(() => {
      if (failure !== undefined) throw failure
      return decodeFrame(input, received[0])
    })
    expect(outcome).toBe(expected)
  })
})
