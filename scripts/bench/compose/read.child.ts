/**
 * Reads the files of the stored experts once, in a process of its own. Forked with DIR as its argument; receives the
 * stored experts as a message and answers with `ReadFindings`.
 */
import { once } from 'node:events'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { readFiles, timed } from './read-files.ts'
import type { StoredExpert } from './stored-experts.ts'

export interface ReadFindings {
  /** Each file into memory of its own, which weights in use need. */
  readonly readMs: number
  /** All files into one buffer. */
  readonly reusedMs: number
}

const [dir = ''] = process.argv.slice(2)
const [stored] = (await once(process, 'message')) as [StoredExpert[]]
const blobs = await BlobStore.open(dir)
const paths = stored.map(({ sha256 }) => blobs.path(sha256))
const buffer = new Uint8Array(Math.max(...stored.map(({ size }) => size)))
// Not measured: fills the page cache and makes the buffer resident.
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
