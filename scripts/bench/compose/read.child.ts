/**
 * One round of reading the files in a process of its own. Usage: forked with DIR; told of the stored experts
 * by message; answers with `ReadFindings`.
 */
import { once } from 'node:events'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { readFiles, timed } from './read-files.ts'
import type { StoredExpert } from './stored-experts.ts'

export interface ReadFindings {
  /** Into memory of its own for each file, as weights in use need. */
  readonly readMs: number
  /** Into one buffer, over and over. */
  readonly reusedMs: number
}

const [dir = ''] = process.argv.slice(2)
const [stored] = (await once(process, 'message')) as [StoredExpert[]]
const blobs = await BlobStore.open(dir)
const paths = stored.map(({ sha256 }) => blobs.path(sha256))
const buffer = new Uint8Array(Math.max(...stored.map(({ size }) => size)))
// Not counted: brings the files into the page cache, and the buffer into memory.
await readFiles(paths, () => buffer)
const held: Uint8Array[] = []
const readMs = await timed(() =>
  readFiles(paths, (_, size) => {
    const bytes = new Uint8Array(size)
    held.push(bytes)
    return bytes
  }),
)
const reusedMs = await timed(() => readFiles(paths, () => buffer))
process.send?.({ readMs, reusedMs } satisfies ReadFindings)
process.disconnect()
