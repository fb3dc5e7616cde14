/**
 * Loads and composes the stored experts once, in a process of its own so that its memory is measured alone.
 * Forked with DIR as its argument; receives the stored experts as a message and answers with `LoadFindings`.
 * Linux only, since it reads /proc.
 */
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import type { Composition } from '../../../src/composition/compose.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import { countOf } from '../../../src/model/weights.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { referencePublicModel, TOP_K } from '../inference/reference-models.ts'
import { loadComposition } from './load.ts'
import { readFiles, timed } from './read-files.ts'
import { CONFIG, type StoredExpert } from './stored-experts.ts'

export interface LoadFindings {
  /** Time from the blob store to a composition. */
  readonly loadMs: number
  /** Size of the experts' weights in float32. */
  readonly weightBytes: number
  /** Peak resident memory minus resident memory before loading. */
  readonly grownBytes: number
}

const [dir = ''] = process.argv.slice(2)
const [stored] = (await once(process, 'message')) as [StoredExpert[]]
const blobs = await BlobStore.open(dir)
const publicModel = referencePublicModel(CONFIG, mulberry32(1))
// Fills the page cache.
const buffer = new Uint8Array(Math.max(...stored.map(({ size }) => size)))
const paths = stored.map(({ sha256 }) => blobs.path(sha256))
await readFiles(paths, () => buffer)

await writeFile('/proc/self/clear_refs', '5') // Resets the peak (VmHWM) to the present value.
const before = await memory('VmRSS')
let composition: Composition | undefined
const loadMs = await timed(async () => {
  composition = await loadComposition(blobs, publicModel, stored, TOP_K)
})
const grownBytes = (await memory('VmHWM')) - before
let weightBytes = 0
for (const { expert } of composition?.experts ?? []) {
  for (const weight of expert.ffn.values()) weightBytes += 4 * countOf(weight)
}
process.send?.({ loadMs, weightBytes, grownBytes } satisfies LoadFindings)
process.disconnect()

/** A value of /proc/self/status, in bytes. */
async function memory(name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8')
  return Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024
}
