import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { equalBytes } from '../../src/lib/bytes.ts'
import { bytesFrameHead, bytesFrameStart, encodeCbor, MAX_BYTES_FRAME_HEAD } from '../../src/lib/cbor.ts'
import { BytesFrame, decodeBytesFrame } from '../../src/network/frames.ts'
import { codeOf } from '../support/packages.ts'

const start = (frame: Uint8Array) => bytesFrameStart(frame.subarray(0, MAX_BYTES_FRAME_HEAD), frame.length)

describe('a frame of bytes', () => {
  it('has the head that the encoder writes, at every length where heads change', () => {
    for (const length of [0, 1, 23, 24, 25, 255, 256, 257, 65_535, 65_536, 2 ** 20]) {
      const bytes = new Uint8Array(length).fill(7)
      const frame = encodeCbor({ bytes })
      const head = bytesFrameHead(length)
      expect(equalBytes(frame.subarray(0, head.length), head)).toBe(true)
      expect(frame.length).toBe(head.length + length)
      expect(start(frame)).toBe(head.length)
    }
  })

  it('is told from every other frame: what starts as one is what the strict decoder takes as one', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(12), fc.nat(255), (bytes, at, value) => {
        const frame = encodeCbor({ bytes })
        if (at < frame.length) frame[at] = value
        const found = start(frame)
        if (found === undefined) return
        expect(equalBytes(encodeCbor({ bytes: frame.subarray(found) }), frame)).toBe(true)
      }),
      { seed: 3, numRuns: 2000 },
    )
  })

  it('is no frame when cut, longer than it says or spelled another way', () => {
    const frame = encodeCbor({ bytes: new Uint8Array(30) })
    const longLength = Uint8Array.of(...frame.subarray(0, 7), 0x59, 0, 30, ...new Uint8Array(30))
    for (const other of [frame.subarray(0, -1), Uint8Array.of(...frame, 0), longLength, new Uint8Array(0)]) {
      expect(start(other)).toBe(undefined)
    }
    expect(start(encodeCbor({ bytes: 'text' }))).toBe(undefined)
    expect(start(encodeCbor({ error: 'quota' }))).toBe(undefined)
  })

  it('gives its bytes in one piece, and none above the limit', () => {
    const parts = [Uint8Array.of(1, 2), Uint8Array.of(3)]
    expect(decodeBytesFrame(new BytesFrame(parts, 3), 3)).toEqual(Uint8Array.of(1, 2, 3))
    expect(codeOf(() => decodeBytesFrame(new BytesFrame(parts, 3), 2))).toBe('bad-field')
  })
})
