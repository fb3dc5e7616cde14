import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { DiskFile, type FileWeight, openTensorFile } from '../../src/checkpoint/file-weight.ts'
import { fromFloat32, readSafetensors, writeSafetensorsHeader } from '../../src/checkpoint/safetensors.ts'
import {
  bytePieces,
  type NamedTensor,
  tensorFileBytes,
  tensorFilePieces,
  writeTensorFile,
} from '../../src/checkpoint/tensor-file.ts'
import { FLOAT_BYTES, type FloatDtype } from '../../src/lib/float-formats.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { type Weight, wholeValues } from '../../src/model/weights.ts'
import { BytesWeight } from '../support/bytes-weight.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const random = mulberry32(5)
const values = (count: number): Float32Array => Float32Array.from({ length: count }, () => random() - 0.5)
const stored = (dtype: FloatDtype, shape: readonly number[], data: Float32Array): BytesWeight =>
  new BytesWeight(dtype, shape, fromFloat32(data, dtype))

describe('a tensor file', () => {
  it('has the bytes of each weight in its own format, or values rounded to the format asked for', async () => {
    const path = join(await folder(), 'tensors')
    const [a, b, c] = [values(12), values(5000), values(7)]
    const tensors: NamedTensor[] = [
      { name: 'a', weight: { shape: [3, 4], data: a } },
      { name: 'b', weight: stored('BF16', [50, 100], b) },
      { name: 'c', weight: stored('F16', [7], c) },
      { name: 'd', weight: { shape: [3, 4], data: a }, dtype: 'BF16' },
      { name: 'e', weight: stored('BF16', [50, 100], b), dtype: 'F32' },
      { name: 'f', weight: { shape: [0, 4], data: new Float32Array(0) } },
    ]
    const reports: [number, number][] = []
    const metadata = new Map([['step', '3']])
    await writeTensorFile(path, tensors, { metadata, onProgress: (...report) => void reports.push(report) })
    const file = readSafetensors(new Uint8Array(await readFile(path)))
    expect([...file.metadata]).toEqual([...metadata])
    const rounded = (dtype: FloatDtype, data: Float32Array): Uint8Array => fromFloat32(data, dtype).slice()
    const found = Object.fromEntries(
      [...file.tensors.values()].map(({ name, dtype, data }) => [name, [dtype, data.slice()]]),
    )
    const widened = await wholeValues(stored('BF16', [50, 100], b))
    expect(found).toEqual({
      a: ['F32', rounded('F32', a)],
      b: ['BF16', rounded('BF16', b)],
      c: ['F16', rounded('F16', c)],
      d: ['BF16', rounded('BF16', a)],
      e: ['F32', rounded('F32', widened)],
      f: ['F32', new Uint8Array(0)],
    })
    const { size, mode } = await stat(path)
    expect(reports.at(-1)).toEqual([size, size])
    expect(tensorFileBytes(tensors, metadata)).toBe(size)
    expect(mode & 0o777).toBe(0o600)
  })

  it('is the same, piece by piece, as it is on the disk', async () => {
    const path = join(await folder(), 'tensors')
    const tensors = [
      { name: 'wide', weight: stored('BF16', [3, 1_500_000], values(4_500_000)) },
      { name: 'long', weight: { shape: [1_300_001], data: values(1_300_001) } },
    ]
    await writeTensorFile(path, tensors)
    const pieces: Buffer[] = []
    for await (const piece of tensorFilePieces(tensors)) pieces.push(Buffer.from(piece))
    expect(Buffer.concat(pieces).equals(await readFile(path))).toBe(true)
    expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThanOrEqual(4 * 2 ** 20)
    const { tensors: found } = await openTensorFile(path)
    for (const { name, weight } of tensors) {
      const read = found.get(name)
      expect(read?.shape).toEqual(weight.shape)
      const bytes = async (one: Weight): Promise<Buffer> => Buffer.from((await wholeValues(one)).buffer)
      expect((await bytes(read as FileWeight)).equals(await bytes(weight))).toBe(true)
    }
  })

  it('is read in pieces of whole rows', async () => {
    const weight = { shape: [700, 3000], data: values(2_100_000) }
    const lengths: number[] = []
    for await (const piece of bytePieces(weight, 'BF16')) lengths.push(piece.length)
    expect(lengths.every((length) => length % (3000 * FLOAT_BYTES.BF16) === 0)).toBe(true)
    expect(lengths.reduce((a, b) => a + b, 0)).toBe(2_100_000 * FLOAT_BYTES.BF16)
  })

  it('keeps the former file if it cannot be written', async () => {
    const dir = await folder()
    const path = join(dir, 'tensors')
    await writeFile(path, 'before')
    const failing = (message: string) => ({
      shape: [4],
      dtype: 'BF16' as const,
      read: () => Promise.reject(new Error(message)),
      readBytes: () => Promise.reject(new Error(message)),
    })
    await expect(writeTensorFile(path, [{ name: 'a', weight: failing('unreadable') }])).rejects.toThrow(
      'unreadable',
    )
    const huge = { name: 'huge', weight: { ...failing('read'), shape: [2 ** 24, 2 ** 24] } }
    await expect(writeTensorFile(path, [huge])).rejects.toMatchObject({ code: 'disk-full' })
    const aborted = { signal: AbortSignal.abort() }
    const one = { name: 'a', weight: { shape: [1], data: new Float32Array(1) } }
    await expect(writeTensorFile(path, [one], aborted)).rejects.toMatchObject({ name: 'AbortError' })
    expect(await readdir(dir)).toEqual(['tensors'])
    expect(await readFile(path, 'utf8')).toBe('before')
  })

  it('replaces what a killed writer has left', async () => {
    const dir = await folder()
    const path = join(dir, 'tensors')
    const program = `
      import { writeTensorFile } from ${JSON.stringify(new URL('../../src/checkpoint/tensor-file.ts', import.meta.url).href)}
      const endless = async () => { console.log('writing'); await new Promise(() => setInterval(() => {}, 1000)) }
      const weight = { shape: [4], dtype: 'BF16', read: endless, readBytes: endless }
      await writeTensorFile(${JSON.stringify(path)}, [{ name: 'a', weight }])`
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await readdir(dir)).toEqual([expect.stringMatching(/^\.tensors\.\d+-[0-9a-f]{12}\.tmp$/)])
    await writeTensorFile(path, [{ name: 'a', weight: { shape: [1], data: Float32Array.of(2) } }])
    expect(await readdir(dir)).toEqual(['tensors'])
  })
})

