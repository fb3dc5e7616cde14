/**
 * Writes and reads the files `bench.json` and `weights.f32`, from which every contestant takes its work. Knows
 * nothing about engines.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelConfig } from '../../../src/model/config.ts'
import type { Reference, Work } from './models.ts'

export const THREADS = 2
export const LEARNING_RATE = 1e-3

export interface Setup {
  readonly threads: number
  readonly learningRate: number
  readonly config: ModelConfig
  readonly B: number
  readonly T: number
  readonly tensors: readonly (readonly [name: string, shape: readonly number[]])[]
  readonly trainable: readonly string[]
  readonly ids: readonly number[]
  readonly labels: readonly number[]
}

export async function writeWork(folder: string, { config, B, T }: Reference, work: Work): Promise<void> {
  const setup: Setup = {
    threads: THREADS,
    learningRate: LEARNING_RATE,
    config,
    B,
    T,
    tensors: work.tensors.map(({ name, shape }) => [name, shape]),
    trainable: work.trainable,
    ids: [...work.ids],
    labels: [...work.labels],
  }
  await writeFile(join(folder, 'bench.json'), JSON.stringify(setup))
  const parts = work.tensors.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength))
  await writeFile(join(folder, 'weights.f32'), Buffer.concat(parts))
}

export async function readWork(
  folder: string,
): Promise<
  Setup & { readonly arrays: ReadonlyMap<string, { shape: readonly number[]; data: Float32Array }> }
> {
  const setup = JSON.parse(await readFile(join(folder, 'bench.json'), 'utf8')) as Setup
  const bytes = await readFile(join(folder, 'weights.f32'))
  const arrays = new Map<string, { shape: readonly number[]; data: Float32Array }>()
  let offset = bytes.byteOffset
  for (const [name, shape] of setup.tensors) {
    const size = shape.reduce((product, n) => product * n, 1)
    arrays.set(name, { shape, data: new Float32Array(bytes.buffer, offset, size) })
    offset += size * Float32Array.BYTES_PER_ELEMENT
  }
  return { ...setup, arrays }
}
