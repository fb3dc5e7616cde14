/**
 * One round of loading in a process of its own, so that its resident memory is its own. Usage: forked with
 * DIR; told of the stored experts by message; answers with `LoadFindings`. Reads /proc, so Linux only.
 */
import { once } from 'node:events'
import { open, readFile, writeFile } from 'node:fs/promises'
import type { Composition } from '../../../src/composition/compose.ts'
import { mulberry32 } from '../../../src/model/sampling.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { referencePublicModel, TOP_K } from '../inference/reference-models.ts'
import { loadComposition } from './load.ts'
import { CONFIG, type StoredExpert } from './stored-experts.ts'

export interface LoadFindings {
  /** From the blob store to a composition. */
  readonly loadMs: number
  /** Reading the same files into memory of their own, as weights in use need. */
  readonly readMs: number
  /** Reading them into one buffer, over and over. */
  readonly reusedMs: number
  /** Of the experts in float32. */
  readonly weightBytes: number
  /** By how much resident memory was higher at its peak than before. */
  readonly grownBytes: number
}

const [dir = ''] = process.argv.slice(2)
const [stored] = (await once(process, 'message')) as [StoredExpert[]]
const blobs = await BlobStore.open(dir)
const publicModel = referencePublicModel(CONFIG, mulberry32(1))
const paths = stored.map(({ sha256 }) => blobs.path(sha256))

// The first pass brings the files into the page cache and is not counted.
const reused = new Uint8Array(Math.max(...stored.map(({ size }) => size)))
await readInto(paths, () => reused)
const reusedMs = await timed(() => readInto(paths, () => reused))

await writeFile('/proc/self/clear_refs', '5') // Peak memory counts from here on.
const before = await memory('VmRSS')
let composition: Composition | undefined
const loadMs = await timed(async () => {
  composition = await loadComposition(blobs, publicModel, stored, TOP_K)
})
const grownBytes = (await memory('VmHWM')) - before
const experts = composition?.experts ?? []
let weightBytes = 0
for (const { expert } of experts) for (const { data } of expert.ffn.values()) weightBytes += data.byteLength

// Last, so that no memory freed here serves the loading above.
const held: Uint8Array[] = []
const readMs = await timed(() =>
  readInto(paths, (index) => {
    const bytes = new Uint8Array(stored[index]?.size ?? 0)
    held.push(bytes)
    return bytes
  }),
)
process.send?.({ loadMs, readMs, reusedMs, weightBytes, grownBytes } satisfies LoadFindings)
process.disconnect()

async function readInto(files: readonly string[], target: (index: number) => Uint8Array): Promise<void> {
  for (const [index, path] of files.entries()) {
    const file = await open(path, 'r')
    try {
      const { size } = await file.stat()
      const bytes = target(index)
      for (let at = 0; at < size; ) at += (await file.read(bytes, at, size - at, at)).bytesRead
    } finally {
      await file.close()
    }
  }
}

async function timed(action: () => Promise<void>): Promise<number> {
  const started = performance.now()
  await action()
  return performance.now() - started
}

/** A line of /proc/self/status, in bytes. */
async function memory(name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8')
  return Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024
}