describe('a weight in a file', () => {
  it('is read beyond 4 GiB', async () => {
    const path = join(await folder(), 'large')
    const specs = [
      { name: 'a', dtype: 'BF16' as const, shape: [600, 2 ** 22] },
      { name: 'b', dtype: 'BF16' as const, shape: [4] },
    ]
    const header = writeSafetensorsHeader(specs)
    const start = header.length + 2 * 600 * 2 ** 22
    const file = await open(path, 'w')
    await file.write(header, 0, header.length, 0)
    await file.write(fromFloat32(Float32Array.of(1, 2, 3, 4), 'BF16'), 0, 8, start)
    await file.close()
    const { tensors } = await openTensorFile(path)
    expect(await wholeValues(tensors.get('b') as FileWeight)).toEqual(Float32Array.of(1, 2, 3, 4))
    const end = new Float32Array(2)
    await tensors.get('a')?.read(end, 600 * 2 ** 22 - 2)
    expect(end).toEqual(new Float32Array(2))
  })

  it('is refused if the file ends early, or holds other types than floats', async () => {
    const path = join(await folder(), 'short')
    await writeTensorFile(path, [{ name: 'a', weight: { shape: [4], data: new Float32Array(4) } }])
    const { tensors } = await openTensorFile(path)
    await truncate(path, (await stat(path)).size - 4)
    await expect(wholeValues(tensors.get('a') as FileWeight)).rejects.toMatchObject({ code: 'truncated' })
    await expect(openTensorFile(path)).rejects.toMatchObject({ code: 'truncated' })
    const header = writeSafetensorsHeader([{ name: 'a', dtype: 'I64', shape: [1] }])
    await writeFile(path, Buffer.concat([header, new Uint8Array(8)]))
    await expect(openTensorFile(path)).rejects.toThrow(/tensor a is I64; expected F32, BF16 or F16/)
    await expect(new DiskFile(path).read(new Uint8Array(8), 1e6)).rejects.toMatchObject({ code: 'truncated' })
  })
})
