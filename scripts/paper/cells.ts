/**
 * Stores every result as soon as it is computed, so that a run of hours can be resumed. A cell is one training or one
 * evaluation, in a file of its name. Does not know what a cell means.
 */
import { join } from 'node:path'
import { ensurePrivateDir, pathExists, readFileBounded, writeFileAtomic } from '../../src/lib/files.ts'
import { checkpointFile } from '../../src/owner/checkpoint-file.ts'
import type { CheckpointStore } from '../../src/training/train.ts'

export type Arrays = Map<string, Float32Array>

const MAX_BYTES = 2 ** 31

export class Cells {
  readonly dir: string
  readonly #say: (line: string) => void

  private constructor(dir: string, say: (line: string) => void) {
    this.dir = dir
    this.#say = say
  }

  static async open(dir: string, say: (line: string) => void): Promise<Cells> {
    await ensurePrivateDir(dir)
    return new Cells(dir, say)
  }

  /** Loads arrays by name, or computes and stores them; `make` may store checkpoints. */
  async arrays(name: string, make: (checkpoints: CheckpointStore) => Promise<Arrays>): Promise<Arrays> {
    const file = checkpointFile(join(this.dir, `${name}.safetensors`))
    const kept = await file.load()
    if (kept !== undefined) {
      const arrays: Arrays = new Map(
        [...kept.lengths].map(([key, length]) => [key, new Float32Array(length)]),
      )
      for (const [key, values] of arrays) await kept.read(key, values)
      return arrays
    }
    const arrays = await this.#timed(name, () =>
      make(checkpointFile(join(this.dir, `${name}.checkpoint.safetensors`))),
    )
    await file.save({ step: 0, arrays })
    return arrays
  }

  /** Loads a JSON value, or computes and stores it. */
  async value<T>(name: string, make: () => Promise<T>): Promise<T> {
    const path = join(this.dir, `${name}.json`)
    if (await pathExists(path)) {
      return JSON.parse(Buffer.from(await readFileBounded(path, MAX_BYTES)).toString()) as T
    }
    const value = await this.#timed(name, make)
    await writeFileAtomic(path, `${JSON.stringify(value)}\n`)
    return value
  }

  async #timed<T>(name: string, make: () => Promise<T>): Promise<T> {
    const started = performance.now()
    const value = await make()
    this.#say(`${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`)
    return value
  }
}
