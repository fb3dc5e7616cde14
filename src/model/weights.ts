/**
 * Named tensors of floats, as values in memory or as sources: tensors in files that are read part by part into memory
 * of the caller. A model is a map of them, so its size does not have to fit memory, and none of its files has to fit
 * one array. Does not know files or models.
 */
import type { FloatDtype } from '../lib/float-formats.ts'

/** One parameter in memory: float32 values, row-major. */
export interface Param {
  readonly shape: readonly number[]
  readonly data: Float32Array
}
/** Parameters by Hugging Face name. */
export type Params = ReadonlyMap<string, Param>

/** A tensor whose values are elsewhere, row-major. Reading it may take as long as reading a disk does. */
export interface WeightSource {
  readonly shape: readonly number[]
  /** Format of the values where they are. */
  readonly dtype: FloatDtype
  /**
   * Fills `into` with the values from index `from` on, as float32.
   * @throws FormatError `truncated`; InputError `not-found`, `io`, `permissions`; the signal's reason.
   */
  read(into: Float32Array, from: number, signal?: AbortSignal): Promise<void>
  /**
   * Fills `into` with bytes in `dtype`, little-endian, from byte `from` on.
   * @throws as `read`.
   */
  readBytes(into: Uint8Array, from: number, signal?: AbortSignal): Promise<void>
}

export type Weight = Param | WeightSource
/** Weights by Hugging Face name. */
export type WeightMap = ReadonlyMap<string, Weight>

export function isInMemory(weight: Weight): weight is Param {
  return 'data' in weight
}

/** Format of a weight where it is. */
export function dtypeOf(weight: Weight): FloatDtype {
  return isInMemory(weight) ? 'F32' : weight.dtype
}

/** Number of values. */
export function countOf({ shape }: Pick<Weight, 'shape'>): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** Fills `into` with the values of a weight from index `from` on. @throws as `WeightSource.read`. */
export async function readValues(
  weight: Weight,
  into: Float32Array,
  from: number,
  signal?: AbortSignal,
): Promise<void> {
  if (isInMemory(weight)) into.set(weight.data.subarray(from, from + into.length))
  else await weight.read(into, from, signal)
}

/** Fills `into` with the bytes of a weight in its format, from byte `from` on. @throws as `WeightSource.read`. */
export async function readBytes(
  weight: Weight,
  into: Uint8Array,
  from: number,
  signal?: AbortSignal,
): Promise<void> {
  if (!isInMemory(weight)) return weight.readBytes(into, from, signal)
  const { buffer, byteOffset } = weight.data
  into.set(new Uint8Array(buffer, byteOffset + from, into.length))
}

/**
 * All values of a weight: those in memory without a copy, which the caller must not change, otherwise a new array. For
 * a tensor that is computed with now; the caller then drops it.
 * @throws as `WeightSource.read`.
 */
export async function wholeValues(weight: Weight, signal?: AbortSignal): Promise<Float32Array> {
  if (isInMemory(weight)) return weight.data
  const values = new Float32Array(countOf(weight))
  await weight.read(values, 0, signal)
  return values
}

/** Values of a weight in a single piece of memory at a time. @throws as `WeightSource.read`. */
export async function* valuePieces(
  weight: Weight,
  signal?: AbortSignal,
  pieceValues = PIECE_VALUES,
): AsyncGenerator<Float32Array, void, void> {
  const count = countOf(weight)
  for (let from = 0; from < count; from += pieceValues) {
    const length = Math.min(pieceValues, count - from)
    if (isInMemory(weight)) yield weight.data.subarray(from, from + length)
    else {
      const piece = new Float32Array(length)
      await weight.read(piece, from, signal)
      yield piece
    }
  }
}

/** Values of a piece: 4 MiB of float32. */
const PIECE_VALUES = 2 ** 20

/** A weight by name. @throws RangeError if it is missing: a bug of the caller. */
export function requireWeight<W extends Weight>(weights: ReadonlyMap<string, W>, name: string): W {
  const weight = weights.get(name)
  if (weight === undefined) throw new RangeError(`weight ${name} is missing`)
  return weight
}

/** All weights in memory. Only for models that are known to be small. @throws as `WeightSource.read`. */
export async function loadParams(weights: WeightMap, signal?: AbortSignal): Promise<Map<string, Param>> {
  const params = new Map<string, Param>()
  for (const [name, weight] of weights) {
    params.set(name, { shape: weight.shape, data: await wholeValues(weight, signal) })
  }
  return params
}
