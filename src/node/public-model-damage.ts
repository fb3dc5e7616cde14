/**
 * Remembers that the disk has damaged a file of the public model, and repairs it from the copy in the blob store when
 * the node opens, if that copy is whole.
 */
import { join } from 'node:path'
import { installFile } from '../checkpoint/public-model.ts'
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { fileRefOfPath } from '../lib/file-ref.ts'
import type { PublicFile } from '../lib/model-shape.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { Catalogue } from '../store/catalogue.ts'

const DAMAGED = 'damaged-public-file'

/** Keep in mind that a file of the public model is damaged. @param name its name in the charter */
export async function markDamaged(catalogue: Catalogue, name: string): Promise<void> {
  await catalogue.put('settings', DAMAGED, utf8(name))
}

export function damagedError(path: string): InputError {
  return new InputError(
    'io',
    `the disk has damaged ${path}, a file of the public model, so the node stops; check the disk and start the node again, which repairs the file from its own copy if that is whole`,
    { path },
  )
}

/**
 * If a file of the public model is marked as damaged: use it if somebody has replaced it, or replace it by the copy in
 * the store.
 * @param dir folder of the public model
 * @throws InputError `io` if both are damaged.
 */
export async function repairPublicModel(
  catalogue: Catalogue,
  blobs: BlobStore,
  dir: string,
  files: readonly PublicFile[],
): Promise<void> {
  const stored = await catalogue.get('settings', DAMAGED)
  const file = files.find(({ name }) => stored !== undefined && name === fromUtf8(stored))
  if (file === undefined) return
  const path = join(dir, file.name)
  const copy = blobs.path(file.sha256)
  if (!(await isWhole(path, file))) {
    if (!(await isWhole(copy, file))) {
      throw new InputError(
        'io',
        `the disk has damaged ${path}, a file of the public model, and the copy of it; replace it by ${file.name} from the folder public-model in the home of another member, then start the node again`,
        { path },
      )
    }
    await installFile(copy, path)
  }
  await catalogue.delete('settings', DAMAGED)
}

async function isWhole(path: string, { sha256 }: PublicFile): Promise<boolean> {
  try {
    return (await fileRefOfPath(path)).ref.sha256 === sha256
  } catch (error) {
    if (error instanceof InputError) return false // It is missing, or the disk cannot read it.
    throw error
  }
}
