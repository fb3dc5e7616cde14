/**
 * Streams tensors of random BF16 weights. Equal names and seeds give equal bytes, so a tensor of the public model and
 * its copy in a pair are equal without being kept. Knows no files.
 */

import type { TensorSource } from '../../../src/checkpoint/huggingface-directory.ts'
import { bf16FromFloat32 } from '../../../src/lib/float-formats.ts'

const PIECE_VALUES = 2 ** 20
/** Sum of four bytes: mean and standard deviation. It takes 1021 values and is close to a normal distribution. */
const SUM_MEAN = 510
const SUM_STD = Math.sqrt((4 * (256 ** 2 - 1)) / 12)
const SUMS = 2 * SUM_MEAN + 1
const ONE = 0x3f80

/** Distribution of the values of a tensor. */
export interface Distribution {
  /** Name that seeds the values. */
  readonly seed: string
  readonly std: number
  /** Standard deviation of noise that is added to the values, from a seed of its own. */
  readonly noise?: { readonly seed: string; readonly std: number }
}

/** A tensor of approximately normal values. */
export function normalTensor(
  name: string,
  shape: readonly number[],
  distribution: Distribution,
): TensorSource {
  return { name, shape, dtype: 'BF16', pieces: () => normalPieces(sizeOf(shape), distribution) }
}

/** A tensor of ones, as the weights of norms are. */
export function onesTensor(name: string, shape: readonly number[]): TensorSource {
  const ones = new Uint16Array(sizeOf(shape)).fill(ONE)
  return { name, shape, dtype: 'BF16', pieces: () => [new Uint8Array(ones.buffer)] }
}

function* normalPieces(size: number, { seed, std, noise }: Distribution): Generator<Uint8Array> {
  const values = byteSums(seed)
  const table = scaled(std)
  const halves = bf16FromFloat32(table)
  const noises = noise && byteSums(noise.seed)
  const noiseTable = scaled(noise?.std ?? 0)
  for (let from = 0; from < size; from += PIECE_VALUES) {
    const length = Math.min(PIECE_VALUES, size - from)
    const sums = values(length)
    if (noises === undefined) {
      yield bytesOf(sums.map((sum) => halves[sum] as number))
      continue
    }
    const added = noises(length)
    const noisy = Float32Array.from(
      added,
      (sum, i) => (table[sums[i] as number] as number) + (noiseTable[sum] as number),
    )
    yield bytesOf(bf16FromFloat32(noisy))
  }
}

/** The value of each sum of four bytes, at this standard deviation. */
function scaled(std: number): Float32Array {
  return Float32Array.from({ length: SUMS }, (_, sum) => ((sum - SUM_MEAN) / SUM_STD) * std)
}

/** Returns a function that draws sums of four random bytes: the bytes of mulberry32 in integer arithmetic. */
function byteSums(seed: string): (length: number) => Uint16Array {
  let state = [...seed].reduce((hash, c) => Math.imul(hash, 31) + c.charCodeAt(0), 7) | 0
  return (length) => {
    const sums = new Uint16Array(length)
    for (let i = 0; i < length; i++) {
      state = (state + 0x6d2b79f5) | 0
      let t = Math.imul(state ^ (state >>> 15), state | 1)
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
      t ^= t >>> 14
      sums[i] = (t & 255) + ((t >>> 8) & 255) + ((t >>> 16) & 255) + (t >>> 24)
    }
    return sums
  }
}

function bytesOf(halves: Uint16Array): Uint8Array {
  return new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength)
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1)
}
