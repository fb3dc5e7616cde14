import { Uint8ArrayList } from 'uint8arraylist'
import { describe, expect, it } from 'vitest'
import { concatBytes } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { YamuxWatch } from '../../src/network/yamux-watch.ts'

const DATA = 0
const WINDOW_UPDATE = 1
const PING = 2

/** A frame; a data frame is followed by `data` bytes, which need not be as many as it announces. */
function frame(type: number, stream: number, length: number, data = 0): Uint8Array {
  const bytes = new Uint8Array(12 + data)
  const view = new DataView(bytes.buffer)
  view.setUint8(1, type)
  view.setUint32(4, stream)
  view.setUint32(8, length)
  return bytes
}

/** The watch of the side that was dialled: it opens streams with even ids. */
const inbound = (clock = () => 0) => new YamuxWatch('inbound', clock)

describe('the watch over a yamux connection', () => {
  it('accepts data frames up to the limit of their direction', () => {
    const request = limit('requestDataBytes')
    const answer = limit('answerDataBytes')
    expect(inbound().read(frame(DATA, 1, request, request))).toBe(undefined)
    expect(inbound().read(frame(DATA, 2, answer, answer))).toBe(undefined)
    expect(new YamuxWatch('outbound', () => 0).read(frame(DATA, 1, answer, answer))).toBe(undefined)
  })

  it('refuses a larger frame by its header, before its data', () => {
    expect(inbound().read(frame(DATA, 1, limit('requestDataBytes') + 1))).toMatch(/data frame of 66561 bytes/)
    expect(inbound().read(frame(DATA, 2, limit('answerDataBytes') + 1))).toMatch(/data frame/)
    expect(inbound().read(frame(DATA, 1, 0xffffffff))).toMatch(/data frame of 4294967295 bytes/)
  })

  it('finds the headers in any division of the bytes', () => {
    const good = concatBytes(
      frame(DATA, 2, 3000, 3000),
      frame(WINDOW_UPDATE, 2, 0xffffffff),
      frame(PING, 0, 7),
    )
    const bad = concatBytes(good, frame(DATA, 1, 0xffffffff))
    for (const step of [1, 2, 5, 11, 12, 13, 1000]) {
      const watch = inbound()
      let excess: string | undefined
      let at = 0
      for (; at < bad.length && excess === undefined; at += step) {
        excess = watch.read(new Uint8ArrayList(bad.subarray(at, at + step)))
      }
      expect(excess).toMatch(/4294967295/)
      expect(at).toBeGreaterThan(good.length)
    }
  })

  it.each([
    ['pings', frame(PING, 0, 1)],
    ['window updates', frame(WINDOW_UPDATE, 1, 1)],
    ['data frames of one byte', frame(DATA, 1, 1, 1)],
    ['empty data frames', frame(DATA, 1, 0)],
  ])('refuses a flood of %s, but not as many over a longer time', (_, small) => {
    const count = limit('smallFramesPerSecond')
    let now = 0
    const calm = inbound(() => now)
    for (let i = 0; i < 3 * count; i++) {
      now += 1000 / count
      expect(calm.read(small)).toBe(undefined)
    }
    const flooded = inbound(() => 0)
    const excess = Array.from({ length: count + 2 }, () => flooded.read(small)).filter((x) => x !== undefined)
    expect(excess).toEqual([expect.stringMatching(/small frames/)])
  })
})
