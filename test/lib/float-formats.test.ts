import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromFloat32, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import { codeOf } from '../support/packages.ts'

describe('16-bit floating point', () => {
  const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length)
  const halves = (bytes: Uint8Array) => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)

  it.each(['BF16', 'F16'] as const)('converts each of the 65,536 values of %s to F32 and back', (dtype) => {
    const all = Uint16Array.from({ length: 65_536 }, (_, index) => index)
    const values = toFloat32({ dtype, data: new Uint8Array(all.buffer) })
    const back = halves(fromFloat32(values, dtype))
    const quiet = dtype === 'BF16' ? 0x40 : 0x200
    for (let index = 0; index < all.length; index++) {
      const expected = Number.isNaN(values[index]) ? index | quiet : index
      if (back[index] !== expected) expect([index, back[index]]).toEqual([index, expected])
    }
  })

  it('matches IEEE 754 for edge cases of binary16', () => {
    const cases: [number, number][] = [
      [1, 0x3c00],
      [-2, 0xc000],
      [65_504, 0x7bff],
      [65_519.99609375, 0x7bff],
      [65_520, 0x7c00],
      [Number.POSITIVE_INFINITY, 0x7c00],
      [Number.NEGATIVE_INFINITY, 0xfc00],
      [-0, 0x8000],
      [2 ** -14, 0x0400],
      [2 ** -14 - 2 ** -25, 0x0400],
      [2 ** -24, 0x0001],
      [2 ** -25, 0x0000],
      [2 ** -25 + 2 ** -40, 0x0001],
      [3 * 2 ** -25, 0x0002],
      [2 ** -26, 0x0000],
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
    ]
    const got = halves(
      fromFloat32(
        Float32Array.from(cases, ([value]) => value),
        'F16',
      ),
    )
    expect([...got]).toEqual(cases.map(([, half]) => half))
  })

  it('matches IEEE 754 for edge cases of bfloat16', () => {
    const cases: [number, number][] = [
      [0x3f800000, 0x3f80],
      [0x3f808000, 0x3f80],
      [0x3f808001, 0x3f81],
      [0x3f818000, 0x3f82],
      [0x7f7fffff, 0x7f80],
      [0x7f800001, 0x7fc0],
      [0xffffffff, 0xffff],
      [0xff800000, 0xff80],
      [0x00008000, 0x0000],
      [0x00018000, 0x0002],
      [0x80000001, 0x8000],
    ]
    const values = new Float32Array(Uint32Array.from(cases, ([value]) => value).buffer)
    expect([...halves(fromFloat32(values, 'BF16'))]).toEqual(cases.map(([, half]) => half))
  })

  it.each(['BF16', 'F16'] as const)('rounds to the nearest %s, ties to even', (dtype) => {
    const all = Uint16Array.from({ length: 0x7f80 }, (_, index) => index)
    const finite = toFloat32({ dtype, data: new Uint8Array(all.buffer) }).filter(Number.isFinite)
    fc.assert(
      fc.property(fc.nat(finite.length - 2), fc.double({ min: 0, max: 1, noNaN: true }), (index, share) => {
        const low = finite[index] as number
        const high = finite[index + 1] as number
        const value = Math.fround(low + (high - low) * share)
        const got = halves(fromFloat32(Float32Array.of(value), dtype))[0] as number
        const down = value - low
        const up = high - value
        expect(got).toBe(down < up || (down === up && index % 2 === 0) ? index : index + 1)
      }),
      { seed: 3, numRuns: 2000 },
    )
  })

  it('keeps F32 bits exactly, also from unaligned bytes', () => {
    const values = new Float32Array(Uint32Array.of(0x7f800001, 0x00000001, 0xdeadbeef).buffer)
    const shifted = new Uint8Array(13)
    shifted.set(fromFloat32(values, 'F32'), 1)
    expect([...bits(toFloat32({ dtype: 'F32', data: shifted.subarray(1) }))]).toEqual([...bits(values)])
  })

  it('refuses to read integers as floating point', () => {
    expect(codeOf(() => toFloat32({ dtype: 'I32', data: new Uint8Array(4) }))).toBe('bad-safetensors')
  })
})
