import { open, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { writeSafetensorsHeader } from '../../src/checkpoint/safetensors.ts'
import { checkpointFile } from '../../src/owner/checkpoint-file.ts'
import type { SavedCheckpoint } from '../../src/training/train.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const ARRAYS = new Map([
  ['w', Float32Array.of(1, 2, 3)],
  ['m.w', Float32Array.of(0.5, 0, -1)],
])

async function saved(path: string): Promise<SavedCheckpoint> {
  return (await checkpointFile(path).load()) as SavedCheckpoint
}

describe('a checkpoint file', () => {
  it('returns the step and every array', async () => {
    const path = join(await folder(), 'checkpoint.safetensors')
    expect(await checkpointFile(path).load()).toBeUndefined()
    await checkpointFile(path).save({ step: 7, arrays: ARRAYS })
    const { step, lengths, read } = await saved(path)
    expect([step, Object.fromEntries(lengths)]).toEqual([7, { w: 3, 'm.w': 3 }])
    const values = new Float32Array(3)
    await read('m.w', values)
    expect([...values]).toEqual([0.5, 0, -1])
  })

  it('refuses to read an array of another length, and a file that is cut off', async () => {
    const path = join(await folder(), 'checkpoint.safetensors')
    await checkpointFile(path).save({ step: 7, arrays: ARRAYS })
    const { read } = await saved(path)
    await expect(read('w', new Float32Array(2))).rejects.toMatchObject({ code: 'bad-field' })
    await expect(read('v', new Float32Array(3))).rejects.toMatchObject({ code: 'bad-field' })
    const handle = await open(path, 'r+')
    await handle.truncate(80)
    await handle.close()
    await expect(checkpointFile(path).load()).rejects.toMatchObject({ family: 'format', code: 'truncated' })
  })

  it('of more than 4 GiB is read without one array that holds it', async () => {
    const dir = await folder()
    const path = join(dir, 'checkpoint.safetensors')
    const shapes = [
      { name: 'a', dtype: 'F32' as const, shape: [2 ** 30 + 2 ** 20] },
      { name: 'z', dtype: 'F32' as const, shape: [2] },
    ]
    const header = writeSafetensorsHeader(shapes, new Map([['step', '3']]))
    // A sparse file: only the header and the last array take space on the disk.
    const handle = await open(path, 'w')
    await handle.write(header, 0, header.length, 0)
    await handle.write(
      new Uint8Array(Float32Array.of(4, 5).buffer),
      0,
      8,
      header.length + 4 * (2 ** 30 + 2 ** 20),
    )
    await handle.close()
    const { step, lengths, read } = await saved(path)
    expect([step, lengths.get('a')]).toEqual([3, 2 ** 30 + 2 ** 20])
    const values = new Float32Array(2)
    await read('z', values)
    expect([...values]).toEqual([4, 5])
    await rm(path)
  })

  it('removes what a killed process has left of it, and nothing else', async () => {
    const dir = await folder()
    // No process has such an id.
    await writeFile(join(dir, '.checkpoint.safetensors.999999999-0123456789ab.tmp'), 'half a checkpoint')
    await writeFile(join(dir, '.notes.tmp'), 'mine')
    await checkpointFile(join(dir, 'checkpoint.safetensors')).save({ step: 1, arrays: ARRAYS })
    expect((await readdir(dir)).sort()).toEqual(['.notes.tmp', 'checkpoint.safetensors'])
  })
})
