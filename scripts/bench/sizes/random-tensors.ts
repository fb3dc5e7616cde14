/**
 * Tensors of random BF16 weights that are computed when they are read. Equal seeds give equal bytes, so a tensor of the
 * public model and its copy in a pair are equal without being kept. Knows no files.
 */
import type { NamedTensor } from '../../../src/checkpoint/tensor-file.ts'
import { bf16FromFloat32, expandBf16 } from '../../../src/lib/float-formats.ts'
import type { WeightSource } from '../../../src/model/weights.ts'

/** Sum of four bytes: mean and standard deviation. It takes 1021 values and is close to a normal distribution. */
const SUM_MEAN = 510
const SUM_STD = Math.sqrt((4 * (256 ** 2 - 1)) / 12)
const SUMS = 2 * SUM_MEAN + 1
const ONE = 0x3f80
/** What mulberry32 adds to its state for each number, so the state of any number is known without those before. */
const INCREMENT = 0x6d2b79f5

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
  { seed, std, noise }: Distribution,
): NamedTensor {
  const values = scaled(std)
  const halves = bf16FromFloat32(values)
  const start = startOf(seed)
  const noises = scaled(noise?.std ?? 0)
  const noiseStart = startOf(noise?.seed ?? '')
  const fill = (into: Uint16Array, from: number): void => {
    if (noise === undefined) {
      for (let i = 0; i < into.length; i++) into[i] = halves[byteSum(start, from + i)] as number
      return
    }
    const noisy = new Float32Array(into.length)
    for (let i = 0; i < into.length; i++) {
      noisy[i] =
        (values[byteSum(start, from + i)] as number) + (noises[byteSum(noiseStart, from + i)] as number)
    }
    into.set(bf16FromFloat32(noisy))
  }
  return { name, weight: computedWeight(shape, fill) }
}

/** A tensor of ones, as the weights of norms are. */
export function onesTensor(name: string, shape: readonly number[]): NamedTensor {
  return { name, weight: computedWeight(shape, (into) => into.fill(ONE)) }
}

/** @param fill computes BF16 values from an index on */
function computedWeight(
  shape: readonly number[],
  fill: (into: Uint16Array, from: number) => void,
): WeightSource {
  const halvesAt = (count: number, from: number): Uint16Array => {
    const halves = new Uint16Array(count)
    fill(halves, from)
    return halves
  }
  return {
    shape,
    dtype: 'BF16',
    read: async (into, from) => expandBf16(halvesAt(into.length, from), into),
    readBytes: async (into, from) => {
      const first = Math.floor(from / 2)
      const halves = halvesAt(Math.ceil((from + into.length) / 2) - first, first)
      into.set(new Uint8Array(halves.buffer).subarray(from - 2 * first).subarray(0, into.length))
    },
  }
}

/** The value of each sum of four bytes, at this standard deviation. */
function scaled(std: number): Float32Array {
  return Float32Array.from({ length: SUMS }, (_, sum) => ((sum - SUM_MEAN) / SUM_STD) * std)
}

function startOf(seed: string): number {
  return [...seed].reduce((hash, c) => Math.imul(hash, 31) + c.charCodeAt(0), 7) | 0
}

/** Sum of the bytes of number `index` of mulberry32, in integer arithmetic. */
function byteSum(start: number, index: number): number {
  const state = (start + Math.imul(index + 1, INCREMENT)) | 0
  let t = Math.imul(state ^ (state >>> 15), state | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  t ^= t >>> 14
  return (t & 255) + ((t >>> 8) & 255) + ((t >>> 16) & 255) + (t >>> 24)
}
