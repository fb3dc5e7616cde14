import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/lib/bytes.ts'
import { checkChunkHashes, chunkCount, chunkLength, fileRefOfPath } from '../../src/lib/file-ref.ts'
import { limit } from '../../src/lib/limits.ts'
import { fileRefOf } from '../support/file-ref.ts'
import { codeOf, content } from '../support/packages.ts'

const CHUNK = limit('chunkBytes')

let home = ''
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'flexmesh-store-'))
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

describe('a file reference', () => {
  it('is equal for a file in one piece, in parts and on disk', async () => {
    const bytes = content(2 * CHUNK + 77)
    const whole = fileRefOf(bytes)
    const cuts = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, bytes.length]
    const parts = cuts.slice(1).map((cut, index) => bytes.subarray(cuts[index], cut))
    expect(fileRefOf(parts)).toEqual(whole)
    await writeFile(join(home, 'file'), bytes)
    expect(await fileRefOfPath(join(home, 'file'))).toEqual(whole)
    expect([whole.ref.size, whole.ref.sha256, chunkCount(whole.ref)]).toEqual([
      bytes.length,
      digestOf(bytes),
      3,
    ])
    expect([0, 1, 2].map((index) => chunkLength(whole.ref, index))).toEqual([CHUNK, CHUNK, 77])
    const hashes = [0, CHUNK, 2 * CHUNK].map((at) => digestOf(bytes.subarray(at, at + CHUNK)).slice(7))
    expect(Buffer.from(whole.chunkHashes).toString('hex')).toBe(hashes.join(''))
  })

  it('has no chunk for an empty rest', () => {
    expect(fileRefOf(content(CHUNK)).chunkHashes.length).toBe(32)
    expect(fileRefOf(new Uint8Array(0)).chunkHashes.length).toBe(0)
  })

  it('refuses other chunk hashes than its own', () => {
    const { ref, chunkHashes } = fileRefOf(content(CHUNK + 1))
    const other = chunkHashes.slice()
    other[40] = (other[40] as number) ^ 1
    expect(codeOf(() => checkChunkHashes(ref, other))).toBe('wrong-digest')
    expect(codeOf(() => checkChunkHashes(ref, chunkHashes.subarray(32)))).toBe('bad-field')
  })
})
