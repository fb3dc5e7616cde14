/**
 * Frames as an attacker writes and reads them: any bytes under any length. Checks nothing, so that a test sees
 * exactly what an honest node sent.
 */
import type { Stream } from '@libp2p/interface'
import { decode, encode } from 'cborg'
import { concatBytes } from '../../../src/lib/bytes.ts'

/** An unsigned varint (LEB128), also of lengths that no honest peer sends. */
export function varint(value: bigint | number): Uint8Array {
  const bytes: number[] = []
  let rest = BigInt(value)
  do {
    const low = Number(rest & 0x7fn)
    rest >>= 7n
    bytes.push(rest > 0n ? low | 0x80 : low)
  } while (rest > 0n)
  return Uint8Array.from(bytes)
}

/** A frame with a true length around any bytes. */
export function frameOf(body: Uint8Array): Uint8Array {
  return concatBytes(varint(body.length), body)
}

/** A frame around the CBOR of any value. */
export function cborFrame(value: unknown): Uint8Array {
  return frameOf(encode(value))
}

/** CBOR of `depth` lists inside each other, in about `depth` bytes. */
export function nestedLists(depth: number): Uint8Array {
  return new Uint8Array(depth + 1).fill(0x81, 0, depth).fill(0x00, depth)
}

/** CBOR of one list of `count` empty maps: each costs a receiver far more memory than its one byte. */
export function emptyMaps(count: number): Uint8Array {
  const head = Uint8Array.of(0x9a, count >>> 24, count >>> 16, count >>> 8, count)
  return concatBytes(head, new Uint8Array(count).fill(0xa0))
}

/** All bytes that the other side sends until it closes the stream. @throws the error of a reset stream. */
async function readAll(stream: Stream): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const part of stream) parts.push(part.subarray())
  return concatBytes(...parts)
}

/** The decoded frames that the other side sends until it closes the stream. @throws the error of a reset stream. */
export async function readFrames(stream: Stream): Promise<unknown[]> {
  const bytes = await readAll(stream)
  const values: unknown[] = []
  for (let at = 0; at < bytes.length; ) {
    let length = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number
      length += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) break
    }
    values.push(decode(bytes.subarray(at, at + length)))
    at += length
  }
  return values
}
