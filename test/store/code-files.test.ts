import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { type Digest, digestOf } from '../../src/lib/bytes.ts'
import { PIECE_BYTES } from '../../src/lib/files.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { CodeFiles, type CodeSection } from '../../src/store/code-files.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const OWNER = digestOf(Uint8Array.of(1))
const OTHER = digestOf(Uint8Array.of(2))
const CODING = 'int8-1'
const CONTENT = [new Uint8Array(randomBytes(100)), new Uint8Array(randomBytes(PIECE_BYTES + 7))]
const SECTIONS: readonly CodeSection[] = CONTENT.map(({ length }, i) => ({ name: `s${i}`, bytes: length }))

async function write(codes: CodeFiles, owner: Digest = OWNER): Promise<void> {
  const writer = await codes.create(owner, CODING, SECTIONS)
  for (const content of CONTENT) await writer.append(content)
  await writer.finish()
}

/** Whether each section can be read with a right checksum; undefined if there is no file. */
async function readable(codes: CodeFiles): Promise<boolean[] | undefined> {
  const reader = await codes.open(OWNER, CODING, SECTIONS)
  if (reader === undefined) return undefined
  const found: boolean[] = []
  for (const [i, { bytes }] of SECTIONS.entries()) {
    found.push(await reader.read(i, new Uint8Array(new SharedArrayBuffer(bytes))))
  }
  await reader.close()
  return found
}

async function changeByte(path: string, at: number): Promise<void> {
  const bytes = await readFile(path)
  bytes[at] = (bytes[at] as number) ^ 1
  await writeFile(path, bytes)
}

describe('files of codes', () => {
  it('return the sections that were written', async () => {
    const codes = new CodeFiles(await folder())
    await write(codes)
    const reader = await codes.open(OWNER, CODING, SECTIONS)
    for (const [i, content] of CONTENT.entries()) {
      const into = new Uint8Array(content.length)
      expect(await reader?.read(i, into)).toBe(true)
      expect(Buffer.from(into).equals(content)).toBe(true)
    }
    await reader?.close()
  })

  it('do not exist for another owner, another coding or other sections', async () => {
    const codes = new CodeFiles(await folder())
    await write(codes)
    expect(await codes.open(OTHER, CODING, SECTIONS)).toBeUndefined()
    expect(await codes.open(OWNER, 'int8-2', SECTIONS)).toBeUndefined()
    expect(await codes.open(OWNER, CODING, SECTIONS.slice(1))).toBeUndefined()
    const renamed = SECTIONS.map(({ bytes }, i) => ({ name: `t${i}`, bytes }))
    expect(await codes.open(OWNER, CODING, renamed)).toBeUndefined()
  })

  it('appear only when they are complete, and an abandoned file leaves nothing', async () => {
    const dir = await folder()
    const codes = new CodeFiles(dir)
    const writer = await codes.create(OWNER, CODING, SECTIONS)
    await writer.append(CONTENT[0] as Uint8Array)
    expect(await codes.open(OWNER, CODING, SECTIONS)).toBeUndefined()
    await writer.abandon()
    expect(await readdir(dir)).toEqual([])
  })

  it('notice a changed byte in every section, and a changed table', async () => {
    const dir = await folder()
    const codes = new CodeFiles(dir)
    await write(codes)
    const [name = ''] = await readdir(dir)
    const path = join(dir, name)
    await changeByte(path, 4096 + 50)
    expect(await readable(codes)).toEqual([false, true])
    await changeByte(path, 4096 + 50)
    await changeByte(path, 4096 + 100 + PIECE_BYTES + 3)
    expect(await readable(codes)).toEqual([true, false])
    await changeByte(path, 4096 + 100 + PIECE_BYTES + 3)
    expect(await readable(codes)).toEqual([true, true])
    await changeByte(path, 15)
    expect(await readable(codes)).toBeUndefined()
  })

  it('notice a file that ends too early', async () => {
    const dir = await folder()
    const codes = new CodeFiles(dir)
    await write(codes)
    const path = join(dir, (await readdir(dir))[0] as string)
    await truncate(path, 4096 + 100 + PIECE_BYTES)
    expect(await readable(codes)).toEqual([true, false])
    await truncate(path, 20)
    expect(await readable(codes)).toBeUndefined()
  })
})

it('leaves only a file that the next sweep removes when a process is killed while it writes', async () => {
  const store = await BlobStore.open(await folder())
  const script = fileURLToPath(new URL('code-files.child.ts', import.meta.url))
  const child = fork(script, [store.dir], { execArgv: ['--import', 'tsx'] })
  await once(child, 'message')
  child.kill('SIGKILL')
  await once(child, 'exit')
  const left = await readdir(store.dir)
  expect(left).toHaveLength(1)
  expect(left[0]).toMatch(/^\..*\.tmp$/)
  expect(await store.codes.open(OWNER, CODING, SECTIONS)).toBeUndefined()
  await store.sweep([], new Set([OWNER]))
  expect(await readdir(store.dir)).toEqual([])
  await write(store.codes)
  expect(await readable(store.codes)).toEqual([true, true])
})

describe('BlobStore', () => {
  it('removes the codes of a file with the file, and no others', async () => {
    const store = await BlobStore.open(await folder())
    const digest = await store.put(Uint8Array.of(1))
    await write(store.codes, digest)
    await write(store.codes, OTHER)
    await store.delete(digest)
    expect(await readdir(store.dir)).toEqual([`${OTHER.slice('sha256:'.length)}.${CODING}.codes`])
  })

  it('sweeps codes without a kept file, and unfinished ones', async () => {
    const store = await BlobStore.open(await folder())
    await write(store.codes, OWNER)
    await write(store.codes, OTHER)
    await (await store.codes.create(OWNER, CODING, SECTIONS)).append(CONTENT[0] as Uint8Array)
    await store.sweep([], new Set([OTHER]))
    expect(await readdir(store.dir)).toEqual([`${OTHER.slice('sha256:'.length)}.${CODING}.codes`])
  })
})
