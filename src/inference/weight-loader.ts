/**
 * Fills the blocks of held-weights.ts from weights that may lie in files, one piece at a time, so that starting needs
 * little more memory than the blocks. Coding runs on the threads of the kernels; the codes are kept for the next start
 * where the caller has a place for them. Does not know files.
 */
import { setImmediate } from 'node:timers/promises'
import { matrixBytes } from '../kernels/matrix-format.ts'
import { isRowMajor } from '../kernels/paired-rows.ts'
import type { Block } from '../kernels/vector-jobs.ts'
import type { VectorThreads } from '../kernels/vector-threads.ts'
import { FLOAT_BYTES } from '../lib/float-formats.ts'
import {
  dtypeOf,
  readBytes,
  readValues,
  requireWeight,
  type Weight,
  type WeightMap,
} from '../model/weights.ts'
import type { HeldWeights, Placed } from './held-weights.ts'

/** Version of the coding: part of the name under which codes are kept. Increase it when the coding changes. */
const CODING_VERSION = 1

/** A place for the codes of one owner's matrices. */
export interface KeptCodes {
  /**
   * The kept codes; undefined if there are none with exactly these sections.
   */
  open(coding: string, sections: readonly Section[]): Promise<KeptReader | undefined>
  /** Begins to write codes, section after section. */
  create(coding: string, sections: readonly Section[]): Promise<KeptWriter>
  /** Removes the codes, which are damaged. */
  discard(coding: string): Promise<void>
  /** Reports that codes could not be kept or read; serving goes on. */
  onFailure(error: unknown): void
}
export interface Section {
  readonly name: string
  readonly bytes: number
}
export interface KeptReader {
  /** Reads a section. @returns whether its checksum is right. */
  read(section: number, into: Uint8Array, signal?: AbortSignal): Promise<boolean>
  close(): Promise<void>
}
export interface KeptWriter {
  append(bytes: Uint8Array): Promise<void>
  finish(): Promise<void>
  abandon(): Promise<void>
}

export interface LoadOptions {
  /** By expert; undefined for an expert whose codes are not kept. */
  readonly kept?: readonly (KeptCodes | undefined)[]
  readonly signal?: AbortSignal | undefined
}

/** Bytes of the buffer for values on their way to the coding; there are two. */
const STAGING_BYTES = 8 * 2 ** 20
/** Milliseconds of coding after which the event loop gets a turn. */
const LONGEST_TURN_MS = 10
/** Rows of a matrix are coded in groups of this many. */
const ROW_GROUP = 16

/** Reads all planned matrices into their blocks. @throws as `WeightSource.read`; the signal's reason. */
export async function fillWeights(
  threads: VectorThreads,
  held: HeldWeights,
  weights: WeightMap,
  { kept = [], signal }: LoadOptions = {},
): Promise<void> {
  const staging = threads.block(2 * STAGING_BYTES)
  try {
    const filler = new Filler(threads, staging, weights, signal)
    for (const [expert, placed] of held.placed.entries()) {
      // In fp32, codes would only be another copy of the published numbers.
      const keeper = held.format === 'fp32' ? undefined : kept[expert]
      await fillOwner(filler, placed, `${held.format}-${CODING_VERSION}`, keeper)
    }
  } finally {
    threads.block(1, staging)
  }
}

/** Fills the matrices of one owner: from kept codes if they are complete, else from the weights. */
async function fillOwner(
  filler: Filler,
  placed: readonly Placed[],
  coding: string,
  kept: KeptCodes | undefined,
): Promise<void> {
  // Matrices that hold the published numbers are read from there.
  const coded = placed.filter((one) => !filler.isPublished(one))
  for (const one of placed) if (!coded.includes(one)) await filler.fill(one)
  if (coded.length === 0) return
  if (kept === undefined) {
    for (const one of coded) await filler.fill(one)
    return
  }
  const sections = coded.map(({ planned, matrix }) => ({
    name: `${planned.parameter}+${planned.from}`,
    bytes: matrixBytes(matrix.format, matrix.rows, matrix.width),
  }))
  if (await readKept(kept, coding, sections, coded, filler)) return
  await codeAndKeep(kept, coding, sections, coded, filler)
}

/** @returns whether all matrices were read. */
async function readKept(
  kept: KeptCodes,
  coding: string,
  sections: readonly Section[],
  coded: readonly Placed[],
  { signal }: Filler,
): Promise<boolean> {
  try {
    const reader = await kept.open(coding, sections)
    if (reader === undefined) return false
    try {
      for (const [i, one] of coded.entries()) {
        signal?.throwIfAborted()
        if (!(await reader.read(i, bytesOf(one), signal))) {
          kept.onFailure(new Error(`the kept codes of ${one.planned.parameter} are damaged; coding again`))
          await kept.discard(coding)
          return false
        }
      }
      return true
    } finally {
      await reader.close()
    }
  } catch (error) {
    signal?.throwIfAborted()
    kept.onFailure(error)
    return false
  }
}

