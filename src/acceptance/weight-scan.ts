/**
 * Reads all tensors of an expert once, beside the public weights that its FFN replaces, and collects what the checks of
 * finite values and norms need, and a sketch of the FFN. Holds a few pieces of tensors at a time and reads the next ones while it computes. Knows
 * no bounds.
 */
import { PolicyError } from '../lib/errors.ts'
import {
  countOf,
  readValues,
  requireWeight,
  type Weight,
  type WeightMap,
  wholeValues,
} from '../model/weights.ts'
import { MatrixSketch, type WeightSketch } from './weight-sketch.ts'

/** Norms of a weight and of its difference from the public weight, as multiples of the public weight's norm. */
export interface Norms {
  readonly rms: number
  readonly distance: number
}

/** Called with the number of values read so far, and in total. */
export type ScanProgress = (done: number, total: number) => void

/** Values of a piece: 4 MiB of float32. */
const PIECE_VALUES = 2 ** 20

export class WeightScan {
  readonly tensors: WeightMap
  readonly publicModel: WeightMap
  readonly #onProgress: ScanProgress
  readonly #sketchSeed: Uint8Array | undefined
  readonly #sketches = new Map<string, Float32Array>()
  #norms: Promise<ReadonlyMap<string, Norms>> | undefined

  /** @param sketchSeed see `MatrixSketch`; without it, `sketch` is empty. */
  constructor(
    tensors: WeightMap,
    publicModel: WeightMap,
    onProgress: ScanProgress = () => undefined,
    sketchSeed?: Uint8Array,
  ) {
    this.tensors = tensors
    this.publicModel = publicModel
    this.#onProgress = onProgress
    this.#sketchSeed = sketchSeed
  }

  /**
   * Read everything, once; later calls have the same outcome.
   * @returns norms of each full-rank FFN weight, by name.
   * @throws PolicyError `not-finite`, naming the first such value in the order of the tensors; as `WeightSource.read`.
   */
  norms(signal?: AbortSignal): Promise<ReadonlyMap<string, Norms>> {
    this.#norms ??= this.#scan(signal)
    return this.#norms
  }

  /**
   * The sketch of the FFN, by the names of its full-rank weights. Call this after `norms`, which reads them.
   * @throws as `WeightSource.read`.
   */
  async sketch(signal?: AbortSignal): Promise<WeightSketch> {
    const seed = this.#sketchSeed
    if (seed === undefined) return this.#sketches
    for (const [name, A] of this.tensors) {
      if (!name.endsWith('.lora_A.weight')) continue
      const B = requireWeight(this.tensors, name.replace('.lora_A.', '.lora_B.'))
      const full = name.replace('.lora_A.', '.')
      const [rank, columns] = A.shape as [number, number]
      const sketch = new MatrixSketch(seed, full, B.shape[0] as number, columns)
      sketch.addProduct(await wholeValues(B, signal), await wholeValues(A, signal), rank)
      this.#sketches.set(full, sketch.result())
    }
    return this.#sketches
  }

  async #scan(signal?: AbortSignal): Promise<ReadonlyMap<string, Norms>> {
    const norms = new Map<string, Norms>()
    const total = [...this.tensors.values()].reduce((sum, weight) => sum + countOf(weight), 0)
    let done = 0
    for (const [name, weight] of this.tensors) {
      const sums = { own: 0, base: 0, delta: 0 }
      const anchor = publicWeight(this.publicModel, name)
      const sketch = anchor === undefined ? undefined : this.#sketchOf(name, weight)
      for await (const { values, anchorValues, at } of piecesOf(weight, anchor, signal)) {
        checkFiniteValues(name, values, at)
        if (anchorValues !== undefined) {
          addSquares(values, anchorValues, sums)
          sketch?.add(values, anchorValues, at)
        }
        done += values.length
        this.#onProgress(done, total)
      }
      if (anchor !== undefined) {
        const { own, base, delta } = sums
        norms.set(name, { rms: Math.sqrt(own / base), distance: Math.sqrt(delta / base) })
      }
      if (sketch !== undefined) this.#sketches.set(name, sketch.result())
    }
    return norms
  }

  #sketchOf(name: string, { shape }: Weight): MatrixSketch | undefined {
    const seed = this.#sketchSeed
    const [rows = 0, columns = 0] = shape
    return seed === undefined ? undefined : new MatrixSketch(seed, name, rows, columns)
  }
}

/** @param at index of the first value in its tensor. @throws PolicyError `not-finite`. */
export function checkFiniteValues(name: string, values: Float32Array, at = 0): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw new PolicyError('not-finite', `${name}[${at + i}] is ${values[i]}`)
  }
}

/** The public weight that a full-rank FFN weight replaces; undefined for other tensors, or if there is none. */
function publicWeight(publicModel: WeightMap, name: string): Weight | undefined {
  return name.includes('.experts.1.') ? publicModel.get(name.replace('.experts.1.', '.')) : undefined
}

function addSquares(
  values: Float32Array,
  anchorValues: Float32Array,
  sums: { own: number; base: number; delta: number },
): void {
  let { own, base, delta } = sums
  for (let i = 0; i < values.length; i++) {
    const x = values[i] as number
    const a = anchorValues[i] as number
    own += x * x
    base += a * a
    delta += (x - a) * (x - a)
  }
  sums.own = own
  sums.base = base
  sums.delta = delta
}

interface Piece {
  readonly values: Float32Array
  readonly anchorValues: Float32Array | undefined
  /** Index of the first value. */
  readonly at: number
}

/** Pieces of a weight and of its anchor. While one is used, the next is read; a piece is overwritten by the one after. */
async function* piecesOf(
  weight: Weight,
  anchor: Weight | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Piece, void, void> {
  const count = countOf(weight)
  const size = Math.min(PIECE_VALUES, count)
  const buffers = [0, 1].map(() => ({
    values: new Float32Array(size),
    anchorValues: anchor && new Float32Array(size),
  }))
  const read = async (at: number): Promise<Piece> => {
    const buffer = buffers[(at / size) % 2] as (typeof buffers)[number]
    const values = buffer.values.subarray(0, count - at)
    const anchorValues = buffer.anchorValues?.subarray(0, count - at)
    await Promise.all([
      readValues(weight, values, at, signal),
      anchor && anchorValues && readValues(anchor, anchorValues, at, signal),
    ])
    return { values, anchorValues, at }
  }
  let next = read(0)
  try {
    for (let at = 0; at < count; at += size) {
      const piece = await next
      if (at + size < count) next = read(at + size)
      yield piece
    }
  } finally {
    await next.catch(() => undefined) // The consumer may have left; nothing may be read after that.
  }
}