/** Codes the matrices and writes the codes while the next matrix is coded. A failure to write does not end the coding. */
async function codeAndKeep(
  kept: KeptCodes,
  coding: string,
  sections: readonly Section[],
  coded: readonly Placed[],
  filler: Filler,
): Promise<void> {
  let writer: KeptWriter | undefined
  const attempt = async (action: () => Promise<void>): Promise<void> => {
    try {
      await action()
    } catch (error) {
      kept.onFailure(error)
      await writer?.abandon().catch(() => undefined)
      writer = undefined
    }
  }
  await attempt(async () => {
    writer = await kept.create(coding, sections)
  })
  let writing = Promise.resolve()
  try {
    for (const one of coded) {
      await filler.fill(one)
      await writing
      writing = attempt(async () => writer?.append(bytesOf(one)))
    }
    await writing
    await attempt(async () => writer?.finish())
  } catch (error) {
    await writing
    await writer?.abandon()
    throw error
  }
}

/** The bytes of a matrix in its block. */
function bytesOf({ block, matrix }: Placed): Uint8Array {
  return new Uint8Array(block.buffer, matrix.at, matrixBytes(matrix.format, matrix.rows, matrix.width))
}

/** Reads and codes single matrices. */
class Filler {
  readonly signal: AbortSignal | undefined
  readonly #threads: VectorThreads
  readonly #staging: Block
  readonly #weights: WeightMap
  #turn = performance.now()

  constructor(threads: VectorThreads, staging: Block, weights: WeightMap, signal: AbortSignal | undefined) {
    this.signal = signal
    this.#threads = threads
    this.#staging = staging
    this.#weights = weights
  }

  /** Whether a matrix holds exactly the numbers that are published, perhaps in another order. */
  isPublished({ planned: { parameter, format, rows, width } }: Placed): boolean {
    const weight = requireWeight(this.#weights, parameter)
    const [, columns] = weight.shape as [number, number]
    return (
      format === 'bf16' &&
      dtypeOf(weight) === 'BF16' &&
      columns === width &&
      rows <= (weight.shape[0] as number)
    )
  }

  async fill(one: Placed): Promise<void> {
    const { planned } = one
    const weight = requireWeight(this.#weights, planned.parameter)
    const [rows, columns] = weight.shape as [number, number]
    if (this.isPublished(one) && isRowMajor(planned.format, planned.width)) {
      await readBytes(weight, bytesOf(one), 2 * planned.from * planned.width, this.signal)
    } else if (columns === planned.width && rows >= planned.from + planned.rows) await this.#code(one, weight)
    else await this.#codePadded(one, weight)
  }

  /** Codes a matrix in pieces of rows: one piece is read while the piece before it is coded. */
  async #code({ planned, block, matrix }: Placed, weight: Weight): Promise<void> {
    const dtype = dtypeOf(weight) === 'BF16' ? 'BF16' : 'F32'
    const rowBytes = FLOAT_BYTES[dtype] * planned.width
    const rowsAtOnce = ROW_GROUP * Math.max(1, Math.floor(STAGING_BYTES / rowBytes / ROW_GROUP))
    let half = 0
    const read = async (from: number): Promise<{ from: number; rows: number; address: number }> => {
      const rows = Math.min(rowsAtOnce, planned.rows - from)
      const address = half * STAGING_BYTES
      half = 1 - half
      const first = (planned.from + from) * planned.width
      if (dtype === 'BF16') {
        const bytes = new Uint8Array(this.#staging.buffer, address, rows * rowBytes)
        await readBytes(weight, bytes, 2 * first, this.signal)
      } else {
        const values = new Float32Array(this.#staging.buffer, address, rows * planned.width)
        await readValues(weight, values, first, this.signal)
      }
      return { from, rows, address }
    }
    let next = read(0)
    for (let at = 0; at < planned.rows; at += rowsAtOnce) {
      const { from, rows, address } = await next
      const following = at + rowsAtOnce
      if (following < planned.rows) next = read(following)
      next.catch(() => undefined) // Reported when it is awaited.
      this.#threads.run([
        { kind: 'encode', block, matrix, from, rows, source: this.#staging, address, dtype },
      ])
      await this.#yield()
    }
  }

  /** Codes a factor of a low-rank expert, padded with zeros. */
  async #codePadded({ planned, block, matrix }: Placed, weight: Weight): Promise<void> {
    const [rows, columns] = weight.shape as [number, number]
    const { width } = planned
    const rowsAtOnce = ROW_GROUP * Math.max(1, Math.floor(STAGING_BYTES / (4 * width) / ROW_GROUP))
    for (let from = 0; from < planned.rows; from += rowsAtOnce) {
      const count = Math.min(rowsAtOnce, planned.rows - from)
      const values = new Float32Array(this.#staging.buffer, 0, count * width).fill(0)
      const present = Math.max(0, Math.min(count, rows - from))
      const given = new Float32Array(present * columns)
      await readValues(weight, given, from * columns, this.signal)
      for (let row = 0; row < present; row++) {
        values.set(given.subarray(row * columns, (row + 1) * columns), row * width)
      }
      this.#threads.run([
        { kind: 'encode', block, matrix, from, rows: count, source: this.#staging, address: 0, dtype: 'F32' },
      ])
      await this.#yield()
    }
  }

  async #yield(): Promise<void> {
    this.signal?.throwIfAborted()
    if (performance.now() - this.#turn < LONGEST_TURN_MS) return
    await setImmediate()
    this.#turn = performance.now()
  }
}
